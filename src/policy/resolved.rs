//! A policy with every default applied and every text parsed.

use super::duration;
use super::types::{
    ContainerOverride, Direction, MemoryFloor, Mode, OptimizationPolicy, PartialBounds, PerResource, Percentile,
    QuantityText, WorkloadSelector,
};
use crate::quantity::{Bytes, Millicores};
use jiff::Timestamp;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Which policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyId {
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A valid policy, ready to be acted upon.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Which policy.
    pub id: PolicyId,
    /// The object's uid.
    pub uid: String,
    /// The spec's generation.
    pub generation: i64,
    /// When it was created; the older of two policies of one weight wins.
    pub created: Timestamp,
    /// What it does with its recommendations.
    pub mode: Mode,
    /// 1 to 1000.
    pub weight: i32,
    /// Which workloads it covers.
    pub selector: WorkloadSelector,
    /// From which usage requests are computed.
    pub metrics: MetricsPlan,
    /// Settings of containers without an override.
    pub defaults: ContainerPlan,
    /// Settings of single containers, by name.
    pub overrides: Vec<(String, ContainerPlan)>,
    /// How and how often workloads may be changed.
    pub update: UpdatePlan,
    /// How often it is evaluated.
    pub interval: Duration,
}

/// From which usage requests are computed.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricsPlan {
    /// The provider's name, if the policy names one.
    pub provider: Option<String>,
    /// The rolling window.
    pub window: Duration,
    /// Whether memory stays above the observed peak.
    pub memory_floor: MemoryFloor,
    /// The least number of samples.
    pub min_samples: u64,
    /// The least span of time that samples cover.
    pub min_span: Duration,
}

/// How one container is sized.
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerPlan {
    /// The container is left alone.
    pub exclude: bool,
    /// CPU.
    pub cpu: ResourcePlan<Millicores>,
    /// Memory.
    pub memory: ResourcePlan<Bytes>,
}

/// How one resource of one container is sized.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ResourcePlan<T> {
    /// The percentile of usage that the request covers.
    pub percentile: Percentile,
    /// At least 1.
    pub safety_factor: f64,
    /// Where the request may lie.
    pub bounds: Bounds<T>,
}

/// The least and the greatest value, both allowed; `min <= max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds<T> {
    /// The least value.
    pub min: T,
    /// The greatest value.
    pub max: T,
}

/// How and how often workloads may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)] // three independent switches of the CRD
pub struct UpdatePlan {
    /// Resizing running pods is allowed.
    pub in_place: bool,
    /// Replacing pods is allowed.
    pub recreate: bool,
    /// Limits stay as they are.
    pub requests_only: bool,
    /// In percent of the present request.
    pub min_change_percent: u32,
    /// In percent of the present request.
    pub max_decrease_percent: u32,
    /// The least time between two changes of one workload.
    pub cooldown: Duration,
    /// Workloads changed in one cycle.
    pub max_updates_per_cycle: usize,
    /// Which way requests may move.
    pub direction: Direction,
}

/// One thing that is wrong with a policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field's path, as in `spec.resourceBounds.cpu.min`.
    pub field: String,
    /// What is wrong, and which values are valid.
    pub message: String,
}

impl Policy {
    /// Resolves and checks a policy object.
    ///
    /// # Errors
    /// Every field that is wrong, with the values that would be right.
    pub fn resolve(object: &OptimizationPolicy) -> Result<Self, Vec<FieldError>> {
        let mut check = Checker::default();
        let spec = &object.spec;
        let metrics = &spec.metrics_config;
        let window = check.duration("spec.metricsConfig.rollingWindow", &metrics.rolling_window, ("5m", "90d"));
        let min_span = metrics.min_span.as_ref().map_or_else(
            || (window / 10).max(Duration::from_secs(1800)).min(window),
            |text| check.duration("spec.metricsConfig.minSpan", text, ("1s", "90d")),
        );
        let bounds = PartialBounds {
            cpu: Some(spec.resource_bounds.cpu.clone()),
            memory: Some(spec.resource_bounds.memory.clone()),
        };
        let base = ContainerPlan {
            exclude: false,
            cpu: check.resource("cpu", metrics.percentile, metrics.safety_factor, metrics.cpu.as_ref()),
            memory: check.resource("memory", metrics.percentile, metrics.safety_factor, metrics.memory.as_ref()),
        };
        let defaults = check.bounded("spec.resourceBounds", base, Some(&bounds));
        let overrides = spec.containers.iter().map(|c| (c.name.clone(), check.container(&defaults, c))).collect();
        let update = &spec.update_strategy;
        if spec.mode == Mode::Auto && !update.allow_in_place_resize && !update.allow_recreate {
            check.fail("spec.updateStrategy", "mode Auto needs allowInPlaceResize or allowRecreate");
        }
        if min_span > window {
            check.fail("spec.metricsConfig.minSpan", "minSpan must not exceed rollingWindow");
        }
        let policy = Self {
            id: PolicyId {
                namespace: object.metadata.namespace.clone().unwrap_or_default(),
                name: object.metadata.name.clone().unwrap_or_default(),
            },
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            created: object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            mode: spec.mode,
            weight: spec.weight,
            selector: spec.selector.clone(),
            metrics: MetricsPlan {
                provider: metrics.provider.clone(),
                window,
                memory_floor: metrics.memory_floor,
                min_samples: u64::try_from(metrics.min_samples).unwrap_or(0),
                min_span,
            },
            defaults,
            overrides,
            update: UpdatePlan {
                in_place: update.allow_in_place_resize,
                recreate: update.allow_recreate,
                requests_only: update.update_requests_only,
                min_change_percent: check.number(
                    "spec.updateStrategy.minChangePercent",
                    update.min_change_percent,
                    0,
                    100,
                ),
                max_decrease_percent: check.number(
                    "spec.updateStrategy.maxDecreasePercent",
                    update.max_decrease_percent,
                    1,
                    100,
                ),
                cooldown: check.duration("spec.updateStrategy.cooldown", &update.cooldown, ("1m", "7d")),
                max_updates_per_cycle: check.number(
                    "spec.updateStrategy.maxUpdatesPerCycle",
                    update.max_updates_per_cycle,
                    1,
                    1000,
                ) as usize,
                direction: update.direction,
            },
            interval: check.duration("spec.reconciliationInterval", &spec.reconciliation_interval, ("10s", "24h")),
        };
        if check.errors.is_empty() { Ok(policy) } else { Err(check.errors) }
    }

