//! From a policy as written to a [`Policy`]: every default applied, every text parsed, everything checked.
//!
//! The API server checks the same by the CRD's schema. The controller does so again, because an older CRD may be
//! installed and stored objects outlive a tightened rule. Invariant: what passes here holds for all that reads a `Policy`.

mod checker;
mod selector;
mod syntax;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use checker::FieldError;
pub(crate) use syntax::is_dns_label;

use super::limits;
use super::resolved::{Bounds, ContainerPlan, MetricsPlan, Policy, PolicyId, ResourcePlan, UpdatePlan};
use super::types::{
    ContainerOverride, MetricsConfig, Mode, OptimizationPolicy, OptimizationPolicySpec, PartialBounds, PerResource,
};
use crate::plant::planted;
use checker::Checker;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;

/// A recommendation needs usage over at least this time, unless the policy says otherwise.
const LEAST_SPAN: Duration = Duration::from_mins(30);

impl Policy {
    /// Resolves and checks a policy object.
    ///
    /// # Errors
    /// Every field that is wrong, with the values that would be right.
    pub fn resolve(object: &OptimizationPolicy) -> Result<Self, Vec<FieldError>> {
        let (spec, meta) = (&object.spec, &object.metadata);
        let mut check = Checker::default();
        selector::check(&mut check, &spec.selector);
        let defaults = defaults(&mut check, spec);
        let policy = Self {
            id: id(meta),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            mode: if planted(8) { Mode::Auto } else { spec.mode },
            weight: check.within("spec.weight", spec.weight, limits::WEIGHT),
            selector: spec.selector.clone(),
            metrics: metrics(&mut check, &spec.metrics_config),
            overrides: containers(&mut check, &defaults, &spec.containers),
            defaults,
            update: update(&mut check, spec),
            interval: spec
                .reconciliation_interval
                .as_ref()
                .and_then(|text| check.duration("spec.reconciliationInterval", text, limits::INTERVAL)),
        };
        check.finish(policy)
    }
}

