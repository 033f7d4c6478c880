//! How many workloads may begin to change a minute, over all policies.

use std::time::Duration;
use tokio::time::Instant;

/// A bucket that fills evenly and holds one minute's worth.
#[derive(Debug)]
pub(super) struct Rate {
    per_minute: u32,
    /// In parts of a change, so that filling loses nothing.
    filled: Duration,
    at: Instant,
}

const MINUTE: Duration = Duration::from_mins(1);

impl Rate {
    /// A full bucket.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, filled: MINUTE, at: Instant::now() }
    }

    /// The time that one change takes of the bucket.
    fn cost(&self) -> Duration {
        MINUTE / self.per_minute.max(1)
    }

    /// How many changes may begin now.
    pub(super) fn available(&mut self) -> usize {
        let now = Instant::now();
        self.filled = (self.filled + now.duration_since(self.at)).min(MINUTE);
        self.at = now;
        if self.per_minute == 0 {
            return 0;
        }
        usize::try_from(self.filled.as_nanos() / self.cost().as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    /// These began.
    pub(super) fn take(&mut self, changes: usize) {
        let cost = self.cost().saturating_mul(u32::try_from(changes).unwrap_or(u32::MAX));
        self.filled = self.filled.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_at_once_then_evenly() {
        let mut rate = Rate::new(20);
        assert_eq!(rate.available(), 20);
        rate.take(20);
        assert_eq!(rate.available(), 0);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(rate.available(), 1);
        rate.take(1);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(rate.available(), 20);
        assert_eq!(Rate::new(0).available(), 0);
    }
}
