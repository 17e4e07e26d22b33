//! What every command needs: the directory, the output, the clock, and a way to the store.
//!
//! A command works the same whether a daemon holds the store or not: where a daemon answers on the socket it is
//! asked, otherwise the store is opened in this process behind the very same interface.

use crate::args::Global;
use crate::error::CliError;
use crate::output::Output;
use jiff::Zoned;
use ledger::core::{FleetId, SigningKey};
use ledger_server::ServerError;
use ledger_server::client::{Api, ClientError};
use ledger_server::config::Config;
use ledger_server::daemon::{RunFile, run_file, socket};
use ledger_server::http::{Door, router};
use ledger_server::machine::Machine;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a command waits for a daemon that holds the store and does not answer yet.
const STARTING_WAIT: Duration = Duration::from_secs(10);
/// Between two looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// This machine's directory.
    pub(crate) dir: PathBuf,
    /// The same, when the command line says it.
    pub(crate) dir_given: Option<PathBuf>,
    /// Where results go.
    pub(crate) output: Output,
    /// Configuration values from the command line.
    pub(crate) overrides: Vec<(String, String)>,
    /// The time at the start, where the reader is.
    pub(crate) now: Zoned,
}

/// A way to the store, and the store itself when this process holds it.
pub(crate) struct Store {
    /// The interface.
    pub(crate) api: Api,
    held: Option<Arc<Machine>>,
}

impl Store {
    /// Whether a daemon holds the store.
    pub(crate) fn has_daemon(&self) -> bool {
        self.held.is_none()
    }

    /// The store itself, when this process holds it.
    pub(crate) fn held(&self) -> Option<&Arc<Machine>> {
        self.held.as_ref()
    }

    /// The fleet of the store.
    pub(crate) async fn fleet(&self) -> Result<FleetId, CliError> {
        let fleet = self.api.status().await?.item.fleet;
        FleetId::from_hex(&fleet)
            .ok_or_else(|| CliError::new("client.malformed", format!("{fleet:?} is not a fleet's id"), ""))
    }
}

