//! Listening: a TCP address or the unix socket, HTTP/1.1, bounded in connections and time.
//!
//! Owns: connections and their end. Contract: headers must come within [`HEADERS_WITHIN`]; at the order to stop nothing new
//! is taken, live tails end, and open requests have [`DRAIN_WITHIN`]. The socket is 0600 in a directory of 0700; a stale
//! one is removed only when nobody answers on it. A crash leaves the socket's file, which the next start removes. Does
//! not: speak TLS; the private network encrypts.

use super::caller::Peer;
use super::limits::{
    CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, DRAIN_WITHIN, HEADERS_BYTES_MAX, HEADERS_MAX, HEADERS_WITHIN,
    WRITE_WITHIN,
};
use super::patient::Patient;
use crate::closing::Closing;
use crate::error::ServerError;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// What a listener waits after an accept that failed (no file handles, say) before it tries again.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Serves a bound TCP listener until `shutdown`, then lets open requests end within a bound.
///
/// # Errors
/// None today: a failed accept is told in the log and tried again.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    serve(&listener, router, shutdown).await;
    Ok(())
}

/// Binds the unix socket: mode 0600, in a directory that only its owner enters.
///
/// # Errors
/// [`ServerError::Listen`] when somebody answers there, the path is no socket, or the directory is open to others.
pub fn bind_unix(path: &Path) -> Result<UnixListener, ServerError> {
    let refused = |source| ServerError::Listen {
        address: path.display().to_string(),
        source,
    };
    let parent = path
        .parent()
        .ok_or_else(|| refused(io::Error::other("the socket's path has no directory")))?;
    let mode = fs::metadata(parent).map_err(refused)?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!(
            "{} is open to others (mode {:03o}); make it 0700",
            parent.display(),
            mode & 0o777
        );
        return Err(refused(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(refused(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is there",
            )));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                return Err(refused(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another daemon answers there",
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(refused)?;
            }
            Err(error) => return Err(refused(error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(refused)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(refused)?;
    Ok(listener)
}

/// Serves a socket that [`bind_unix`] bound until `shutdown`; then its file is gone.
///
/// # Errors
/// [`ServerError::Io`] when the file cannot be removed.
pub async fn serve_unix(
    listener: UnixListener,
    path: &Path,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    serve(&listener, router, shutdown).await;
    fs::remove_file(path).map_err(ServerError::io("removing the socket", path))
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A connection of one address; counts until it goes.
struct Guest(Guests, Option<IpAddr>);

impl Guests {
    fn admit(&self, peer: Peer) -> Option<Guest> {
        let Peer::Tcp(address) = peer else {
            return Some(Guest(self.clone(), None));
        };
        let mut counts = self.0.lock().expect("guests lock");
        let count = counts.entry(address.ip()).or_insert(0);
        if *count >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Guest(self.clone(), Some(address.ip())))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some(address) = self.1 else { return };
        let mut counts = self.0.0.lock().expect("guests lock");
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// What connections come from.
trait Listen: Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, Peer::Tcp(address)))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, Peer::Unix(uid)))
    }
}

async fn serve<L: Listen>(listener: &L, router: Router, shutdown: impl Future<Output = ()> + Send) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let guests = Guests::default();
    let graceful = GracefulShutdown::new();
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => match guests.admit(peer) {
                Some(guest) => ((stream, guest), peer),
                // One address has all the connections that it may have.
                None => continue,
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let (stream, guest) = stream;
        let stream = Patient::new(stream, WRITE_WITHIN);
        let (router, closing) = (router.clone(), Closing::new(stopping.clone()));
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(closing.clone());
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
            drop((place, guest));
        });
    }
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "requests were still open and are cut off"
        );
    }
    connections.shutdown().await;
}
