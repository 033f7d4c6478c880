//! Kubernetes events (`events.k8s.io/v1`) on workloads and policies.
//!
//! A repeated event counts up in a series instead of becoming a new object; for that its note must be stable, so that
//! changing numbers belong into status. Invariant: publishing never waits and never fails the work that it tells of.

use crate::clock::Clock;
use crate::hash::fnv_1a;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Who reports.
const CONTROLLER: &str = "optipod.io/controller";
/// The API server's limit for a note, in bytes.
const NOTE_BYTES: usize = 1024;
/// More events than this wait nowhere; further ones are dropped and counted.
const QUEUE: usize = 1000;
/// A series that did not grow for this long is over, as in client-go.
const SERIES_LASTS: Duration = Duration::from_mins(6);
/// A series is written at most this often; in between it counts in memory.
const SERIES_EVERY: Duration = Duration::from_mins(1);
/// So long the last events may take at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// Good news or bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Something to tell about one object.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// The object.
    pub regarding: ObjectReference,
    /// Good news or bad.
    pub severity: Severity,
    /// Why, in one CamelCase word of at most 128 characters.
    pub reason: &'static str,
    /// What was done or tried, in one CamelCase word.
    pub action: &'static str,
    /// What happened and what to do; without numbers that change from time to time.
    pub note: String,
}

/// Sends events to the API server.
#[async_trait]
pub trait EventWriter: Send + Sync {
    /// Creates an event.
    async fn create(&self, event: &Event) -> Result<(), String>;
    /// Sets the series of an event.
    async fn repeat(&self, namespace: &str, name: &str, series: Value) -> Result<(), String>;
}

/// Takes notices; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder(mpsc::Sender<Notice>);

/// Writes notices, one after another.
pub struct Events<W> {
    writer: W,
    clock: Clock,
    instance: String,
    queue: mpsc::Receiver<Notice>,
    known: BTreeMap<Key, Series>,
}

/// Equal notices make a series.
type Key = (String, &'static str, String);

#[derive(Debug)]
struct Series {
    name: String,
    count: i32,
    last: Instant,
    written: Instant,
}

impl Recorder {
    /// Whether less than half of the queue is taken: what can be told later is told only then.
    pub fn has_room(&self) -> bool {
        self.0.capacity() > QUEUE / 2
    }

    /// Tells it, unless too much waits already.
    pub fn publish(&self, notice: Notice) {
        if let Err(error) = self.0.try_send(notice) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

impl<W: EventWriter> Events<W> {
    /// A recorder, and the loop that writes what it records. `instance` names this process.
    pub fn new(writer: W, clock: Clock, instance: String) -> (Recorder, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Recorder(sender), Self { writer, clock, instance, queue, known: BTreeMap::new() })
    }

    /// Writes until `stop`, then what is left within 2 seconds.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                notice = self.queue.recv() => match notice {
                    Some(notice) => self.write(notice).await,
                    None => return,
                },
            }
        }
        let rest = async {
            while let Ok(notice) = self.queue.try_recv() {
                self.write(notice).await;
            }
        };
        let _ = timeout(DRAIN, rest).await;
    }

    async fn write(&mut self, notice: Notice) {
        self.known.retain(|_, series| series.last.elapsed() < SERIES_LASTS);
        let note = truncated(&notice.note, NOTE_BYTES);
        let key = (notice.regarding.uid.clone().unwrap_or_default(), notice.reason, note.clone());
        let written = match self.known.get_mut(&key) {
            Some(series) => {
                let namespace = notice.regarding.namespace.as_deref().unwrap_or_default();
                again(&self.writer, self.clock, namespace, series).await
            }
            None => self.first(&notice, note, key).await,
        };
        if let Err(error) = written {
            tracing::warn!(%error, reason = notice.reason, "an event could not be written");
        }
    }

    async fn first(&mut self, notice: &Notice, note: String, key: Key) -> Result<(), String> {
        let event = event(notice, note, &key, self.clock, &self.instance);
        let name = event.metadata.name.clone().unwrap_or_default();
        self.writer.create(&event).await?;
        let now = Instant::now();
        self.known.insert(key, Series { name, count: 1, last: now, written: now });
        Ok(())
    }
}

/// The series' count begins at 2: the event itself is the first.
async fn again(writer: &impl EventWriter, clock: Clock, namespace: &str, series: &mut Series) -> Result<(), String> {
    series.count += 1;
    series.last = Instant::now();
    if series.count > 2 && series.written.elapsed() < SERIES_EVERY {
        return Ok(());
    }
    series.written = series.last;
    let body = json!({"count": series.count, "lastObservedTime": MicroTime(clock.now())});
    writer.repeat(namespace, &series.name, body).await
}

