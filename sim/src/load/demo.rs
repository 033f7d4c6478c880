//! The demo's cluster: an online shop, its data, its platform and its staging copy on twelve nodes.
//!
//! What it may not know: what OptiPod will make of it.
//! Invariant: the objects are the same for every seed; the seed moves only how they are used.

use serde_json::json;

use super::Behaviour;
use super::scenario::{ContainerSpec, Scenario, WorkloadKind, WorkloadSpec};
use crate::rng::Rng;

use Does::{Bursty, Daily, Leaking, Steady};
use WorkloadKind::{DaemonSet, Deployment, StatefulSet};

impl Scenario {
    /// 51 workloads in 8 namespaces on 12 nodes of 16 cores and 64 GiB.
    ///
    /// Requests are mostly three to ten times too high, some too low; some containers have limits,
    /// a few pods are Guaranteed, two workloads have no requests at all. Every workload carries the
    /// labels `app`, `tier` and `team`, namespaces `team` and `environment`.
    pub fn demo(seed: u64) -> Self {
        let mut scenario = Self::new().nodes(12, "16", "64Gi");
        for (name, team, environment) in NAMESPACES {
            scenario = scenario.namespace(name, json!({"team": team, "environment": environment}));
        }
        for row in WORKLOADS {
            let mut workload = workload(row);
            vary(&mut workload, seed);
            scenario = scenario.workload(workload);
        }
        scenario
    }
}

const NAMESPACES: [(&str, &str, &str); 8] = [
    ("shop", "storefront", "production"),
    ("payments", "payments", "production"),
    ("catalog", "catalog", "production"),
    ("search", "catalog", "production"),
    ("data", "data", "production"),
    ("platform", "platform", "production"),
    ("monitoring", "platform", "production"),
    ("staging", "storefront", "staging"),
];

/// Moves each behaviour by up to 15 %, by the seed.
fn vary(workload: &mut WorkloadSpec, seed: u64) {
    use super::{Cpu, Memory};
    for container in &mut workload.containers {
        let name = format!("{}/{}/{}", workload.namespace, workload.name, container.name);
        let mut rng = Rng::named(seed, &name);
        let (c, m) = (rng.range(0.85, 1.15), rng.range(0.9, 1.1));
        let shift = rng.range(-1.5, 1.5);
        let behaviour = &mut container.behaviour;
        behaviour.cpu = match behaviour.cpu {
            Cpu::Steady(cores) => Cpu::Steady(cores * c),
            Cpu::Daily { low, high, peak_hour } => {
                Cpu::Daily { low: low * c, high: high * c, peak_hour: peak_hour + shift }
            }
            Cpu::Bursty { idle, burst, every, length } => {
                Cpu::Bursty { idle: idle * c, burst: burst * c, every, length }
            }
        };
        behaviour.memory = match behaviour.memory {
            Memory::Steady(bytes) => Memory::Steady(bytes * m),
            Memory::Daily { low, high, peak_hour } => {
                Memory::Daily { low: low * m, high: high * m, peak_hour: peak_hour + shift }
            }
            Memory::Leaking { base, per_hour } => Memory::Leaking { base: base * m, per_hour },
            Memory::WithBursts { base, burst } => Memory::WithBursts { base: base * m, burst },
        };
    }
}

fn workload(W(namespace, kind, name, replicas, tier, containers): &W) -> WorkloadSpec {
    let team = NAMESPACES.iter().find(|row| row.0 == *namespace).map_or("none", |row| row.1);
    let containers = containers.iter().map(container).collect();
    WorkloadSpec::new(namespace, *kind, name, *replicas, containers).label("tier", tier).label("team", team)
}

fn container(C(name, cpu, memory, limit_cpu, limit_memory, does): &C) -> ContainerSpec {
    let behaviour = match *does {
        Steady(cores, mib) => Behaviour::steady(cores, mib),
        Daily(low, high, mib) => Behaviour::daily(low, high, mib),
        Bursty(idle, burst, mib) => Behaviour::bursty(idle, burst, mib),
        Leaking(cores, mib, per_hour) => Behaviour::leaking(cores, mib, per_hour),
    };
    ContainerSpec::new(name, cpu, memory, behaviour).limits(limit_cpu, limit_memory)
}

/// Namespace, kind, name, replicas, tier, containers.
struct W(&'static str, WorkloadKind, &'static str, u32, &'static str, &'static [C]);

