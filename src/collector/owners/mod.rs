//! Step two: which workload a pod belongs to.
//!
//! Three metadata-only watches (pods, replicasets, jobs) feed an index that keeps of each object only its name, its
//! controller and, for pods, a hash of the uid.
//!
//! Invariant: [`resolve`] is pure. A pod whose owner is not known *yet* is unresolved, never guessed.

mod bounded;
mod index;
mod resolve;
mod watch;

pub use index::Owners;
pub use resolve::{Controller, Lookup, OwnerRef, PodOwner, resolve};