    /// How a container is sized under this policy.
    pub fn container(&self, name: &str) -> &ContainerPlan {
        self.overrides.iter().find(|(n, _)| n == name).map_or(&self.defaults, |(_, plan)| plan)
    }
}

/// Collects what is wrong, so that a user sees all of it at once.
#[derive(Default)]
struct Checker {
    errors: Vec<FieldError>,
}

impl Checker {
    fn fail(&mut self, field: &str, message: impl fmt::Display) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.to_string() });
    }

    fn duration(&mut self, field: &str, text: &str, (least, most): (&str, &str)) -> Duration {
        let range = (duration::parse(least).unwrap_or_default(), duration::parse(most).unwrap_or(Duration::MAX));
        match duration::parse(text) {
            Ok(value) if range.0 <= value && value <= range.1 => return value,
            Ok(_) => self.fail(field, format!("must be from {least} to {most}, got \"{text}\"")),
            Err(error) => self.fail(field, error),
        }
        range.0
    }

    fn number(&mut self, field: &str, value: i32, least: u32, most: u32) -> u32 {
        match u32::try_from(value) {
            Ok(value) if (least..=most).contains(&value) => value,
            _ => {
                self.fail(field, format!("must be from {least} to {most}, got {value}"));
                least
            }
        }
    }

    fn factor(&mut self, field: &str, factor: f64) -> f64 {
        if !(1.0..=5.0).contains(&factor) {
            self.fail(field, format!("must be from 1 to 5, got {factor}"));
        }
        factor
    }

    /// The plan of one resource, its bounds still open.
    fn resource<T: Default>(
        &mut self,
        name: &str,
        percentile: Percentile,
        factor: f64,
        own: Option<&PerResource>,
    ) -> ResourcePlan<T> {
        let own_factor = own.and_then(|own| own.safety_factor);
        let field = own_factor.map_or("spec.metricsConfig.safetyFactor".to_owned(), |_| {
            format!("spec.metricsConfig.{name}.safetyFactor")
        });
        ResourcePlan {
            percentile: own.and_then(|own| own.percentile).unwrap_or(percentile),
            safety_factor: self.factor(&field, own_factor.unwrap_or(factor)),
            bounds: Bounds { min: T::default(), max: T::default() },
        }
    }

    fn container(&mut self, defaults: &ContainerPlan, own: &ContainerOverride) -> ContainerPlan {
        let field = format!("spec.containers[{}]", own.name);
        let mut plan = ContainerPlan { exclude: own.exclude, ..defaults.clone() };
        if let Some(percentile) = own.percentile {
            (plan.cpu.percentile, plan.memory.percentile) = (percentile, percentile);
        }
        if let Some(factor) = own.safety_factor {
            let factor = self.factor(&format!("{field}.safetyFactor"), factor);
            (plan.cpu.safety_factor, plan.memory.safety_factor) = (factor, factor);
        }
        self.bounded(&format!("{field}.resourceBounds"), plan, own.resource_bounds.as_ref())
    }

    fn bounded(&mut self, field: &str, mut plan: ContainerPlan, bounds: Option<&PartialBounds>) -> ContainerPlan {
        if let Some(cpu) = bounds.and_then(|b| b.cpu.as_ref()) {
            plan.cpu.bounds = self.bounds(&format!("{field}.cpu"), &cpu.min, &cpu.max, (Millicores(1), "1m"));
        }
        if let Some(memory) = bounds.and_then(|b| b.memory.as_ref()) {
            plan.memory.bounds =
                self.bounds(&format!("{field}.memory"), &memory.min, &memory.max, (Bytes(Bytes::MIB), "1Mi"));
        }
        plan
    }

    fn bounds<T>(&mut self, field: &str, min: &QuantityText, max: &QuantityText, least: (T, &str)) -> Bounds<T>
    where
        T: FromStr + Copy + Ord + fmt::Display,
        T::Err: fmt::Display,
    {
        let mut read = |end: &str, text: &QuantityText| match text.to_string().parse::<T>() {
            Ok(value) if value >= least.0 => value,
            Ok(_) => {
                self.fail(
                    &format!("{field}.{end}"),
                    format!("must be a quantity of at least {}, got \"{text}\"", least.1),
                );
                least.0
            }
            Err(error) => {
                self.fail(&format!("{field}.{end}"), error);
                least.0
            }
        };
        let bounds = Bounds { min: read("min", min), max: read("max", max) };
        if bounds.min > bounds.max {
            self.fail(&format!("{field}.min"), format!("min \"{min}\" must not exceed max \"{max}\""));
        }
        bounds
    }
}
