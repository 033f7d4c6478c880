//! The demo's cluster: an online shop, its data, its platform and its staging copy on twelve nodes.
//!
//! What it may not know: what OptiPod will make of it.
//! Invariant: the objects are the same for every seed; the seed moves only how they are used.

use serde_json::json;

use super::Behaviour;
use super::scenario::{ContainerSpec, Scenario, WorkloadKind, WorkloadSpec};
use crate::rng::Rng;

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
        let workloads = [shop(), payments(), catalog(), data(), platform(), staging()];
        for mut workload in workloads.into_iter().flatten() {
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
        let name = format!(
            "{}/{}/{}",
            workload.namespace, workload.name, container.name
        );
        let mut rng = Rng::named(seed, &name);
        let (c, m) = (rng.range(0.85, 1.15), rng.range(0.9, 1.1));
        let shift = rng.range(-1.5, 1.5);
        let behaviour = &mut container.behaviour;
        behaviour.cpu = match behaviour.cpu {
            Cpu::Steady(cores) => Cpu::Steady(cores * c),
            Cpu::Daily {
                low,
                high,
                peak_hour,
            } => Cpu::Daily {
                low: low * c,
                high: high * c,
                peak_hour: peak_hour + shift,
            },
            Cpu::Bursty {
                idle,
                burst,
                every,
                length,
            } => Cpu::Bursty {
                idle: idle * c,
                burst: burst * c,
                every,
                length,
            },
        };
        behaviour.memory = match behaviour.memory {
            Memory::Steady(bytes) => Memory::Steady(bytes * m),
            Memory::Daily {
                low,
                high,
                peak_hour,
            } => Memory::Daily {
                low: low * m,
                high: high * m,
                peak_hour: peak_hour + shift,
            },
            Memory::Leaking { base, per_hour } => Memory::Leaking {
                base: base * m,
                per_hour,
            },
            Memory::WithBursts { base, burst } => Memory::WithBursts {
                base: base * m,
                burst,
            },
        };
    }
}

fn app(name: &str, cpu: &str, memory: &str, behaviour: Behaviour) -> ContainerSpec {
    ContainerSpec::new(name, cpu, memory, behaviour)
}

/// A service mesh's proxy: small, and over-provisioned by its chart.
fn proxy() -> ContainerSpec {
    app(
        "proxy",
        "100m",
        "128Mi",
        Behaviour::daily(0.004, 0.02, 38.0),
    )
    .limits("2", "1Gi")
}

/// A log shipper.
fn shipper() -> ContainerSpec {
    app("log-shipper", "50m", "64Mi", Behaviour::steady(0.006, 24.0))
}

fn workload(
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
    replicas: u32,
    tier: &str,
    containers: Vec<ContainerSpec>,
) -> WorkloadSpec {
    let team = NAMESPACES
        .iter()
        .find(|row| row.0 == namespace)
        .map_or("none", |row| row.1);
    WorkloadSpec::new(namespace, kind, name, replicas, containers)
        .label("tier", tier)
        .label("team", team)
}

