//! The same usage behind each provider: a recommender with its store, and a server of the user's own. (Prometheus gets it
//! from [`programs`](super::prometheus::programs).)

use super::harness::Result;
use super::prometheus::data::{self, Truth, Written, exact};
use super::usage_double::{UsageDouble, all};
use optipod::api::{self, Api};
use optipod::clock::Clock;
use optipod::proto::{BatchGetUsageResponse, Distribution, Series, Usage};
use optipod_storage::{Sample, SeriesKey, Store, StoreOptions, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_hours(24);

/// A recommender's gRPC on loopback, at the end of the written day.
pub struct Recommender {
    pub url: String,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Recommender {
    /// Over a store that took what was written of the namespace `shop`, scrape by scrape.
    pub async fn of(written: &Written) -> Result<Self> {
        Self::filled(|store| append(store, written)).await
    }

    /// Over a store that is filled like this.
    pub async fn filled(fill: impl FnOnce(&Store) -> Result) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fill(&open(folder.path(), data::begin())?)?;
        let store = Arc::new(open(folder.path(), data::end().as_second())?);
        let listener = api::bind("127.0.0.1:0".parse()?).await?;
        let (url, shutdown) = (format!("http://{}", listener.local_addr()?), CancellationToken::new());
        let api = Api::new(store, Clock::starting_at(data::end()), 30 * DAY);
        tokio::spawn(api::serve(listener, api, shutdown.clone()));
        Ok(Self { url, shutdown, _folder: folder })
    }
}

impl Drop for Recommender {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn open(folder: &Path, seconds: i64) -> Result<Store> {
    Ok(Store::open(folder, StoreOptions::default(), stored(seconds))?)
}

pub fn stored(seconds: i64) -> Timestamp {
    Timestamp(1000 * seconds)
}

/// Names of a series: namespace, kind, workload, container.
fn names(key: &str) -> [String; 4] {
    let mut parts = key.split('/').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn of_shop(written: &Written) -> impl Iterator<Item = ([String; 4], &Truth)> {
    written.truth.iter().map(|(key, truth)| (names(key), truth)).filter(|(names, _)| names[0] == "shop")
}

/// The scrapes of a minute at its end, as ticks would bring them.
fn append(store: &Store, written: &Written) -> Result {
    let mut minutes: BTreeMap<i64, Vec<Sample>> = BTreeMap::new();
    for ([namespace, kind, workload, container], truth) in of_shop(written) {
        let series = store.intern(&SeriesKey { namespace, kind, workload, container });
        for scrape in &truth.scrapes {
            let (pod, at) = (scrape.pod, stored(scrape.at));
            let sample = Sample { series, pod, at, cpu: scrape.cores, memory: scrape.bytes };
            minutes.entry(scrape.at / 60).or_default().push(sample);
        }
    }
    for (minute, samples) in minutes {
        let now = stored(60 * minute + 60);
        store.append(now, &samples)?;
        store.maintain(now)?;
    }
    Ok(())
}

/// A server of the user's own that answers exact quantiles of what was written of the namespace `shop`.
pub async fn custom(written: &Written) -> Result<UsageDouble> {
    let usages: BTreeMap<_, _> = of_shop(written).map(|(names, truth)| (names, exact_usage(truth))).collect();
    let usages = Arc::new(usages);
    UsageDouble::start(move |asked| {
        let usages = usages.clone();
        let answer = move |series: Series| {
            let Series { namespace, kind, workload, container } = series.clone();
            let usage = usages.get(&[namespace, kind, workload, container]).cloned();
            BatchGetUsageResponse { usage, series: Some(series) }
        };
        Ok(all(asked.series.into_iter().map(answer)))
    })
    .await
}

/// The usage of a whole day that ends with the written one.
pub fn exact_usage(truth: &Truth) -> Usage {
    let bytes: Vec<f64> = truth.memory.iter().map(|(_, bytes)| *bytes).collect();
    day_of(&truth.cpu_scrapes, &bytes)
}

pub fn day_of(cores: &[f64], bytes: &[f64]) -> Usage {
    let distribution = |values: &[f64]| {
        let [p50, p90, p99, peak] = [0.5, 0.9, 0.99, 1.0].map(|q| exact(values, q));
        Some(Distribution { p50, p90, p99, peak, mean: p50, samples: values.len() as u64, ..Distribution::default() })
    };
    let moment = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    Usage {
        from: moment(data::begin()),
        to: moment(data::end().as_second() - 3),
        covered: prost_types::Duration::try_from(DAY).ok(),
        cpu: distribution(cores),
        memory: distribution(bytes),
        ..Usage::default()
    }
}
