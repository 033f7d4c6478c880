//! OptiPod watches what containers use and sets their requests to match.
//!
//! The layout, from the bottom up; imports go downward only:
//! - [`quantity`], [`usage`], [`workload`], [`policy`]: what things are. Pure.
//! - [`clock`]: the one clock of every loop. [`blocking`]: store calls on async threads. [`proto`]: the protocol's types.
//!   [`pem`]: certificates and keys from files. [`plant`]: planted bugs, in debug builds.
//! - [`recommend`]: usage + policy → recommendation + explanation. Pure.
//! - [`decide`]: recommendation + observed facts → decision. Pure.
//! - [`provider`]: where usage comes from.
//! - [`collector`]: metrics-server → storage. [`backfill`]: the past from Prometheus → storage.
//! - [`api`]: the gRPC services. [`web`]: `/metrics`, `/healthz`, `/readyz`. [`telemetry`]: metrics, events, tracing.
//! - [`controller`]: observe → plan → apply → report.
//! - [`config`], [`run`], [`cli`]: settings, composition, commands.

pub mod api;
pub mod backfill;
pub mod blocking;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod controller;
pub mod decide;
pub mod hash;
#[cfg(test)]
mod house;
pub mod pem;
pub mod plant;
pub mod policy;
pub mod proto;
pub mod provider;
pub mod quantity;
pub mod recommend;
pub mod run;
pub mod telemetry;
pub mod usage;
pub mod web;
pub mod workload;
