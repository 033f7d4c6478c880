//! Against a provider that counts what it is asked and answers when it is told to.

use super::*;
use crate::usage::{ResourceUsage, SeriesKey};
use crate::workload::{WorkloadId, WorkloadKind};
use jiff::Timestamp;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const TTL: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Answers a query with the moment that it was asked at; what it knows nothing of begins with `x`.
struct Counting {
    clock: Clock,
    /// How often each query was asked.
    asked: Mutex<BTreeMap<UsageQuery, usize>>,
    calls: Mutex<usize>,
    /// Each call waits for one of these.
    gate: Semaphore,
    /// Calls fail with these first.
    errors: Mutex<Vec<ProviderError>>,
}

impl Counting {
    fn of(&self, query: &UsageQuery) -> usize {
        self.asked.lock().unwrap().get(query).copied().unwrap_or(0)
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }
}

#[async_trait::async_trait]
impl UsageProvider for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Answer>, ProviderError> {
        *self.calls.lock().unwrap() += 1;
        for query in queries {
            *self.asked.lock().unwrap().entry(query.clone()).or_default() += 1;
        }
        let now = self.clock.now();
        self.gate.acquire().await.unwrap().forget();
        match self.errors.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(queries.iter().map(|query| answer(query, now)).collect()),
        }
    }
}

fn answer(query: &UsageQuery, to: Timestamp) -> Answer {
    let value = query.series.workload.name.len() as f64 + query.window.as_secs_f64();
    let of = ResourceUsage { p50: value, peak: value, ..ResourceUsage::default() };
    let known = !query.series.workload.name.starts_with('x');
    known.then(|| WindowUsage { cpu: of, memory: of, from: to, to, covered: HOUR, notes: Vec::new() })
}

fn query(workload: &str) -> UsageQuery {
    let workload = WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: workload.to_owned() };
    UsageQuery { series: SeriesKey { workload, container: "app".into() }, window: HOUR }
}

fn queries(workloads: &[&str]) -> Vec<UsageQuery> {
    workloads.iter().map(|name| query(name)).collect()
}

fn cache(most: usize, open: usize) -> (Arc<Counting>, Arc<CachedProvider>) {
    let clock = Clock::starting_at("2026-11-24T10:00:00Z".parse().unwrap());
    let inner = Arc::new(Counting {
        clock,
        asked: Mutex::default(),
        calls: Mutex::default(),
        gate: Semaphore::new(open),
        errors: Mutex::default(),
    });
    (inner.clone(), Arc::new(CachedProvider::bounded(inner, TTL, clock, most)))
}

const OPEN: usize = 1_000_000;

