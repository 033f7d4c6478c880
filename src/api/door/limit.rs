//! How much one client may ask: a rate, and so many requests at once.
//!
//! Invariant: the table of clients is bounded, and a client that is forgotten had its full allowance.

use super::Refusal;
use crate::telemetry::RefusedCall;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Clients that are remembered at once. One is forgotten when it has been quiet for [`BURST`].
const MOST_CLIENTS: usize = 1024;

/// After a quiet time a client may ask at once what its rate allows in this time.
const BURST: Duration = Duration::from_secs(4);

/// What each client may do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Allowance {
    /// Requests a second, at least 1.
    pub(super) per_second: u32,
    /// Requests that are not answered completely yet.
    pub(super) at_once: usize,
    /// What is counted and which flag sets the rate, as a caller is told it.
    pub(super) set_by: &'static str,
}

/// A place among the requests at once; given back when dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// The clients that asked lately, by a name of the caller's choice.
pub(super) struct Limiter {
    allowance: Allowance,
    clients: Mutex<BTreeMap<String, Client>>,
}

struct Client {
    /// Requests that it may send now.
    left: f64,
    counted: Instant,
    places: Arc<Semaphore>,
}

impl Limiter {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self { allowance, clients: Mutex::default() }
    }

    /// Counts one request of `client` and gives it a place.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, with the time after which it may ask again.
    pub(super) fn enter(&self, client: &str) -> Result<Place, Refusal> {
        let now = Instant::now();
        let mut clients = self.lock();
        if !clients.contains_key(client) {
            self.make_room(&mut clients, now)?;
        }
        let entry = clients.entry(client.to_owned()).or_insert_with(|| self.newcomer(now));
        self.refill(entry, now);
        if entry.left < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - entry.left) / f64::from(self.allowance.per_second));
            let Allowance { per_second, set_by, .. } = self.allowance;
            let what = format!("{client} goes beyond the limit a second of {per_second} {set_by}");
            return Err(exhausted(RefusedCall::Rate, &what, wait));
        }
        let Ok(place) = entry.places.clone().try_acquire_owned() else {
            let what =
                format!("{client} has {} under way, the most at once; no flag changes it", self.allowance.at_once);
            return Err(exhausted(RefusedCall::AtOnce, &what, Duration::from_secs(1)));
        };
        entry.left -= 1.0;
        Ok(place)
    }

    fn newcomer(&self, now: Instant) -> Client {
        Client { left: self.full(), counted: now, places: Arc::new(Semaphore::new(self.allowance.at_once)) }
    }

    fn full(&self) -> f64 {
        f64::from(self.allowance.per_second) * BURST.as_secs_f64()
    }

    fn refill(&self, client: &mut Client, now: Instant) {
        let gained = now.saturating_duration_since(client.counted).as_secs_f64() * f64::from(self.allowance.per_second);
        client.left = (client.left + gained).min(self.full());
        client.counted = now;
    }

    /// Forgets who has been quiet, when the table is full.
    fn make_room(&self, clients: &mut BTreeMap<String, Client>, now: Instant) -> Result<(), Refusal> {
        if clients.len() < MOST_CLIENTS {
            return Ok(());
        }
        clients.retain(|_, client| {
            self.refill(client, now);
            client.left < self.full() || client.places.available_permits() < self.allowance.at_once
        });
        if clients.len() < MOST_CLIENTS {
            return Ok(());
        }
        let what = format!("more than {MOST_CLIENTS} clients ask at the same time; no flag changes it");
        Err(exhausted(RefusedCall::Callers, &what, BURST))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exhausted(reason: RefusedCall, what: &str, retry: Duration) -> Refusal {
    let message = format!("{what}; ask again in {} ms, and less often", retry.as_millis().max(1));
    let details = ErrorDetails::with_retry_info(Some(retry));
    Refusal::new(reason, Status::with_error_details(Code::ResourceExhausted, message, details))
}
