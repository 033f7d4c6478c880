//! Reading a `GetRecommendationRequest` and writing its answer. Pure.
//!
//! What a request leaves out has a policy's default.

use super::errors::Violations;
use super::request;
use crate::policy::{Bounds, ContainerPlan, MemoryFloor, MetricsPlan, Percentile, ResourcePlan};
use crate::proto;
use crate::quantity::{Bytes, Millicores};
use crate::recommend::Recommendation;
use optipod_storage::SeriesKey;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use tonic::Status;

const DEFAULT_WINDOW: Duration = Duration::from_hours(24);
const DEFAULT_SAFETY_FACTOR: f64 = 1.2;
const DEFAULT_MIN_SAMPLES: u64 = 100;
const DEFAULT_MIN_SPAN: Duration = Duration::from_mins(30);
/// The most that a request is allowed to grow to where no bound is given: 1 PiB, far above any node.
const MEMORY_UNBOUNDED: Bytes = Bytes(1 << 50);
/// The same for CPU: a million cores.
const CPU_UNBOUNDED: Millicores = Millicores(1_000_000_000);

/// A valid request.
pub(super) struct Question {
    pub(super) key: SeriesKey,
    pub(super) metrics: MetricsPlan,
    pub(super) plan: ContainerPlan,
    current_cpu: Option<Millicores>,
    current_memory: Option<Bytes>,
}

impl Question {
    pub(super) fn read(request: proto::GetRecommendationRequest, retention: Duration) -> Result<Self, Status> {
        let mut check = Violations::default();
        let key = request::series(&mut check, "series", request.series);
        let config = request.metrics_config.unwrap_or_default();
        let bounds = request.resource_bounds.unwrap_or_default();
        let current = request.current.unwrap_or_default();
        let cpu = Bounds {
            min: least(&mut check, "resource_bounds.cpu_min", &bounds.cpu_min, Millicores(1)),
            max: request::quantity(&mut check, "resource_bounds.cpu_max", &bounds.cpu_max, CPU_UNBOUNDED),
        };
        let memory = Bounds {
            min: least(&mut check, "resource_bounds.memory_min", &bounds.memory_min, Bytes(Bytes::MIB)),
            max: request::quantity(&mut check, "resource_bounds.memory_max", &bounds.memory_max, MEMORY_UNBOUNDED),
        };
        let plan = ContainerPlan {
            exclude: false,
            cpu: resource(&mut check, "cpu", config.cpu.as_ref(), cpu),
            memory: resource(&mut check, "memory", config.memory.as_ref(), memory),
        };
        let current_cpu = amount(&mut check, "current.cpu", &current.cpu);
        let current_memory = amount(&mut check, "current.memory", &current.memory);
        let metrics = metrics(&mut check, &config, retention);
        check.check(Self { key, metrics, plan, current_cpu, current_memory })
    }

    pub(super) fn answer(&self, got: Recommendation, usage: proto::Usage) -> proto::GetRecommendationResponse {
        let (cpu, memory) = (got.cpu.request, got.memory.request);
        proto::GetRecommendationResponse {
            requests: Some(proto::Requests { cpu: cpu.to_string(), memory: memory.to_string() }),
            explanation: got.explanation,
            window_covered: got.window_covered,
            usage: Some(usage),
            cpu_change_percent: change_percent(self.current_cpu.map(|c| c.0), cpu.0),
            memory_change_percent: change_percent(self.current_memory.map(|m| m.0), memory.0),
        }
    }
}

fn metrics(check: &mut Violations, config: &proto::MetricsConfig, retention: Duration) -> MetricsPlan {
    let field = |name: &str| format!("metrics_config.{name}");
    let window = request::optional_span(
        check,
        &field("rolling_window"),
        config.rolling_window,
        retention,
        "the store's retention",
    );
    let window = window.unwrap_or(DEFAULT_WINDOW.min(retention));
    let min_span = match config.min_span.map(proto::duration) {
        None => (window / 10).max(DEFAULT_MIN_SPAN).min(window),
        Some(Some(span)) if span <= window => span,
        Some(_) => {
            check.add(field("min_span"), "must be from 0s to rolling_window");
            window
        }
    };
    let memory_floor = match proto::MemoryFloor::try_from(config.memory_floor) {
        Ok(proto::MemoryFloor::Unspecified | proto::MemoryFloor::Peak) => MemoryFloor::Peak,
        Ok(proto::MemoryFloor::None) => MemoryFloor::None,
        Err(_) => {
            check.add(field("memory_floor"), "must be MEMORY_FLOOR_PEAK or MEMORY_FLOOR_NONE");
            MemoryFloor::Peak
        }
    };
    let min_samples = if config.min_samples == 0 { DEFAULT_MIN_SAMPLES } else { u64::from(config.min_samples) };
    MetricsPlan { provider: None, window, memory_floor, min_samples, min_span }
}

fn resource<T: Ord + Display + Copy>(
    check: &mut Violations,
    name: &str,
    config: Option<&proto::ResourceConfig>,
    bounds: Bounds<T>,
) -> ResourcePlan<T> {
    let config = config.copied().unwrap_or_default();
    let field = |part: &str| format!("metrics_config.{name}.{part}");
    let percentile = match proto::Percentile::try_from(config.percentile) {
        Ok(proto::Percentile::P50) => Percentile::P50,
        Ok(proto::Percentile::P90 | proto::Percentile::Unspecified) => Percentile::P90,
        Ok(proto::Percentile::P99) => Percentile::P99,
        Err(_) => {
            check.add(field("percentile"), "must be PERCENTILE_P50, PERCENTILE_P90 or PERCENTILE_P99");
            Percentile::P90
        }
    };
    let safety_factor = match config.safety_factor {
        0.0 => DEFAULT_SAFETY_FACTOR,
        factor if (1.0..=5.0).contains(&factor) => factor,
        factor => {
            check.add(field("safety_factor"), format!("must be from 1 to 5, or 0 for 1.2, got {factor}"));
            DEFAULT_SAFETY_FACTOR
        }
    };
    if bounds.min > bounds.max {
        check.add(
            format!("resource_bounds.{name}_min"),
            format!("min {} must not exceed max {}", bounds.min, bounds.max),
        );
    }
    ResourcePlan { percentile, safety_factor, bounds }
}

/// Reads the lower bound, which is never below `least`.
fn least<T>(check: &mut Violations, field: &str, text: &str, least: T) -> T
where
    T: FromStr + Ord + Display + Copy,
    T::Err: Display,
{
    let value = request::quantity(check, field, text, least);
    if value < least {
        check.add(field, format!("must be at least {least}, got {value}"));
    }
    value.max(least)
}

fn amount<T>(check: &mut Violations, field: &str, text: &str) -> Option<T>
where
    T: FromStr + Default,
    T::Err: Display,
{
    let value = request::quantity(check, field, text, T::default());
    (!text.is_empty()).then_some(value)
}

/// Change against `current` in percent; none where nothing is requested now.
fn change_percent(current: Option<u64>, wanted: u64) -> Option<f64> {
    let current = current.filter(|current| *current > 0)? as f64;
    Some((wanted as f64 - current) / current * 100.0)
}
