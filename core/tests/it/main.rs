//! The record format against golden vectors, foreign vectors and properties.

#![allow(clippy::unwrap_used)] // a failed expectation in a test is a panic

mod frames;
mod golden;
mod properties;
mod small_order;
mod wycheproof;
