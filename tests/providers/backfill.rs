//! Filling a store with the past: from real programs, and from a server that does whatever it is told to.

use super::cluster::Harness;
use super::harness::{Result, test, test_with};
use super::prometheus::double::{Asked, Double, Reply, usual};
use super::prometheus::programs::{Kind, shared};
use super::prometheus::{INSTALL, data};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use libtest_mimic::Trial;
use optipod::backfill::{Backfill, Filled};
use optipod::clock::Clock;
use optipod::config::{PrometheusSettings, Settings};
use optipod::provider::{PrometheusOptions, PrometheusProvider, UsageProvider as _, UsageQuery};
use optipod::run::{Recommender, in_memory};
use optipod::workload::{WorkloadId, WorkloadKind};
use optipod_storage::{Sample, SeriesKey, SlotKind, Store, StoreOptions, Usage};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_hours(1);
const POD: &str = "web-6d4cf56db6-x2x45";

/// Tests that run on the double.
macro_rules! on_double {
    ($($test:path),* $(,)?) => {
        vec![$(test(concat!("backfill::", stringify!($test)), || Box::pin($test()))),*]
    };
}

pub fn tests() -> Vec<Trial> {
    let mut tests = on_double![
        a_killed_process_goes_on_and_nothing_is_lost_or_counts_twice,
        what_was_in_and_not_noted_is_asked_for_again_and_counts_once,
        collection_goes_on_and_days_are_merged_when_they_are_whole,
        a_server_that_is_down_is_tried_again,
        what_is_too_much_is_asked_in_shorter_slices,
        a_store_with_a_history_of_its_own_is_left_alone,
        a_new_recommender_answers_about_the_past_at_once,
    ];
    tests.extend(Kind::ALL.into_iter().map(|kind| {
        let name = format!("backfill::{}::a_day_answers_like_the_exact_truth", kind.name());
        test_with(&name, kind.programs(), INSTALL, move || Box::pin(a_day_answers_like_the_exact_truth(kind)))
    }));
    tests
}

fn clock() -> Clock {
    Clock::starting_at(data::end())
}

fn stored(at: Timestamp) -> optipod_storage::Timestamp {
    optipod_storage::Timestamp(at.as_millisecond())
}

fn open(dir: &Path) -> Result<Arc<Store>> {
    Ok(Arc::new(Store::open(dir, StoreOptions::default(), stored(data::end()))?))
}

fn workload(namespace: &str, name: &str) -> WorkloadId {
    WorkloadId { namespace: namespace.into(), kind: WorkloadKind::Deployment, name: name.into() }
}

fn begin(store: &Arc<Store>, url: &str, window: Duration) -> Result<Option<Backfill>> {
    let source = PrometheusProvider::new(PrometheusOptions::new(url), clock())?;
    Ok(Backfill::begin(store.clone(), source, window, clock())?)
}

async fn run(store: &Arc<Store>, url: &str, window: Duration, shutdown: &CancellationToken) -> Result<Filled> {
    let backfill = begin(store, url, window)?.context("there is something to do")?;
    Ok(backfill.run(&BTreeSet::from([workload("shop", "web")]), shutdown).await?)
}

/// What the store knows of the Deployment `web`.
fn usage(store: &Store, container: &str, window: Duration) -> Result<Usage> {
    let [namespace, kind, workload] = ["shop", "Deployment", "web"].map(str::to_owned);
    let key = SeriesKey { namespace, kind, workload, container: container.to_owned() };
    store.usage(&key, window, stored(data::end()))?.context("nothing is known")
}

/// The minutes of a window that ends now and begins on the hour, without those in the slot that is still open.
fn minutes(window: Duration) -> u64 {
    window.as_secs() / 60 - 5
}

/// Ten days, of which the first are merged into days.
const LONG: Duration = Duration::from_hours(10 * 24);

/// What this program does instead of tests where [`killed_in_the_middle`] has started it: the backfill.
pub fn child() -> Option<Result> {
    let (dir, url) = (std::env::var_os("BACKFILL_DIR")?, std::env::var("BACKFILL_URL").ok()?);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let filled = runtime.block_on(async { run(&open(Path::new(&dir))?, &url, LONG, &CancellationToken::new()).await });
    Some(filled.map(drop))
}