/// Polls once, which is as far as a question gets while the provider is silent.
async fn started<F: Future + Unpin>(mut question: F) -> F {
    std::future::poll_fn(|context| {
        assert!(Pin::new(&mut question).poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    question
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Vec<Answer>, ProviderError>> + Send + 'a>>;

fn asking<'a>(cache: &'a CachedProvider, queries: &'a [UsageQuery]) -> Asking<'a> {
    cache.usage(queries)
}

#[tokio::test(start_paused = true)]
async fn each_series_of_5000_workloads_is_asked_for_once_a_cycle() {
    let (inner, cache) = cache(MOST_ANSWERS, OPEN);
    let all: Vec<UsageQuery> = (0..5000).map(|n| query(&format!("web-{n}"))).collect();
    for cycle in 1..=3 {
        // Five policies that overlap, at the same time and one after another.
        let parts = [&all[..], &all[..2500], &all[1000..], &all[..1], &all[4999..]];
        let mut answers = futures::future::join_all(parts.map(|part| cache.usage(part))).await;
        answers.push(cache.usage(&all).await);
        for (answers, part) in answers.into_iter().zip(parts.into_iter().chain([&all[..]])) {
            let expected: Vec<Answer> = part.iter().map(|query| answer(query, inner.clock.now())).collect();
            assert_eq!(answers.unwrap(), expected);
        }
        assert_eq!(inner.calls(), cycle);
        assert!(all.iter().all(|query| inner.of(query) == cycle), "cycle {cycle}");
        sleep(TTL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_keeps_its_times_and_expires_a_minute_after_it_was_asked_for() {
    let (inner, cache) = cache(10, 0);
    let begun = inner.clock.now();
    let (a, x) = (queries(&["a", "x"]), queries(&["x"]));
    let question = started(asking(&cache, &a)).await;
    sleep(Duration::from_secs(20)).await; // a slow answer is as old as its question
    inner.gate.add_permits(3);
    assert_eq!(question.await.unwrap(), [answer(&a[0], begun), None]);
    sleep(Duration::from_secs(39)).await;
    assert_eq!(cache.usage(&a[..1]).await.unwrap()[0].as_ref().unwrap().to, begun, "kept, and as old as it is");
    assert_eq!(inner.calls(), 1);
    assert_eq!(cache.usage(&x).await, Ok(vec![None]));
    assert_eq!(inner.calls(), 2, "a new workload's first usage is not waited for");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cache.usage(&a).await.unwrap()[0].as_ref().unwrap().to, inner.clock.now());
    assert_eq!((inner.of(&a[0]), inner.of(&a[1])), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_window_of_another_length_is_another_question_and_a_repeated_one_is_not() {
    let (inner, cache) = cache(10, OPEN);
    let day = UsageQuery { window: 24 * HOUR, ..query("a") };
    let all = [query("a"), day.clone(), query("b"), query("a")];
    let expected: Vec<Answer> = all.iter().map(|query| answer(query, inner.clock.now())).collect();
    for _ in 0..2 {
        assert_eq!(cache.usage(&all).await.unwrap(), expected);
    }
    assert_eq!((inner.calls(), inner.of(&query("a")), inner.of(&day)), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_bounded_and_the_oldest_gives_way() {
    let (inner, cache) = cache(3, OPEN);
    for name in ["a", "b", "c", "d"] {
        cache.usage(&queries(&[name])).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    let many: Vec<UsageQuery> = (0..50).map(|n| query(&format!("web-{n}"))).collect();
    cache.usage(&queries(&["b", "c", "d"])).await.unwrap();
    assert_eq!(inner.calls(), 4, "the last three are kept");
    assert_eq!(cache.usage(&many).await.unwrap().iter().flatten().count(), 50, "also of more than are kept");
    assert_eq!(lock(&cache.state).kept.len(), 3);
    cache.usage(&queries(&["a"])).await.unwrap();
    assert_eq!(inner.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_error_goes_to_all_who_wait_and_is_not_kept() {
    let (inner, cache) = cache(10, 0);
    let error = ProviderError::Unavailable { provider: "counting".into(), cause: "gone".into() };
    inner.errors.lock().unwrap().push(error.clone());
    let a = queries(&["a"]);
    let (first, second) = (started(asking(&cache, &a)).await, started(asking(&cache, &a)).await);
    inner.gate.add_permits(2);
    assert_eq!(first.await, Err(error.clone()));
    assert_eq!(second.await, Err(error), "one question to a provider that is down is enough");
    assert!(cache.usage(&a).await.is_ok());
    assert_eq!(inner.calls(), 2);
    assert_eq!(lock(&cache.state).flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_somebody_else_s_questions_is_not_a_refusal_of_ours() {
    let (inner, cache) = cache(10, 0);
    let refusal = ProviderError::Refused { provider: "counting".into(), cause: "b is no name".into() };
    inner.errors.lock().unwrap().push(refusal.clone());
    let (theirs, ours) = (queries(&["a", "b"]), queries(&["c", "a"]));
    let (first, second) = (started(asking(&cache, &theirs)).await, started(asking(&cache, &ours)).await);
    inner.gate.add_permits(3);
    let now = inner.clock.now();
    assert_eq!(first.await, Err(refusal));
    assert_eq!(second.await.unwrap(), [answer(&ours[0], now), answer(&ours[1], now)]);
    assert_eq!((inner.of(&query("a")), inner.of(&query("b")), inner.of(&query("c"))), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_asked_first_goes_away_the_others_get_the_answer() {
    let (inner, cache) = cache(10, 0);
    let (a, ab) = (queries(&["a"]), queries(&["a", "b"]));
    let leader = started(asking(&cache, &a)).await;
    let follower = started(asking(&cache, &ab)).await;
    drop(leader);
    inner.gate.add_permits(2);
    assert_eq!(follower.await.unwrap().iter().flatten().count(), 2);
    assert_eq!((inner.of(&query("a")), inner.of(&query("b"))), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_ends_and_is_asked_anew() {
    let (inner, cache) = cache(10, 0);
    let a = queries(&["a"]);
    let (leader, follower) = (started(asking(&cache, &a)).await, started(asking(&cache, &a)).await);
    drop((leader, follower));
    assert_eq!(lock(&cache.state).flights.len(), 0);
    inner.gate.add_permits(1);
    assert!(cache.usage(&a).await.is_ok());
    assert_eq!(inner.of(&a[0]), 2);
}

#[tokio::test]
async fn too_few_answers_are_none() {
    struct Short;
    #[async_trait::async_trait]
    impl UsageProvider for Short {
        fn name(&self) -> &'static str {
            "short"
        }
        async fn usage(&self, _: &[UsageQuery]) -> Result<Vec<Answer>, ProviderError> {
            Ok(vec![None])
        }
    }
    let cache = CachedProvider::new(Arc::new(Short), TTL, Clock::system());
    let error = cache.usage(&queries(&["a", "b"])).await.unwrap_err();
    assert!(error.to_string().contains("1 answers to 2 questions"), "{error}");
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_immortal() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut kept = Kept::new(TTL, 10);
    let usage = |to| answer(&query("a"), at(to)).unwrap();
    kept.keep(at(10_000), &query("a"), usage(3));
    kept.expire(at(5000));
    assert_eq!(kept.len(), 0);
    kept.keep(at(5000), &query("a"), usage(2));
    kept.keep(at(4000), &query("a"), usage(1));
    kept.expire(at(5059));
    assert_eq!(kept.get(&query("a")), Some(&usage(2)), "the later answer counts");
    kept.expire(at(5060));
    assert_eq!(kept.len(), 0);
}
