//! Which policies are valid, which fields are named when they are not, and what the defaults come to.

use crate::policy::Policy;
use crate::policy::testing::{SCALARS, mutations, policies};
use crate::policy::types::{
    ContainerOverride, CpuBounds, OptimizationPolicy, PartialBounds, PerResource, Percentile, QuantityText,
};
use crate::quantity::{Bytes, Millicores};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

fn fields(policy: &OptimizationPolicy) -> BTreeSet<String> {
    Policy::resolve(policy).err().into_iter().flatten().map(|error| error.field).collect()
}

fn smallest() -> OptimizationPolicy {
    serde_json::from_value(json!({
        "apiVersion": "optipod.io/v1alpha1",
        "kind": "OptimizationPolicy",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "generation": 3,
            "creationTimestamp": "2026-11-01T10:00:00Z",
        },
        "spec": {
            "mode": "Recommend",
            "selector": {"workloadSelector": {}},
            "resourceBounds": {"cpu": {"min": "100m", "max": 4}, "memory": {"min": "128Mi", "max": "8Gi"}},
        },
    }))
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Feature: k8s-workload-rightsizing, Property 15: Policy validation
    #[test]
    fn valid_policies_resolve_and_one_wrong_field_is_named_alone(
        policy in policies(),
        mutation in mutations(),
        seed in 0usize..100,
    ) {
        prop_assert_eq!(fields(&policy), BTreeSet::new());
        let mut broken = policy;
        mutation.1(&mut broken.spec, seed);
        prop_assert_eq!(fields(&broken), BTreeSet::from([mutation.0.to_owned()]));
    }

    // Feature: k8s-workload-rightsizing, Property 15: Policy validation
    #[test]
    fn all_that_is_wrong_is_named_at_once(
        policy in policies(),
        wrong in subsequence((0..SCALARS.len()).collect::<Vec<_>>(), 1..SCALARS.len()),
        seed in 0usize..100,
    ) {
        let mut broken = policy;
        for mutation in SCALARS.iter().enumerate().filter(|(index, _)| wrong.contains(index)).map(|(_, m)| m) {
            mutation.1(&mut broken.spec, seed);
        }
        let expected = wrong.iter().map(|index| SCALARS[*index].0.to_owned()).collect::<BTreeSet<_>>();
        prop_assert_eq!(fields(&broken), expected);
    }
}

#[test]
fn a_message_names_the_field_the_valid_range_and_what_was_given() {
    let mut policy = smallest();
    policy.spec.weight = 0;
    policy.spec.metrics_config.rolling_window = "1h30m".into();
    policy.spec.resource_bounds.cpu.min = QuantityText::Text("100mm".into());
    policy.spec.resource_bounds.memory.min = QuantityText::Integer(1);
    let errors = Policy::resolve(&policy).unwrap_err();
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for expected in [
        "spec.weight: must be from 1 to 1000, got 0",
        "spec.metricsConfig.rollingWindow: must be from 5m to 90d: \"1h30m\" is not a duration; write a whole number above 0 and \
         one of s, m, h or d, for example 30m, 24h or 7d",
        "spec.resourceBounds.cpu.min: must be a quantity of at least 1m; \"100mm\" is not a Kubernetes quantity; write \
         for example 250m, 1.5, 128Mi or 2Gi",
        "spec.resourceBounds.memory.min: must be a quantity of at least 1Mi; got \"1\"",
    ] {
        assert!(messages.iter().any(|message| message == expected), "{expected}\nis not among\n{messages:#?}");
    }
}

#[test]
fn what_identifies_a_policy_comes_from_its_metadata() {
    let policy = Policy::resolve(&smallest()).unwrap();
    assert_eq!(policy.id.to_string(), "shop/web");
    assert_eq!((policy.uid.as_str(), policy.generation), ("u", 3));
    assert_eq!(policy.created.to_string(), "2026-11-01T10:00:00Z");
}

#[test]
fn the_least_span_is_a_tenth_of_the_window_but_half_an_hour_and_never_more_than_the_window() {
    for (window, minutes) in [("24h", 144), ("1h", 30), ("10m", 10), ("90d", 12_960)] {
        let mut policy = smallest();
        policy.spec.metrics_config.rolling_window = window.into();
        let resolved = Policy::resolve(&policy).unwrap();
        assert_eq!(resolved.metrics.min_span, Duration::from_mins(minutes), "{window}");
    }
}

#[test]
fn a_resource_or_a_container_overrides_only_what_it_names() {
    let mut policy = smallest();
    policy.spec.metrics_config.cpu = Some(PerResource { percentile: None, safety_factor: Some(2.0) });
    let cpu = CpuBounds { min: QuantityText::Integer(1), max: QuantityText::Text("1500m".into()) };
    policy.spec.containers = vec![
        ContainerOverride {
            name: "app".into(),
            percentile: Some(Percentile::P99),
            resource_bounds: Some(PartialBounds { cpu: Some(cpu), memory: None }),
            ..ContainerOverride::default()
        },
        ContainerOverride { name: "proxy".into(), exclude: true, ..ContainerOverride::default() },
    ];
    let policy = Policy::resolve(&policy).unwrap();

    let other = policy.container("other");
    assert_eq!((other.cpu.percentile, other.cpu.safety_factor), (Percentile::P90, 2.0));
    assert_eq!((other.memory.percentile, other.memory.safety_factor), (Percentile::P90, 1.2));
    assert_eq!((other.cpu.bounds.min, other.cpu.bounds.max), (Millicores(100), Millicores(4000)));

    let app = policy.container("app");
    assert_eq!((app.cpu.percentile, app.cpu.safety_factor), (Percentile::P99, 2.0));
    assert_eq!((app.memory.percentile, app.memory.safety_factor), (Percentile::P99, 1.2));
    assert_eq!((app.cpu.bounds.min, app.cpu.bounds.max), (Millicores(1000), Millicores(1500)));
    assert_eq!((app.memory.bounds.min, app.memory.bounds.max), (Bytes(128 << 20), Bytes(8 << 30)));

    assert!(policy.container("proxy").exclude && !app.exclude && !other.exclude);
}

#[test]
fn a_factor_that_is_not_a_number_is_refused() {
    let mut policy = smallest();
    policy.spec.metrics_config.safety_factor = f64::NAN;
    assert_eq!(fields(&policy), BTreeSet::from(["spec.metricsConfig.safetyFactor".to_owned()]));
}

#[test]
fn a_quantity_longer_than_the_schema_allows_is_refused() {
    let mut policy = smallest();
    policy.spec.resource_bounds.cpu.min = QuantityText::Text(format!("{}1", "0".repeat(32)));
    assert_eq!(fields(&policy), BTreeSet::from(["spec.resourceBounds.cpu.min".to_owned()]));
}
