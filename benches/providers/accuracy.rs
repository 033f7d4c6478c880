//! How far each provider's percentiles are from the exact ones of what was written: a day of five workloads, a scrape each
//! 15 s (those of `tests/providers`).

use crate::harness::Result;
use crate::prometheus::data::{Written, exact};
use crate::prometheus::programs::{Kind, shared};
use crate::sources::{self, Recommender};
use anyhow::Context as _;
use optipod::clock::Clock;
use optipod::provider::{GrpcProvider, PrometheusOptions, PrometheusProvider, UsageProvider, UsageQuery};
use optipod::usage::{ResourceUsage, SeriesKey};
use optipod::workload::WorkloadId;
use std::time::Duration;

/// What lives all day, so that its edges do not matter.
const ALL_DAY: [(&str, &str, &str); 5] = [
    ("Deployment", "web", "app"),
    ("Deployment", "web", "proxy"),
    ("StatefulSet", "db", "db"),
    ("DaemonSet", "agent", "agent"),
    ("Pod", "bare", "main"),
];

/// The table, with the mean and the worst of all containers.
pub async fn print() -> Result {
    let shared = shared(Kind::Prometheus)?;
    let deadline = Duration::from_secs(30);
    let (recommender, custom) = (Recommender::of(&shared.written).await?, sources::custom(&shared.written).await?);
    let clock = Clock::starting_at(crate::prometheus::data::end());
    let providers: [Box<dyn UsageProvider>; 3] = [
        Box::new(GrpcProvider::connect_lazy("metrics-server", &recommender.url, deadline)?),
        Box::new(PrometheusProvider::new(PrometheusOptions::new(&shared.url), clock)?),
        Box::new(GrpcProvider::connect_lazy("custom", &custom.url(), deadline)?),
    ];
    println!("| relative error, mean / worst | CPU P50, P90 | CPU P99 | memory P50, P90, P99 |\n|---|---|---|---|");
    for provider in &providers {
        let [middle, high, memory] = errors(&**provider, &shared.written).await?.map(|errors| {
            let (sum, worst) = errors.iter().fold((0.0, 0.0), |(sum, worst), e| (sum + e, f64::max(worst, *e)));
            format!("{:.1} % / {:.1} %", 100.0 * sum / errors.len() as f64, 100.0 * worst)
        });
        println!("| {} | {middle} | {high} | {memory} |", provider.name());
    }
    Ok(())
}

/// Relative errors: of CPU's P50 and P90, of its P99, of memory.
async fn errors(provider: &dyn UsageProvider, written: &Written) -> Result<[Vec<f64>; 3]> {
    let query = |(kind, name, container): (&str, &str, &str)| {
        let workload = WorkloadId { namespace: "shop".into(), kind: kind.parse().unwrap(), name: name.into() };
        UsageQuery { series: SeriesKey { workload, container: container.into() }, window: crate::DAY }
    };
    let queries = ALL_DAY.map(query);
    let mut all: [Vec<f64>; 3] = Default::default();
    for ((kind, name, container), usage) in ALL_DAY.into_iter().zip(provider.usage(&queries).await?) {
        let (truth, usage) = (&written.truth[&format!("shop/{kind}/{name}/{container}")], usage.context("no usage")?);
        let bytes: Vec<f64> = truth.memory.iter().map(|(_, bytes)| *bytes).collect();
        let of = |got: &ResourceUsage, values: &[f64]| {
            [(got.p50, 0.5), (got.p90, 0.9), (got.p99, 0.99)].map(|(got, q)| (got / exact(values, q) - 1.0).abs())
        };
        let [p50, p90, p99] = of(&usage.cpu, &truth.cpu_scrapes);
        all[0].extend([p50, p90]);
        all[1].push(p99);
        all[2].extend(of(&usage.memory, &bytes));
    }
    Ok(all)
}
