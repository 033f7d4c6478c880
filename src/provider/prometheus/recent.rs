//! Answers of the current minute: while a change is under way, a policy asks the same every few seconds, and moments are
//! a minute apart. Pure.

use crate::usage::{SeriesKey, WindowUsage};
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

/// More than this many answers are not kept.
const MOST: usize = 100_000;

/// An answer, which may be that nothing is known.
#[derive(Clone, Debug)]
pub struct Answered(pub Option<WindowUsage>);

/// What was answered in one minute.
#[derive(Default, Debug)]
pub struct Recent {
    minute: i64,
    answers: HashMap<(Duration, SeriesKey), Answered>,
}

impl Recent {
    /// What was answered in this minute, if anything was.
    pub fn get(&self, window: Duration, series: &SeriesKey, now: Timestamp) -> Option<Answered> {
        let is_current = self.minute == minute(now);
        self.answers.get(&(window, series.clone())).filter(|_| is_current).cloned()
    }

    /// Keeps an answer for the rest of the minute.
    pub fn put(&mut self, window: Duration, series: &SeriesKey, now: Timestamp, answer: Answered) {
        if self.minute != minute(now) || self.answers.len() >= MOST {
            self.answers.clear();
            self.minute = minute(now);
        }
        self.answers.insert((window, series.clone()), answer);
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}
