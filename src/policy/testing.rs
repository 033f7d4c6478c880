//! Random policies for the property tests, and ways to break them in one field each.

use super::duration;
use super::types::{
    ContainerOverride, CpuBounds, Direction, MemoryBounds, MemoryFloor, MetricsConfig, Mode, Namespaces, OnDelete,
    OptimizationPolicy, OptimizationPolicySpec, PartialBounds, PerResource, Percentile, QuantityText, ResourceBounds,
    TargetKind, UpdateStrategy, WorkloadSelector,
};
use crate::quantity::{Bytes, Millicores};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use std::collections::BTreeMap;
use std::time::Duration;

/// Any valid policy.
pub(super) fn policies() -> impl Strategy<Value = OptimizationPolicy> {
    let parts = (1..=1000, selectors(), metrics(), bounds(), containers(), strategies(), durations(10, 86_400));
    parts.prop_map(
        |(weight, selector, metrics_config, resource_bounds, containers, (mode, update_strategy), interval)| {
            let spec = OptimizationPolicySpec {
                mode,
                weight,
                selector,
                metrics_config,
                resource_bounds,
                containers,
                update_strategy,
                reconciliation_interval: Some(interval),
            };
            let mut policy = OptimizationPolicy::new("policy", spec);
            policy.metadata.namespace = Some("default".into());
            policy
        },
    )
}

fn selectors() -> impl Strategy<Value = WorkloadSelector> {
    let kinds = subsequence(vec![TargetKind::Deployment, TargetKind::StatefulSet, TargetKind::DaemonSet], 1..=3);
    let names = || btree_set("[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", 0..4).prop_map(|names| names.into_iter().collect());
    let namespaces = option::of((names(), names()).prop_map(|(allow, deny)| Namespaces { allow, deny }));
    (option::of(label_selectors()), option::of(label_selectors()), namespaces, kinds)
        .prop_map(|(namespace_selector, workload_selector, namespaces, kinds)| WorkloadSelector {
            namespace_selector,
            workload_selector,
            namespaces,
            kinds,
        })
        .prop_filter("says something", |selector| {
            let allows = selector.namespaces.as_ref().is_some_and(|lists| !lists.allow.is_empty());
            selector.namespace_selector.is_some() || selector.workload_selector.is_some() || allows
        })
}

