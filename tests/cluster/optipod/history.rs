//! Usage of the past.

use std::path::Path;
use std::time::Duration;

use optipod_storage::{Sample, SeriesKey, Store, StoreOptions, Timestamp};

use crate::harness::Result;

/// From sample to sample, as a recommender collects.
const INTERVAL: Duration = Duration::from_secs(15);

/// A container of a Deployment with one pod, and what it used all the time.
pub struct Used {
    pub namespace: &'static str,
    pub workload: &'static str,
    pub container: &'static str,
    pub cores: f64,
    pub bytes: f64,
}

/// Writes `span` of steady usage up to now into the store in `dir`, as if a
/// recommender had collected it. No process may have it open.
pub fn write(dir: &Path, span: Duration, used: &[Used]) -> Result {
    write_until(dir, Timestamp(jiff::Timestamp::now().as_millisecond()), span, used)
}

/// The same of usage that ended then.
pub fn write_until(dir: &Path, end: Timestamp, span: Duration, used: &[Used]) -> Result {
    let mut at = end - span;
    let store = Store::open(dir, StoreOptions::default(), at)?;
    while at < end {
        let sample =
            |used: &Used| Sample { series: store.intern(&key(used)), pod: 1, at, cpu: used.cores, memory: used.bytes };
        let samples: Vec<Sample> = used.iter().map(sample).collect();
        store.append(at, &samples)?;
        store.maintain(at)?;
        at = at + INTERVAL;
    }
    store.close();
    Ok(())
}

fn key(used: &Used) -> SeriesKey {
    SeriesKey {
        namespace: used.namespace.to_owned(),
        kind: "Deployment".to_owned(),
        workload: used.workload.to_owned(),
        container: used.container.to_owned(),
    }
}
