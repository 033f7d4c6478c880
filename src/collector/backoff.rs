//! How long to wait after failures: doubling, capped, without randomness, so that the same failures give the same times.
//!
//! One recommender runs in a cluster, so there is no herd for jitter to scatter.

use std::time::Duration;

/// `first` after one failure, twice that after two, and so on up to `cap`.
pub(super) fn doubling(first: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let pause = |failures| doubling(Duration::from_secs(1), Duration::from_secs(30), failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 99, u32::MAX].map(pause), [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    }
}