fn id(meta: &ObjectMeta) -> PolicyId {
    PolicyId { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

fn metrics(check: &mut Checker, config: &MetricsConfig) -> MetricsPlan {
    if let Some(provider) = &config.provider {
        check.dns_label("spec.metricsConfig.provider", provider);
    }
    let window = check.duration("spec.metricsConfig.rollingWindow", &config.rolling_window, limits::WINDOW);
    let min_span =
        config.min_span.as_ref().and_then(|text| check.duration("spec.metricsConfig.minSpan", text, limits::MIN_SPAN));
    if min_span.zip(window).is_some_and(|(span, window)| span > window) {
        check.fail("spec.metricsConfig.minSpan", "minSpan must not exceed rollingWindow");
    }
    let window = window.unwrap_or_default();
    MetricsPlan {
        provider: config.provider.clone(),
        window,
        memory_floor: config.memory_floor,
        min_samples: check.count("spec.metricsConfig.minSamples", config.min_samples, limits::MIN_SAMPLES).into(),
        min_span: min_span.unwrap_or_else(|| LEAST_SPAN.max(window / 10).min(window)),
    }
}

/// How containers without an override are sized.
fn defaults(check: &mut Checker, spec: &OptimizationPolicySpec) -> ContainerPlan {
    let metrics = &spec.metrics_config;
    check.within("spec.metricsConfig.safetyFactor", metrics.safety_factor, limits::SAFETY_FACTOR);
    let (cpu, memory) = (&spec.resource_bounds.cpu, &spec.resource_bounds.memory);
    ContainerPlan {
        exclude: false,
        cpu: resource(check, "cpu", metrics, metrics.cpu.as_ref(), |check| {
            check.bounds("spec.resourceBounds.cpu", &cpu.min, &cpu.max, limits::LEAST_CPU)
        }),
        memory: resource(check, "memory", metrics, metrics.memory.as_ref(), |check| {
            check.bounds("spec.resourceBounds.memory", &memory.min, &memory.max, limits::LEAST_MEMORY)
        }),
    }
}

fn resource<T>(
    check: &mut Checker,
    name: &str,
    config: &MetricsConfig,
    own: Option<&PerResource>,
    bounds: impl FnOnce(&mut Checker) -> Bounds<T>,
) -> ResourcePlan<T> {
    let factor = own.and_then(|own| own.safety_factor);
    if let Some(factor) = factor {
        check.within(&format!("spec.metricsConfig.{name}.safetyFactor"), factor, limits::SAFETY_FACTOR);
    }
    ResourcePlan {
        percentile: own.and_then(|own| own.percentile).unwrap_or(config.percentile),
        safety_factor: factor.unwrap_or(config.safety_factor),
        bounds: bounds(check),
    }
}

fn containers(
    check: &mut Checker,
    defaults: &ContainerPlan,
    containers: &[ContainerOverride],
) -> Vec<(String, ContainerPlan)> {
    check.at_most("spec.containers", containers.len(), limits::CONTAINERS);
    let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
    check.unique("spec.containers", &names);
    let plan = |(index, own): (usize, &ContainerOverride)| {
        (own.name.clone(), container(check, &format!("spec.containers[{index}]"), defaults, own))
    };
    containers.iter().enumerate().map(plan).collect()
}

fn container(check: &mut Checker, field: &str, defaults: &ContainerPlan, own: &ContainerOverride) -> ContainerPlan {
    check.dns_label(&format!("{field}.name"), &own.name);
    if own.exclude && (own.percentile.is_some() || own.safety_factor.is_some() || own.resource_bounds.is_some()) {
        check.fail(field, "an excluded container takes no other setting");
    }
    let mut plan = ContainerPlan { exclude: own.exclude, ..defaults.clone() };
    if let Some(percentile) = own.percentile {
        (plan.cpu.percentile, plan.memory.percentile) = (percentile, percentile);
    }
    if let Some(factor) = own.safety_factor {
        check.within(&format!("{field}.safetyFactor"), factor, limits::SAFETY_FACTOR);
        (plan.cpu.safety_factor, plan.memory.safety_factor) = (factor, factor);
    }
    if let Some(PartialBounds { cpu, memory }) = &own.resource_bounds {
        let field = format!("{field}.resourceBounds");
        if let Some(cpu) = cpu {
            plan.cpu.bounds = check.bounds(&format!("{field}.cpu"), &cpu.min, &cpu.max, limits::LEAST_CPU);
        }
        if let Some(memory) = memory {
            plan.memory.bounds =
                check.bounds(&format!("{field}.memory"), &memory.min, &memory.max, limits::LEAST_MEMORY);
        }
    }
    plan
}

fn update(check: &mut Checker, spec: &OptimizationPolicySpec) -> UpdatePlan {
    let strategy = &spec.update_strategy;
    if spec.mode == Mode::Auto && !strategy.allow_in_place_resize && !strategy.allow_recreate {
        let message = "mode Auto needs updateStrategy.allowInPlaceResize or allowRecreate";
        check.fail("spec.updateStrategy", message);
    }
    let field = |name: &str| format!("spec.updateStrategy.{name}");
    let mut count = |name: &str, value, limits| check.count(&field(name), value, limits);
    let per_cycle = count("maxUpdatesPerCycle", strategy.max_updates_per_cycle, limits::MAX_UPDATES_PER_CYCLE);
    UpdatePlan {
        in_place: strategy.allow_in_place_resize,
        recreate: strategy.allow_recreate,
        requests_only: strategy.update_requests_only && !planted(3),
        min_change_percent: count("minChangePercent", strategy.min_change_percent, limits::MIN_CHANGE_PERCENT),
        max_decrease_percent: count("maxDecreasePercent", strategy.max_decrease_percent, limits::MAX_DECREASE_PERCENT),
        cooldown: check.duration(&field("cooldown"), &strategy.cooldown, limits::COOLDOWN).unwrap_or_default(),
        max_updates_per_cycle: usize::try_from(per_cycle).unwrap_or(usize::MAX),
        direction: strategy.direction,
        on_delete: strategy.on_delete,
    }
}
