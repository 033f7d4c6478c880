//! What is told beside the status: metrics and events.

use crate::cases::simulate_all;
use crate::harness::{Harness, seconds};
use crate::world::{cluster, events, workloads, writes_to};
use optipod_sim::{Fault, FaultRule};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use std::collections::BTreeMap;

/// The samples of a text in Prometheus' format, by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

// Feature: k8s-workload-rightsizing, Property 25: Prometheus metrics exposure
#[test]
fn property_25_metrics_count_workloads_updates_skips_cycles_and_errors() {
    simulate_all((workloads(), any::<bool>(), 0..=2u64), async |(workloads, down, cycles)| {
        let mut harness = cluster(&workloads).await;
        harness.provider.set_down(down);
        harness.policy("p", json!({"updateStrategy": {"cooldown": "7d"}}));
        harness.start(Harness::options());
        seconds(30 + 60 * cycles).await;
        let exposed = samples(&harness.metrics.encode().unwrap());
        let sum = |name: &str| {
            let of_name = exposed.iter().filter(|(series, _)| series.split('{').next() == Some(name));
            of_name.map(|(_, value)| *value).sum::<f64>()
        };
        let written = workloads.iter().filter(|workload| !writes_to(&harness, &workload.name).is_empty()).count();
        assert!((sum("optipod_workloads_monitored") - workloads.len() as f64).abs() < 0.1, "{exposed:?}");
        assert!((sum("optipod_workloads_updated") - written as f64).abs() < 0.1, "{written} were: {exposed:?}");
        let skipped = workloads.len() - written;
        assert!((sum("optipod_workloads_skipped") - skipped as f64).abs() < 0.1, "{skipped} were: {exposed:?}");
        let evaluations = *harness.provider.questions.lock().unwrap() as f64;
        let counted = sum("optipod_reconciliation_duration_seconds_count");
        assert!((counted - evaluations).abs() < 0.1, "{counted} of {evaluations} cycles");
        let errors = if down { evaluations } else { 0.0 };
        assert!((sum("optipod_reconciliation_errors_total") - errors).abs() < 0.1, "{errors} errors: {exposed:?}");
        // Each reason that the metric has as a label has been told by an event too.
        let told = harness.api.list("v1", "Event");
        for (series, workloads) in exposed.iter().filter(|(series, _)| series.starts_with("optipod_workloads_skipped{"))
        {
            let reason = series.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert!(told.iter().any(|event| event["reason"] == reason), "{workloads} with {reason}: {told:?}");
        }
    });
}

/// What fails, and the object that must have an event about it.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// The update is answered with this status.
    Update(u16),
    Usage,
    Policy,
}

fn failures() -> impl Strategy<Value = Failure> {
    let updates = select(vec![403u16, 422, 429, 500, 503]).prop_map(Failure::Update);
    prop_oneof![3 => updates, 1 => Just(Failure::Usage), 1 => Just(Failure::Policy)]
}

// Feature: k8s-workload-rightsizing, Property 26: Failure event creation
#[test]
fn property_26_every_failure_has_a_warning_event_that_says_what_and_why() {
    simulate_all((workloads(), failures()), async |(workloads, failure)| {
        let mut harness = cluster(&workloads).await;
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, 3.3, 5000.0);
        }
        // Ends in another order than it begins, which only a rule of CEL would find.
        let bounds = if matches!(failure, Failure::Policy) { json!({"cpu": {"min": "5"}}) } else { json!({}) };
        harness.policy("p", json!({"resourceBounds": bounds}));
        match failure {
            Failure::Update(code) => {
                harness.api.faults().add(FaultRule::new(Fault::Status(code)).verb("patch").on("pods/resize"));
            }
            Failure::Usage => harness.provider.set_down(true),
            Failure::Policy => {}
        }
        harness.start(Harness::options());
        seconds(10).await;
        let about = match failure {
            Failure::Update(_) => workloads.iter().map(|workload| workload.name.as_str()).collect(),
            Failure::Usage | Failure::Policy => vec!["p"],
        };
        for name in about {
            let events = events(&harness, name);
            let told = events.iter().find(|(kind, ..)| kind == "Warning");
            let (_, reason, note) = told.unwrap_or_else(|| panic!("{failure:?}: no event about {name}: {events:?}"));
            assert!(!reason.is_empty() && note.len() > 30, "{failure:?}: {reason}: {note}");
        }
    });
}
