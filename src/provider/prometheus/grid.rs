//! The moments at which values are asked for. Pure.
//!
//! Invariant: one question is never about more than [`MAX_POINTS`] moments, and moments are at least a minute apart.

use jiff::Timestamp;
use std::time::Duration;

/// Prometheus refuses questions of more points a series.
pub const MAX_POINTS: u32 = 11_000;

/// No finer than this, in seconds.
const LEAST_STEP: i64 = 60;

/// About as many values of one resource are fetched for one answer about a namespace; more containers get a coarser step,
/// so that an answer stays a matter of seconds.
const MAX_VALUES: i64 = 2_500_000;

/// A value takes about this many bytes of JSON: `[1700000000,"0.034999999999999996"],`.
const VALUE_BYTES: usize = 40;

/// An answer is meant to be about this long, so that several fit into memory at once.
const ANSWER_BYTES: usize = 4 << 20;

/// Moments in a row: `count` of them (at least one), `step` seconds apart. Each stands for the `step` that ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    first: i64,
    step: i64,
    count: u32,
}

impl Grid {
    /// The moments of the `window` that ends now, for about `series` containers. The step grows with both, in whole
    /// minutes, so that neither a series nor the whole has too many values.
    pub fn of_window(now: Timestamp, window: Duration, series: usize) -> Self {
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX).clamp(LEAST_STEP, i64::from(u32::MAX));
        let series = i64::try_from(series).unwrap_or(i64::MAX);
        let finest = (window / i64::from(MAX_POINTS)).max(window.saturating_mul(series) / MAX_VALUES);
        let step = (finest / LEAST_STEP + 1).saturating_mul(LEAST_STEP).min(window);
        let last = now.as_second().div_euclid(step) * step;
        let count = u32::try_from(window / step).unwrap_or(1).max(1);
        Self { first: last - i64::from(count - 1) * step, step, count }
    }

    /// The moments after `from` up to `to`, a minute apart; none where not a whole minute lies between.
    pub fn between(from: Timestamp, to: Timestamp) -> Option<Self> {
        let first = from.as_second().div_euclid(LEAST_STEP) + 1;
        let last = to.as_second().div_euclid(LEAST_STEP);
        let count = u32::try_from(last - first + 1).ok().filter(|count| *count > 0)?;
        Some(Self { first: first * LEAST_STEP, step: LEAST_STEP, count })
    }

    /// The first moment, in Unix seconds.
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The last moment, in Unix seconds.
    pub fn last(&self) -> i64 {
        self.first + i64::from(self.count - 1) * self.step
    }

    /// Seconds between moments.
    pub fn step(&self) -> Duration {
        Duration::from_secs(self.step.unsigned_abs())
    }

    /// How many moments.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The time that all moments stand for together.
    pub fn span(&self) -> Duration {
        self.step() * self.count
    }

    /// Which moment this is; some servers shift moments by part of a step.
    pub fn index(&self, seconds: f64) -> Option<u32> {
        let place = ((seconds - self.first as f64) / self.step as f64).round();
        // The comparison keeps what is cast within 0..count.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (place >= 0.0 && place < f64::from(self.count)).then_some(place as u32)
    }

    /// The moment at a place.
    pub fn at(&self, index: u32) -> Timestamp {
        Timestamp::from_second(self.first + i64::from(index) * self.step).unwrap_or(Timestamp::MAX)
    }

    /// The same moments in pieces, each with an answer of moderate size for about `series` containers.
    pub fn slices(self, series: usize) -> impl Iterator<Item = Self> {
        let fitting = ANSWER_BYTES / VALUE_BYTES / series.max(1);
        let length = u32::try_from(fitting).unwrap_or(MAX_POINTS).clamp(1, MAX_POINTS);
        (0..self.count.div_ceil(length)).map(move |n| self.piece(n * length, length))
    }

    /// Two halves, where there are two moments at least.
    pub fn halves(self) -> Option<[Self; 2]> {
        let half = self.count / 2;
        (half > 0).then(|| [self.piece(0, half), self.piece(half, self.count - half)])
    }

    fn piece(self, start: u32, length: u32) -> Self {
        Self { first: self.first + i64::from(start) * self.step, count: length.min(self.count - start), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-24T10:00:42Z".parse().unwrap()
    }

    #[test]
    fn a_day_of_few_containers_is_asked_by_the_minute_and_a_month_by_four() {
        let day = Grid::of_window(now(), DAY, 10);
        assert_eq!((day.count(), day.step(), day.span()), (1440, Duration::from_mins(1), DAY));
        assert_eq!(day.at(1439), "2026-11-24T10:00:00Z".parse().unwrap());
        let month = Grid::of_window(now(), 30 * DAY, 10);
        assert_eq!((month.count(), month.step()), (10_800, Duration::from_mins(4)));
        assert_eq!(Grid::of_window(now(), DAY, 5000).step(), Duration::from_mins(3));
    }

    #[test]
    fn a_slice_of_time_has_the_minutes_after_its_begin() {
        let (from, to) = ("2026-11-24T10:00:00Z".parse().unwrap(), "2026-11-24T10:02:59Z".parse().unwrap());
        let grid = Grid::between(from, to).unwrap();
        assert_eq!((grid.at(0), grid.count()), ("2026-11-24T10:01:00Z".parse().unwrap(), 2));
        assert_eq!(Grid::between(from, from), None);
        assert_eq!(Grid::between(to, from), None);
    }

    proptest! {
        #[test]
        fn slices_are_the_whole_and_none_is_too_long(minutes in 1u64..60 * 24 * 400, series in 0usize..200_000) {
            let grid = Grid::of_window(now(), Duration::from_mins(minutes), series);
            prop_assert!(grid.count() <= MAX_POINTS && grid.step() >= Duration::from_mins(1));
            prop_assert!(grid.at(grid.count() - 1) <= now());
            prop_assert!(grid.span() <= Duration::from_mins(minutes));
            let mut next = grid.first();
            for slice in grid.slices(series) {
                prop_assert_eq!(slice.first(), next);
                next = slice.last() + 60 * i64::try_from(grid.step().as_secs() / 60).unwrap();
                if let Some([left, right]) = slice.halves() {
                    prop_assert_eq!((left.first(), right.last()), (slice.first(), slice.last()));
                    prop_assert_eq!(left.count() + right.count(), slice.count());
                }
            }
            prop_assert_eq!(next, grid.last() + i64::try_from(grid.step().as_secs()).unwrap());
        }

        #[test]
        fn a_moment_has_its_index_and_others_have_none(minutes in 1u64..9000, at in any::<prop::sample::Index>()) {
            let grid = Grid::of_window(now(), Duration::from_mins(minutes), 1);
            let index = u32::try_from(at.index(grid.count() as usize)).unwrap();
            prop_assert_eq!(grid.index(grid.at(index).as_second() as f64 + 0.4), Some(index));
            prop_assert_eq!(grid.index(grid.first() as f64 - 31.0), None);
            prop_assert_eq!(grid.index(grid.last() as f64 + 31.0), None);
            prop_assert_eq!(grid.index(f64::NAN), None);
        }
    }
}
