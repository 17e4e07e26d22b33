//! The demo's stage: its folder, its three machines, the proxy, and the ways to ask and to wait.
//!
//! Contract: every process of the demo is dead and reaped when the stage is gone, and the folder too unless it is kept.

use super::child::Daemon;
use super::proxy::Proxy;
use super::settings::Places;
use crate::commands::demo::DemoArgs;
use crate::commands::replay::each;
use crate::context::Context;
use crate::error::CliError;
use ledger_server::client::Api;
use ledger_server::http::wire::{Artifact, JobFull, Receipt, ReceiptsQuery, RequestBody, Requested};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Between two looks while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long removing the folder is tried.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);
/// How long a job may take until its end.
pub(crate) const JOB_WITHIN: Duration = Duration::from_secs(40);
/// Bytes of a list of paths handed to a job; its input is one payload.
const PATHS_BYTES_MAX: usize = 24 * 1024;
/// Files handed to a job.
const PATHS_MAX: usize = 200;
/// Bytes of a file that jobs look at.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that the steps share.
#[derive(Debug)]
pub(crate) struct Stage {
    // The machines go down before the folder does: fields are dropped in this order.
    /// Writes the order, runs the light handlers.
    pub(crate) gateway: Daemon,
    /// The heavy machine.
    pub(crate) studio: Daemon,
    /// The backup that is always on.
    pub(crate) mini: Daemon,
    /// Between studio and the gateway.
    pub(crate) proxy: Option<Proxy>,
    temporary: Option<TempDir>,
    /// The folder.
    pub(crate) root: PathBuf,
    /// The real files.
    pub(crate) vault: PathBuf,
    /// This program.
    pub(crate) exe: PathBuf,
    /// Whether the Vault is a git checkout, and git is here.
    pub(crate) has_git: bool,
    /// What jobs are given: files of the Vault, by their paths in it.
    pub(crate) paths: Vec<String>,
    /// The jobs that this run asked for.
    pub(crate) jobs: Vec<String>,
    /// When this run began, RFC 3339.
    pub(crate) began: String,
}

