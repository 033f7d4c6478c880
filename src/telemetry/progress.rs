//! How far long work is, for people: a bar where stderr is a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// From line to line where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

/// From change to change of a bar, which takes longer than what it counts.
const FLUENT: Duration = Duration::from_millis(100);

/// Work of a size that may be known.
pub struct Progress {
    all: Option<u64>,
    bar: Option<ProgressBar>,
    every: Duration,
    told: Instant,
}

/// A line that is due, to be written where the work writes its lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// How much is done; `None` where the size of the whole is not known.
    pub percent: Option<u64>,
}

impl Progress {
    /// Nothing of `all` is done yet, in any unit. `name` stands before the bar.
    pub fn new(name: &'static str, all: Option<u64>) -> Self {
        if std::io::stderr().is_terminal() {
            Self::drawn(name, all, ProgressDrawTarget::stderr())
        } else {
            Self::in_lines(all, QUIET)
        }
    }

    /// Lines, so far apart at least.
    pub(crate) fn in_lines(all: Option<u64>, every: Duration) -> Self {
        Self { all, bar: None, every, told: Instant::now() }
    }

    fn drawn(name: &'static str, all: Option<u64>, target: ProgressDrawTarget) -> Self {
        let template = match all {
            Some(_) => "{prefix} {wide_bar} {percent} % {msg}, {eta} left",
            None => "{prefix} {spinner} {msg}, {elapsed}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(all, target).with_style(style).with_prefix(name);
        Self { all, bar: Some(bar), every: FLUENT, told: Instant::now() }
    }

    /// So much is done; `what` says what came of it. A line is due at most every 10 s, and none where there is a bar.
    pub fn tell(&mut self, done: u64, what: impl FnOnce() -> String) -> Option<Due> {
        if self.told.elapsed() < self.every {
            return None;
        }
        self.told = Instant::now();
        let Some(bar) = &self.bar else {
            return Some(Due { percent: self.all.map(|all| done.saturating_mul(100).checked_div(all).unwrap_or(100)) });
        };
        bar.set_message(what());
        bar.set_position(done);
        None
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use std::io::Result;
    use std::sync::{Arc, Mutex};
    use tokio::time::advance;

    /// A terminal of 80 columns that keeps what is written to it.
    #[derive(Clone, Default, Debug)]
    struct Terminal(Arc<Mutex<String>>);

    impl indicatif::TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_terminal_a_line_is_due_every_ten_seconds_and_not_at_once() {
        let mut progress = Progress::in_lines(Some(200), QUIET);
        assert_eq!(progress.tell(10, String::new), None);
        advance(Duration::from_secs(10)).await;
        assert_eq!(progress.tell(50, String::new), Some(Due { percent: Some(25) }));
        assert_eq!(progress.tell(60, String::new), None);
        advance(Duration::from_secs(25)).await;
        assert_eq!(progress.tell(200, String::new), Some(Due { percent: Some(100) }));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_size_that_is_not_known_there_is_no_share() {
        for (all, percent) in [(None, None), (Some(0), Some(100))] {
            let mut progress = Progress::in_lines(all, Duration::ZERO);
            assert_eq!(progress.tell(7, String::new), Some(Due { percent }));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_has_a_bar_that_is_gone_at_the_end() {
        for (all, parts) in [(Some(200), ["import", "25 %", "9 lines"]), (None, ["import", "9 lines", ""])] {
            let terminal = Terminal::default();
            let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
            let mut progress = Progress::drawn("import", all, target);
            advance(FLUENT).await;
            assert_eq!(progress.tell(50, || "9 lines".to_owned()), None);
            progress.bar.as_ref().unwrap().force_draw();
            let shown = terminal.0.lock().unwrap().clone();
            assert!(parts.iter().all(|part| shown.contains(part)), "{shown:?}");
            drop(progress);
            assert_eq!(*terminal.0.lock().unwrap(), "");
        }
    }
}
