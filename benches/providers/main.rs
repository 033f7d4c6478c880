//! The usage providers side by side, as the Markdown tables of docs/providers.md: how exact each is, how long it takes, and
//! what a policy says of each fault.
//!
//! `cargo bench -p optipod --bench providers`; needs Prometheus (`apt-get install prometheus`) and 3 GB in the system's
//! temporary folder, and takes some minutes. Not Criterion's kind of figure: each is one long run.
//! `OPTIPOD_BENCH_CONTAINERS` and `OPTIPOD_BENCH_SCRAPE` (seconds) change its size.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared with tests/providers; a bench that panics has failed"
)]

mod accuracy;
#[path = "../../tests/system/harness.rs"]
mod cluster;
#[path = "../../tests/providers/faults/mod.rs"]
mod faults;
#[path = "../../tests/providers/harness.rs"]
mod harness;
mod large;
mod latency;
#[path = "../../tests/providers/prometheus/mod.rs"]
mod prometheus;
#[path = "../../tests/providers/sources.rs"]
mod sources;
#[path = "../../tests/providers/usage_double.rs"]
mod usage_double;

use faults::{Fault, PROVIDERS, Said};
use harness::Result;
use large::Large;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// How much there is; another number where the variable says so.
fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// What policies say of each fault, one table.
async fn print_faults() -> Result {
    println!("| fault | metrics-server, custom | prometheus |\n|---|---|---|");
    for fault in Fault::ALL {
        let [recommender, prometheus, custom] = faults::said(fault).await?.map(|said| cell(&said));
        let grpc = if recommender == custom { recommender } else { format!("{recommender}<br>{custom}") };
        println!("| {} | {grpc} | {prometheus} |", fault.name());
    }
    Ok(())
}

/// What a policy says, without what changes from run to run, and without what all say.
fn cell(said: &Said) -> String {
    if said.status == "True" {
        return "*True*: the explanation says it, and nothing is lowered by it".to_owned();
    }
    let cause = said.message.split("; OptiPod goes on").next().unwrap_or_default().replace('|', "\\|");
    let cause = PROVIDERS.iter().fold(cause, |cause, name| cause.replace(&format!("usage provider {name} "), ""));
    let varying = [(r"https?://127\.0\.0\.1:\d+", "URL"), (r"/\S+/ca\.crt", "FILE")];
    let cause = varying.iter().fold(cause, |cause, (pattern, word)| {
        regex::Regex::new(pattern).expect("a pattern").replace_all(&cause, *word).into_owned()
    });
    if said.reason == "MetricsUnavailable" { cause } else { format!("`{}`: {cause}", said.reason) }
}

fn main() -> Result {
    let count = number("OPTIPOD_BENCH_CONTAINERS", 5000);
    let large = Large { count, scrape: i64::try_from(number("OPTIPOD_BENCH_SCRAPE", 30))? };
    // Of its own, as the controller has it; the faults need a clock that can stand still, which only one thread has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(latency::print(&large))?; // first, because it looks at the memory of this process
    println!();
    runtime.block_on(accuracy::print())?;
    prometheus::stop();
    drop(runtime);
    println!();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(print_faults())
}