impl Stage {
    /// Makes the folder; starts nothing.
    pub(crate) fn new(context: &Context, args: &DemoArgs) -> Result<Self, CliError> {
        let exe = std::env::current_exe().map_err(|e| CliError::io("find", Path::new("this program"), &e))?;
        let vault = args.vault.clone().unwrap_or_else(|| PathBuf::from("."));
        let vault = std::fs::canonicalize(&vault).map_err(|e| CliError::io("find the Vault", &vault, &e))?;
        let (root, temporary) = match &context.dir_given {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir = tempfile::Builder::new().prefix("ledger-demo-").tempdir();
                let dir = dir.map_err(|e| CliError::io("create a folder in", &std::env::temp_dir(), &e))?;
                if args.keep {
                    (dir.keep(), None)
                } else {
                    (dir.path().to_owned(), Some(dir))
                }
            }
        };
        let effects = root.join("effects");
        std::fs::create_dir_all(&effects).map_err(|e| CliError::io("create", &effects, &e))?;
        Ok(Self {
            gateway: Daemon::new("gateway", "gateway", &root, &exe),
            studio: Daemon::new("studio", "node", &root, &exe),
            mini: Daemon::new("mini", "node", &root, &exe),
            proxy: None,
            temporary,
            has_git: is_git_checkout(&vault),
            root,
            vault,
            exe,
            paths: Vec::new(),
            jobs: Vec::new(),
            began: context.now.timestamp().to_string(),
        })
    }

    /// Where the handlers work and leave traces.
    pub(crate) fn with_places<T>(&self, make: impl FnOnce(Places<'_>) -> T) -> T {
        make(Places {
            exe: &self.exe,
            vault: &self.vault,
            effects: &self.root.join("effects"),
            notices: &self.root.join("notices.jsonl"),
            has_git: self.has_git,
        })
    }

    /// The folder, when it stays.
    pub(crate) fn kept(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(self.root.as_path())
    }

    /// Ends every process and removes the folder unless it is kept.
    pub(crate) fn take_down(&mut self) {
        for daemon in [&mut self.studio, &mut self.mini, &mut self.gateway] {
            // What cannot be killed is dead; the drop reaps it.
            let _ = daemon.kill();
        }
        self.proxy = None;
        let Some(dir) = self.temporary.take().map(TempDir::keep) else {
            return;
        };
        // The supervisor of a run that was killed just now may still write its last line.
        let began = Instant::now();
        while std::fs::remove_dir_all(&dir).is_err() && dir.exists() && began.elapsed() < REMOVE_WITHIN {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The ends of the daemons' logs.
    pub(crate) fn last_words(&self) -> Vec<String> {
        [&self.gateway, &self.studio, &self.mini]
            .iter()
            .flat_map(|daemon| daemon.last_words())
            .collect()
    }

    /// Chooses what jobs look at: files of the Vault that are neither huge nor oddly named.
    pub(crate) fn choose_paths(&mut self, files: &[Artifact]) {
        let plain = |path: &str| {
            path.chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-+ ".contains(c))
        };
        let mut bytes = 0;
        self.paths = files
            .iter()
            .filter(|file| file.size <= FILE_BYTES_MAX && plain(&file.path))
            .map(|file| file.path.clone())
            .take_while(|path| {
                bytes += path.len() + 3;
                bytes <= PATHS_BYTES_MAX
            })
            .take(PATHS_MAX)
            .collect();
    }

    /// Asks the gateway for work.
    pub(crate) async fn ask(
        &mut self,
        handler: &str,
        input: Value,
        more: RequestBody,
    ) -> Result<Requested, CliError> {
        let api = self.gateway.api();
        let body = RequestBody {
            handler: handler.to_owned(),
            input: Some(input),
            ..more
        };
        let requested = api.request(&body).await?.item;
        self.jobs.push(requested.job.clone());
        Ok(requested)
    }

    /// Waits until a job has its final state at the gateway.
    pub(crate) async fn ended(&self, job: &str) -> Result<JobFull, CliError> {
        let api = self.gateway.api();
        wait_for(&format!("job {job} to end"), JOB_WITHIN, async || {
            match api.job(job).await {
                Ok(answer) => Ok(Some(answer.item).filter(|full| full.job.is_final)),
                // A request that was handed in at a node is a job when the gateway has it.
                Err(error) if ["job.unknown", "job.on-its-way"].contains(&error.code()) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Waits until the order has it that a job runs.
    pub(crate) async fn started(&self, job: &str) -> Result<JobFull, CliError> {
        let api = self.gateway.api();
        wait_for(&format!("job {job} to start"), JOB_WITHIN, async || {
            let job = api.job(job).await?.item;
            Ok(job.runs.last().is_some_and(|run| run.started).then_some(job))
        })
        .await
    }

    /// The lines that the survey left for a job, outside of the ledger.
    pub(crate) fn effects(&self, job: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.root.join("effects").join(job)).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// How many lines of the notice command's file speak of a machine that went offline.
    pub(crate) fn offline_lines(&self) -> usize {
        let text = std::fs::read_to_string(self.root.join("notices.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.contains("node-offline")).count()
    }

    /// Runs a command of this program to its end, with `--json`, and gives its envelope back.
    pub(crate) async fn command(&self, dir: &Path, words: &[&str]) -> Result<Value, CliError> {
        let out = self.raw_command(dir, words, true).await?;
        let envelope: Value = serde_json::from_slice(&out.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            CliError::new(
                "demo.command",
                format!("ledger {} said no JSON: {said}", words.join(" ")),
                "",
            )
        })?;
        Ok(envelope)
    }

    /// The same, as it is.
    pub(crate) async fn raw_command(
        &self,
        dir: &Path,
        words: &[&str],
        json: bool,
    ) -> Result<std::process::Output, CliError> {
        let mut command = tokio::process::Command::new(&self.exe);
        command
            .arg("--dir")
            .arg(dir)
            .args(words)
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null());
        if json {
            command.arg("--json");
        }
        let ended = tokio::time::timeout(JOB_WITHIN, command.output()).await;
        let ended = ended.map_err(|_| {
            CliError::new(
                "demo.timeout",
                format!("`ledger {}` took longer than {JOB_WITHIN:?}", words.join(" ")),
                "",
            )
        })?;
        ended.map_err(|e| CliError::io("run", &self.exe, &e))
    }
}

fn is_git_checkout(vault: &Path) -> bool {
    let asked = std::process::Command::new("git")
        .arg("-C")
        .arg(vault)
        .args(["rev-parse", "--verify", "HEAD"])
        .output();
    asked.is_ok_and(|out| out.status.success())
}

/// All receipts of a query.
pub(crate) async fn receipts(
    api: &Api,
    kinds: &[&str],
    machine: Option<&str>,
) -> Result<Vec<Receipt>, CliError> {
    let query = ReceiptsQuery {
        kind: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        machine: machine.map(ToOwned::to_owned),
        limit: Some(1000),
        ..ReceiptsQuery::default()
    };
    let mut found = Vec::new();
    each(api, query, |receipt| {
        found.push(receipt.clone());
        Ok(true)
    })
    .await?;
    Ok(found)
}

/// Looks again and again until there is something, at most so long.
///
/// # Errors
/// `demo.timeout`, naming what was waited for, and what `look` meets.
pub(crate) async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, CliError>,
) -> Result<T, CliError> {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if began.elapsed() >= within {
            return Err(CliError::new(
                "demo.timeout",
                format!("waited {} s for {what}", within.as_secs()),
                "run it again with --keep and look at daemon.log in the machines' folders",
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
