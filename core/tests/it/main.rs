//! The record format against golden vectors, foreign vectors and properties.

#![allow(clippy::unwrap_used)] // a failed expectation in a test is a panic

mod cosignatures;
mod foreign_trees;
mod frames;
mod golden;
mod proofs;
mod properties;
mod small_order;
mod wycheproof;
