//! Values of known shapes, and exact quantiles of them: what the sketches are measured against.
#![allow(clippy::unwrap_used, clippy::must_use_candidate, dead_code, missing_docs)]
// Ranks are small.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod measure;
pub mod traces;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Samples of an hour, four a minute.
pub const SLOT: usize = 240;
/// Hours in a window.
pub const SLOTS: usize = 24;

pub fn uniform(rng: &mut SmallRng) -> f64 {
    rng.random_range(0.0..1.0)
}

pub fn normal(rng: &mut SmallRng) -> f64 {
    let (u, v) = (1.0 - uniform(rng), uniform(rng));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The distributions, by name.
pub const SHAPES: [&str; 8] =
    ["uniform", "lognormal", "pareto", "idle-with-bursts", "constant", "two-valued", "ascending", "descending"];

/// `n` values of a shape.
pub fn shape(name: &str, n: usize, seed: u64) -> Vec<f64> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let r = &mut rng;
    let mut make = |f: &mut dyn FnMut(&mut SmallRng, usize) -> f64| -> Vec<f64> { (0..n).map(|i| f(r, i)).collect() };
    match name {
        "uniform" => make(&mut |r, _| uniform(r)),
        "lognormal" => make(&mut |r, _| normal(r).exp()),
        "pareto" => make(&mut |r, _| (1.0 - uniform(r)).powf(-1.0 / 1.5)),
        "idle-with-bursts" => make(&mut |r, _| if uniform(r) < 0.07 { (0.5 * normal(r)).exp() } else { 0.002 }),
        "constant" => make(&mut |_, _| 0.25),
        "two-valued" => make(&mut |_, i| if i % 10 == 0 { 2.0 } else { 0.1 }),
        "ascending" => make(&mut |_, i| 1.0 + i as f64),
        "descending" => make(&mut |_, i| (n - i) as f64),
        other => unreachable!("no shape {other}"),
    }
}

/// The smallest value that a share `q` of the values does not exceed.
pub fn nearest_rank(sorted: &[f64], q: f64) -> f64 {
    let at = |rank: f64| sorted[(rank as usize).clamp(1, sorted.len()) - 1];
    at((q * sorted.len() as f64 - 1e-6).ceil())
}

/// Relative to the nearest value; below a millionth of a core there is no distance.
pub fn distance_to_nearest(sorted: &[f64], value: f64) -> f64 {
    let at = sorted.partition_point(|v| *v < value);
    let near = [at.checked_sub(1), Some(at)];
    let near = near.iter().flatten().filter_map(|i| sorted.get(*i));
    near.map(|v| ((v - value).abs() - 1e-6).max(0.0) / v.max(1e-12)).fold(f64::INFINITY, f64::min)
}

/// What the bursts of a sweep are.
#[derive(Clone, Copy, Debug)]
pub enum Burst {
    /// Always one core.
    One,
    /// Lognormal around one core.
    Lognormal,
}

/// Idle at 0.002 cores with bursts, the share of bursts swept in 120 steps around each of P50,
/// P90 and P99: 360 windows of 24 hours, each with the quantile to ask for.
pub fn burst_sweep(burst: Burst) -> impl Iterator<Item = (f64, Vec<f64>)> {
    let mut rng = SmallRng::seed_from_u64(11);
    let cases = [0.5, 0.9, 0.99].into_iter().flat_map(|q| (0..120).map(move |step| (q, step)));
    cases.map(move |(q, step)| {
        let share = (1.0 - q) * (0.5 + f64::from(step) / 120.0);
        let value = |r: &mut SmallRng| match burst {
            _ if uniform(r) >= share => 0.002,
            Burst::One => 1.0,
            Burst::Lognormal => (0.5 * normal(r)).exp(),
        };
        (q, (0..SLOTS * SLOT).map(|_| value(&mut rng)).collect())
    })
}
