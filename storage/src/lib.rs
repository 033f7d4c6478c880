//! OptiPod's percentile store: what every container used, for a month, on a small volume.
//!
//! It may not know Kubernetes, gRPC, an async runtime or a clock: `now` is an argument, and the
//! caller drives all work. The same calls in the same order give the same answers and bytes.
//!
//! Invariant: a tick that [`Store::append`] acknowledged is found again after any crash, and
//! counts once.
//!
//! | where | what |
//! |---|---|
//! | `store/` | the store: appending, regular work, opening, answers |
//! | `sketch/` | t-digest and log-linear histogram: building, merging, bytes |
//! | `slot`, `open_slot`, `run`, `entry` | slots, packed rows of open ones, what sealed ones keep |
//! | `slot_file`, `slot_writer`, `rollup`, `catalog` | sealed slots as files, merging them, which there are |
//! | `sled_part`, `sled_folder` | the only place that touches sled, and the folder that it is in |
//! | `frame`, `chunk`, `record`, `codec` | bytes: ticks, pieces of them, envelopes, primitives |
//! | `fuzzing` | all decoders by name, for fuzz targets only |
//! | `table`, `snapshot`, `streams`, `witness` | series and their names, pods, the last tick |
//!
//! The bytes are described in `FORMAT.md`.
//!
//! ```
//! use optipod_storage::{Sample, SeriesKey, Store, StoreOptions, Timestamp};
//! use std::time::Duration;
//!
//! let dir = tempfile::tempdir()?;
//! let now = Timestamp::from_secs(1_700_000_000);
//! let store = Store::open(dir.path(), StoreOptions::default(), now)?;
//! let key = SeriesKey {
//!     namespace: "shop".into(),
//!     kind: "Deployment".into(),
//!     workload: "cart".into(),
//!     container: "app".into(),
//! };
//! let sample = Sample { series: store.intern(&key), pod: 7, at: now, cpu: 0.25, memory: 3e8 };
//! assert_eq!(store.append(now, &[sample])?.accepted, 1);
//! store.maintain(now)?;
//! let usage = store.usage(&key, Duration::from_secs(3600), now)?.expect("a sample was stored");
//! assert_eq!(usage.cpu.quantile(0.9), 0.25);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catalog;
mod chunk;
mod codec;
mod entry;
mod error;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod open_slot;
mod record;
mod rollup;
mod run;
mod series;
mod sketch;
mod sled_folder;
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
pub use error::{AppendError, BackupError, ImportError, OpenError, RestoreError, StoreError};
pub use record::FORMAT_VERSION;
pub use series::{Sample, SeriesId, SeriesInfo, SeriesKey};
pub use sketch::{AnySketch, LogLinear, LogLinearBuilder, Sketch, SketchError, SketchKind, TDigest, TDigestBuilder};
pub use slot::SlotKind;
pub use store::{
    BackedUp, Backfill, Examination, Export, Import, Imported, PastSample, RestoreOptions, Restored, RollUpsHeld,
    SlotExamination, SlotRow, Store, StoreOptions,
};
pub use time::Timestamp;
pub use usage::{Appended, Distribution, Maintained, StoreStatus, Usage};
