//! One answer against the samples that it should be of.
//!
//! An answer may lack samples when damage was reported; it may never hold one that was not
//! written. What it holds whole must be right: counts, times, extremes and covered time exactly as
//! far as FORMAT.md keeps them, quantiles within the ranks that a digest of its size allows.

use super::model::Point;
use optipod_storage::{Distribution, Timestamp, Usage};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

const FIVE_MINUTES: i64 = 300_000;

/// What became of one answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Right,
    /// So many samples are missing; what is there could be right.
    Lacking(u64),
    Wrong(String),
}

/// Judges the answer for samples `expected`, in time order, of a span that begins at `from`;
/// time counts as covered until `until`.
pub fn judge(got: Option<&Usage>, expected: &[Point], from: Timestamp, until: Timestamp) -> Verdict {
    let Some(got) = got else {
        return if expected.is_empty() { Verdict::Right } else { Verdict::Lacking(expected.len() as u64) };
    };
    let (Some(first), Some(last)) = (expected.first(), expected.last()) else {
        return Verdict::Wrong(format!("{} samples where none were written", got.cpu.count()));
    };
    let count = expected.len() as u64;
    let problems = match got.cpu.count().cmp(&count) {
        Ordering::Equal => whole(got, expected, (first, last), covered(expected, from, until)),
        Ordering::Less => part(got, expected, (first, last)),
        Ordering::Greater => vec![format!("{} samples where {count} were written", got.cpu.count())],
    };
    match (problems.is_empty(), count.saturating_sub(got.cpu.count())) {
        (false, _) => Verdict::Wrong(problems.join("; ")),
        (true, 0) => Verdict::Right,
        (true, lacking) => Verdict::Lacking(lacking),
    }
}

/// What is wrong with an answer that holds all samples.
fn whole(got: &Usage, expected: &[Point], (first, last): (&Point, &Point), covered: Duration) -> Vec<String> {
    let mut problems = distribution("cpu", &got.cpu, &sorted(expected, |p| p.cpu));
    problems.extend(distribution("memory", &got.memory, &sorted(expected, |p| p.memory)));
    if (got.from.0, got.to.0) != (first.at, last.at) {
        problems.push(format!("spans {}..{}, not {}..{}", got.from.0, got.to.0, first.at, last.at));
    }
    if got.covered != covered {
        problems.push(format!("covers {:?}, not {covered:?}", got.covered));
    }
    problems
}

/// What is certainly wrong with an answer that lacks some.
fn part(got: &Usage, expected: &[Point], (first, last): (&Point, &Point)) -> Vec<String> {
    let mut problems = bounds("cpu", &got.cpu, &sorted(expected, |p| p.cpu));
    problems.extend(bounds("memory", &got.memory, &sorted(expected, |p| p.memory)));
    if got.from.0 < first.at || got.to.0 > last.at {
        problems.push("spans more than was written".to_owned());
    }
    problems
}

fn sorted(points: &[Point], value: fn(&Point) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = points.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Five minutes for each that has a sample, as far as they lie within the span and the past.
fn covered(points: &[Point], from: Timestamp, until: Timestamp) -> Duration {
    let slots: BTreeSet<i64> = points.iter().map(|p| p.at.div_euclid(FIVE_MINUTES) * FIVE_MINUTES).collect();
    let within = slots.into_iter().map(|start| (start + FIVE_MINUTES).min(until.0) - start.max(from.0));
    let sum: i64 = within.map(|millis| millis.max(0)).sum();
    // Nothing is covered before the first sample.
    let since_first = points.first().map_or(0, |first| until.0 - first.at);
    Duration::from_millis(sum.min(since_first).max(0) as u64)
}

/// Nothing that was not written: between the extremes.
fn bounds(what: &str, got: &Distribution, sorted: &[f64]) -> Vec<String> {
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
        return Vec::new();
    };
    let is_within = |value: f64| value >= min * 0.9999 && value <= max * 1.0001;
    let values = [got.min(), got.quantile(0.5), got.quantile(0.99), got.max(), got.mean()];
    let outside = values.into_iter().filter(|value| !is_within(*value));
    outside.map(|value| format!("{what} {value} is not within {min}..{max}")).collect()
}

fn distribution(what: &str, got: &Distribution, sorted: &[f64]) -> Vec<String> {
    let mut problems = bounds(what, got, sorted);
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
        return problems;
    };
    let sum: f64 = sorted.iter().sum();
    let off = |got: f64, want: f64, share: f64| (got - want).abs() > want * share;
    if off(got.min(), *min, 1e-4) || off(got.max(), *max, 1e-4) || got.max() < *max || off(got.sum(), sum, 2e-3) {
        problems.push(format!(
            "{what} has min {} max {} sum {}, not {min} {max} {sum}",
            got.min(),
            got.max(),
            got.sum()
        ));
    }
    for q in [0.1, 0.5, 0.9, 0.95, 0.99] {
        let value = got.quantile(q);
        let (low, high) = band(sorted, q);
        if value < low * 0.98 || value > high * 1.02 {
            problems.push(format!("{what} quantile {q} is {value}, not within {low}..{high}"));
        }
    }
    problems
}

/// The values whose ranks are within what the digests allow: finer towards the ends.
fn band(sorted: &[f64], q: f64) -> (f64, f64) {
    let last = sorted.len() - 1; // not empty: its extremes were taken
    let slack = 2.0 + sorted.len() as f64 * (0.005 + 0.2 * q * (1.0 - q));
    let rank = q * sorted.len() as f64;
    let at = |rank: f64| sorted.get((rank.max(0.0) as usize).min(last)).copied().unwrap_or_default();
    (at(rank - slack), at(rank + slack))
}
