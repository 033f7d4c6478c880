//! WATCH: the history of a resource as a stream of JSON lines.
//!
//! What it may not know: faults; it is told when to end.
//! Invariant: a watch sees every change of what it selects, once and in order, or is told that it
//! cannot (410 as an ERROR event inside a 200 answer, as the real server's watch cache does).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::SimApi;
use super::read::{View, selector};
use super::route::{Query, Target};
use super::selector::Selector;
use super::state::State;
use super::status::StatusError;
use super::store::{Change, Key};
use crate::json::{set, str_at};

/// Real servers send a bookmark about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// And one this long before the watch ends, so that its successor starts from the present.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// The real default is random between 30 and 60 minutes; ours is fixed.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);

/// What an injected fault does to a watch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Impairment {
    /// Ends it after this time.
    pub(crate) cut_after: Option<Duration>,
    /// Delivers everything this much later.
    pub(crate) lag: Duration,
    /// Delivers everything twice.
    pub(crate) echo: bool,
    /// Delivers changes of different objects out of order.
    pub(crate) shuffle: bool,
}

impl Impairment {
    /// Lines as this watch delivers them. What is no change (a bookmark, an error) stays last, as it speaks of all before.
    fn disorder(self, lines: Vec<Value>) -> Vec<Value> {
        let is_change = |line: &Value| ["ADDED", "MODIFIED", "DELETED"].contains(&str_at(line, "/type"));
        let (mut changes, others): (Vec<Value>, Vec<Value>) = lines.into_iter().partition(is_change);
        if self.shuffle {
            // A stable sort by name, backwards: another order, the same in every run.
            changes.sort_by_cached_key(|line| std::cmp::Reverse(str_at(line, "/object/metadata/name").to_owned()));
        }
        if self.echo {
            changes.extend(changes.clone());
        }
        changes.extend(others);
        changes
    }
}

/// As `cacheWatcher.nextBookmarkTime`.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let periodic = now + BOOKMARK_EVERY;
    let last = deadline.checked_sub(BOOKMARK_BEFORE_END);
    last.filter(|last| now < *last && *last < periodic).unwrap_or(periodic)
}

/// One open watch.
pub(crate) struct Watch {
    api: SimApi,
    target: Target,
    selector: Selector,
    view: View,
    /// Everything up to this version was sent.
    cursor: u64,
    /// Lines to send before anything else.
    pending: Vec<Value>,
    bookmarks: bool,
    next_bookmark: Instant,
    /// When it ends by itself, which the server knows and prepares for.
    deadline: Instant,
    /// When it ends: by itself, or by an injected fault.
    end: Instant,
    changed: Arc<Notify>,
    cut_epoch: u64,
    over: bool,
    impairment: Impairment,
}

impl Watch {
    /// Opens a watch.
    pub(crate) fn open(
        api: &SimApi,
        state: &State,
        target: &Target,
        query: &Query,
        view: View,
        impairment: Impairment,
    ) -> Result<Self, StatusError> {
        let now = Instant::now();
        let timeout = query.number("timeoutSeconds").filter(|seconds| *seconds > 0);
        let timeout = timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let mut watch = Self {
            api: api.clone(),
            target: target.clone(),
            selector: selector(&target.kind, query)?,
            view,
            cursor: 0,
            pending: Vec::new(),
            bookmarks: query.flag("allowWatchBookmarks"),
            next_bookmark: next_bookmark(now, now + timeout),
            deadline: now + timeout,
            end: now + impairment.cut_after.map_or(timeout, |cut| cut.min(timeout)),
            changed: state.store.changed(),
            cut_epoch: state.cut_epoch,
            over: false,
            impairment,
        };
        watch.start(state, query)?;
        Ok(watch)
    }

    fn start(&mut self, state: &State, query: &Query) -> Result<(), StatusError> {
        let current = state.store.version();
        let asked = match query.get("resourceVersion") {
            "" | "0" => None,
            text => Some(
                text.parse::<u64>()
                    .map_err(|_| StatusError::bad_request(format!("Invalid value: \"{text}\": must be a version")))?,
            ),
        };
        if let Some(wanted) = asked.filter(|version| *version > current) {
            return Err(StatusError::too_large_version(wanted, current));
        }
        let initial = query.flag("sendInitialEvents");
        self.cursor = match asked {
            Some(version) if !initial => version,
            _ => {
                self.send_current(state);
                current
            }
        };
        if initial {
            let mut mark = self.bookmark(current);
            let annotation = ["object", "metadata", "annotations", "k8s.io/initial-events-end"];
            set(&mut mark, &annotation, "true");
            self.pending.push(mark);
        }
        Ok(())
    }

