//! What was asked of the double, and what it answered: the witness of the tests.
//!
//! What it may not know: why a client asked.
//! Invariant: one entry a request, in order of arrival, also for requests whose answer was lost.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// Position in the journal, from 0.
    pub seq: u64,
    /// Milliseconds since the start of the simulation.
    pub at_ms: u64,
    /// The user that the client speaks as.
    pub user: String,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// HTTP method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Authorisation verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, or empty.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Plural name of the resource; empty where the path names none.
    pub resource: String,
    /// `status`, `resize`, `scale` or empty.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// The `fieldManager` parameter.
    pub field_manager: String,
    /// Whether the write was only tried (`dryRun=All`).
    pub dry_run: bool,
    /// The `Content-Type` header of a write.
    pub content_type: String,
    /// The body of a write, where it is JSON.
    pub body: Value,
    /// HTTP status of the answer; 0 where the connection was dropped.
    pub code: u16,
    /// Reason of a refusal.
    pub reason: String,
    /// Message of a refusal.
    pub message: String,
    /// The injected fault, if one struck.
    pub fault: String,
    /// Whether the write was carried out (also where its answer was lost), and changed something.
    pub changed: bool,
    /// The object before a carried-out write.
    #[serde(skip)]
    pub before: Option<Arc<Value>>,
    /// The object after a carried-out write.
    #[serde(skip)]
    pub after: Option<Arc<Value>>,
}

impl Entry {
    /// Whether this asked for a change (dry runs and reviews do not).
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        !self.dry_run && writes.contains(&self.verb.as_str())
    }
}

/// The requests so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    next: u64,
    reads: bool,
    objects: bool,
}

impl Journal {
    /// A journal that keeps reads, and bodies and objects, only where asked to.
    pub(crate) fn new(reads: bool, objects: bool) -> Self {
        Self { reads, objects, ..Self::default() }
    }

    pub(crate) fn record(&mut self, mut entry: Entry) {
        entry.seq = self.next;
        self.next += 1;
        let is_read = ["get", "list", "watch", ""].contains(&entry.verb.as_str());
        if is_read && !self.reads {
            return;
        }
        if !self.objects {
            entry.body = Value::Null;
            entry.before = None;
            entry.after = None;
        }
        self.entries.push(entry);
    }

    /// Number of requests so far, also those not kept.
    pub(crate) fn count(&self) -> u64 {
        self.next
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}