fn shop() -> Vec<WorkloadSpec> {
    let deploy = |name, replicas, containers| {
        workload("shop", Deployment, name, replicas, "web", containers)
    };
    vec![
        deploy(
            "storefront",
            8,
            vec![
                app("web", "1", "1Gi", Behaviour::daily(0.05, 0.32, 260.0)).limits("", "2Gi"),
                proxy(),
            ],
        ),
        deploy(
            "checkout",
            6,
            vec![
                app(
                    "checkout",
                    "800m",
                    "1Gi",
                    Behaviour::daily(0.04, 0.24, 300.0),
                )
                .limits("", "2Gi"),
                proxy(),
                shipper(),
            ],
        ),
        deploy(
            "cart",
            4,
            vec![
                app("cart", "500m", "512Mi", Behaviour::daily(0.03, 0.15, 140.0)),
                proxy(),
            ],
        ),
        deploy(
            "recommendations",
            3,
            vec![app("api", "1", "2Gi", Behaviour::daily(0.1, 0.5, 700.0)).limits("2", "3Gi")],
        ),
        deploy(
            "session",
            3,
            vec![app(
                "session",
                "300m",
                "256Mi",
                Behaviour::daily(0.02, 0.09, 70.0),
            )],
        ),
        deploy(
            "images",
            4,
            vec![
                // Too small: throttled at noon by its limit.
                app(
                    "resizer",
                    "100m",
                    "256Mi",
                    Behaviour::daily(0.05, 0.42, 180.0),
                )
                .limits("300m", "1Gi"),
            ],
        ),
        deploy(
            "mailer",
            2,
            vec![app(
                "mailer",
                "500m",
                "512Mi",
                Behaviour::bursty(0.004, 0.2, 90.0),
            )],
        ),
        deploy(
            "coupons",
            2,
            vec![
                app("coupons", "250m", "512Mi", Behaviour::steady(0.02, 110.0)),
                proxy(),
            ],
        ),
        deploy(
            "reviews",
            3,
            vec![app(
                "reviews",
                "400m",
                "768Mi",
                Behaviour::daily(0.02, 0.11, 190.0),
            )],
        ),
        workload(
            "shop",
            StatefulSet,
            "cart-db",
            3,
            "database",
            vec![
                app("redis", "500m", "2Gi", Behaviour::steady(0.06, 620.0)).limits("", "2Gi"),
                shipper(),
            ],
        ),
        workload(
            "shop",
            StatefulSet,
            "session-cache",
            2,
            "cache",
            vec![app(
                "memcached",
                "250m",
                "1Gi",
                Behaviour::steady(0.03, 480.0),
            )],
        ),
    ]
}

fn payments() -> Vec<WorkloadSpec> {
    let deploy = |name, replicas, containers| {
        workload(
            "payments", Deployment, name, replicas, "backend", containers,
        )
    };
    vec![
        deploy(
            "payment-gateway",
            4,
            vec![app("gateway", "1", "1Gi", Behaviour::daily(0.06, 0.3, 340.0)).guaranteed()],
        ),
        deploy(
            "fraud-check",
            3,
            vec![
                app("scorer", "1500m", "4Gi", Behaviour::daily(0.2, 0.9, 1500.0)).limits("", "6Gi"),
                proxy(),
            ],
        ),
        deploy(
            "ledger",
            3,
            vec![
                app("ledger", "600m", "1Gi", Behaviour::daily(0.03, 0.14, 260.0)),
                shipper(),
            ],
        ),
        deploy(
            "invoices",
            2,
            vec![
                app(
                    "invoices",
                    "500m",
                    "1Gi",
                    Behaviour::bursty(0.01, 0.6, 210.0),
                )
                .limits("1", "2Gi"),
            ],
        ),
        deploy(
            "refunds",
            2,
            vec![app(
                "refunds",
                "300m",
                "512Mi",
                Behaviour::steady(0.008, 80.0),
            )],
        ),
        deploy(
            "reconciler",
            1,
            vec![
                // Leaks: OOM-killed every few hours at its limit.
                app(
                    "reconciler",
                    "200m",
                    "384Mi",
                    Behaviour::leaking(0.04, 150.0, 42.0),
                )
                .limits("", "512Mi"),
            ],
        ),
        workload(
            "payments",
            StatefulSet,
            "ledger-db",
            3,
            "database",
            vec![
                app("postgres", "2", "8Gi", Behaviour::daily(0.15, 0.55, 2600.0)).guaranteed(),
                app("exporter", "100m", "128Mi", Behaviour::steady(0.004, 22.0)).guaranteed(),
            ],
        ),
    ]
}