    fn send_current(&mut self, state: &State) {
        let objects = state.select(&self.target, &self.selector);
        let lines = objects.iter().map(|object| self.line("ADDED", object));
        self.pending = lines.collect();
    }

    fn line(&self, event: &str, object: &Value) -> Value {
        json!({"type": event, "object": self.view.show(&self.target.kind, object)})
    }

    fn bookmark(&self, version: u64) -> Value {
        let kind = &self.target.kind;
        let (api_version, name) = match self.view {
            View::Whole => (kind.api_version(), kind.kind.as_str()),
            View::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
        };
        json!({"type": "BOOKMARK", "object": {"kind": name, "apiVersion": api_version,
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null}}})
    }

    /// The events since the cursor, or the 410.
    fn drain(&mut self, state: &State) -> Vec<Value> {
        let mut lines = std::mem::take(&mut self.pending);
        let oldest = state.store.oldest(&self.target.kind);
        if self.cursor < oldest {
            self.over = true;
            let message = format!("too old resource version: {} ({oldest})", self.cursor);
            let status = StatusError::expired(message).to_json();
            lines.push(json!({"type": "ERROR", "object": status}));
            return lines;
        }
        let Some(table) = state.store.table(&self.target.kind) else {
            return lines;
        };
        let first = table.history.partition_point(|change| change.version <= self.cursor);
        let events = table.history.range(first..);
        lines.extend(events.filter_map(|change| self.event(change)));
        self.cursor = state.store.version();
        lines
    }

    /// What one change means to somebody who sees the selection only.
    fn event(&self, change: &Change) -> Option<Value> {
        let key = Key::of(&change.object);
        if self.target.namespace.as_deref().is_some_and(|ns| ns != key.namespace) {
            return None;
        }
        let before = change.previous.as_ref().is_some_and(|o| self.selector.matches(o));
        let after = !change.deleted && self.selector.matches(&change.object);
        match (before, after) {
            (false, true) => Some(self.line("ADDED", &change.object)),
            (true, true) => Some(self.line("MODIFIED", &change.object)),
            (true, false) => Some(self.line("DELETED", &Self::last_seen(change))),
            (false, false) => None,
        }
    }

    /// A selection loses an object in its last selected state, with the version of the change.
    fn last_seen(change: &Change) -> Value {
        let mut object = Value::clone(change.previous.as_ref().unwrap_or(&change.object));
        let version = str_at(&change.object, "/metadata/resourceVersion").to_owned();
        set(&mut object, &["metadata", "resourceVersion"], version);
        object
    }

    /// The next lines, or `None` at the end.
    async fn next(&mut self) -> Option<Vec<Value>> {
        let api = self.api.clone();
        loop {
            if self.over || Instant::now() >= self.end {
                return None;
            }
            // It hears of what happens from here on, also before it is awaited.
            let signal = Arc::clone(&self.changed);
            let changed = signal.notified();
            let lines = {
                let state = api.lock();
                // What was not sent before the cut does not arrive after it; the next watch begins there.
                if state.cut_epoch > self.cut_epoch {
                    return None;
                }
                self.drain(&state)
            };
            if !lines.is_empty() {
                return Some(lines);
            }
            let wake = if self.bookmarks { self.next_bookmark.min(self.end) } else { self.end };
            let timed_out = tokio::time::timeout_at(wake, changed).await.is_err();
            if timed_out && self.bookmarks && Instant::now() >= self.next_bookmark {
                self.next_bookmark = next_bookmark(Instant::now(), self.deadline);
                return Some(vec![self.bookmark(self.cursor)]);
            }
        }
    }

    /// The answer's body: one line an event.
    pub(crate) fn into_frames(self) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + 'static {
        futures::stream::unfold(self, |mut watch| async move {
            let lines = watch.next().await?;
            if !watch.impairment.lag.is_zero() {
                tokio::time::sleep(watch.impairment.lag).await;
            }
            let lines = watch.impairment.disorder(lines);
            let mut text = String::new();
            for line in lines {
                text.push_str(&line.to_string());
                text.push('\n');
            }
            Some((Ok(Frame::data(Bytes::from(text))), watch))
        })
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = Arc::clone(&self.target.kind);
        f.debug_struct("Watch")
            .field("resource", &kind.group_resource())
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
