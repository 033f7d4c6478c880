//! OptiPod's percentile store: what every container used, for a month, on a small volume.
//!
//! It may not know Kubernetes, gRPC, an async runtime or a clock: `now` is an argument, and the
//! caller drives all work. The same calls in the same order give the same answers and bytes.
//!
//! Invariant: a tick that [`Store::append`] acknowledged is found again after any crash, and
//! counts once.

mod catalog;
mod chunk;
mod codec;
mod entry;
mod error;
mod frame;
mod open_slot;
mod record;
mod rollup;
mod series;
mod sketch;
mod sled_part;
mod slot;
mod slot_file;
mod slot_writer;
mod snapshot;
mod store;
mod streams;
mod table;
mod time;
mod usage;
mod witness;

pub use codec::DecodeError;
pub use error::{AppendError, OpenError, StoreError};
pub use series::{Sample, SeriesId, SeriesInfo, SeriesKey};
pub use sketch::{Sketch, SketchError, TDigest, TDigestBuilder};
pub use slot::SlotKind;
pub use store::{Store, StoreOptions};
pub use time::Timestamp;
pub use usage::{Appended, Distribution, Maintained, StoreStatus, Usage};
