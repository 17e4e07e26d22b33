//! HTTP between machines, and for the people and programs that ask.

pub mod signature;