fn label_selectors() -> impl Strategy<Value = LabelSelector> {
    let key = || "([a-z0-9]{1,5}(\\.[a-z]{1,3})?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?";
    let value = || "([A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?)?";
    let expression = (key(), any::<bool>(), vec(value(), 0..4)).prop_map(|(key, positive, values)| {
        let operator = match (positive, values.is_empty()) {
            (true, false) => "In",
            (false, false) => "NotIn",
            (true, true) => "Exists",
            (false, true) => "DoesNotExist",
        };
        LabelSelectorRequirement { key, operator: operator.into(), values: Some(values) }
    });
    let expressions = option::of(vec(expression, 0..4));
    (option::of(btree_map(key(), value(), 0..4)), expressions)
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

/// A duration in any spelling, between two numbers of seconds.
fn durations(least: u32, most: u32) -> impl Strategy<Value = String> {
    let in_unit = move |(size, unit): (u32, char)| {
        let numbers = least.div_ceil(size)..=(most / size).min(999_999);
        numbers.prop_map(move |number| format!("{number}{unit}"))
    };
    let units = [(1, 's'), (60, 'm'), (3600, 'h'), (86_400, 'd')];
    let fitting: Vec<_> = units.into_iter().filter(|(size, _)| *size <= most).collect();
    select(fitting).prop_flat_map(in_unit)
}

fn metrics() -> impl Strategy<Value = MetricsConfig> {
    let per = || {
        (option::of(percentiles()), option::of(1.0..=5.0))
            .prop_map(|(percentile, safety_factor)| PerResource { percentile, safety_factor })
    };
    let window_and_span = (durations(300, 90 * 86_400), option::of(any::<Index>())).prop_map(|(window, share)| {
        let minutes = duration::parse(&window).unwrap().as_secs() / 60;
        let span = share.map(|share| share.index(usize::try_from(minutes).unwrap()) as u64 + 1);
        (window, span.map(|minutes| duration::format(Duration::from_mins(minutes))))
    });
    let floor = select(vec![MemoryFloor::Peak, MemoryFloor::None]);
    let provider = option::of(select(vec!["prometheus".to_owned(), "metrics-server".to_owned()]));
    let numbers = (1.0..=5.0, 1..=1_000_000);
    (provider, window_and_span, percentiles(), numbers, option::of(per()), option::of(per()), floor).prop_map(
        |(
            provider,
            (rolling_window, min_span),
            percentile,
            (safety_factor, min_samples),
            cpu,
            memory,
            memory_floor,
        )| {
            MetricsConfig {
                provider,
                rolling_window,
                percentile,
                safety_factor,
                cpu,
                memory,
                memory_floor,
                min_samples,
                min_span,
            }
        },
    )
}

fn percentiles() -> impl Strategy<Value = Percentile> {
    select(vec![Percentile::P50, Percentile::P90, Percentile::P99])
}

fn cpu_bounds() -> impl Strategy<Value = CpuBounds> {
    let written = |milli: u64, plain: bool| match milli {
        _ if milli.is_multiple_of(1000) && plain => QuantityText::Integer(i64::try_from(milli / 1000).unwrap()),
        _ if plain => QuantityText::Text(format!("{milli}m")),
        _ => QuantityText::Text(Millicores(milli).to_string()),
    };
    (1..=64_000u64, 0..=64_000u64, any::<[bool; 2]>()).prop_map(move |(min, more, plain)| CpuBounds {
        min: written(min, plain[0]),
        max: written(min + more, plain[1]),
    })
}

fn memory_bounds() -> impl Strategy<Value = MemoryBounds> {
    let written = |bytes: u64, plain: bool| {
        let integer = plain.then(|| QuantityText::Integer(i64::try_from(bytes).unwrap()));
        integer.unwrap_or_else(|| QuantityText::Text(Bytes(bytes).to_string()))
    };
    (Bytes::MIB..=1 << 40, 0..=1u64 << 40, any::<[bool; 2]>()).prop_map(move |(min, more, plain)| MemoryBounds {
        min: written(min, plain[0]),
        max: written(min + more, plain[1]),
    })
}

fn bounds() -> impl Strategy<Value = ResourceBounds> {
    (cpu_bounds(), memory_bounds()).prop_map(|(cpu, memory)| ResourceBounds { cpu, memory })
}

fn containers() -> impl Strategy<Value = Vec<ContainerOverride>> {
    let partial =
        (option::of(cpu_bounds()), option::of(memory_bounds())).prop_map(|(cpu, memory)| PartialBounds { cpu, memory });
    let settings = (option::of(percentiles()), option::of(1.0..=5.0), option::of(partial));
    let excluded = ContainerOverride { exclude: true, ..ContainerOverride::default() };
    let sized = settings.prop_map(|(percentile, safety_factor, resource_bounds)| ContainerOverride {
        percentile,
        safety_factor,
        resource_bounds,
        ..ContainerOverride::default()
    });
    let own = prop_oneof![1 => Just(excluded), 3 => sized];
    btree_map("[a-z]([a-z0-9-]{0,8}[a-z0-9])?", own, 0..4).prop_map(|containers: BTreeMap<_, _>| {
        containers.into_iter().map(|(name, own)| ContainerOverride { name, ..own }).collect()
    })
}

fn strategies() -> impl Strategy<Value = (Mode, UpdateStrategy)> {
    let modes = select(vec![Mode::Auto, Mode::Recommend, Mode::Disabled]);
    let directions = select(vec![Direction::Both, Direction::IncreaseOnly, Direction::DecreaseOnly]);
    let numbers = (0..=100, 1..=100, 1..=1000);
    (modes, any::<[bool; 4]>(), numbers, durations(60, 7 * 86_400), directions).prop_map(
        |(mode, [in_place, recreate, requests_only, restore], (change, decrease, updates), cooldown, direction)| {
            let strategy = UpdateStrategy {
                allow_in_place_resize: in_place || (mode == Mode::Auto && !recreate),
                allow_recreate: recreate,
                update_requests_only: requests_only,
                min_change_percent: change,
                max_decrease_percent: decrease,
                cooldown,
                max_updates_per_cycle: updates,
                direction,
                on_delete: if restore { OnDelete::Restore } else { OnDelete::Keep },
            };
            (mode, strategy)
        },
    )
}

/// A way to break a valid policy: the field that is wrong then, and what to do. The number chooses among bad values.
#[derive(Debug)]
pub(super) struct Mutation(pub(super) &'static str, pub(super) fn(&mut OptimizationPolicySpec, usize));

fn pick<T: Clone>(values: &[T], seed: usize) -> T {
    values[seed % values.len()].clone()
}

fn text(values: &[&str], seed: usize) -> QuantityText {
    QuantityText::Text(pick(values, seed).to_owned())
}

fn expression(operator: &str, values: &[&str]) -> LabelSelector {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let expression = LabelSelectorRequirement { key: "a".into(), operator: operator.into(), values: Some(values) };
    LabelSelector { match_labels: None, match_expressions: Some(vec![expression]) }
}

fn label(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: Some([(key.into(), value.into())].into()), match_expressions: None }
}

fn only(spec: &mut OptimizationPolicySpec, own: ContainerOverride) {
    spec.containers = vec![ContainerOverride { name: "app".into(), ..own }];
}

const BAD_FACTORS: [f64; 6] = [0.0, -1.0, 0.999, 5.001, 100.0, f64::MAX];
const GARBAGE: [&str; 8] = ["", "24", "h", "1h30m", "0m", "25x", "1 d", "-1h"];
const BAD_NAMES: [&str; 6] = ["", "Prod", "a.b", "-a", "a-", "a_b"];
const BAD_CPU: [&str; 6] = ["abc", "100mm", "0", "-1", "", "1 m"];
const BAD_MEMORY: [&str; 6] = ["512MB", "128m", "1023Ki", "-1Gi", "", "1e5"];
const BAD_LABEL_KEYS: [&str; 6] = ["", "a b", "-a", "a/b/c", "/a", "Ex_ample/a"];

/// Every check of a single field that the types leave open.
pub(super) const SCALARS: [Mutation; 15] = [
    Mutation("spec.weight", |spec, seed| spec.weight = pick(&[0, -1, 1001, i32::MIN, i32::MAX], seed)),
    Mutation("spec.metricsConfig.provider", |spec, seed| {
        spec.metrics_config.provider = Some(pick(&BAD_NAMES, seed).to_owned());
    }),
    Mutation("spec.metricsConfig.rollingWindow", |spec, seed| {
        let beyond = ["1s", "299s", "4m", "91d", "2161h", "129601m"];
        spec.metrics_config.rolling_window = pick(&[&beyond[..], &GARBAGE].concat(), seed).to_owned();
        spec.metrics_config.min_span = None;
    }),
    Mutation("spec.metricsConfig.minSpan", |spec, seed| {
        spec.metrics_config.min_span = Some(pick(&[&["91d"][..], &GARBAGE].concat(), seed).to_owned());
    }),
    Mutation("spec.metricsConfig.minSamples", |spec, seed| {
        spec.metrics_config.min_samples = pick(&[0, -1, 1_000_001], seed);
    }),
    Mutation("spec.metricsConfig.safetyFactor", |spec, seed| {
        spec.metrics_config.safety_factor = pick(&BAD_FACTORS, seed);
    }),
    Mutation("spec.metricsConfig.cpu.safetyFactor", |spec, seed| {
        let safety_factor = Some(pick(&BAD_FACTORS, seed));
        spec.metrics_config.cpu = Some(PerResource { safety_factor, percentile: None });
    }),
    Mutation("spec.metricsConfig.memory.safetyFactor", |spec, seed| {
        let safety_factor = Some(pick(&BAD_FACTORS, seed));
        spec.metrics_config.memory = Some(PerResource { safety_factor, percentile: None });
    }),
    Mutation("spec.resourceBounds.cpu.max", |spec, seed| spec.resource_bounds.cpu.max = text(&BAD_CPU, seed)),
    Mutation("spec.resourceBounds.memory.min", |spec, seed| spec.resource_bounds.memory.min = text(&BAD_MEMORY, seed)),
    Mutation("spec.updateStrategy.minChangePercent", |spec, seed| {
        spec.update_strategy.min_change_percent = pick(&[-1, 101, i32::MIN], seed);
    }),
    Mutation("spec.updateStrategy.maxDecreasePercent", |spec, seed| {
        spec.update_strategy.max_decrease_percent = pick(&[0, -1, 101], seed);
    }),
    Mutation("spec.updateStrategy.maxUpdatesPerCycle", |spec, seed| {
        spec.update_strategy.max_updates_per_cycle = pick(&[0, -1, 1001], seed);
    }),
    Mutation("spec.updateStrategy.cooldown", |spec, seed| {
        spec.update_strategy.cooldown = pick(&[&["59s", "8d", "169h"][..], &GARBAGE].concat(), seed).to_owned();
    }),
    Mutation("spec.reconciliationInterval", |spec, seed| {
        spec.reconciliation_interval = Some(pick(&[&["9s", "2d", "25h"][..], &GARBAGE].concat(), seed).to_owned());
    }),
];

/// Every check of lists, of labels, and between fields.
pub(super) const STRUCTURES: [Mutation; 26] = [
    Mutation("spec.metricsConfig.minSpan", |spec, seed| {
        let (window, span) = pick(&[("1d", "86401s"), ("24h", "30d"), ("5m", "6m")], seed);
        spec.metrics_config.rolling_window = window.to_owned();
        spec.metrics_config.min_span = Some(span.to_owned());
    }),
    Mutation("spec.resourceBounds.cpu.min", |spec, seed| {
        spec.resource_bounds.cpu.min = text(&["4001m", "4.1", "5"], seed);
        spec.resource_bounds.cpu.max = text(&["4", "4000m"], seed);
    }),
    Mutation("spec.resourceBounds.memory.min", |spec, seed| {
        spec.resource_bounds.memory.min = pick(&[QuantityText::Integer((8 << 30) + 1), text(&["9Gi"], 0)], seed);
        spec.resource_bounds.memory.max = text(&["8Gi"], seed);
    }),
    Mutation("spec.updateStrategy", |spec, _| {
        spec.mode = Mode::Auto;
        spec.update_strategy.allow_in_place_resize = false;
        spec.update_strategy.allow_recreate = false;
    }),
    Mutation("spec.selector", |spec, seed| {
        let deny = pick(&[vec![], vec!["prod".to_owned()]], seed);
        let namespaces = Some(Namespaces { allow: vec![], deny });
        spec.selector = WorkloadSelector { namespaces, kinds: vec![TargetKind::Deployment], ..Default::default() };
    }),
    Mutation("spec.selector.kinds", |spec, _| spec.selector.kinds = vec![]),
    Mutation("spec.selector.kinds[1]", |spec, _| spec.selector.kinds = vec![TargetKind::DaemonSet; 2]),
    Mutation("spec.selector.namespaces.allow[1]", |spec, seed| {
        let allow = vec!["prod".to_owned(), pick(&BAD_NAMES, seed).to_owned()];
        spec.selector.namespaces = Some(Namespaces { allow, deny: vec![] });
    }),
    Mutation("spec.selector.namespaces.deny[2]", |spec, _| {
        let deny = ["a", "b", "a"].map(str::to_owned).to_vec();
        spec.selector.namespaces = Some(Namespaces { allow: vec!["c".into()], deny });
    }),
    Mutation("spec.selector.namespaces.allow", |spec, _| {
        let allow = (0..257).map(|index| format!("ns-{index}")).collect();
        spec.selector.namespaces = Some(Namespaces { allow, deny: vec![] });
    }),
    Mutation("spec.selector.workloadSelector.matchLabels", |spec, seed| {
        spec.selector.workload_selector = Some(label(pick(&BAD_LABEL_KEYS, seed), "x"));
    }),
    Mutation("spec.selector.namespaceSelector.matchLabels", |spec, seed| {
        spec.selector.namespace_selector = Some(label("a", pick(&["x y", "-x", "x.", "ä"], seed)));
    }),
    Mutation("spec.selector.workloadSelector.matchLabels", |spec, _| {
        let labels = (0..17).map(|index| (format!("key-{index}"), String::new())).collect();
        spec.selector.workload_selector = Some(LabelSelector { match_labels: Some(labels), match_expressions: None });
    }),
    Mutation("spec.selector.workloadSelector.matchExpressions[0].operator", |spec, seed| {
        let operator = pick(&["Equals", "in", "NotExists", ""], seed);
        spec.selector.workload_selector = Some(expression(operator, &["x"]));
    }),
    Mutation("spec.selector.workloadSelector.matchExpressions[0]", |spec, seed| {
        spec.selector.workload_selector = Some(expression(pick(&["In", "NotIn"], seed), &[]));
    }),
    Mutation("spec.selector.namespaceSelector.matchExpressions[0]", |spec, seed| {
        spec.selector.namespace_selector = Some(expression(pick(&["Exists", "DoesNotExist"], seed), &["x"]));
    }),
    Mutation("spec.selector.namespaceSelector.matchExpressions[0].values[1]", |spec, seed| {
        spec.selector.namespace_selector = Some(expression("In", &["ok", pick(&["not ok", "-x", "x/y"], seed)]));
    }),
    Mutation("spec.selector.namespaceSelector.matchExpressions[0].key", |spec, seed| {
        let mut selector = expression("Exists", &[]);
        selector.match_expressions.as_mut().unwrap()[0].key = pick(&BAD_LABEL_KEYS, seed).to_owned();
        spec.selector.namespace_selector = Some(selector);
    }),
    Mutation("spec.selector.workloadSelector.matchExpressions[0].values", |spec, _| {
        spec.selector.workload_selector = Some(expression("In", &["x"; 33]));
    }),
    Mutation("spec.selector.workloadSelector.matchExpressions", |spec, _| {
        let mut selector = expression("Exists", &[]);
        let expressions = selector.match_expressions.as_mut().unwrap();
        *expressions = vec![expressions[0].clone(); 17];
        spec.selector.workload_selector = Some(selector);
    }),
    Mutation("spec.containers", |spec, _| {
        let named = |index| ContainerOverride { name: format!("c{index}"), ..ContainerOverride::default() };
        spec.containers = (0..33).map(named).collect();
    }),
    Mutation("spec.containers[1]", |spec, _| {
        only(spec, ContainerOverride::default());
        spec.containers.push(ContainerOverride { exclude: true, ..spec.containers[0].clone() });
    }),
    Mutation("spec.containers[0].name", |spec, seed| {
        only(spec, ContainerOverride::default());
        spec.containers[0].name = pick(&BAD_NAMES, seed).to_owned();
    }),
    Mutation("spec.containers[0]", |spec, _| {
        let percentile = Some(Percentile::P99);
        only(spec, ContainerOverride { exclude: true, percentile, ..ContainerOverride::default() });
    }),
    Mutation("spec.containers[0].safetyFactor", |spec, seed| {
        let safety_factor = Some(pick(&BAD_FACTORS, seed));
        only(spec, ContainerOverride { safety_factor, ..ContainerOverride::default() });
    }),
    Mutation("spec.containers[0].resourceBounds.cpu.min", |spec, seed| {
        let cpu = Some(CpuBounds { min: text(&BAD_CPU, seed), max: text(&["1"], 0) });
        let resource_bounds = Some(PartialBounds { cpu, memory: None });
        only(spec, ContainerOverride { resource_bounds, ..ContainerOverride::default() });
    }),
];

/// One mutation of either list.
pub(super) fn mutations() -> impl Strategy<Value = &'static Mutation> {
    any::<Index>().prop_map(|index| {
        let all: Vec<&Mutation> = SCALARS.iter().chain(&STRUCTURES).collect();
        *index.get(&all)
    })
}
