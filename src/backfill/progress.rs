//! How far a backfill is, for people: a bar on a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// From log line to log line, at least.
const QUIET: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    /// `None` where nobody looks at a terminal.
    bar: Option<ProgressBar>,
    told: Option<Instant>,
}

impl Progress {
    /// Of a backfill with this many seconds of history in all.
    pub(super) fn new(all: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("backfill {wide_bar} {percent} % {msg}, {eta} left");
            ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, told: None }
    }

    /// `done` of `all` seconds are in, with so many samples.
    pub(super) fn tell(&mut self, (done, all): (u64, u64), samples: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{samples} samples"));
            bar.set_position(done);
        } else if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.told = Some(Instant::now());
            let percent = done * 100 / all.max(1);
            tracing::info!(percent, samples, hours_done = done / 3600, hours = all / 3600, "backfill goes on");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
