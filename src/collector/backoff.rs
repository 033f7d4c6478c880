//! How long to wait after failures: doubling, capped, without randomness, so that the same failures give the same times.
//!
//! One recommender runs in a cluster, so there is no herd for jitter to scatter.

use kube::runtime::utils::Backoff;
use std::time::Duration;

/// The pause after a number of failures in a row.
#[derive(Clone, Debug)]
pub(super) struct Doubling {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Doubling {
    /// For watches: 1 s to 30 s.
    pub(super) fn for_watches() -> Self {
        Self { first: Duration::from_secs(1), cap: Duration::from_secs(30), failures: 0 }
    }
}

/// `first` after one failure, twice that after two, and so on up to `cap`.
pub(super) fn doubling(first: Duration, cap: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(cap)
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        Some(doubling(self.first, self.cap, self.failures))
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_anew_after_success() {
        let mut backoff = Doubling::for_watches();
        let seconds = |backoff: &mut Doubling, n| backoff.take(n).map(|d| d.as_secs()).collect::<Vec<_>>();
        assert_eq!(seconds(&mut backoff, 7), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(seconds(&mut backoff, 100).last(), Some(&30), "no overflow after many failures");
        backoff.reset();
        assert_eq!(seconds(&mut backoff, 1), [1]);
    }
}
