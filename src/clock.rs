//! The one clock of every loop: where `now` comes from.
//!
//! Pure code takes `now` as an argument and never sees this type. A clock that starts at a chosen time follows
//! `tokio::time`, so that a paused runtime moves it together with every timer; the system's clock follows the wall,
//! because a monotonic clock stands still while a machine is suspended and would then refuse all samples as
//! coming from the future.
//!
//! Invariant: one process has one clock; it is copied, never made a second time.

use jiff::{SignedDuration, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    Wall,
    Timeline { epoch: Timestamp, start: Instant },
    Set { epoch: Timestamp, start: Instant, ahead: &'static AtomicI64 },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::Wall)
    }

    /// A clock that shows `epoch` now and advances with `tokio::time`.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self(Source::Timeline { epoch, start: Instant::now() })
    }

    /// The same, as far ahead of it as `ahead` says in seconds, which may change: a wall clock that somebody sets.
    pub fn set_ahead(epoch: Timestamp, ahead: &'static AtomicI64) -> Self {
        Self(Source::Set { epoch, start: Instant::now(), ahead })
    }

    /// The time. Saturates at the end of representable time.
    pub fn now(&self) -> Timestamp {
        match self.0 {
            Source::Wall => Timestamp::now(),
            Source::Timeline { epoch, start } => later(epoch, start.elapsed()),
            Source::Set { epoch, start, ahead } => {
                let ahead = SignedDuration::from_secs(ahead.load(Ordering::Relaxed));
                later(epoch, start.elapsed()).saturating_add(ahead).unwrap_or(Timestamp::MAX)
            }
        }
    }
}

/// `at` plus `by`, saturating.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at` minus `by`, saturating.
pub fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// The time from `from` to `to`; zero when `to` is earlier.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_chosen_start_follows_paused_time() {
        let epoch: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(epoch);
        assert_eq!(clock.now(), epoch);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(clock.now(), "2026-11-24T10:01:30Z".parse().unwrap());
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(later(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(earlier(Timestamp::MIN, Duration::from_secs(1)), Timestamp::MIN);
        assert_eq!(between(Timestamp::MAX, Timestamp::MIN), Duration::ZERO);
    }
}
