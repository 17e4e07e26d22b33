//! The HTTP API over a real store: what callers are promised.

mod doors;
mod erase;
mod imports;
mod nodes;
mod openapi;
mod pages;
mod problems;
mod schedules;
mod sockets;
mod steering;
mod tails;
mod tiles;
mod writes;

use ledger::core::{Draft, Kind, SigningKey, Subject};
use ledger_core::MachineId;
use ledger_server::client::Api;
use ledger_server::http::{Door, router, serve_tcp};
use ledger_server::{Config, Machine, setup};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Nothing here may take longer.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A gateway's store, freshly founded.
pub(crate) struct Studio {
    pub(crate) machine: Arc<Machine>,
    pub(crate) root: SigningKey,
    pub(crate) dir: TempDir,
}

impl Studio {
    pub(crate) fn found() -> Self {
        let dir = private_dir();
        setup::init(dir.path(), &MachineId::new("studio").unwrap()).unwrap();
        let root = setup::load_root_key(dir.path(), None).unwrap();
        let machine = Machine::open(dir.path(), Config::default()).unwrap();
        Self { machine, root, dir }
    }

    /// The typed client in this process, at the local door.
    pub(crate) fn api(&self) -> Api {
        Api::in_process(router(Arc::clone(&self.machine), Door::Local))
    }

    /// A draft of a custom kind.
    pub(crate) fn note(text: &str) -> Draft {
        let draft = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("notes").unwrap());
        draft.payload("text/plain", text.as_bytes().to_vec()).unwrap()
    }

    /// Appends a custom receipt as the local actor; its id.
    pub(crate) async fn append(&self, text: &str) -> String {
        let said = self.machine.sign_as_actor(Self::note(text)).unwrap();
        self.machine.append(said).await.unwrap().receipt.id().to_string()
    }

    /// The same store in a later run of the daemon.
    pub(crate) fn restart(self) -> Self {
        let Self { machine, root, dir } = self;
        drop(machine);
        let machine = Machine::open(dir.path(), Config::default()).unwrap();
        Self { machine, root, dir }
    }

    /// Listens on a port of its own.
    pub(crate) async fn listen(&self) -> Listening {
        self.listen_on("127.0.0.1:0").await
    }

    /// Listens on an address.
    pub(crate) async fn listen_on(&self, address: &str) -> Listening {
        let listener = TcpListener::bind(address).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let router = router(Arc::clone(&self.machine), Door::Network);
        let task = tokio::spawn(async move {
            serve_tcp(listener, router, async { drop(stopped.await) })
                .await
                .unwrap();
        });
        Listening { base, stop, task }
    }
}

/// A network door that is open.
pub(crate) struct Listening {
    pub(crate) base: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    pub(crate) async fn close(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

/// A directory that only its owner enters.
pub(crate) fn private_dir() -> TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

/// A plain HTTP client.
pub(crate) fn plain() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
