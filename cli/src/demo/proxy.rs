//! A small TCP proxy between a node and the gateway, so that the link can really be cut.
//!
//! Severing drops every live connection and closes each new one at once, until it heals.

use crate::error::CliError;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The proxy; dropping it ends it with all its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    severed: Arc<watch::Sender<bool>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback address, in front of `target`.
    ///
    /// # Errors
    /// `io` when no port can be had.
    pub(crate) async fn before(target: SocketAddr) -> Result<Self, CliError> {
        let no_port = |e: std::io::Error| CliError::new("io", format!("the proxy gets no port: {e}"), "");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let address = listener.local_addr().map_err(no_port)?;
        let severed = Arc::new(watch::Sender::new(false));
        let accepting = tokio::spawn(accept(listener, target, severed.clone()));
        Ok(Self {
            address,
            severed,
            accepting,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the link.
    pub(crate) fn sever(&self) {
        self.severed.send_replace(true);
    }

    /// Makes it whole again.
    pub(crate) fn heal(&self) {
        self.severed.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.severed.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, severed: Arc<watch::Sender<bool>>) {
    while let Ok((near, _)) = listener.accept().await {
        let mut cut = severed.subscribe();
        if *cut.borrow_and_update() {
            continue;
        }
        tokio::spawn(async move {
            tokio::select! {
                () = carry(near, target) => {}
                _ = cut.wait_for(|cut| *cut) => {}
            }
        });
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr) {
    // Whatever ends either side ends the connection; both ends see that themselves.
    if let Ok(mut far) = TcpStream::connect(target).await {
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
