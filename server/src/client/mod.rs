//! Clients of the API: the typed one for people and programs on a machine, and the signing one between machines.
//!
//! Owns: nothing durable. Contract: no redirects, no proxies; whatever goes wrong is a [`ClientError`] with a stable code,
//! and a timeout never claims that nothing was done.

mod api;
mod error;
mod events;
mod signed;
mod steering;
mod store;
mod transport;

pub use api::Api;
pub use error::ClientError;
pub use events::Events;
pub use signed::{MachineSigner, Signed};
pub(crate) use transport::plain_client;
