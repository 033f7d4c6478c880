//! Usage from elsewhere: other processes, and the way to them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in a test a broken expectation is the failure

mod door;
