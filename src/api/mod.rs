//! The gRPC services over the store: usage, recommendations, what is known and how the store is doing.
//!
//! [`serve_admin`] is for `optipod store` on the same machine: a socket in the store's folder. The services read the
//! store and a clock; they may not know the cluster, its policies or who asks. Who asks is `door`'s matter, which asks
//! the cluster: [`serve_guarded`] serves any address behind it, [`serve`] and [`serve_in_memory`] loopback and memory
//! without it.
//!
//! Invariants: every request is bounded before it reaches the store. A recommendation is [`crate::recommend`]'s, the
//! same as a controller's. Every error tells what to do.

mod admin;
mod convert;
mod door;
mod errors;
mod limits;
mod pages;
mod recommendation;
mod recommender;
mod request;
mod server;
mod usage;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use crate::proto;
pub use admin::{LiveError, LiveStore, serve_admin};
pub use door::{Door, DoorError, DoorOptions, Look, TlsFiles};
pub use limits::{
    MAX_BATCH, MAX_PAGE, MAX_PARTS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_STEPS, MAX_WINDOWS, SHORTEST_SPAN,
};
pub use server::{ServeError, bind, serve, serve_guarded, serve_in_memory};

use crate::blocking;
use crate::clock::Clock;
use optipod_storage::{SeriesKey, Store, StoreError, Usage};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// What the services answer from; clones share it.
#[derive(Clone)]
pub struct Api {
    store: Arc<Store>,
    clock: Clock,
    retention: Duration,
}

impl Api {
    /// The services of `store`, which keeps samples for `retention`.
    pub fn new(store: Arc<Store>, clock: Clock, retention: Duration) -> Self {
        Self { store, clock, retention }
    }

    fn now(&self) -> optipod_storage::Timestamp {
        convert::stored(self.clock.now())
    }

    fn usage_of(&self, key: &SeriesKey, window: Duration) -> Result<Option<Usage>, Status> {
        self.read(|store| store.usage(key, window, self.now()))
    }

    fn read<T>(&self, ask: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, Status> {
        blocking::inline(|| ask(&self.store)).map_err(|error| errors::store(&error))
    }
}
