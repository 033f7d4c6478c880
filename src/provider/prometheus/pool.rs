//! The values of all pods of a workload's container, pooled into one answer. Pure.
//!
//! No PromQL function takes a quantile over pods and time together, so that this is done here, with the store's own
//! sketch. Invariant: an answer's quantiles are monotone and none exceeds the peak.

use super::grid::Grid;
use crate::usage::{ResourceUsage, WindowUsage};
use optipod_storage::{Sketch as _, TDigestBuilder};

/// The compression δ of the digests, as the store's windows have it.
const COMPRESSION: f64 = 100.0;

/// Which resource a value is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Cores.
    Cpu,
    /// Bytes.
    Memory,
}

/// Collects values of one container of a workload, whichever pod they come from.
#[derive(Debug)]
pub struct Pool {
    grid: Grid,
    cpu: Column,
    memory: Column,
}

impl Pool {
    /// Nothing yet, for values at the moments of `grid`.
    pub fn new(grid: Grid) -> Self {
        Self { grid, cpu: Column::new(grid), memory: Column::new(grid) }
    }

    /// Counts a pod's values: Unix seconds and value, in the order of time. What lies outside the grid is left out, and
    /// a moment counts once.
    pub fn add(&mut self, resource: Resource, points: impl Iterator<Item = (f64, f64)>) {
        let column = match resource {
            Resource::Cpu => &mut self.cpu,
            Resource::Memory => &mut self.memory,
        };
        let mut next = 0;
        for (at, value) in points {
            if let Some(index) = self.grid.index(at).filter(|index| *index >= next) {
                column.add(index, value);
                next = index + 1;
            }
        }
    }

    /// Memory was once as large as this between moments.
    pub fn add_memory_peak(&mut self, bytes: f64) {
        self.memory.peak = self.memory.peak.max(bytes);
    }

    /// The answer; `None` where either resource has no value. A moment at which both have one covers its step.
    pub fn finish(mut self) -> Option<WindowUsage> {
        let both: Vec<u64> = self.cpu.seen.iter().zip(&self.memory.seen).map(|(a, b)| a & b).collect();
        let either: Vec<u64> = self.cpu.seen.iter().zip(&self.memory.seen).map(|(a, b)| a | b).collect();
        let covered: u32 = both.iter().map(|word| word.count_ones()).sum();
        let (first, last) = (lowest(&either)?, highest(&either)?);
        Some(WindowUsage {
            cpu: self.cpu.finish()?,
            memory: self.memory.finish()?,
            from: self.grid.at(first),
            to: self.grid.at(last),
            covered: self.grid.step() * covered,
            notes: Vec::new(),
        })
    }
}

/// The values of one resource.
#[derive(Debug)]
struct Column {
    digest: TDigestBuilder,
    samples: u64,
    sum: f64,
    peak: f64,
    /// A bit for each moment that has a value.
    seen: Vec<u64>,
}

impl Column {
    fn new(grid: Grid) -> Self {
        let words = grid.count().div_ceil(u64::BITS) as usize;
        Self { digest: TDigestBuilder::new(COMPRESSION), samples: 0, sum: 0.0, peak: 0.0, seen: vec![0; words] }
    }

    fn add(&mut self, index: u32, value: f64) {
        if self.digest.insert(value).is_err() {
            return; // larger than any usage
        }
        self.samples += 1;
        self.sum += value;
        self.peak = self.peak.max(value);
        if let Some(word) = self.seen.get_mut((index / u64::BITS) as usize) {
            *word |= 1 << (index % u64::BITS);
        }
    }

    fn finish(&mut self) -> Option<ResourceUsage> {
        let digest = self.digest.build().ok()?;
        let quantile = |q| digest.quantile(q).min(self.peak);
        Some(ResourceUsage {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            mean: self.sum / self.samples as f64,
            peak: self.peak,
            samples: self.samples,
        })
    }
}

