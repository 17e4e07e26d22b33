//! The doors of a running machine: the network's on a gateway, the local one on every machine, and the file that tells where they
//! are. A crash leaves that file and the socket's, which the next start replaces.

use crate::error::ServerError;
use crate::found::{RunFile, run_file, socket};
use crate::http::{Door, bind_unix, router, serve_tcp, serve_unix};
use crate::machine::Machine;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long open requests have when the doors close.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// The doors of a running machine, and the file that tells where they are.
pub(crate) struct Doors {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    dir: PathBuf,
    address: Option<String>,
}

impl Doors {
    /// Opens the local door, and the network's on a gateway, and tells where everything is.
    pub(crate) fn open(
        machine: &Arc<Machine>,
        dir: &Path,
        role: &str,
        listener: Option<&std::net::TcpListener>,
    ) -> Result<Self, ServerError> {
        let (stop, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let stopped = || {
            let mut stop = stop.subscribe();
            async move {
                // A sender that is gone stops as well.
                drop(stop.wait_for(|stop| *stop).await);
            }
        };
        let mut address = None;
        if let Some(listener) = listener {
            let fail = || ServerError::io("listening for", dir);
            let listener = listener.try_clone().map_err(fail())?;
            let listener = TcpListener::from_std(listener).map_err(fail())?;
            let at = listener
                .local_addr()
                .map_err(ServerError::io("asking for the address of", dir))?;
            address = Some(format!("http://{at}"));
            let (app, stopped) = (router(Arc::clone(machine), Door::Network), stopped());
            tasks.spawn(async move {
                if let Err(e) = serve_tcp(listener, app, stopped).await {
                    tracing::error!(error = %e, "the network door closed");
                }
            });
        }
        let app = router(Arc::clone(machine), Door::Local);
        let (path, stopped) = (socket(dir), stopped());
        let listener = bind_unix(&path)?;
        tasks.spawn(async move {
            if let Err(e) = serve_unix(listener, &path, app, stopped).await {
                tracing::error!(error = %e, "the local door closed");
            }
        });
        let told = RunFile {
            pid: std::process::id(),
            role: role.to_owned(),
            address: address.clone(),
            boot: machine.boot.clone(),
            started_at: machine.now_us(),
        };
        let path = run_file(dir);
        let text = serde_json::to_vec_pretty(&told).expect("plain data becomes JSON");
        let making = path.with_extension("json.new");
        std::fs::write(&making, text).map_err(ServerError::io("writing", &making))?;
        std::fs::rename(&making, &path).map_err(ServerError::io("writing", &path))?;
        tracing::info!(machine = %machine.id(), role, address = address.as_deref().unwrap_or("-"), "ready");
        Ok(Self {
            stop,
            tasks,
            dir: dir.to_owned(),
            address,
        })
    }

    /// Where the network's door is, as `http://host:port`.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Closes them; open requests have a moment to end.
    pub(crate) async fn close(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_WAIT, all).await.is_err() {
            tracing::warn!("some requests did not end in time and are dropped");
            self.tasks.shutdown().await;
        }
        for path in [run_file(&self.dir), socket(&self.dir)] {
            if let Err(e) = std::fs::remove_file(&path)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = %e, "could not be removed");
            }
        }
    }
}

/// Listens on loopback or an address of this machine, never on all of them.
///
/// # Errors
/// [`ServerError::Listen`], [`ServerError::ListenAll`].
pub(crate) fn listen(address: &str) -> Result<std::net::TcpListener, ServerError> {
    let fail = |source| ServerError::Listen {
        address: address.to_owned(),
        source,
    };
    for resolved in address.to_socket_addrs().map_err(fail)? {
        if resolved.ip().is_unspecified() {
            return Err(ServerError::ListenAll(address.to_owned()));
        }
    }
    let listener = std::net::TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}
