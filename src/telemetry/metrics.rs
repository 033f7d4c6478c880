//! The Prometheus registry and everything in it.
//!
//! Invariant: a metric that is declared here has a method that sets it, and every name of the specification is exposed
//! as soon as its first value is known. Series of a deleted policy disappear ([`super::PolicyMetrics::remove`]).

use super::collector_metrics::CollectorMetrics;
use super::declare::Declare;
use super::door_metrics::DoorMetrics;
use super::latency::Latencies;
use super::policy_metrics::{PolicyMetrics, PolicySeries};
use crate::policy::PolicyId;
use prometheus::{HistogramVec, IntGauge, Registry, TextEncoder};
use std::sync::Arc;
use std::time::Duration;

/// All metrics of one process; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    policies: PolicySeries,
    collection: HistogramVec,
    brake: IntGauge,
    collector: CollectorMetrics,
    door: DoorMetrics,
    latencies: Latencies,
}

impl Metrics {
    /// A registry with every metric, the process's own (CPU, memory, open files) included.
    ///
    /// # Errors
    /// When a name is declared twice, which a test excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let declare = Declare(&registry);
        let collection = declare.durations(
            "optipod_metrics_collection_duration_seconds",
            "Time one question to a usage provider, or one collection from metrics-server, took",
            "provider",
        )?;
        let brake =
            declare.gauge("optipod_brake_on", "Whether the ConfigMap optipod-brake exists, which holds changes")?;
        let latencies = Latencies::new()?;
        registry.register(Box::new(latencies.clone()))?;
        let policies = PolicySeries::new(&registry, latencies.reconcile.clone())?;
        let collector = CollectorMetrics::new(&registry, latencies.tick.clone())?;
        let door = DoorMetrics::new(&registry)?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self(Arc::new(Inner { registry, policies, collection, brake, collector, door, latencies })))
    }

    /// The metrics of one policy.
    pub fn policy<'a>(&'a self, id: &'a PolicyId) -> PolicyMetrics<'a> {
        PolicyMetrics::new(&self.0.policies, id)
    }

    /// The metrics of the collector and its store.
    pub fn collector(&self) -> &CollectorMetrics {
        &self.0.collector
    }

    /// The metrics of the gRPC server's door.
    pub fn door(&self) -> &DoorMetrics {
        &self.0.door
    }

    /// One question to `provider` took this long, answered or not.
    pub fn observe_collection(&self, provider: &str, took: Duration) {
        self.0.collection.with_label_values(&[provider]).observe(took.as_secs_f64());
    }

    /// One question of the controller's to `provider` took this long, answered or not.
    pub fn observe_query(&self, provider: &str, took: Duration) {
        self.observe_collection(provider, took);
        self.0.latencies.query.observe(took);
    }

    /// The ConfigMap that holds changes exists, or does not.
    pub fn set_brake(&self, on: bool) {
        self.0.brake.set(i64::from(on));
    }

    /// All metrics in Prometheus' text format.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> PolicyId {
        PolicyId { namespace: "shop".into(), name: name.into() }
    }

    fn use_everything(metrics: &Metrics, id: &PolicyId) {
        let policy = metrics.policy(id);
        policy.set_monitored(7);
        policy.set_updated(2);
        policy.set_skipped([("Cooldown", 3), ("NoData", 2)]);
        policy.observe_reconciliation(Duration::from_millis(20));
        policy.count_error("MetricsUnavailable");
        policy.count_recommendations(9);
        policy.count_application("Resize");
        metrics.observe_query("recommender", Duration::from_millis(3));
    }

    #[test]
    fn after_use_all_eight_metrics_of_the_specification_are_exposed_with_their_labels() {
        let metrics = Metrics::new().unwrap();
        use_everything(&metrics, &id("web"));
        let text = metrics.encode().unwrap();
        for line in [
            "optipod_brake_on 0",
            "optipod_grpc_refused_total{reason=\"rate\"} 0",
            "optipod_workloads_monitored{namespace=\"shop\",policy=\"web\"} 7",
            "optipod_workloads_updated{namespace=\"shop\",policy=\"web\"} 2",
            "optipod_workloads_skipped{namespace=\"shop\",policy=\"web\",reason=\"Cooldown\"} 3",
            "optipod_workloads_skipped{namespace=\"shop\",policy=\"web\",reason=\"NoData\"} 2",
            "optipod_reconciliation_duration_seconds_count{policy=\"shop/web\"} 1",
            "optipod_metrics_collection_duration_seconds_count{provider=\"recommender\"} 1",
            "optipod_reconciliation_errors_total{error_type=\"MetricsUnavailable\",policy=\"shop/web\"} 1",
            "optipod_recommendations_total{policy=\"shop/web\"} 9",
            "optipod_latency_seconds_count{operation=\"query\"} 1",
            "optipod_latency_seconds_count{operation=\"reconcile\"} 1",
            "optipod_latency_seconds_count{operation=\"tick\"} 0",
            "optipod_applications_total{method=\"Resize\",policy=\"shop/web\"} 1",
        ] {
            assert!(text.lines().any(|got| got == line), "{line} is missing in\n{text}");
        }
    }

    /// The value of the series whose line begins so.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        // Feature: k8s-workload-rightsizing, Property 25: Prometheus metrics exposure
        #[test]
        fn property_25_what_is_reported_is_exposed_under_the_policy_s_labels(
            (namespace, name) in ("[a-z][a-z0-9-]{0,20}", "[a-z][a-z0-9.-]{0,20}"),
            [monitored, updated, skipped, errors] in prop::array::uniform4(0usize..50),
            reason in "[A-Z][A-Za-z]{0,20}",
            milliseconds in prop::collection::vec(0u64..90_000, 1..20),
        ) {
            let metrics = Metrics::new().unwrap();
            let id = PolicyId { namespace, name };
            let policy = metrics.policy(&id);
            policy.set_monitored(monitored);
            policy.set_updated(updated);
            policy.set_skipped([(&*reason, skipped)]);
            for _ in 0..errors {
                policy.count_error("Conflict");
            }
            for ms in &milliseconds {
                policy.observe_reconciliation(Duration::from_millis(*ms));
            }
            let text = metrics.encode().unwrap();
            let own = format!("namespace=\"{}\",policy=\"{}\"", id.namespace, id.name);
            let of = |series: String| value(&text, &series);
            prop_assert_eq!(of(format!("optipod_workloads_monitored{{{own}}}")), Some(monitored as f64));
            prop_assert_eq!(of(format!("optipod_workloads_updated{{{own}}}")), Some(updated as f64));
            prop_assert_eq!(of(format!("optipod_workloads_skipped{{{own},reason=\"{reason}\"}}")), Some(skipped as f64));
            let counted = of(format!("optipod_reconciliation_errors_total{{error_type=\"Conflict\",policy=\"{id}\"}}"));
            prop_assert_eq!(counted, (errors > 0).then_some(errors as f64));
            let cycles = of(format!("optipod_reconciliation_duration_seconds_count{{policy=\"{id}\"}}"));
            prop_assert_eq!(cycles, Some(milliseconds.len() as f64));
            let seconds = of(format!("optipod_reconciliation_duration_seconds_sum{{policy=\"{id}\"}}")).unwrap();
            prop_assert!((seconds - milliseconds.iter().sum::<u64>() as f64 / 1000.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_reason_that_no_longer_applies_disappears() {
        let metrics = Metrics::new().unwrap();
        let web = id("web");
        metrics.policy(&web).set_skipped([("Cooldown", 3)]);
        metrics.policy(&web).set_skipped([("NoData", 1)]);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("reason=\"Cooldown\""), "{text}");
        assert!(text.contains("reason=\"NoData\"} 1"), "{text}");
    }

    #[test]
    fn series_of_a_deleted_policy_disappear_and_others_stay() {
        let metrics = Metrics::new().unwrap();
        let other = PolicyId { namespace: "bank".into(), name: "web".into() };
        use_everything(&metrics, &id("web"));
        use_everything(&metrics, &other);
        metrics.policy(&id("web")).remove();
        let text = metrics.encode().unwrap();
        assert!(!text.contains("shop"), "{text}");
        assert!(text.contains("optipod_recommendations_total{policy=\"bank/web\"} 9"), "{text}");
        assert!(text.contains("optipod_workloads_monitored{namespace=\"bank\",policy=\"web\"} 7"), "{text}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_reports_its_own_memory() {
        assert!(Metrics::new().unwrap().encode().unwrap().contains("process_resident_memory_bytes"));
    }
}