/// A backfill in a process of its own, which is killed while a slice goes into the store.
async fn killed_in_the_middle(dir: &Path, url: &str) -> Result {
    let files = || std::fs::read_dir(dir.join("slots")).map_or(0, Iterator::count);
    let before = files();
    let mut child = Command::new(std::env::current_exe()?).env("BACKFILL_DIR", dir).env("BACKFILL_URL", url).spawn()?;
    while files() < before + 15 {
        ensure!(child.try_wait()?.is_none(), "it ended by itself");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

async fn a_killed_process_goes_on_and_nothing_is_lost_or_counts_twice() -> Result {
    let server = Double::start(|question| usual(question, &[POD], "")).await;
    let dir = tempfile::tempdir()?;
    for _ in 0..4 {
        killed_in_the_middle(dir.path(), &server.url()).await?;
    }
    let store = open(dir.path())?;
    let backfill = begin(&store, &server.url(), LONG)?.context("there is something to do")?;
    while store.maintain(stored(data::end()))?.pending {} // as the collector's first ticks do
    let filled = backfill.run(&BTreeSet::from([workload("shop", "web")]), &CancellationToken::new()).await?;
    ensure!(filled.complete && filled.samples > 0 && filled.samples < minutes(LONG), "{filled:?}");
    while store.maintain(stored(data::end()))?.pending {}
    assert_eq!(usage(&store, "app", LONG + 24 * HOUR)?.cpu.count(), minutes(LONG));
    let status = store.status(stored(data::end()));
    assert_eq!((status.problems, status.sealed_slots.get(&SlotKind::Day)), (Vec::new(), Some(&1)));
    Ok(())
}

async fn what_was_in_and_not_noted_is_asked_for_again_and_counts_once() -> Result {
    let window = 4 * 24 * HOUR;
    let (dir, shutdown) = (tempfile::tempdir()?, CancellationToken::new());
    let (asked, stop) = (AtomicUsize::new(0), shutdown.clone());
    let server = Double::start(move |question| {
        if question.range().is_some() && asked.fetch_add(1, Ordering::Relaxed) == 5 {
            stop.cancel(); // in the third slice of two questions each
        }
        usual(question, &[POD], "")
    })
    .await;
    let store = open(dir.path())?;
    let filled = run(&store, &server.url(), window, &shutdown).await?;
    ensure!(!filled.complete && filled.slots > 0, "{filled:?}");
    drop(store);

    // As if killed before it was noted that the last hour is in: it is asked for again, and nothing after it.
    let plan = dir.path().join("backfill.json");
    let noted = std::fs::read_to_string(&plan)?;
    let reached: i64 = noted.split("\"reached\":").nth(1).context("reached")?.trim_end_matches('}').parse()?;
    let earlier = noted.replace(&format!("\"reached\":{reached}"), &format!("\"reached\":{}", reached + 3600));
    std::fs::write(&plan, earlier)?;
    let before = server.asked().len();
    let store = open(dir.path())?;
    let again = run(&store, &server.url(), window, &CancellationToken::new()).await?;
    ensure!(again.complete && again.kept > 0, "{again:?}");
    let ranges: Vec<_> = server.asked()[before..].iter().filter_map(Asked::range).collect();
    assert_eq!(ranges.iter().map(|(_, end, _)| *end).max(), Some(reached + 3600 - 60));
    assert_eq!(usage(&store, "app", 5 * 24 * HOUR)?.cpu.count(), minutes(window));
    assert!(begin(&store, &server.url(), window)?.is_none(), "what is done is not begun again");
    Ok(())
}

async fn collection_goes_on_and_days_are_merged_when_they_are_whole() -> Result {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    let (present, ticks) = (store.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = ticks.clone();
    let server = Double::start(move |question| {
        // The collector's ticks, between any two questions.
        let now = data::end() + Duration::from_secs(counted.fetch_add(1, Ordering::Relaxed) as u64 % 100);
        let [namespace, kind, workload, container] = ["shop", "Deployment", "now", "app"].map(str::to_owned);
        let series = present.intern(&SeriesKey { namespace, kind, workload, container });
        let sample = Sample { series, pod: 1, at: stored(now), cpu: 1.0, memory: 1.0 };
        present.append(stored(now), &[sample]).unwrap();
        present.maintain(stored(now)).unwrap();
        match question.range() {
            Some((start, end, _)) if end - start > 6 * 3600 => Reply::Status(422, "X-Test: 1", "too long".into()),
            _ => usual(question, &[POD], ""), // days come in parts
        }
    })
    .await;
    let window = 12 * 24 * HOUR;
    let filled = run(&store, &server.url(), window, &CancellationToken::new()).await?;
    assert_eq!((filled.complete, filled.kept, filled.samples), (true, 0, minutes(window)), "{filled:?}");
    while store.maintain(stored(data::end()))?.pending {}
    assert_eq!(usage(&store, "app", 13 * 24 * HOUR)?.cpu.count(), minutes(window));
    let slots = store.status(stored(data::end())).sealed_slots;
    assert_eq!(slots.get(&SlotKind::Day), Some(&4), "the days that are older than 8: {slots:?}");
    assert!(ticks.load(Ordering::Relaxed) > 50);
    Ok(())
}

async fn a_server_that_is_down_is_tried_again() -> Result {
    let dir = tempfile::tempdir()?;
    let asked = AtomicUsize::new(0);
    let server = Double::start(move |question| match asked.fetch_add(1, Ordering::Relaxed) {
        0..3 => Reply::Status(503, "X-Test: 1", "starting".into()),
        _ => usual(question, &[POD], ""),
    })
    .await;
    let store = open(dir.path())?;
    let filled = run(&store, &server.url(), 24 * HOUR, &CancellationToken::new()).await?;
    assert!(filled.complete && usage(&store, "app", 25 * HOUR)?.cpu.count() == minutes(24 * HOUR), "{filled:?}");
    Ok(())
}

async fn what_is_too_much_is_asked_in_shorter_slices() -> Result {
    let dir = tempfile::tempdir()?;
    let server = Double::start(|question| match question.range() {
        Some((start, end, _)) if end - start > 6 * 3600 => Reply::Status(422, "X-Test: 1", "too long".into()),
        _ => usual(question, &[POD], ""),
    })
    .await;
    let store = open(dir.path())?;
    let filled = run(&store, &server.url(), 48 * HOUR, &CancellationToken::new()).await?;
    assert_eq!((filled.complete, filled.samples), (true, minutes(48 * HOUR)));
    Ok(())
}

async fn a_store_with_a_history_of_its_own_is_left_alone() -> Result {
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    let [namespace, kind, workload, container] = ["shop", "Deployment", "web", "app"].map(str::to_owned);
    let series = store.intern(&SeriesKey { namespace, kind, workload, container });
    let at = stored(data::end());
    store.append(at, &[Sample { series, pod: 1, at, cpu: 1.0, memory: 1.0 }])?;
    store.maintain(stored(data::end() + Duration::from_mins(10)))?;
    assert!(begin(&store, "http://127.0.0.1:1", 24 * HOUR)?.is_none());
    Ok(())
}

/// The role as the binary wires it, beside its collector, on the simulated cluster.
async fn a_new_recommender_answers_about_the_past_at_once() -> Result {
    tokio::time::pause(); // until the pods run
    let harness = Harness::new().await;
    harness.deployment("web", 1).await;
    let pod = harness.pods("web")[0]["metadata"]["name"].as_str().context("a name")?.to_owned();
    tokio::time::resume(); // for sockets
    let server = Double::start(move |question| usual(question, &[&pod], "").replace("app", "web")).await;

    let dir = tempfile::tempdir()?;
    let prometheus = PrometheusSettings { url: Some(server.url()), ..PrometheusSettings::default() };
    let backfill_from_prometheus = Some("2d".to_owned());
    let settings = Settings { prometheus, backfill_from_prometheus, ..Settings::default() };
    let clock = Clock::starting_at(harness.api.clock().now());
    let recommender = Recommender::open(dir.path(), &settings, harness.api.client(), &harness.metrics, clock)?;
    let shutdown = CancellationToken::new();
    let filling = recommender.filling(&settings, shutdown.clone())?;
    let collecting = recommender.collect(shutdown.clone());
    let provider = in_memory(recommender.channel(shutdown.clone()));
    tokio::select! {
        ended = collecting => anyhow::bail!("collection ended: {ended:?}"),
        filled = filling => filled?,
    }
    let series = optipod::usage::SeriesKey { workload: workload("shop", "web"), container: "web".into() };
    let answers = provider.usage(&[UsageQuery { series, window: 24 * HOUR }]).await?;
    let usage = answers[0].as_ref().context("nothing is known")?;
    let seen = (usage.cpu.p90, usage.memory.p90, usage.covered.as_secs() / 3600);
    assert!((seen.0 - 0.25).abs() < 1e-3 && (seen.1 - 1e6).abs() < 1e3 && seen.2 >= 23, "{usage:?}");
    shutdown.cancel();
    Ok(())
}

async fn a_day_answers_like_the_exact_truth(kind: Kind) -> Result {
    let shared = shared(kind)?;
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    let filled = run(&store, &shared.url, 24 * HOUR, &CancellationToken::new()).await?;
    ensure!(filled.complete, "{filled:?}");
    for container in ["app", "proxy"] {
        let truth = &shared.written.truth[&format!("shop/Deployment/web/{container}")];
        let usage = usage(&store, container, 24 * HOUR)?;
        let bytes: Vec<f64> = truth.memory.iter().map(|(_, bytes)| *bytes).collect();
        for (what, got, values, allowed) in [
            ("memory", &usage.memory, bytes, [0.01, 0.01, 0.05]),
            ("cpu", &usage.cpu, truth.cpu_minutes.clone(), [0.02, 0.02, 0.08]),
        ] {
            for (q, allowed) in [0.5, 0.9, 0.99].into_iter().zip(allowed) {
                let error = (got.quantile(q) / exact(&values, q) - 1.0).abs();
                println!("{}: {container} {what} P{}: {:.2} %", kind.name(), q * 100.0, error * 100.0);
                assert!(error < allowed, "{container} {what} P{}: off by {error}", q * 100.0);
            }
        }
        // Three pods at a time, each minute of the day but the first of each and those of the slot that is still open.
        let expected = 3 * minutes(24 * HOUR);
        assert!((expected - 30..=expected).contains(&usage.cpu.count()), "{} of {expected}", usage.cpu.count());
    }
    Ok(())
}

/// The value that a share `q` does not exceed.
fn exact(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let not_above = |value: &&f64| sorted.partition_point(|other| other <= value) as f64 >= q * sorted.len() as f64;
    *sorted.iter().find(not_above).unwrap()
}
