//! The loop around [`Collector::tick`].

use super::backoff::doubling;
use super::{Collector, Tick, TickError};
use crate::clock::{Clock, later};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A failure that does not change is logged again every this many ticks.
const REMIND_EVERY: u32 = 20;

/// The longest pause between ticks, in intervals, while they fail.
const LONGEST_PAUSE: u32 = 4;

impl Collector {
    /// Watches owners and ticks until `shutdown`. No failure ends it.
    pub async fn run(&self, clock: Clock, shutdown: CancellationToken) {
        let collecting = async { tokio::join!(Box::pin(self.owners.watch(&self.client)), self.tick_forever(clock)) };
        shutdown.run_until_cancelled(collecting).await;
    }

    async fn tick_forever(&self, clock: Clock) {
        // A tick before the owners are known could store nothing; one that waits for ever would say nothing.
        self.health.due(later(clock.now(), self.options.interval));
        let _ = tokio::time::timeout(self.options.interval, self.owners.until_synced()).await;
        let mut due = Instant::now();
        loop {
            self.health.due(later(clock.now(), due.saturating_duration_since(Instant::now())));
            tokio::time::sleep_until(due).await;
            let began = Instant::now();
            let result = self.tick(clock.now()).await;
            self.metrics.collector().observe_tick(began.elapsed());
            self.health.owners(self.owners.synced());
            let failures = self.report(clock, &result);
            due = next(due, Instant::now(), self.options.interval, failures);
        }
    }

    /// Tells health, metrics and log how the tick went. Returns how many scrapes in a row have failed.
    fn report(&self, clock: Clock, result: &Result<Tick, TickError>) -> u32 {
        match result {
            Ok(tick) => {
                self.report_success(clock.now(), tick);
                0
            }
            Err(error) => {
                let failures = self.report_failure(error);
                // Only metrics-server gains from a pause; points missed while the store is full are lost.
                if matches!(error, TickError::Scrape(_)) { failures } else { 0 }
            }
        }
    }

    fn report_success(&self, now: Timestamp, tick: &Tick) {
        tracing::debug!(?tick, "tick stored");
        self.metrics.collector().succeeded(now);
        let (before, new) = self.health.succeeded(now, tick.degraded.clone());
        if before > 0 {
            tracing::info!(failed_ticks = before, "collection works again");
        }
        match &tick.degraded {
            Some(problem) if new => tracing::warn!(problem, "collection goes on, but not everything works"),
            None if new => tracing::info!("everything works again"),
            _ => {}
        }
    }

    fn report_failure(&self, error: &TickError) -> u32 {
        let text = error.to_string();
        let (failures, new) = self.health.failed(&text);
        self.metrics.collector().failed(error.step(), failures);
        if new || failures.is_multiple_of(REMIND_EVERY) {
            tracing::warn!(failures, step = error.step(), error = text, "collection fails; it goes on by itself");
        }
        failures
    }
}

/// The next tick: on the interval's grid, after the pause that this many failures call for; what was missed is skipped.
fn next(due: Instant, now: Instant, interval: Duration, failures: u32) -> Instant {
    let next = due + doubling(interval, interval * LONGEST_PAUSE, failures);
    let late = now.saturating_duration_since(next);
    let missed = late.as_nanos().div_ceil(interval.as_nanos().max(1));
    next + interval * u32::try_from(missed).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_lies_on_the_grid_and_missed_ones_are_skipped() {
        let due = Instant::now();
        let interval = Duration::from_secs(15);
        for (late, failures, expected) in [
            (0, 0, 15),
            (14, 0, 15),
            (15, 0, 15),
            (16, 0, 30),
            (3601, 0, 3615),
            (10, 1, 15),
            (10, 2, 30),
            (10, 3, 60),
            (10, 99, 60),
            (61, 3, 75),
        ] {
            let next = next(due, due + Duration::from_secs(late), interval, failures);
            assert_eq!((next - due).as_secs(), expected, "{late} s late after {failures} failures");
        }
    }
}