/// Name, requested CPU and memory, limits of both (empty for none), behaviour.
struct C(&'static str, &'static str, &'static str, &'static str, &'static str, Does);

/// The constructors of [`Behaviour`], as data.
enum Does {
    Steady(f64, f64),
    Daily(f64, f64, f64),
    Bursty(f64, f64, f64),
    Leaking(f64, f64, f64),
}

/// A service mesh's proxy: small, and over-provisioned by its chart.
const PROXY: C = C("proxy", "100m", "128Mi", "2", "1Gi", Daily(0.004, 0.02, 38.0));

/// A log shipper.
const SHIPPER: C = C("log-shipper", "50m", "64Mi", "", "", Steady(0.006, 24.0));

#[rustfmt::skip] // a table: one container a line
const WORKLOADS: &[W] = &[
    W("shop", Deployment, "storefront", 8, "web", &[
        C("web", "1", "1Gi", "", "2Gi", Daily(0.05, 0.32, 260.0)),
        PROXY]),
    W("shop", Deployment, "checkout", 6, "web", &[
        C("checkout", "800m", "1Gi", "", "2Gi", Daily(0.04, 0.24, 300.0)),
        PROXY,
        SHIPPER]),
    W("shop", Deployment, "cart", 4, "web", &[
        C("cart", "500m", "512Mi", "", "", Daily(0.03, 0.15, 140.0)),
        PROXY]),
    W("shop", Deployment, "recommendations", 3, "web", &[
        C("api", "1", "2Gi", "2", "3Gi", Daily(0.1, 0.5, 700.0))]),
    W("shop", Deployment, "session", 3, "web", &[
        C("session", "300m", "256Mi", "", "", Daily(0.02, 0.09, 70.0))]),
    // Too small: throttled at noon by its limit.
    W("shop", Deployment, "images", 4, "web", &[
        C("resizer", "100m", "256Mi", "300m", "1Gi", Daily(0.05, 0.42, 180.0))]),
    W("shop", Deployment, "mailer", 2, "web", &[
        C("mailer", "500m", "512Mi", "", "", Bursty(0.004, 0.2, 90.0))]),
    W("shop", Deployment, "coupons", 2, "web", &[
        C("coupons", "250m", "512Mi", "", "", Steady(0.02, 110.0)),
        PROXY]),
    W("shop", Deployment, "reviews", 3, "web", &[
        C("reviews", "400m", "768Mi", "", "", Daily(0.02, 0.11, 190.0))]),
    W("shop", StatefulSet, "cart-db", 3, "database", &[
        C("redis", "500m", "2Gi", "", "2Gi", Steady(0.06, 620.0)),
        SHIPPER]),
    W("shop", StatefulSet, "session-cache", 2, "cache", &[
        C("memcached", "250m", "1Gi", "", "", Steady(0.03, 480.0))]),
    // Guaranteed: limits equal requests.
    W("payments", Deployment, "payment-gateway", 4, "backend", &[
        C("gateway", "1", "1Gi", "1", "1Gi", Daily(0.06, 0.3, 340.0))]),
    W("payments", Deployment, "fraud-check", 3, "backend", &[
        C("scorer", "1500m", "4Gi", "", "6Gi", Daily(0.2, 0.9, 1500.0)),
        PROXY]),
    W("payments", Deployment, "ledger", 3, "backend", &[
        C("ledger", "600m", "1Gi", "", "", Daily(0.03, 0.14, 260.0)),
        SHIPPER]),
    W("payments", Deployment, "invoices", 2, "backend", &[
        C("invoices", "500m", "1Gi", "1", "2Gi", Bursty(0.01, 0.6, 210.0))]),
    W("payments", Deployment, "refunds", 2, "backend", &[
        C("refunds", "300m", "512Mi", "", "", Steady(0.008, 80.0))]),
    // Leaks: OOM-killed every few hours at its limit.
    W("payments", Deployment, "reconciler", 1, "backend", &[
        C("reconciler", "200m", "384Mi", "", "512Mi", Leaking(0.04, 150.0, 42.0))]),
    // Guaranteed too.
    W("payments", StatefulSet, "ledger-db", 3, "database", &[
        C("postgres", "2", "8Gi", "2", "8Gi", Daily(0.15, 0.55, 2600.0)),
        C("exporter", "100m", "128Mi", "100m", "128Mi", Steady(0.004, 22.0))]),
    W("catalog", Deployment, "catalog-api", 5, "backend", &[
        C("api", "800m", "1Gi", "", "2Gi", Daily(0.05, 0.26, 320.0)),
        PROXY]),
    W("catalog", Deployment, "pricing", 3, "backend", &[
        C("pricing", "1", "1Gi", "", "", Daily(0.03, 0.12, 210.0))]),
    W("catalog", Deployment, "inventory", 3, "backend", &[
        C("inventory", "600m", "768Mi", "", "", Daily(0.03, 0.16, 230.0)),
        PROXY]),
    W("catalog", Deployment, "media", 2, "backend", &[
        C("media", "400m", "512Mi", "", "", Bursty(0.02, 0.5, 160.0))]),
    W("catalog", Deployment, "importer", 1, "backend", &[
        C("importer", "1", "2Gi", "2", "3Gi", Bursty(0.01, 1.4, 420.0))]),
    W("catalog", Deployment, "taxonomy", 2, "backend", &[
        C("taxonomy", "250m", "512Mi", "", "", Steady(0.01, 95.0))]),
    // No requests at all: BestEffort.
    W("catalog", Deployment, "feed-preview", 1, "backend", &[
        C("preview", "", "", "", "", Daily(0.01, 0.06, 90.0))]),
    W("catalog", StatefulSet, "catalog-db", 3, "database", &[
        C("mongo", "1", "4Gi", "", "", Daily(0.1, 0.35, 1700.0)),
        SHIPPER]),
    W("search", Deployment, "search-api", 4, "backend", &[
        C("api", "600m", "1Gi", "", "", Daily(0.06, 0.3, 280.0)),
        PROXY]),
    W("search", Deployment, "suggest", 3, "backend", &[
        C("suggest", "500m", "1Gi", "", "", Daily(0.03, 0.18, 360.0))]),
    // Too small: its bursts want more memory than it asks for.
    W("search", Deployment, "indexer", 2, "backend", &[
        C("indexer", "200m", "256Mi", "", "1Gi", Bursty(0.05, 0.9, 330.0))]),
    W("search", StatefulSet, "search-index", 3, "database", &[
        C("opensearch", "2", "6Gi", "", "8Gi", Daily(0.3, 0.9, 3300.0)),
        C("backup", "100m", "256Mi", "", "", Bursty(0.002, 0.2, 40.0))]),
    W("data", StatefulSet, "kafka", 3, "data", &[
        C("kafka", "2", "6Gi", "", "8Gi", Daily(0.25, 0.8, 2900.0)),
        C("exporter", "100m", "128Mi", "", "", Steady(0.006, 34.0))]),
    W("data", StatefulSet, "clickhouse", 2, "data", &[
        C("clickhouse", "4", "16Gi", "", "20Gi", Bursty(0.3, 2.2, 5200.0))]),
    W("data", Deployment, "events-ingest", 4, "data", &[
        C("ingest", "500m", "512Mi", "", "", Daily(0.05, 0.21, 130.0)),
        PROXY]),
    W("data", Deployment, "sessionizer", 2, "data", &[
        C("worker", "1", "2Gi", "2", "3Gi", Daily(0.15, 0.5, 800.0))]),
    W("data", Deployment, "reports", 1, "data", &[
        C("reports", "2", "4Gi", "", "", Bursty(0.01, 1.1, 700.0))]),
    W("data", Deployment, "feature-store", 3, "data", &[
        C("store", "700m", "2Gi", "", "", Daily(0.06, 0.22, 620.0))]),
    W("data", Deployment, "notebook", 1, "data", &[
        C("jupyter", "2", "8Gi", "", "", Bursty(0.005, 0.7, 900.0))]),
    W("platform", Deployment, "ingress", 4, "platform", &[
        C("envoy", "1", "512Mi", "", "1Gi", Daily(0.08, 0.4, 170.0))]),
    W("platform", Deployment, "auth", 3, "platform", &[
        C("auth", "500m", "512Mi", "", "", Daily(0.02, 0.12, 150.0)),
        PROXY]),
    W("platform", Deployment, "config-server", 2, "platform", &[
        C("config", "250m", "512Mi", "", "", Steady(0.005, 180.0))]),
    W("platform", Deployment, "registry", 2, "platform", &[
        C("registry", "500m", "1Gi", "", "", Bursty(0.01, 0.4, 130.0))]),
    W("platform", Deployment, "ci-runner", 3, "platform", &[
        C("runner", "1", "2Gi", "2", "4Gi", Bursty(0.01, 1.2, 300.0))]),
    // No requests at all: BestEffort.
    W("platform", Deployment, "link-checker", 1, "platform", &[
        C("checker", "", "", "", "", Bursty(0.001, 0.1, 45.0))]),
    W("platform", DaemonSet, "log-agent", 0, "platform", &[
        C("agent", "200m", "256Mi", "", "512Mi", Daily(0.02, 0.06, 75.0))]),
    W("monitoring", DaemonSet, "node-exporter", 0, "monitoring", &[
        C("exporter", "100m", "128Mi", "250m", "256Mi", Steady(0.008, 28.0))]),
    W("monitoring", StatefulSet, "alerting", 2, "monitoring", &[
        C("alertmanager", "200m", "512Mi", "", "", Steady(0.006, 64.0))]),
    W("staging", Deployment, "storefront", 1, "web", &[
        C("web", "1", "1Gi", "", "", Steady(0.01, 190.0)),
        PROXY]),
    W("staging", Deployment, "checkout", 1, "web", &[
        C("checkout", "800m", "1Gi", "", "", Steady(0.008, 210.0)),
        PROXY]),
    W("staging", Deployment, "catalog-api", 1, "web", &[
        C("api", "800m", "1Gi", "", "", Bursty(0.004, 0.3, 200.0))]),
    W("staging", Deployment, "load-test", 1, "web", &[
        C("generator", "500m", "512Mi", "", "", Bursty(0.002, 1.5, 80.0))]),
    W("staging", StatefulSet, "cart-db", 1, "database", &[
        C("redis", "500m", "2Gi", "", "2Gi", Steady(0.01, 90.0))]),
];
