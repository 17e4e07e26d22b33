//! The server's integration tests, one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod backlogs;
mod collecting;
mod earlier;
mod forging;
mod http;
mod promises;
mod refused;
mod regained;
mod retention;
mod stopping;
mod worker;
