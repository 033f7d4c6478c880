//! No history is lost: every release's store answers over gRPC as it did when the release was made, at the time of then.

use super::{copy, releases};
use jiff::Timestamp;
use optipod::api::{Api, serve_in_memory};
use optipod::clock::Clock;
use optipod::proto;
use optipod::proto::recommender_service_client::RecommenderServiceClient;
use optipod::proto::usage_service_client::UsageServiceClient;
use optipod_storage::{Store, StoreOptions};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const RETENTION: Duration = Duration::from_hours(30 * 24);
const WINDOWS_S: [i64; 5] = [600, 3600, 3 * 3600, 24 * 3600, 30 * 24 * 3600];
/// Of percentiles: how digests are merged may change, and what they say then a little.
const ROUNDING: f64 = 0.02;
/// Of mean and peak.
const EXACT: f64 = 1e-4;

/// `answers.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answers {
    /// What the clock showed when it answered so.
    recorded_at: String,
    /// Where the store is, from here.
    store: PathBuf,
    #[serde(default)]
    series: Vec<Known>,
    #[serde(default)]
    usages: Vec<Answer>,
}

/// One line of `ListSeries`.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Known {
    series: [String; 4],
    first: String,
    last: String,
}

/// One window of `GetUsage`.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answer {
    series: [String; 4],
    window_s: i64,
    from: String,
    to: String,
    covered_s: i64,
    cpu: Figures,
    memory: Figures,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Figures {
    samples: u64,
    mean: f64,
    peak: f64,
    p50: f64,
    p90: f64,
    p99: f64,
}

#[test]
fn the_store_of_every_release_answers_as_it_did() {
    for dir in releases() {
        let recorded = read(&dir);
        let root = tempfile::tempdir().unwrap();
        copy(&dir.join(&recorded.store), root.path());
        assert!(!recorded.usages.is_empty(), "{}", dir.display());
        for opening in ["first", "second"] {
            let answers = ask(root.path(), &recorded.recorded_at);
            let context = format!("{}, {opening} opening", dir.display());
            assert_eq!(answers.series, recorded.series, "{context}");
            assert_eq!(answers.usages.len(), recorded.usages.len(), "{context}");
            for (answer, then) in answers.usages.iter().zip(&recorded.usages) {
                compare(answer, then).unwrap_or_else(|what| panic!("{context}: {what}\n{answer:?}, not\n{then:?}"));
            }
        }
    }
}

fn read(dir: &Path) -> Answers {
    serde_json::from_str(&fs::read_to_string(dir.join("answers.json")).unwrap()).unwrap()
}

/// What differs more than it may.
fn compare(answer: &Answer, then: &Answer) -> Result<(), &'static str> {
    fn about(answer: &Answer) -> (&[String; 4], i64, &str, &str, i64) {
        (&answer.series, answer.window_s, &answer.from, &answer.to, answer.covered_s)
    }
    if about(answer) != about(then) {
        return Err("another window");
    }
    for (answer, then) in [(&answer.cpu, &then.cpu), (&answer.memory, &then.memory)] {
        let near = |pair: (f64, f64), by: f64| (pair.0 - pair.1).abs() <= by * pair.1.abs();
        if answer.samples != then.samples {
            return Err("another number of samples");
        }
        if ![(answer.mean, then.mean), (answer.peak, then.peak)].into_iter().all(|pair| near(pair, EXACT)) {
            return Err("another mean or peak");
        }
        let percentiles = [(answer.p50, then.p50), (answer.p90, then.p90), (answer.p99, then.p99)];
        if !percentiles.into_iter().all(|pair| near(pair, ROUNDING)) {
            return Err("another percentile");
        }
    }
    Ok(())
}

/// What the store in `dir` answers over gRPC when the clock shows `recorded_at`. All that has the store open ends with the runtime.
fn ask(dir: &Path, recorded_at: &str) -> Answers {
    let at: Timestamp = recorded_at.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let now = optipod_storage::Timestamp(at.as_millisecond());
        let store = Arc::new(Store::open(dir, StoreOptions::default(), now).unwrap());
        assert_eq!(store.status(now).problems, Vec::<String>::new());
        let api = Api::new(store, Clock::starting_at(at), RETENTION);
        let (channel, serving) = serve_in_memory(api, CancellationToken::new());
        tokio::spawn(serving);
        let request = proto::ListSeriesRequest { page_size: 100, ..Default::default() };
        let list = RecommenderServiceClient::new(channel.clone()).list_series(request).await.unwrap().into_inner();
        assert_eq!(list.next_page_token, "", "all are on one page");
        let mut client = UsageServiceClient::new(channel);
        let mut usages = Vec::new();
        for info in &list.series {
            let windows = WINDOWS_S.map(|seconds| prost_types::Duration { seconds, nanos: 0 }).to_vec();
            let request = proto::GetUsageRequest { series: info.series.clone(), windows, sub_window: None };
            let told = client.get_usage(request).await.unwrap().into_inner().usages;
            usages.extend(told.iter().filter_map(|usage| answer(name(info.series.as_ref()), usage)));
        }
        let series = list.series.iter().map(known).collect();
        Answers { recorded_at: recorded_at.to_owned(), store: PathBuf::from("store"), series, usages }
    })
}

fn name(series: Option<&proto::Series>) -> [String; 4] {
    let proto::Series { namespace, kind, workload, container } = series.unwrap().clone();
    [namespace, kind, workload, container]
}

fn known(info: &proto::SeriesInfo) -> Known {
    Known { series: name(info.series.as_ref()), first: moment(info.first_sample), last: moment(info.last_sample) }
}

/// `None` where nothing was used in the window.
fn answer(series: [String; 4], usage: &proto::Usage) -> Option<Answer> {
    Some(Answer {
        series,
        window_s: usage.window?.seconds,
        from: moment(usage.from),
        to: moment(usage.to),
        covered_s: usage.covered?.seconds,
        cpu: figures(usage.cpu.as_ref()?),
        memory: figures(usage.memory.as_ref()?),
    })
}

fn figures(of: &proto::Distribution) -> Figures {
    Figures { samples: of.samples, mean: of.mean, peak: of.peak, p50: of.p50, p90: of.p90, p99: of.p99 }
}

fn moment(at: Option<prost_types::Timestamp>) -> String {
    let at = at.unwrap();
    Timestamp::new(at.seconds, at.nanos).unwrap().to_string()
}

/// A step of `.ci/release_fixture`: the time and the store are there already.
#[test]
#[ignore = "records what the store of $OPTIPOD_RELEASE_FIXTURE answers, by .ci/release_fixture only"]
fn write_answers() {
    let dir = PathBuf::from(std::env::var("OPTIPOD_RELEASE_FIXTURE").unwrap());
    let Answers { recorded_at, store, .. } = read(&dir);
    let root = tempfile::tempdir().unwrap();
    copy(&dir.join(&store), root.path());
    let answers = Answers { store, ..ask(root.path(), &recorded_at) };
    fs::write(dir.join("answers.json"), serde_json::to_string_pretty(&answers).unwrap() + "\n").unwrap();
}