impl Context {
    /// Finds the directory and reads `--set`.
    pub(crate) fn new(global: Global, output: Output) -> Result<Self, CliError> {
        let absolute = |dir: PathBuf| std::path::absolute(&dir).map_err(|e| CliError::io("find", &dir, &e));
        let dir_given = global.dir.map(absolute).transpose()?;
        let dir = match (&dir_given, std::env::var_os("LEDGER_DIR")) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => absolute(PathBuf::from(dir))?,
            (None, None) => default_dir()?,
        };
        let overrides = global
            .set
            .iter()
            .map(|pair| override_of(pair))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            dir,
            dir_given,
            output,
            overrides,
            now: Zoned::now(),
        })
    }

    /// The configuration of the directory with this run's overrides.
    pub(crate) fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.dir, &self.overrides)?.0)
    }

    /// A way to the store: the daemon's socket, or the store itself.
    pub(crate) async fn store(&self) -> Result<Store, CliError> {
        let began = Instant::now();
        loop {
            if let Some(api) = self.daemon().await {
                return Ok(Store { api, held: None });
            }
            if !self.has_store() {
                return Err(self.no_store());
            }
            match self.open().await {
                Ok(machine) => {
                    let api = Api::in_process(router(machine.clone(), Door::Local));
                    return Ok(Store {
                        api,
                        held: Some(machine),
                    });
                }
                // A daemon that is starting or ending holds the lock and does not answer.
                Err(error) if error.code == "store.locked" && began.elapsed() < STARTING_WAIT => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self) -> Result<Arc<Machine>, CliError> {
        let (dir, config) = (self.dir.clone(), self.config()?);
        let opened = tokio::task::spawn_blocking(move || Machine::open(&dir, config)).await;
        let opened = opened
            .map_err(|e| CliError::new("software.panic", format!("opening the store ended: {e}"), ""))?;
        Ok(opened?)
    }

    /// The daemon's interface, when one answers.
    pub(crate) async fn daemon(&self) -> Option<Api> {
        let socket = socket(&self.dir);
        if !socket.exists() {
            return None;
        }
        let api = Api::unix(socket);
        api.healthz().await.ok().map(|_| api)
    }

    /// What the running daemon wrote of itself; it may have been killed since.
    pub(crate) fn running(&self) -> Option<RunFile> {
        running(&self.dir)
    }

    /// Whether there is a store in the directory.
    pub(crate) fn has_store(&self) -> bool {
        self.dir.join("data").is_dir() && self.dir.join("keys").is_dir()
    }

    fn no_store(&self) -> CliError {
        CliError::new(
            "store.absent",
            format!("there is no ledger in {}", self.dir.display()),
            "found a fleet with `ledger init` (or `ledger up`), join one with `ledger join`, or name another directory \
             with --dir",
        )
    }

    /// The root key, from where it is said to be or from where `init` left it.
    pub(crate) fn root_key(&self, from: &crate::args::RootKey) -> Result<SigningKey, CliError> {
        Ok(ledger_server::setup::load_root_key(
            &self.dir,
            from.root_key.as_deref(),
        )?)
    }
}

/// What the daemon of a directory wrote of itself.
pub(crate) fn running(dir: &Path) -> Option<RunFile> {
    let text = std::fs::read_to_string(run_file(dir)).ok()?;
    serde_json::from_str(&text).ok()
}

fn override_of(pair: &str) -> Result<(String, String), CliError> {
    let (key, value) = pair.split_once('=').ok_or_else(|| {
        CliError::new(
            "usage.set",
            format!("--set {pair:?}: KEY=VALUE is expected"),
            "see `ledger config show`",
        )
    })?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn default_dir() -> Result<PathBuf, CliError> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute());
    let named = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let base = if cfg!(target_os = "macos") {
        home.map(|home| home.join("Library/Application Support"))
    } else {
        named.or_else(|| home.map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("ledger")).ok_or_else(|| {
        CliError::new(
            "usage.dir",
            "neither --dir nor LEDGER_DIR nor HOME says where the ledger is",
            "give --dir DIR",
        )
    })
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        Self::new(error.code(), error.to_string(), advice(error.code()))
    }
}

impl From<ledger::LedgerError> for CliError {
    fn from(error: ledger::LedgerError) -> Self {
        Self::new(error.code(), error.to_string(), advice(error.code()))
    }
}

impl From<ledger_server::config::ConfigError> for CliError {
    fn from(error: ledger_server::config::ConfigError) -> Self {
        Self::new(error.code(), error.to_string(), advice(error.code()))
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error.problem() {
            Some(problem) => Self::new(&problem.code, problem.detail.clone(), problem.what_to_do.clone()),
            None => Self::new(
                error.code(),
                error.to_string(),
                "see `ledger status`; is the daemon still running?",
            ),
        }
    }
}

/// What to do about an error that this process met itself.
fn advice(code: &str) -> &'static str {
    match code {
        "store.locked" => "another process holds this store; its daemon answers commands, or stop it first",
        "config.unknown-key" => "correct or remove it; `ledger config show` lists the keys that exist",
        "config.invalid" | "config.handler" => {
            "correct config.toml; `ledger config show` tells where each value comes from"
        }
        "ledger.foreign-keys" | "journal.other-store" => {
            "data and keys belong to different machines; put back the directory that belongs to these keys"
        }
        "ledger.no-store" => "found a fleet with `ledger init`, or join one with `ledger join`",
        "ledger.key-file" => "keys must be yours alone: a directory of mode 0700, files of mode 0600",
        "server.listen" => "stop what listens there, or choose another port with --set listen=127.0.0.1:0",
        "server.wrong-role" => {
            "a gateway's directory is run by `ledger gateway`, one that joined by `ledger node`"
        }
        _ => "",
    }
}