/// The places of the bits that are set, in words in a row: the lowest and the highest.
fn lowest(words: &[u64]) -> Option<u32> {
    let (n, word) = (0u32..).zip(words).find(|(_, word)| **word != 0)?;
    Some(n * u64::BITS + word.trailing_zeros())
}

fn highest(words: &[u64]) -> Option<u32> {
    let (n, word) = (0u32..).zip(words).filter(|(_, word)| **word != 0).last()?;
    Some(n * u64::BITS + word.ilog2())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn hour() -> Grid {
        Grid::of_window("2026-11-24T10:00:00Z".parse().unwrap(), Duration::from_hours(1), 1)
    }

    #[test]
    fn nothing_is_known_of_a_container_that_lacks_a_resource() {
        let mut pool = Pool::new(hour());
        pool.add(Resource::Memory, [(hour().first() as f64, 1.0)].into_iter());
        assert_eq!(pool.finish(), None);
        assert_eq!(Pool::new(hour()).finish(), None);
    }

    #[test]
    fn a_gap_is_not_covered_and_a_peak_between_moments_is_kept() {
        let mut pool = Pool::new(hour());
        for minute in (0..20).chain(30..50) {
            let at = hour().at(minute).as_second() as f64;
            pool.add(Resource::Cpu, [(at, 0.5), (at, 0.9)].into_iter());
            pool.add(Resource::Memory, [(at, 100.0)].into_iter());
        }
        pool.add(Resource::Cpu, [(hour().at(55).as_second() as f64, 0.5)].into_iter()); // no memory then
        pool.add_memory_peak(150.0);
        let usage = pool.finish().unwrap();
        assert_eq!(usage.covered, Duration::from_mins(40));
        assert_eq!((usage.from, usage.to), (hour().at(0), hour().at(55)));
        assert_eq!((usage.memory.p99, usage.memory.peak, usage.memory.samples), (100.0, 150.0, 40));
        assert_eq!((usage.cpu.mean, usage.cpu.peak), (0.5, 0.5));
    }

    proptest! {
        #[test]
        fn pods_pool_into_one_distribution(
            points in prop::collection::vec((0u32..60, 0.0..8.0f64, 1.0..1e10f64), 1..400), peak in 0.0..2e10f64
        ) {
            let mut pool = Pool::new(hour());
            for (minute, cpu, memory) in &points {
                let at = hour().at(*minute).as_second() as f64;
                pool.add(Resource::Cpu, [(at, *cpu)].into_iter());
                pool.add(Resource::Memory, [(at, *memory)].into_iter());
            }
            pool.add_memory_peak(peak);
            let usage = pool.finish().unwrap();
            let minutes: BTreeSet<u32> = points.iter().map(|(minute, ..)| *minute).collect();
            prop_assert_eq!(usage.covered, Duration::from_mins(minutes.len() as u64));
            let at = |minute: Option<&u32>| -> Timestamp { hour().at(*minute.unwrap()) };
            prop_assert_eq!((usage.from, usage.to), (at(minutes.first()), at(minutes.last())));
            for (got, mut values) in [
                (usage.cpu, points.iter().map(|(_, cpu, _)| *cpu).collect::<Vec<_>>()),
                (usage.memory, points.iter().map(|(.., memory)| *memory).collect()),
            ] {
                values.sort_by(f64::total_cmp);
                prop_assert_eq!(got.samples, values.len() as u64);
                prop_assert!([values[0], got.p50, got.p90, got.p99, got.peak].is_sorted(), "{:?}", got);
                prop_assert!((got.mean - values.iter().sum::<f64>() / values.len() as f64).abs() <= 1e-9 * got.peak);
            }
            let largest = points.iter().map(|(.., memory)| *memory).fold(peak, f64::max);
            prop_assert_eq!(usage.memory.peak.to_bits(), largest.to_bits());
        }
    }
}
