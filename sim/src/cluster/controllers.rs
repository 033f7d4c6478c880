//! The controller loop: from changed objects to the controllers that care, until nothing moves.
//!
//! What it may not know: what any controller does.
//! Invariant: the order of work depends on names only; whatever asked to come back does so later.

use std::collections::BTreeSet;

use super::objects::{Plane, controller_uid, is_deleting};
use super::{daemonset, deployment, replicaset, scheduler, statefulset};
use crate::api::store::{Dirty, Key, Obj};
use crate::json::{list_at, str_at};

/// Work for one controller: the plural of its resource, and the object.
type Work = (&'static str, Key);

/// When a controller wants to see its object again, changed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Only when something changes.
    OnChange,
    /// Also after a while: a deadline may pass.
    Later,
    /// Not before a while has passed: it was refused, and asking at once would be refused again.
    BackOff,
}

/// What is waiting.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    now: BTreeSet<Work>,
    later: BTreeSet<Work>,
    backing_off: BTreeSet<Work>,
    unscheduled: BTreeSet<Key>,
}

/// The controllers' resources, downstream first.
const CONTROLLED: [&str; 4] = ["replicasets", "statefulsets", "daemonsets", "deployments"];
/// A reconcile that still changes something after this many rounds is a bug; it must not hang a run.
const MAX_ROUNDS: usize = 200;

impl Queue {
    /// Brings back what asked to come back.
    pub(crate) fn wake(&mut self) {
        self.now.append(&mut self.later);
        self.now.append(&mut self.backing_off);
    }

    /// Runs controllers, the scheduler and garbage collection until nothing changes.
    ///
    /// Returns the pods that changed on the way.
    pub(crate) fn settle(&mut self, plane: &mut Plane<'_>) -> BTreeSet<Key> {
        let mut pods = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let dirty = plane.state.store.take_dirty();
            for change in &dirty {
                self.note(plane, change, &mut pods);
            }
            let work = std::mem::take(&mut self.now);
            if work.is_empty() && dirty.is_empty() {
                break;
            }
            for work in work.difference(&self.backing_off.clone()) {
                match run(plane, work.0, &work.1) {
                    Again::OnChange => false,
                    Again::Later => self.later.insert(work.clone()),
                    Again::BackOff => self.backing_off.insert(work.clone()),
                };
            }
            scheduler::schedule(plane, &mut self.unscheduled);
        }
        pods
    }

    fn note(&mut self, plane: &mut Plane<'_>, change: &Dirty, pods: &mut BTreeSet<Key>) {
        if let Some(plural) = CONTROLLED.iter().find(|plural| is_table(&change.table, plural)) {
            self.now.insert((plural, change.key.clone()));
            match plane.get(plural, &change.key) {
                Some(object) => self.mark_owner(plane, &object),
                None => collect_garbage(plane, &change.key.namespace),
            }
        } else if change.table == "pods" {
            pods.insert(change.key.clone());
            self.note_pod(plane, &change.key);
        } else if change.table == "nodes" {
            self.mark_all(plane, "daemonsets");
        }
    }

    fn note_pod(&mut self, plane: &Plane<'_>, key: &Key) {
        match plane.get("pods", key) {
            Some(pod) => {
                if str_at(&pod, "/spec/nodeName").is_empty() && !is_deleting(&pod) {
                    self.unscheduled.insert(key.clone());
                }
                self.mark_owner(plane, &pod);
            }
            // Whose it was is no longer known: all of its namespace look again.
            None => {
                for plural in ["replicasets", "statefulsets", "daemonsets"] {
                    self.mark_namespace(plane, plural, &key.namespace);
                }
            }
        }
    }

    fn mark_owner(&mut self, plane: &Plane<'_>, object: &Obj) {
        let owner = list_at(object, "/metadata/ownerReferences").first();
        let name = owner.map(|owner| str_at(owner, "/name")).unwrap_or_default();
        let plural = match owner.map(|owner| str_at(owner, "/kind")).unwrap_or_default() {
            "ReplicaSet" => "replicasets",
            "StatefulSet" => "statefulsets",
            "DaemonSet" => "daemonsets",
            "Deployment" => "deployments",
            _ => return,
        };
        let key = Key::new(str_at(object, "/metadata/namespace"), name);
        if plane.get(plural, &key).is_some() {
            self.now.insert((plural, key));
        }
    }

    fn mark_all(&mut self, plane: &Plane<'_>, plural: &'static str) {
        if let Some(kind) = plane.kind(plural) {
            let keys = plane.state.store.list(&kind, None).map(|(key, _)| key.clone());
            self.now.extend(keys.map(|key| (plural, key)));
        }
    }

    fn mark_namespace(&mut self, plane: &Plane<'_>, plural: &'static str, namespace: &str) {
        if let Some(kind) = plane.kind(plural) {
            let keys = plane.state.store.list(&kind, Some(namespace)).map(|(key, _)| key.clone());
            self.now.extend(keys.map(|key| (plural, key)));
        }
    }
}

fn is_table(table: &str, plural: &str) -> bool {
    table.strip_suffix(".apps") == Some(plural)
}

fn run(plane: &mut Plane<'_>, plural: &str, key: &Key) -> Again {
    match plural {
        "replicasets" => replicaset::reconcile(plane, key),
        "statefulsets" => statefulset::reconcile(plane, key),
        "daemonsets" => daemonset::reconcile(plane, key),
        _ => deployment::reconcile(plane, key),
    }
}

/// Deletes what lost its controller in this namespace.
fn collect_garbage(plane: &mut Plane<'_>, namespace: &str) {
    let mut uids = BTreeSet::new();
    for plural in CONTROLLED {
        if let Some(kind) = plane.kind(plural) {
            let objects = plane.state.store.list(&kind, Some(namespace));
            uids.extend(objects.map(|(_, object)| str_at(object, "/metadata/uid").to_owned()));
        }
    }
    for plural in ["replicasets", "pods"] {
        let Some(kind) = plane.kind(plural) else {
            continue;
        };
        let orphans: Vec<Obj> = plane
            .state
            .store
            .list(&kind, Some(namespace))
            .map(|(_, object)| object.clone())
            .filter(|object| {
                let uid = controller_uid(object);
                !uid.is_empty() && !uids.contains(uid) && !is_deleting(object)
            })
            .collect();
        for orphan in orphans {
            plane.delete(plural, &orphan);
        }
    }
}