fn catalog() -> Vec<WorkloadSpec> {
    let catalog = |name, replicas, containers| {
        workload("catalog", Deployment, name, replicas, "backend", containers)
    };
    let search = |name, replicas, containers| {
        workload("search", Deployment, name, replicas, "backend", containers)
    };
    vec![
        catalog(
            "catalog-api",
            5,
            vec![
                app("api", "800m", "1Gi", Behaviour::daily(0.05, 0.26, 320.0)).limits("", "2Gi"),
                proxy(),
            ],
        ),
        catalog(
            "pricing",
            3,
            vec![app(
                "pricing",
                "1",
                "1Gi",
                Behaviour::daily(0.03, 0.12, 210.0),
            )],
        ),
        catalog(
            "inventory",
            3,
            vec![
                app(
                    "inventory",
                    "600m",
                    "768Mi",
                    Behaviour::daily(0.03, 0.16, 230.0),
                ),
                proxy(),
            ],
        ),
        catalog(
            "media",
            2,
            vec![app(
                "media",
                "400m",
                "512Mi",
                Behaviour::bursty(0.02, 0.5, 160.0),
            )],
        ),
        catalog(
            "importer",
            1,
            vec![
                app("importer", "1", "2Gi", Behaviour::bursty(0.01, 1.4, 420.0)).limits("2", "3Gi"),
            ],
        ),
        catalog(
            "taxonomy",
            2,
            vec![app(
                "taxonomy",
                "250m",
                "512Mi",
                Behaviour::steady(0.01, 95.0),
            )],
        ),
        // No requests at all: BestEffort.
        catalog(
            "feed-preview",
            1,
            vec![app("preview", "", "", Behaviour::daily(0.01, 0.06, 90.0))],
        ),
        workload(
            "catalog",
            StatefulSet,
            "catalog-db",
            3,
            "database",
            vec![
                app("mongo", "1", "4Gi", Behaviour::daily(0.1, 0.35, 1700.0)),
                shipper(),
            ],
        ),
        search(
            "search-api",
            4,
            vec![
                app("api", "600m", "1Gi", Behaviour::daily(0.06, 0.3, 280.0)),
                proxy(),
            ],
        ),
        search(
            "suggest",
            3,
            vec![app(
                "suggest",
                "500m",
                "1Gi",
                Behaviour::daily(0.03, 0.18, 360.0),
            )],
        ),
        search(
            "indexer",
            2,
            vec![
                // Too small: its bursts want more memory than it asks for.
                app(
                    "indexer",
                    "200m",
                    "256Mi",
                    Behaviour::bursty(0.05, 0.9, 330.0),
                )
                .limits("", "1Gi"),
            ],
        ),
        workload(
            "search",
            StatefulSet,
            "search-index",
            3,
            "database",
            vec![
                app("opensearch", "2", "6Gi", Behaviour::daily(0.3, 0.9, 3300.0)).limits("", "8Gi"),
                app(
                    "backup",
                    "100m",
                    "256Mi",
                    Behaviour::bursty(0.002, 0.2, 40.0),
                ),
            ],
        ),
    ]
}

fn data() -> Vec<WorkloadSpec> {
    let deploy = |name, replicas, containers| {
        workload("data", Deployment, name, replicas, "data", containers)
    };
    vec![
        workload(
            "data",
            StatefulSet,
            "kafka",
            3,
            "data",
            vec![
                app("kafka", "2", "6Gi", Behaviour::daily(0.25, 0.8, 2900.0)).limits("", "8Gi"),
                app("exporter", "100m", "128Mi", Behaviour::steady(0.006, 34.0)),
            ],
        ),
        workload(
            "data",
            StatefulSet,
            "clickhouse",
            2,
            "data",
            vec![
                app(
                    "clickhouse",
                    "4",
                    "16Gi",
                    Behaviour::bursty(0.3, 2.2, 5200.0),
                )
                .limits("", "20Gi"),
            ],
        ),
        deploy(
            "events-ingest",
            4,
            vec![
                app(
                    "ingest",
                    "500m",
                    "512Mi",
                    Behaviour::daily(0.05, 0.21, 130.0),
                ),
                proxy(),
            ],
        ),
        deploy(
            "sessionizer",
            2,
            vec![app("worker", "1", "2Gi", Behaviour::daily(0.15, 0.5, 800.0)).limits("2", "3Gi")],
        ),
        deploy(
            "reports",
            1,
            vec![app(
                "reports",
                "2",
                "4Gi",
                Behaviour::bursty(0.01, 1.1, 700.0),
            )],
        ),
        deploy(
            "feature-store",
            3,
            vec![app(
                "store",
                "700m",
                "2Gi",
                Behaviour::daily(0.06, 0.22, 620.0),
            )],
        ),
        deploy(
            "notebook",
            1,
            vec![app(
                "jupyter",
                "2",
                "8Gi",
                Behaviour::bursty(0.005, 0.7, 900.0),
            )],
        ),
    ]
}

