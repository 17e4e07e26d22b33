//! The engine's promises, one module for each.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod disk;
mod journal;
mod recovery;
mod support;
