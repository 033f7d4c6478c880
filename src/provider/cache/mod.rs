//! Answers kept for a moment, so that a series is asked for once a cycle however many ask.
//!
//! It may not know whom it asks. Invariants: an answer is given out as it came, with the times that it came with, and
//! never longer than the time to live after it was *asked* for; neither errors are kept nor that nothing is known; what is
//! kept is bounded; a question under way is not asked a second time.

mod flight;
mod kept;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

use super::{ProviderError, UsageProvider, UsageQuery};
use crate::clock::Clock;
use crate::usage::WindowUsage;
use flight::{Flight, Flights};
use kept::Kept;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Answers that are kept at most, about 400 bytes each.
const MOST_ANSWERS: usize = 100_000;

/// What a provider answers to one query.
type Answer = Option<WindowUsage>;

/// Keeps the answers of another provider.
pub struct CachedProvider {
    inner: Arc<dyn UsageProvider>,
    clock: Clock,
    state: Arc<Mutex<State>>,
}

struct State {
    kept: Kept,
    flights: Flights,
}

/// Where the answer to one query comes from.
enum Source {
    Kept(WindowUsage),
    /// The answer at this place of the flight with this number.
    Flight(u64, usize),
}

/// What a call waits for.
struct Plan {
    sources: Vec<Source>,
    flights: BTreeMap<u64, Flight>,
    /// The flight that this call began.
    own: Option<u64>,
}

impl CachedProvider {
    /// Keeps `inner`'s answers for `ttl`.
    pub fn new(inner: Arc<dyn UsageProvider>, ttl: Duration, clock: Clock) -> Self {
        Self::bounded(inner, ttl, clock, MOST_ANSWERS)
    }

    fn bounded(inner: Arc<dyn UsageProvider>, ttl: Duration, clock: Clock, most: usize) -> Self {
        let state = State { kept: Kept::new(ttl, most), flights: Flights::default() };
        Self { inner, clock, state: Arc::new(Mutex::new(state)) }
    }

    /// Finds what is kept or under way, and begins one flight for the rest.
    fn plan(&self, queries: &[UsageQuery]) -> Plan {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        state.kept.expire(now);
        let (mut flights, mut missing) = (BTreeMap::new(), BTreeMap::new());
        let number = state.flights.next();
        let source = |query| {
            if let Some(usage) = state.kept.get(query) {
                return Source::Kept(usage.clone());
            }
            if let Some((number, place, flight)) = state.flights.find(query) {
                flights.insert(number, flight);
                return Source::Flight(number, place);
            }
            let next = missing.len();
            Source::Flight(number, *missing.entry(query).or_insert(next))
        };
        let sources = queries.iter().map(source).collect();
        let mut asked: Vec<(&UsageQuery, usize)> = missing.into_iter().collect();
        asked.sort_by_key(|(_, place)| *place);
        let asked: Arc<[UsageQuery]> = asked.into_iter().map(|(query, _)| query.clone()).collect();
        let own = (!asked.is_empty()).then_some(number);
        if own.is_some() {
            let flight = flight::begin(self.inner.clone(), asked.clone(), number, now, self.state.clone());
            state.flights.enter(number, &asked, &flight);
            flights.insert(number, flight);
        }
        Plan { sources, flights, own }
    }

    /// Asks without the cache for what others' flights did not answer. They were refused, perhaps for another question
    /// that was in them and not for ours.
    async fn ask_alone(&self, queries: &[UsageQuery]) -> Result<Arc<[Answer]>, ProviderError> {
        flight::checked(&*self.inner, queries).await
    }
}

#[async_trait::async_trait]
impl UsageProvider for CachedProvider {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Answer>, ProviderError> {
        let Plan { sources, flights, own } = self.plan(queries);
        let landed = futures::future::join_all(flights.values().cloned()).await;
        let mut landed: BTreeMap<u64, _> = flights.into_keys().zip(landed).collect();
        let mut alone = Vec::new();
        for (query, source) in queries.iter().zip(&sources) {
            let Source::Flight(number, _) = source else { continue };
            match landed.get(number) {
                Some(Err(ProviderError::Refused { .. })) if own != Some(*number) => alone.push(query.clone()),
                Some(Err(error)) => return Err(error.clone()),
                _ => {}
            }
        }
        let mut alone = self.ask_alone(&alone).await?.to_vec().into_iter();
        let answer = |source| match source {
            Source::Kept(usage) => Some(usage),
            Source::Flight(number, place) => match landed.get_mut(&number) {
                Some(Ok(answers)) => answers.get(place).cloned().flatten(),
                _ => alone.next().flatten(),
            },
        };
        Ok(sources.into_iter().map(answer).collect())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
