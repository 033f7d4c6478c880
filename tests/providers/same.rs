//! One policy, evaluated by the real controller with each provider over the same usage: the recommender with its own
//! store, a real server of PromQL, and a server of the user's own. The oracle works the requests out by hand, from the exact
//! quantiles of what was written.

use super::cluster::{Harness, container};
use super::harness::{Result, test_with};
use super::prometheus::INSTALL;
use super::prometheus::data::{self, Truth, Written, exact};
use super::prometheus::programs::{Kind, shared};
use super::sources::{self, Recommender};
use anyhow::Context as _;
use libtest_mimic::Trial;
use optipod::clock::Clock;
use optipod::config::{CustomSettings, PrometheusSettings, Settings};
use optipod::provider::GrpcProvider;
use optipod::quantity::{Bytes, Millicores};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONTAINERS: [&str; 2] = ["app", "proxy"];
const PROVIDERS: [&str; 3] = ["metrics-server", "prometheus", "custom"];
const DEADLINE: Duration = Duration::from_secs(30);

pub fn tests() -> Vec<Trial> {
    let each = Kind::ALL.into_iter().map(|kind| {
        let name = format!("same::{}::a_policy_recommends_the_same_by_each_provider", kind.name());
        test_with(&name, kind.programs(), INSTALL, move || {
            Box::pin(a_policy_recommends_the_same_by_each_provider(kind))
        })
    });
    each.collect()
}

/// A way to size.
struct Case {
    percentile: &'static str,
    q: f64,
    floor: &'static str,
}

impl Case {
    /// How far a provider's requests may be off, as docs/providers.md says: of CPU and of memory.
    fn allowed(&self, provider: &str) -> Requests {
        match provider {
            "custom" => (0.0, 0.0),
            "metrics-server" => (0.015, 0.01),
            _ => (if self.percentile == "P99" { 0.05 } else { 0.015 }, 0.003),
        }
    }
}

const CASES: [Case; 3] = [
    Case { percentile: "P50", q: 0.5, floor: "None" },
    Case { percentile: "P90", q: 0.9, floor: "Peak" },
    Case { percentile: "P99", q: 0.99, floor: "None" },
];

async fn a_policy_recommends_the_same_by_each_provider(kind: Kind) -> Result {
    let shared = shared(kind)?;
    let recommender = Recommender::of(&shared.written).await?;
    let custom = sources::custom(&shared.written).await?;
    let harness = harness().await;
    for case in &CASES {
        let mut told = BTreeMap::new();
        for name in PROVIDERS {
            let settings = Settings {
                metrics_provider: name.to_owned(),
                prometheus: PrometheusSettings { url: Some(shared.url.clone()), ..PrometheusSettings::default() },
                custom: CustomSettings { addr: Some(custom.url()), ..CustomSettings::default() },
                ..Settings::default()
            };
            told.insert(name, requests(&harness, &settings, &recommender.url, case).await.context(name)?);
        }
        for (place, container) in CONTAINERS.into_iter().enumerate() {
            let right = by_hand(truth(&shared.written, container), case);
            let of: Vec<_> = told.iter().map(|(name, requests)| (*name, requests[place])).collect();
            println!("{}: {} of {container}, by hand {right:?}: {of:?}", kind.name(), case.percentile);
            for (name, got) in &of {
                let (cpu, memory) = case.allowed(name);
                let what = format!("{container}: {} by {name} against", case.percentile);
                assert_near(*got, right, (cpu, memory), &format!("{what} the exact quantiles"));
                for (other, theirs) in &of {
                    let allowed = (cpu + case.allowed(other).0, memory + case.allowed(other).1);
                    assert_near(*got, *theirs, allowed, &format!("{what} {other}"));
                }
            }
        }
    }
    Ok(())
}

/// A request: millicores and MiB.
type Requests = (f64, f64);

/// Within the allowed shares, and one unit: an excess of less than 0.25 % is not rounded up.
fn assert_near(got: Requests, right: Requests, allowed: Requests, what: &str) {
    for (got, right, allowed) in [(got.0, right.0, allowed.0), (got.1, right.1, allowed.1)] {
        assert!((got - right).abs() < allowed * right + 1.001, "{what}: {got} and {right}");
    }
}

fn truth<'a>(written: &'a Written, container: &str) -> &'a Truth {
    &written.truth[&format!("shop/Deployment/web/{container}")]
}

fn bytes(truth: &Truth) -> Vec<f64> {
    truth.memory.iter().map(|(_, bytes)| *bytes).collect()
}

/// The quantile × 1.2; memory at least 5 % above its peak where the policy wants that; rounded up.
fn by_hand(truth: &Truth, case: &Case) -> Requests {
    const MIB: f64 = 1_048_576.0;
    let (cores, bytes) = (exact(&truth.cpu_scrapes, case.q) * 1.2, exact(&bytes(truth), case.q) * 1.2);
    let peak = exact(&self::bytes(truth), 1.0) * 1.05;
    let bytes = if case.floor == "Peak" { bytes.max(peak) } else { bytes };
    ((1000.0 * cores).ceil(), (bytes / MIB).ceil())
}

/// A cluster with the Deployment `web`.
async fn harness() -> Harness {
    tokio::time::pause(); // until the pods run
    let harness = Harness::new().await;
    harness.deployment_with("web", 3, &json!(CONTAINERS.map(|name| container(name, "1", "1Gi")))).await;
    tokio::time::resume(); // for sockets
    harness
}

/// What a controller with these settings recommends for the containers of `web`, by a policy that names no provider.
async fn requests(harness: &Harness, settings: &Settings, recommender: &str, case: &Case) -> Result<Vec<Requests>> {
    let selector = json!({"workloadSelector": {"matchLabels": {"app": "web"}}});
    let metrics = json!({"percentile": case.percentile, "memoryFloor": case.floor, "rollingWindow": "24h"});
    harness.policy("p", json!({"mode": "Recommend", "selector": selector, "metricsConfig": metrics}));
    let recommender = GrpcProvider::connect_lazy("metrics-server", recommender, DEADLINE)?;
    let (client, clock) = (harness.api.client(), Clock::starting_at(data::end()));
    let controller = optipod::run::controller_of(settings, client, recommender, &harness.metrics, clock)?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(controller.run(stop.clone()));
    let told = until_told(harness).await;
    stop.cancel();
    running.await?;
    harness.api.delete("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "p")?;
    told
}

async fn until_told(harness: &Harness) -> Result<Vec<Requests>> {
    for _ in 0..1200 {
        if harness.condition("p", "MetricsAvailable")["status"] == "True" {
            let entry = harness.entry("p", "web");
            let all = entry["recommendations"].as_array().context("no recommendations")?;
            let of = |name| {
                let found = all.iter().find(|one| one["container"] == name);
                let text =
                    |resource: &str| found.and_then(|one| one[resource].as_str()).with_context(|| entry.to_string());
                let (cpu, memory): (Millicores, Bytes) = (text("cpu")?.parse()?, text("memory")?.parse()?);
                Ok((cpu.cores() * 1000.0, memory.as_f64() / 1_048_576.0))
            };
            return CONTAINERS.into_iter().map(of).collect();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("no usage: {}", harness.status("p"))
}
