//! Placeholder.

pub mod heartbeat;
pub mod http;
pub mod worker;
