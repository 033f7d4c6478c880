//! The 32 correctness properties of the specification, each by at least 256 random cases against the real code;
//! `docs/properties.md` lists them with their tests and the planted bugs that prove these tests.
//!
//! Oracles are naive and follow the specification's text. Where a property is about writes, the API server double's
//! journal judges, never our own status.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed

mod auto;
mod cases;
mod complete;
mod continuity;
#[path = "../system/harness.rs"]
mod harness;
mod methods;
mod policies;
mod restraint;
mod sizing;
mod status;
mod telling;
mod tenants;
mod usage;
mod world;
