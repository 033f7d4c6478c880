//! What the API server said lately, so that it is not asked for every request.
//!
//! Invariants: bounded; for one key there is one question at a time, which all who want to know wait for; an answer is
//! used no longer than it was given for.

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Answers that are kept at once.
const MOST: usize = 4096;

/// The answer to a question of who somebody is or what they may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer<T> {
    /// Yes.
    Yes(T),
    /// No, with the reason.
    No(String),
    /// The API server could not say, with the reason.
    Unknown(String),
}

impl<T> Answer<T> {
    /// How long it may be used. A yes holds for as long as a right that was taken away may still be used.
    pub(super) fn lasts(&self) -> Duration {
        match self {
            Self::Yes(_) => Duration::from_secs(30),
            Self::No(_) => Duration::from_secs(10),
            Self::Unknown(_) => Duration::from_secs(1),
        }
    }
}

/// An answer and the end of its use.
type Dated<T> = (Answer<T>, Instant);

/// A question that is under way or answered.
type Entry<T> = Shared<BoxFuture<'static, Dated<T>>>;

/// The answers by key.
pub(super) struct Answers<K, T: Clone>(Mutex<BTreeMap<K, Entry<T>>>);

impl<K: Ord + Clone, T: Clone + Send + Sync + 'static> Answers<K, T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Whether yes is known for `key`, or the question under way.
    pub(super) fn is_yes_or_asked(&self, key: &K) -> bool {
        let now = Instant::now();
        let yes = |(answer, until): &Dated<T>| matches!(answer, Answer::Yes(_)) && *until > now;
        self.lock().get(key).is_some_and(|entry| entry.peek().is_none_or(yes))
    }

    /// The answer for `key`: one that is known and still holds, or that of `question`, which tells how long it holds.
    /// The question is asked to its end, whoever stops waiting for it.
    ///
    /// Must be called within a runtime.
    pub(super) async fn ask<F>(&self, key: &K, question: impl FnOnce() -> F) -> Answer<T>
    where
        F: Future<Output = (Answer<T>, Duration)> + Send + 'static,
    {
        let mut question = Some(question);
        loop {
            let (waiting, ours) = self.find_or_begin(key, &mut question);
            let (answer, until) = waiting.await;
            // Where everybody stopped waiting, an answer lies there unseen and may have grown old.
            if ours || until > Instant::now() {
                return answer;
            }
        }
    }

    fn find_or_begin<F>(&self, key: &K, question: &mut Option<impl FnOnce() -> F>) -> (Entry<T>, bool)
    where
        F: Future<Output = (Answer<T>, Duration)> + Send + 'static,
    {
        let now = Instant::now();
        let mut answers = self.lock();
        if let Some(entry) = answers.get(key).filter(|entry| usable(entry, now)) {
            return (entry.clone(), question.is_none());
        }
        let Some(question) = question.take() else {
            let answer = (Answer::Unknown("the answer no longer holds; ask again".to_owned()), now);
            return (futures::future::ready(answer).boxed().shared(), true);
        };
        let entry = begin(question());
        make_room(&mut answers, now);
        answers.insert(key.clone(), entry.clone());
        (entry, true)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Entry<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin<T, F>(question: F) -> Entry<T>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = (Answer<T>, Duration)> + Send + 'static,
{
    let asked = tokio::spawn(async move {
        let (answer, lasts) = question.await;
        (answer, Instant::now() + lasts)
    });
    let broken = |_| (Answer::Unknown("the question broke off".to_owned()), Instant::now());
    async move { asked.await.unwrap_or_else(broken) }.boxed().shared()
}

/// Under way, or answered and still to be used.
fn usable<T: Clone>(entry: &Entry<T>, now: Instant) -> bool {
    entry.peek().is_none_or(|(_, until)| *until > now)
}

/// Drops what is no longer used, and else what ends first. What is under way goes on for those who wait for it.
fn make_room<K: Ord + Clone, T: Clone>(answers: &mut BTreeMap<K, Entry<T>>, now: Instant) {
    if answers.len() < MOST {
        return;
    }
    answers.retain(|_, entry| usable(entry, now));
    while answers.len() >= MOST {
        let end = |entry: &Entry<T>| entry.peek().map_or((true, now), |(_, until)| (false, *until));
        let first = answers.iter().min_by_key(|(_, entry)| end(entry));
        let Some(key) = first.map(|(key, _)| key.clone()) else { return };
        answers.remove(&key);
    }
}
