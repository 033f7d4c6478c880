//! The floor that a kill for memory puts under a memory request.
//!
//! The kill says that what the container had was not enough, which no sample shows: usage never exceeds the limit, and the
//! last moment before a kill is hardly ever sampled. So the request stays above what was hit for as long as the kill lies
//! within the policy's window; the margin above it decays over the window, and then the kill is forgotten like all usage of
//! that time. The margin of the first moment is VPA's `--oom-bump-up-ratio` (1.2), the amount that it is taken of VPA's too
//! (`memoryNeeded` in `model/container.go`: what was requested or used), but that a limit, where there is one, is what was hit.
//!
//! Invariant: the floor never rises while no further kill comes.

use crate::quantity::Bytes;
use jiff::Timestamp;
use std::time::Duration;

/// In the first moment after a kill the floor lies this many percent above what was hit.
const MARGIN_PERCENT: u64 = 20;

/// A container was killed for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OomKill {
    /// When.
    pub at: Timestamp,
    /// What it hit: its limit; its request where it had no limit and the node ran out of memory.
    pub memory: Bytes,
}

/// What a kill demands of the request at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OomFloor {
    /// What the container hit.
    pub hit: Bytes,
    /// How long ago.
    pub age: Duration,
    /// What the floor is in percent of that: 120 at first, at least 101 within the window. Whole percents, so that the
    /// explanation can be checked by hand and the recommendation does not move with every cycle.
    pub percent: u64,
}

impl OomFloor {
    /// The highest floor that any of the kills demands; none where all lie a window or more back.
    pub fn of(kills: impl IntoIterator<Item = OomKill>, window: Duration, now: Timestamp) -> Option<Self> {
        kills.into_iter().filter_map(|kill| kill.floor(window, now)).max_by_key(Self::bytes)
    }

    /// The floor itself.
    pub fn bytes(&self) -> Bytes {
        let bytes = u128::from(self.hit.0) * u128::from(self.percent) / 100;
        Bytes(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

impl OomKill {
    fn floor(self, window: Duration, now: Timestamp) -> Option<OomFloor> {
        // A node's clock may be ahead of ours.
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        let left = window.checked_sub(age).filter(|left| !left.is_zero())?;
        let margin = (left.as_nanos() * u128::from(MARGIN_PERCENT)).div_ceil(window.as_nanos());
        let percent = 100 + u64::try_from(margin).unwrap_or(MARGIN_PERCENT);
        Some(OomFloor { hit: self.memory, age, percent })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn floor(mib: u64, age: Duration, window: Duration) -> Option<Bytes> {
        let kill = OomKill { at: at(0), memory: Bytes(mib << 20) };
        let now = Timestamp::UNIX_EPOCH + SignedDuration::try_from(age).unwrap();
        OomFloor::of([kill], window, now).map(|floor| floor.bytes())
    }

    #[test]
    fn the_margin_decays_over_the_window_and_the_kill_is_forgotten_at_its_end() {
        let day = 24 * HOUR;
        // By hand: 100Mi × 1.20, 1.15, 1.10, 1.01.
        let wanted = [(Duration::ZERO, 120), (6 * HOUR, 115), (12 * HOUR, 110), (Duration::from_secs(86_399), 101)];
        for (age, mib) in wanted {
            assert_eq!(floor(100, age, day), Some(Bytes(mib << 20)), "after {age:?}");
        }
        assert_eq!((floor(100, day, day), floor(100, 30 * day, day)), (None, None));
    }

    #[test]
    fn of_several_kills_the_one_that_demands_most_now_counts() {
        let kill = |second: i64, mib: u64| OomKill { at: at(second), memory: Bytes(mib << 20) };
        let of = |now: i64| OomFloor::of([kill(0, 200), kill(3000, 190)], HOUR, at(now)).map(|floor| floor.hit);
        assert_eq!(of(0), Some(Bytes(200 << 20)));
        assert_eq!(of(3000), Some(Bytes(190 << 20)), "190 × 1.20 against 200 × 1.04");
        assert_eq!(OomFloor::of([], HOUR, at(0)), None);
    }

    #[test]
    fn a_kill_of_a_clock_that_is_ahead_counts_as_of_now() {
        let kill = OomKill { at: at(90), memory: Bytes(100 << 20) };
        let floor = OomFloor::of([kill], HOUR, at(0)).unwrap();
        assert_eq!((floor.age, floor.bytes()), (Duration::ZERO, Bytes(120 << 20)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_floor_lies_between_what_was_hit_and_its_margin_never_rises_and_ends_with_the_window(
            bytes in 1u64..1 << 50, window in 300u64..90 * 86_400, (earlier, later) in (0.0..1.5f64, 0.0..1.5f64),
        ) {
            let kill = OomKill { at: at(0), memory: Bytes(bytes) };
            let of = |share: f64| {
                let age = SignedDuration::try_from(Duration::from_secs(window).mul_f64(share)).unwrap();
                OomFloor::of([kill], Duration::from_secs(window), Timestamp::UNIX_EPOCH + age)
            };
            let (earlier, later) = (earlier.min(later), earlier.max(later));
            let lies = |floor: OomFloor| bytes <= floor.bytes().0 && floor.bytes().0 as f64 <= bytes as f64 * 1.2 + 1.0;
            prop_assert!(of(earlier).is_none_or(lies));
            prop_assert!(of(later).map(|floor| floor.bytes()) <= of(earlier).map(|floor| floor.bytes()));
            prop_assert_eq!(of(earlier).is_some(), earlier < 1.0);
        }
    }
}
