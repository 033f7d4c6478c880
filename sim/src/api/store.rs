//! Objects, their versions and the history that watches are served from.
//!
//! What it may not know: what a field means, who asks, or what time it is.
//! Invariant: one counter numbers every write of every resource; an object's resourceVersion is the
//! number of its last write; history holds every change since `trimmed`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;

use super::kinds::Kind;
use crate::json::{set, str_at};

/// A shared, immutable object.
pub(crate) type Obj = Arc<Value>;

/// Namespace (empty for cluster-wide objects) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::new(str_at(object, "/metadata/namespace"), str_at(object, "/metadata/name"))
    }
}

/// One change, as watches see it: what was there before and what is there now.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) previous: Option<Obj>,
    /// The object after the change; for a deletion the last state, with the version of the deletion.
    pub(crate) object: Obj,
    pub(crate) deleted: bool,
}

/// All objects of one resource.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<Key, Obj>,
    pub(crate) history: VecDeque<Change>,
    /// Changes up to this version are no longer in the history; 0 where nothing was forgotten yet.
    trimmed: u64,
}

/// What an in-process controller wants to know about a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Dirty {
    pub(crate) table: String,
    pub(crate) key: Key,
}

/// The object store.
#[derive(Debug)]
pub(crate) struct Store {
    version: u64,
    uids: u64,
    tables: BTreeMap<String, Table>,
    history_limit: usize,
    changed: Arc<Notify>,
    dirty: Option<Vec<Dirty>>,
}

/// Real servers start far from zero too; tests that assume small numbers should fail here as well. What was before is
/// as good as compacted.
const FIRST_VERSION: u64 = 1000;

impl Store {
    pub(crate) fn new(history_limit: usize) -> Self {
        Self {
            version: FIRST_VERSION,
            uids: 0,
            tables: BTreeMap::new(),
            history_limit,
            changed: Arc::default(),
            dirty: None,
        }
    }

    /// The number of the last write.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Wakes its waiters at every write, in the order in which they began to wait (`tokio::sync::watch` does not).
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Starts to note changed keys for [`Self::take_dirty`].
    pub(crate) fn track_dirty(&mut self) {
        self.dirty.get_or_insert_default();
    }

    /// The keys changed since the last call, without repetition, in order of table and key.
    pub(crate) fn take_dirty(&mut self) -> Vec<Dirty> {
        let mut dirty = self.dirty.as_mut().map(std::mem::take).unwrap_or_default();
        dirty.sort_unstable();
        dirty.dedup();
        dirty
    }

    pub(crate) fn table(&self, kind: &Kind) -> Option<&Table> {
        self.table_named(&kind.table())
    }

    pub(crate) fn table_named(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Versions below this are expired: no watch can start and no list can go on from them.
    pub(crate) fn oldest(&self, kind: &Kind) -> u64 {
        self.table(kind).map_or(FIRST_VERSION, |table| table.trimmed.max(FIRST_VERSION))
    }

    /// The objects of one resource as they were at a version that is not expired.
    pub(crate) fn list_at(&self, kind: &Kind, namespace: Option<&str>, version: u64) -> BTreeMap<Key, Obj> {
        let now = self.list(kind, namespace).map(|(key, object)| (key.clone(), Arc::clone(object)));
        let mut then: BTreeMap<Key, Obj> = now.collect();
        let history = self.table(kind).into_iter().flat_map(|table| table.history.iter().rev());
        for change in history.take_while(|change| change.version > version) {
            let key = Key::of(&change.object);
            if namespace.is_some_and(|wanted| wanted != key.namespace) {
                continue;
            }
            match &change.previous {
                Some(previous) => then.insert(key, Arc::clone(previous)),
                None => then.remove(&key),
            };
        }
        then
    }

    pub(crate) fn get(&self, kind: &Kind, key: &Key) -> Option<Obj> {
        self.table(kind)?.objects.get(key).cloned()
    }

    /// The objects of one resource in a namespace (all for `None`), in order of their keys.
    pub(crate) fn list<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Obj)> + use<'a> {
        self.list_named(&kind.table(), namespace)
    }

    /// As [`Self::list`], by `plural.group`.
    pub(crate) fn list_named<'a>(
        &'a self,
        table: &str,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Obj)> + use<'a> {
        let start = Key::new(namespace.unwrap_or_default(), "");
        self.tables
            .get(table)
            .into_iter()
            .flat_map(move |table| table.objects.range(start.clone()..))
            .take_while(move |(key, _)| namespace.is_none_or(|wanted| key.namespace == wanted))
    }

    /// A new uid, the same in every run.
    pub(crate) fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    /// Stores the object under its own name and returns it with its new version.
    pub(crate) fn put(&mut self, kind: &Kind, mut object: Value) -> Obj {
        self.version += 1;
        set(&mut object, &["metadata", "resourceVersion"], self.version.to_string());
        let key = Key::of(&object);
        let object: Obj = Arc::new(object);
        let table = self.tables.entry(kind.table()).or_default();
        let previous = table.objects.insert(key.clone(), Arc::clone(&object));
        let change = Change { version: self.version, previous, object: Arc::clone(&object), deleted: false };
        self.record(kind, key, change);
        object
    }

    /// Removes the object and returns its last state.
    pub(crate) fn remove(&mut self, kind: &Kind, key: &Key) -> Option<Obj> {
        let table = self.tables.get_mut(&kind.table())?;
        let previous = table.objects.remove(key)?;
        self.version += 1;
        let mut last = Value::clone(&previous);
        set(&mut last, &["metadata", "resourceVersion"], self.version.to_string());
        let object: Obj = Arc::new(last);
        let change =
            Change { version: self.version, previous: Some(previous), object: Arc::clone(&object), deleted: true };
        self.record(kind, key.clone(), change);
        Some(object)
    }

    fn record(&mut self, kind: &Kind, key: Key, change: Change) {
        let name = kind.table();
        if let Some(dirty) = &mut self.dirty {
            dirty.push(Dirty { table: name.clone(), key });
        }
        let table = self.tables.entry(name).or_default();
        table.history.push_back(change);
        while table.history.len() > self.history_limit {
            if let Some(oldest) = table.history.pop_front() {
                table.trimmed = oldest.version;
            }
        }
        self.changed.notify_waiters();
    }

    /// Wakes all watches without a change.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Forgets the history, as compaction does: a watch from before now gets 410.
    pub(crate) fn expire_history(&mut self) {
        self.version += 1;
        for table in self.tables.values_mut() {
            table.history.clear();
            table.trimmed = self.version;
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Registry;
    use super::*;
    use serde_json::json;

    fn named(namespace: &str, name: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}})
    }

    #[test]
    fn listing_a_namespace_does_not_leak_into_the_next() {
        let pods = Registry::new().find("", "v1", "pods").unwrap();
        let mut store = Store::new(10);
        for (namespace, name) in [("a", "x"), ("ab", "y"), ("b", "z")] {
            store.put(&pods, named(namespace, name));
        }
        let names = |ns| store.list(&pods, ns).map(|(k, _)| k.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(Some("a")), ["x"]);
        assert_eq!(names(None), ["x", "y", "z"]);
    }

    #[test]
    fn history_beyond_the_limit_is_trimmed() {
        let pods = Registry::new().find("", "v1", "pods").unwrap();
        let mut store = Store::new(2);
        let first = store.version();
        for name in ["x", "y", "z"] {
            store.put(&pods, named("a", name));
        }
        let table = store.table(&pods).unwrap();
        assert_eq!((table.history.len(), table.trimmed), (2, first + 1));
    }
}
