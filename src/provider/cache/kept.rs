//! The answers that are kept. Pure: time is told.

use crate::clock::later;
use crate::provider::UsageQuery;
use crate::usage::WindowUsage;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Answers by query. All live equally long, so that the order of asking is that of expiry.
pub(super) struct Kept {
    answers: HashMap<Arc<UsageQuery>, (Timestamp, WindowUsage)>,
    /// When each was asked for, the oldest first; one that was asked for again has a second place.
    order: VecDeque<(Timestamp, Arc<UsageQuery>)>,
    ttl: Duration,
    most: usize,
}

impl Kept {
    pub(super) fn new(ttl: Duration, most: usize) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), ttl, most }
    }

    pub(super) fn get(&self, query: &UsageQuery) -> Option<&WindowUsage> {
        self.answers.get(query).map(|(_, usage)| usage)
    }

    /// Drops what was asked for too long ago, or, where the clock was set back, in the future.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if self.order.back().is_some_and(|(asked, _)| *asked > now) {
            self.order.clear();
            self.answers.clear();
        }
        while self.order.front().is_some_and(|(asked, _)| later(*asked, self.ttl) <= now) {
            self.drop_oldest();
        }
    }

    /// Keeps an answer; the oldest gives way where there are too many.
    pub(super) fn keep(&mut self, asked: Timestamp, query: &UsageQuery, usage: WindowUsage) {
        if self.answers.get(query).is_some_and(|(kept, _)| *kept > asked) {
            return; // a slow flight landed after a later one
        }
        let query = Arc::new(query.clone());
        self.answers.insert(query.clone(), (asked, usage));
        let place = self.order.partition_point(|(before, _)| *before <= asked);
        self.order.insert(place, (asked, query));
        while self.order.len() > self.most {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((asked, query)) = self.order.pop_front() else { return };
        if self.answers.get(&query).is_some_and(|(kept, _)| *kept <= asked) {
            self.answers.remove(&query);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len().max(self.order.len())
    }
}
