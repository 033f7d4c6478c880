//! The one clock. It derives from `tokio::time`, so that a paused or accelerated timeline moves everything alike:
//! our timers, kube's requeue, and every timestamp that we write.

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time: an epoch plus the time that tokio's clock has passed since.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    /// The real time. Later steps of the system's clock are not followed; a process that lives for months may drift by
    /// as much as its monotonic clock does.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::now())
    }

    /// A clock that shows `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Self { epoch, start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.epoch.saturating_add(self.start.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_a_paused_timeline() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now().as_second(), 90);
    }
}
