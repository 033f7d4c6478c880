//! The controller on a simulated cluster and a paused timeline, judged by what reached the API server double.
//!
//! Every test sets up its own cluster; none sleeps for real, none reads the controller's own logs.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed

mod brakes;
mod changes;
mod faults;
mod guards;
mod harness;
mod on_delete;
mod oom;
mod order;
mod outage;
mod outcome;
mod restraint;
mod telling;
mod trouble;
mod undo;
