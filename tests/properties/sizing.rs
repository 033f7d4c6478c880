//! From usage and a policy's text to a request.

use crate::cases::for_all;
use jiff::Timestamp;
use optipod::policy::{OptimizationPolicy, Policy};
use optipod::recommend::{Recommendation, recommend};
use optipod::usage::{ResourceUsage, WindowUsage};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::time::Duration;

const MIB: f64 = 1_048_576.0;
const DAY: Duration = Duration::from_hours(24);

/// P50, P90, P99 and peak, rising.
fn distributions(most: f64) -> impl Strategy<Value = [f64; 4]> {
    prop::array::uniform4(0.0..most).prop_map(|mut values| {
        values.sort_by(f64::total_cmp);
        values
    })
}

fn usage(cpu: [f64; 4], mebibytes: [f64; 4]) -> WindowUsage {
    let of = |[p50, p90, p99, peak]: [f64; 4]| ResourceUsage { p50, p90, p99, mean: p50, peak, samples: 5760 };
    let at = Timestamp::UNIX_EPOCH;
    WindowUsage {
        cpu: of(cpu),
        memory: of(mebibytes.map(|m| m * MIB)),
        from: at,
        to: at,
        covered: DAY,
        notes: Vec::new(),
    }
}

/// What a policy of this spec recommends for the container `web`.
fn recommended(spec: &Value, usage: &WindowUsage) -> Recommendation {
    let mut whole = json!({"mode": "Auto", "selector": {"workloadSelector": {}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({"apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
        "metadata": {"namespace": "shop", "name": "p"}, "spec": whole});
    let policy = Policy::resolve(&serde_json::from_value::<OptimizationPolicy>(object).unwrap()).unwrap();
    recommend(usage, &policy.metrics, policy.container("web"), None).unwrap()
}

/// The least and the greatest CPU in millicores, and the same of memory in mebibytes.
type Bounds = ((u64, u64), (u64, u64));

fn bounds() -> impl Strategy<Value = Bounds> {
    let range = |least, more| (1..least, 0..more).prop_map(|(min, more)| (min, min + more));
    (range(4000u64, 60_000u64), range(200u64, 4000u64))
}

fn bounds_json((cpu, memory): Bounds) -> Value {
    json!({"cpu": {"min": format!("{}m", cpu.0), "max": format!("{}m", cpu.1)},
        "memory": {"min": format!("{}Mi", memory.0), "max": format!("{}Mi", memory.1)}})
}

// Feature: k8s-workload-rightsizing, Property 4: Bounds enforcement
#[test]
fn property_4_recommendations_never_leave_the_bounds() {
    let case = (distributions(64.0), distributions(8000.0), 1.0..5.0f64, bounds(), option::of(bounds()));
    for_all(case, |(cpu, memory, factor, all, own)| {
        let containers = own.map(|own| json!({"name": "web", "resourceBounds": bounds_json(own)}));
        let metrics = json!({"safetyFactor": factor});
        let spec = json!({"resourceBounds": bounds_json(all), "containers": containers.into_iter().collect::<Vec<_>>(),
            "metricsConfig": metrics});
        let got = recommended(&spec, &usage(cpu, memory));
        let (cpu, memory) = own.unwrap_or(all);
        assert!((cpu.0..=cpu.1).contains(&got.cpu.request.0), "{:?} is not in {cpu:?} m", got.cpu);
        let bytes = (memory.0 << 20)..=(memory.1 << 20);
        assert!(bytes.contains(&got.memory.request.0), "{:?} is not in {memory:?} Mi", got.memory);
    });
}

/// A percentile and a safety factor, each where it is given.
type Strategies = (Option<&'static str>, Option<f64>);

fn strategies() -> impl Strategy<Value = Strategies> {
    (option::of(select(vec!["P50", "P90", "P99"])), option::of(1.0..5.0f64))
}

fn strategy_json((percentile, factor): Strategies) -> Value {
    let mut given = serde_json::Map::new();
    given.extend(percentile.map(|percentile| ("percentile".to_owned(), json!(percentile))));
    given.extend(factor.map(|factor| ("safetyFactor".to_owned(), json!(factor))));
    Value::Object(given)
}

/// Percentile times factor, as the most special place that gives them says; P90 and 1.2 where none does.
fn derived(places: [Strategies; 3], usage: [f64; 4]) -> f64 {
    let percentile = places.iter().find_map(|place| place.0).unwrap_or("P90");
    let factor = places.iter().find_map(|place| place.1).unwrap_or(1.2);
    let value = match percentile {
        "P50" => usage[0],
        "P90" => usage[1],
        _ => usage[2],
    };
    value * factor
}

// Feature: k8s-workload-rightsizing, Property 14: Strategy application
#[test]
fn property_14_within_bounds_a_request_is_the_policy_s_percentile_times_its_factor_rounded_up() {
    let case = (distributions(64.0), distributions(8000.0), prop::array::uniform4(strategies()));
    for_all(case, |(cpu, memory, [all, of_cpu, of_memory, own])| {
        let mut metrics = strategy_json(all);
        metrics["memoryFloor"] = json!("None");
        (metrics["cpu"], metrics["memory"]) = (strategy_json(of_cpu), strategy_json(of_memory));
        let mut container = strategy_json(own);
        container["name"] = json!("web");
        let spec = json!({"metricsConfig": metrics, "containers": [container],
            "resourceBounds": bounds_json(((1, 1_000_000), (1, 1_000_000)))});
        let got = recommended(&spec, &usage(cpu, memory));
        let millicores = (derived([own, of_cpu, all], cpu) * 1000.0).max(1.0);
        let mebibytes = derived([own, of_memory, all], memory).max(1.0);
        for (got, wanted) in [(got.cpu.request.0 as f64, millicores), (got.memory.request.as_f64() / MIB, mebibytes)] {
            assert!(got < wanted + 1.0 && got > wanted - 1.0, "{got} for {wanted}");
            // Digits beyond the precision of a sketch are not worth a whole unit.
            assert!(got >= wanted * 0.9975, "{got} for {wanted}");
        }
    });
}
