//! One watched collection, kept in the order of its keys.
//!
//! It knows no Kubernetes type; a re-list replaces the whole content at once, so that a reader never sees half of it.

use kube::runtime::watcher::Event;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The objects of one watch, trimmed to what we use.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    live: BTreeMap<K, Arc<V>>,
    incoming: BTreeMap<K, Arc<V>>,
    synced: bool,
}

/// One object before and after a watch event.
#[derive(Clone, Debug)]
pub(super) struct Diff<K, V> {
    pub(super) key: K,
    pub(super) before: Option<Arc<V>>,
    pub(super) after: Option<Arc<V>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { live: BTreeMap::new(), incoming: BTreeMap::new(), synced: false }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// The first list is complete.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    /// The watch is broken: what is known may be old.
    pub(super) fn lose(&mut self) {
        self.synced = false;
    }

    pub(super) fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.live.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.live.iter()
    }

    /// The entries from `start` on, in order.
    pub(super) fn from<'a>(&'a self, start: &K) -> impl Iterator<Item = (&'a K, &'a Arc<V>)> + use<'a, K, V> {
        self.live.range(start.clone()..)
    }

    /// Takes one event of the watch; `trim` gives the key and what is kept of the object, nothing where it is of no use.
    pub(super) fn take<O>(
        &mut self,
        event: Event<O>,
        key: impl Fn(&O) -> K,
        trim: impl Fn(O) -> Option<V>,
    ) -> Vec<Diff<K, V>> {
        match event {
            Event::Init => self.incoming.clear(),
            Event::InitApply(object) => {
                let key = key(&object);
                if let Some(value) = trim(object) {
                    self.incoming.insert(key, Arc::new(value));
                }
            }
            Event::InitDone => {
                self.synced = true;
                return self.swap();
            }
            Event::Apply(object) => {
                let key = key(&object);
                return self.set(key, trim(object).map(Arc::new));
            }
            Event::Delete(object) => return self.set(key(&object), None),
        }
        Vec::new()
    }

    fn set(&mut self, key: K, after: Option<Arc<V>>) -> Vec<Diff<K, V>> {
        let before = match &after {
            Some(value) => self.live.insert(key.clone(), value.clone()),
            None => self.live.remove(&key),
        };
        vec![Diff { key, before, after }]
    }

    fn swap(&mut self) -> Vec<Diff<K, V>> {
        let mut before = std::mem::replace(&mut self.live, std::mem::take(&mut self.incoming));
        let mut diffs: Vec<_> = self
            .live
            .iter()
            .map(|(key, after)| Diff { key: key.clone(), before: before.remove(key), after: Some(after.clone()) })
            .collect();
        diffs.extend(before.into_iter().map(|(key, gone)| Diff { key, before: Some(gone), after: None }));
        diffs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(table: &mut Table<u32, u32>, event: Event<(u32, u32)>) -> Vec<(u32, Option<u32>, Option<u32>)> {
        let diffs = table.take(event, |o| o.0, |o| (o.1 != 0).then_some(o.1));
        diffs.into_iter().map(|d| (d.key, d.before.map(|v| *v), d.after.map(|v| *v))).collect()
    }

    #[test]
    fn a_relist_replaces_the_content_at_once_and_finds_what_is_gone() {
        let mut table = Table::default();
        assert!(take(&mut table, Event::Init).is_empty());
        take(&mut table, Event::InitApply((1, 10)));
        take(&mut table, Event::InitApply((2, 20)));
        assert!(!table.synced() && table.get(&1).is_none());
        assert_eq!(take(&mut table, Event::InitDone), [(1, None, Some(10)), (2, None, Some(20))]);
        take(&mut table, Event::Init);
        take(&mut table, Event::InitApply((2, 21)));
        assert_eq!(table.get(&1).map(|v| **v), Some(10), "the old content stays until the list is complete");
        assert_eq!(take(&mut table, Event::InitDone), [(2, Some(20), Some(21)), (1, Some(10), None)]);
    }

    #[test]
    fn an_object_that_became_useless_is_as_good_as_deleted() {
        let mut table = Table::default();
        take(&mut table, Event::Apply((1, 10)));
        assert_eq!(take(&mut table, Event::Apply((1, 0))), [(1, Some(10), None)]);
        assert_eq!(take(&mut table, Event::Delete((1, 5))), [(1, None, None)]);
    }
}