fn event(notice: &Notice, note: String, key: &Key, clock: Clock, instance: &str) -> Event {
    let now = clock.now();
    let name = notice.regarding.name.as_deref().unwrap_or("optipod");
    // At most 253 characters; the object's own name may have as many. Each part between dots ends with a letter or digit.
    let name = name.get(..200).unwrap_or(name).trim_end_matches(['-', '.']);
    let name = format!("{name}.{:016x}{:x}", hash(key), now.as_second());
    let severity = match notice.severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: notice.regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some(notice.action.to_owned()),
        reason: Some(notice.reason.to_owned()),
        note: Some(note),
        regarding: Some(notice.regarding.clone()),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(truncated(instance, 128)),
        type_: Some(severity.to_owned()),
        ..Event::default()
    }
}

fn hash((uid, reason, note): &Key) -> u64 {
    fnv_1a(uid.bytes().chain([0]).chain(reason.bytes()).chain([0]).chain(note.bytes()))
}

/// At most `bytes`, cut between characters.
fn truncated(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= bytes - 3).last().unwrap_or_default();
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps what was sent: `create NAME` or `repeat NAME COUNT`.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl EventWriter for Sent {
        async fn create(&self, event: &Event) -> Result<(), String> {
            let name = event.metadata.name.clone().unwrap();
            assert!(name.len() <= 253 && event.note.as_ref().unwrap().len() <= NOTE_BYTES);
            self.0.lock().unwrap().push(format!("create {name}"));
            Ok(())
        }

        async fn repeat(&self, _: &str, name: &str, series: Value) -> Result<(), String> {
            self.0.lock().unwrap().push(format!("repeat {name} {}", series["count"]));
            Ok(())
        }
    }

    fn notice(note: &str) -> Notice {
        Notice {
            regarding: ObjectReference {
                namespace: Some("shop".into()),
                name: Some("web".into()),
                uid: Some("u".into()),
                ..ObjectReference::default()
            },
            severity: Severity::Warning,
            reason: "ResizeFailed",
            action: "Resize",
            note: note.to_owned(),
        }
    }

    async fn told(events: &mut Events<Sent>, sent: &Sent, note: &str) -> Vec<String> {
        events.write(notice(note)).await;
        std::mem::take(&mut *sent.0.lock().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_notice_counts_up_in_one_event_and_is_written_at_most_once_a_minute() {
        let sent = Sent::default();
        let (_recorder, mut events) =
            Events::new(sent.clone(), Clock::starting_at(jiff::Timestamp::UNIX_EPOCH), "me".into());
        let first = told(&mut events, &sent, "no room").await.remove(0);
        let name = first.strip_prefix("create ").unwrap().to_owned();
        assert_eq!(told(&mut events, &sent, "no room").await, [format!("repeat {name} 2")]);
        assert!(told(&mut events, &sent, "no room").await.is_empty(), "counted in memory");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(told(&mut events, &sent, "no room").await, [format!("repeat {name} 4")]);
        assert!(told(&mut events, &sent, "another note").await[0].starts_with("create "));
        tokio::time::advance(SERIES_LASTS).await;
        let again = told(&mut events, &sent, "no room").await.remove(0);
        assert!(again.starts_with("create ") && again != first, "a series that was silent is over");
    }

    #[tokio::test(start_paused = true)]
    async fn publishing_never_waits_and_what_waits_at_the_end_is_written() {
        let sent = Sent::default();
        let (recorder, events) =
            Events::new(sent.clone(), Clock::starting_at(jiff::Timestamp::UNIX_EPOCH), "me".into());
        for i in 0..QUEUE + 10 {
            recorder.publish(notice(&i.to_string()));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        events.run(stop).await;
        assert_eq!(sent.0.lock().unwrap().len(), QUEUE, "the rest was dropped");
    }

    #[test]
    fn the_name_of_an_event_on_an_object_with_a_long_name_is_a_name() {
        let long = format!("{}-{}", "a".repeat(199), "b".repeat(53));
        let mut notice = notice("no room");
        notice.regarding.name = Some(long);
        let key = ("u".to_owned(), "ResizeFailed", "no room".to_owned());
        let event = event(&notice, notice.note.clone(), &key, Clock::starting_at(jiff::Timestamp::UNIX_EPOCH), "me");
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253 && name.starts_with(&format!("{}.", "a".repeat(199))), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)), "{name}");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(truncated("abc", 3), "abc");
        let cut = truncated(&"é".repeat(1000), NOTE_BYTES);
        assert!(cut.len() <= NOTE_BYTES && cut.ends_with('…'), "{}", cut.len());
    }
}
