//! How the collector is doing, for probes, status and logs.

use crate::clock::{between, later};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A shared handle on the collector's state.
#[derive(Clone, Debug)]
pub struct CollectorHealth {
    state: Arc<Mutex<CollectorState>>,
    /// How late a tick may be before the loop counts as stuck.
    grace: Duration,
}

/// The collector's state at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CollectorState {
    /// When samples were last stored.
    pub last_success: Option<Timestamp>,
    /// Ticks that failed since then.
    pub consecutive_failures: u32,
    /// Why the last tick failed; `None` after a success.
    pub last_error: Option<String>,
    /// What is wrong although samples are stored.
    pub degraded: Option<String>,
    /// The store answers from before the start, up to then.
    pub history: Option<Timestamp>,
    /// When the next tick is due, back-off included; `None` before the loop has begun.
    pub next_due: Option<Timestamp>,
    /// Every kind of owner has been listed once.
    pub owners_synced: bool,
}

impl CollectorHealth {
    /// A tick may be late by 1.5 intervals.
    pub(super) fn new(interval: Duration) -> Self {
        Self { state: Arc::default(), grace: interval + interval / 2 }
    }

    /// The state now.
    pub fn state(&self) -> CollectorState {
        self.lock().clone()
    }

    /// Liveness: fails only when a tick is later than 1.5 intervals beyond its time, so that the loop must be stuck.
    /// A failing metrics-server does not make it fail: a restart would not help.
    pub fn live(&self, now: Timestamp) -> Result<String, String> {
        let Some(due) = self.lock().next_due else {
            return Ok("the collector has not begun".to_owned());
        };
        if now <= later(due, self.grace) {
            return Ok(format!("next tick due at {due}"));
        }
        Err(format!("the tick due at {due} is {} late: the collector is stuck", seconds(between(due, now))))
    }

    /// Readiness: there are samples to answer from; a failure is told but does not take answers away.
    pub fn ready(&self, now: Timestamp) -> Result<String, String> {
        let state = self.state();
        let failing =
            state.last_error.map(|error| format!("the last {} ticks failed: {error}", state.consecutive_failures));
        let beginning = match (state.last_success, state.owners_synced) {
            (Some(_), _) => None,
            (None, true) => Some("the first tick is under way".to_owned()),
            (None, false) => Some("pods and owners are being listed".to_owned()),
        };
        match (state.last_success.or(state.history), failing.or(state.degraded).or(beginning)) {
            (Some(at), None) => Ok(format!("samples stored {} ago", seconds(between(at, now)))),
            (Some(at), Some(problem)) => {
                Ok(format!("answers from samples stored {} ago and earlier; {problem}", seconds(between(at, now))))
            }
            (None, problem) => Err(format!("no samples yet; {}", problem.unwrap_or_default())),
        }
    }

    /// The next tick is due then.
    pub(super) fn due(&self, at: Timestamp) {
        self.lock().next_due = Some(at);
    }

    /// The store holds samples up to then.
    pub(super) fn history(&self, until: Option<Timestamp>) {
        self.lock().history = until;
    }

    pub(super) fn owners(&self, synced: bool) {
        self.lock().owners_synced = synced;
    }

    /// A tick was stored. Returns how many had failed before it, and whether what is wrong all the same is news.
    pub(super) fn succeeded(&self, at: Timestamp, degraded: Option<String>) -> (u32, bool) {
        let mut state = self.lock();
        let new = state.degraded != degraded;
        state.last_success = Some(at);
        state.last_error = None;
        state.degraded = degraded;
        (std::mem::take(&mut state.consecutive_failures), new)
    }

    /// A tick failed. Returns how many in a row, and whether the reason is a new one.
    pub(super) fn failed(&self, error: &str) -> (u32, bool) {
        let mut state = self.lock();
        let new = state.last_error.as_deref() != Some(error);
        state.last_error = Some(error.to_owned());
        state.consecutive_failures = state.consecutive_failures.saturating_add(1);
        (state.consecutive_failures, new)
    }

    fn lock(&self) -> MutexGuard<'_, CollectorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn liveness_fails_only_when_a_tick_is_later_than_one_and_a_half_intervals() {
        let health = CollectorHealth::new(Duration::from_secs(20));
        assert!(health.live(at(1_000_000)).is_ok(), "before the loop there is nothing to be late");
        health.due(at(100));
        health.failed("metrics-server is away");
        assert!(health.live(at(130)).is_ok());
        let late = health.live(at(131)).unwrap_err();
        assert!(late.contains("31s late: the collector is stuck"), "{late}");
    }

    #[test]
    fn readiness_tells_what_is_missing_and_stays_after_the_first_success() {
        let health = CollectorHealth::new(Duration::from_secs(15));
        assert!(health.ready(at(0)).unwrap_err().contains("being listed"));
        health.owners(true);
        assert!(health.ready(at(0)).unwrap_err().contains("under way"));
        assert_eq!(health.failed("away"), (1, true));
        assert_eq!(health.failed("away"), (2, false));
        assert_eq!(health.ready(at(0)), Err("no samples yet; the last 2 ticks failed: away".to_owned()));
        assert_eq!(health.succeeded(at(10), None), (2, false));
        assert_eq!(health.ready(at(13)), Ok("samples stored 3s ago".to_owned()));
        health.failed("full");
        let text = health.ready(at(70)).unwrap();
        assert_eq!(text, "answers from samples stored 1m ago and earlier; the last 1 ticks failed: full");
    }

    #[test]
    fn a_store_with_a_past_is_ready_at_once() {
        let health = CollectorHealth::new(Duration::from_secs(15));
        health.history(Some(at(100)));
        let text = health.ready(at(160)).unwrap();
        assert_eq!(text, "answers from samples stored 1m ago and earlier; pods and owners are being listed");
        health.failed("full");
        let text = health.ready(at(160)).unwrap();
        assert_eq!(text, "answers from samples stored 1m ago and earlier; the last 1 ticks failed: full");
    }
}