fn platform() -> Vec<WorkloadSpec> {
    let deploy = |name, replicas, containers| {
        workload(
            "platform", Deployment, name, replicas, "platform", containers,
        )
    };
    vec![
        deploy(
            "ingress",
            4,
            vec![app("envoy", "1", "512Mi", Behaviour::daily(0.08, 0.4, 170.0)).limits("", "1Gi")],
        ),
        deploy(
            "auth",
            3,
            vec![
                app("auth", "500m", "512Mi", Behaviour::daily(0.02, 0.12, 150.0)),
                proxy(),
            ],
        ),
        deploy(
            "config-server",
            2,
            vec![app(
                "config",
                "250m",
                "512Mi",
                Behaviour::steady(0.005, 180.0),
            )],
        ),
        deploy(
            "registry",
            2,
            vec![app(
                "registry",
                "500m",
                "1Gi",
                Behaviour::bursty(0.01, 0.4, 130.0),
            )],
        ),
        deploy(
            "ci-runner",
            3,
            vec![app("runner", "1", "2Gi", Behaviour::bursty(0.01, 1.2, 300.0)).limits("2", "4Gi")],
        ),
        // No requests at all: BestEffort.
        deploy(
            "link-checker",
            1,
            vec![app("checker", "", "", Behaviour::bursty(0.001, 0.1, 45.0))],
        ),
        workload(
            "platform",
            DaemonSet,
            "log-agent",
            0,
            "platform",
            vec![
                app("agent", "200m", "256Mi", Behaviour::daily(0.02, 0.06, 75.0))
                    .limits("", "512Mi"),
            ],
        ),
        workload(
            "monitoring",
            DaemonSet,
            "node-exporter",
            0,
            "monitoring",
            vec![
                app("exporter", "100m", "128Mi", Behaviour::steady(0.008, 28.0))
                    .limits("250m", "256Mi"),
            ],
        ),
        workload(
            "monitoring",
            StatefulSet,
            "alerting",
            2,
            "monitoring",
            vec![app(
                "alertmanager",
                "200m",
                "512Mi",
                Behaviour::steady(0.006, 64.0),
            )],
        ),
    ]
}

fn staging() -> Vec<WorkloadSpec> {
    let deploy = |name, containers| workload("staging", Deployment, name, 1, "web", containers);
    vec![
        deploy(
            "storefront",
            vec![
                app("web", "1", "1Gi", Behaviour::steady(0.01, 190.0)),
                proxy(),
            ],
        ),
        deploy(
            "checkout",
            vec![
                app("checkout", "800m", "1Gi", Behaviour::steady(0.008, 210.0)),
                proxy(),
            ],
        ),
        deploy(
            "catalog-api",
            vec![app(
                "api",
                "800m",
                "1Gi",
                Behaviour::bursty(0.004, 0.3, 200.0),
            )],
        ),
        deploy(
            "load-test",
            vec![app(
                "generator",
                "500m",
                "512Mi",
                Behaviour::bursty(0.002, 1.5, 80.0),
            )],
        ),
        workload(
            "staging",
            StatefulSet,
            "cart-db",
            1,
            "database",
            vec![app("redis", "500m", "2Gi", Behaviour::steady(0.01, 90.0)).limits("", "2Gi")],
        ),
    ]
}
