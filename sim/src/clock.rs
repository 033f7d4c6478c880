//! The one clock of the simulation: a fixed epoch plus the time that `tokio::time` says has passed.
//!
//! What it may not know: the system's clock.
//! Invariant: under a paused runtime, the same program reads the same times in every run.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Maps the runtime's timeline onto wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    epoch: Timestamp,
    start: Instant,
}

impl SimClock {
    /// A clock that reads `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }

    /// The simulated wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.at(self.elapsed())
    }

    /// Time since the start of the simulation.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The wall-clock time at which the simulation started.
    pub fn epoch(&self) -> Timestamp {
        self.epoch
    }

    /// The wall-clock time `elapsed` after the start (the epoch itself if that is not representable).
    pub fn at(&self, elapsed: Duration) -> Timestamp {
        SignedDuration::try_from(elapsed).ok().and_then(|span| self.epoch.checked_add(span).ok()).unwrap_or(self.epoch)
    }
}

/// `2026-01-05T00:00:00Z`: the form of Kubernetes' `metav1.Time`.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// `2026-01-05T00:00:00.000000Z`: the form of `metav1.MicroTime`.
#[cfg(test)]
pub(crate) fn rfc3339_micro(at: Timestamp) -> String {
    format!("{at:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wall_clock_is_epoch_plus_the_runtimes_time() {
        let clock = SimClock::starting_at("2026-01-05T00:00:00Z".parse().unwrap());
        tokio::time::sleep(Duration::from_millis(90_500)).await;
        assert_eq!(rfc3339(clock.now()), "2026-01-05T00:01:30Z");
        assert_eq!(rfc3339_micro(clock.now()), "2026-01-05T00:01:30.500000Z");
    }
}
