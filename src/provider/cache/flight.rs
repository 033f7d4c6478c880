//! Questions under way. Whoever waits for a flight drives it, so that it goes on when the one who began it is gone, and
//! ends when nobody waits any more.

use super::{Answer, State, lock};
use crate::provider::{ProviderError, UsageProvider, UsageQuery};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One question to the provider, which several may wait for.
pub(super) type Flight = Shared<BoxFuture<'static, Landed>>;

type Landed = Result<Arc<[Answer]>, ProviderError>;

/// Which queries are under way: the flight's number, the place of its answer, and the flight while somebody waits.
#[derive(Default)]
pub(super) struct Flights {
    by_query: HashMap<UsageQuery, (u64, usize, WeakShared<BoxFuture<'static, Landed>>)>,
    count: u64,
}

impl Flights {
    /// The number of the next flight.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn find(&self, query: &UsageQuery) -> Option<(u64, usize, Flight)> {
        let (number, place, flight) = self.by_query.get(query)?;
        Some((*number, *place, flight.upgrade()?))
    }

    pub(super) fn enter(&mut self, number: u64, queries: &[UsageQuery], flight: &Flight) {
        let Some(weak) = flight.downgrade() else { return };
        let places = queries.iter().enumerate().map(|(place, query)| (query.clone(), (number, place, weak.clone())));
        self.by_query.extend(places);
    }

    fn leave(&mut self, number: u64, queries: &[UsageQuery]) {
        for query in queries {
            if self.by_query.get(query).is_some_and(|(of, ..)| *of == number) {
                self.by_query.remove(query);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_query.len()
    }
}

/// Takes a flight out of the table when it has landed or nobody waits for it.
struct Entry {
    number: u64,
    queries: Arc<[UsageQuery]>,
    state: Arc<Mutex<State>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.state).flights.leave(self.number, &self.queries);
    }
}

/// A flight that asks for `queries`, and keeps the answers when it lands.
pub(super) fn begin(
    provider: Arc<dyn UsageProvider>,
    queries: Arc<[UsageQuery]>,
    number: u64,
    asked: Timestamp,
    state: Arc<Mutex<State>>,
) -> Flight {
    let entry = Entry { number, queries, state };
    let flight = async move {
        let answers = checked(&*provider, &entry.queries).await?;
        let mut state = lock(&entry.state);
        for (query, answer) in entry.queries.iter().zip(answers.iter()) {
            if let Some(usage) = answer {
                state.kept.keep(asked, query, usage.clone());
            }
        }
        drop(state);
        Ok(answers)
    };
    flight.boxed().shared()
}

/// Asks; answers of another number than the questions are none.
pub(super) async fn checked(provider: &dyn UsageProvider, queries: &[UsageQuery]) -> Landed {
    if queries.is_empty() {
        return Ok(Arc::from([]));
    }
    let answers = provider.usage(queries).await?;
    if answers.len() == queries.len() {
        return Ok(answers.into());
    }
    let cause = format!("{} answers to {} questions", answers.len(), queries.len());
    Err(ProviderError::Refused { provider: provider.name().to_owned(), cause })
}
