//! HTTP between machines, and for the people and programs that ask.
//!
//! Owns: one router over one machine's store, behind one of two doors. Every request passes the gate (bounds, then who
//! asks), then a handler of its resource, and leaves as JSON that says as of which receipt it is, or as a problem. A crash
//! loses nothing: what was answered is durable. Does not: decide; that is the engine's committer and `projections`.

mod appends;
mod caller;
mod costs;
mod cursor;
mod erase;
mod events;
mod export;
mod extract;
mod fleet;
mod gate;
mod handlers;
mod health;
mod import;
mod jobs;
mod life;
pub mod limits;
mod merge;
mod nodes;
mod notices;
mod patient;
mod problem;
mod proofs;
mod quotas;
mod receipts;
mod reply;
mod requests;
mod rest;
mod retention;
mod routes;
mod schedules;
mod select;
mod serve;
pub mod signature;
mod statements;
mod status;
mod steer;
mod tiles;
mod times;
mod vault;
mod verify;
mod view;
mod warnings;
pub mod wire;

pub use routes::{openapi_json, router};
pub use serve::{bind_unix, serve_tcp, serve_unix};
pub(crate) use statements::encode as statement_body;

use crate::machine::Machine;
use ledger::Published;
use ledger_projections::FleetState;
use problem::Problem;
use quotas::Quotas;
use reply::Reply;
use signature::NonceCache;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Which way a request came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The unix socket, whose file mode lets only the machine's own user in, or a call within the process.
    Local,
    /// A listener: every request is signed by a known key, or bears a token and reads.
    Network,
}

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) machine: Arc<Machine>,
    pub(crate) door: Door,
    pub(crate) nonces: Mutex<NonceCache>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) polls: Arc<Semaphore>,
    pub(crate) joins: Arc<Semaphore>,
    pub(crate) tails: Arc<Semaphore>,
}

impl Api {
    fn new(machine: Arc<Machine>, door: Door) -> Arc<Self> {
        Arc::new(Self {
            machine,
            door,
            nonces: Mutex::default(),
            quotas: Arc::default(),
            requests: Arc::new(Semaphore::new(limits::REQUESTS_MAX)),
            polls: Arc::new(Semaphore::new(limits::POLLS_MAX)),
            joins: Arc::new(Semaphore::new(limits::JOINS_MAX)),
            tails: Arc::new(Semaphore::new(limits::TAILS_MAX)),
        })
    }

    /// Looks at one snapshot on a thread that may block; what comes back says as of when it is.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Machine, &Published<FleetState>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<(wire::AsOf, T), Problem> {
        let machine = Arc::clone(&self.machine);
        let looking = tokio::task::spawn_blocking(move || {
            let snapshot = machine.ledger.snapshot();
            let as_of = reply::as_of(&machine, &snapshot)?;
            Ok((as_of, look(&machine, &snapshot)?))
        });
        looking.await.map_err(|_| Problem::broken("reading the store"))?
    }

    pub(crate) async fn item<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Machine, &Published<FleetState>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<Reply<wire::Answer<T>>, Problem> {
        let (as_of, item) = self.look(look).await?;
        Ok(Reply::item(as_of, item))
    }

    pub(crate) async fn page<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Machine, &Published<FleetState>) -> Result<(Vec<T>, Option<String>), Problem>
        + Send
        + 'static,
    ) -> Result<Reply<wire::Page<T>>, Problem> {
        let (as_of, (items, next)) = self.look(look).await?;
        Ok(Reply::page(as_of, items, next))
    }
}
