//! What bounds pods beside their workloads, as watched: LimitRanges, quotas, nodes and VerticalPodAutoscalers.
//!
//! It asks nobody and decides nothing. Nodes may be kept from us (an installation for one namespace), and VPA need not be
//! installed: both are then as if there were none, and only the API server's own answers count.

use super::cluster::{ObjectKey, Pod, Workload};
use super::table::{Diff, Table};
use crate::decide::{Guards, LimitRange, Nodes, Quota};
use crate::workload::Resources;
use kube::runtime::watcher::Event;
use std::sync::Arc;

/// A VerticalPodAutoscaler that changes its target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Vpa {
    pub(super) target_kind: String,
    pub(super) target_name: String,
}

/// The watched collections.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// The items of each LimitRange.
    pub(super) limit_ranges: Table<ObjectKey, Vec<Arc<LimitRange>>>,
    pub(super) quotas: Table<ObjectKey, Quota>,
    /// What each node can give.
    pub(super) nodes: Table<String, Resources>,
    pub(super) vpas: Table<ObjectKey, Vpa>,
    largest: Arc<Vec<Resources>>,
    nodes_refused: bool,
    vpa_absent: bool,
}

/// The watched resources, as readiness names them.
pub(super) const LIMIT_RANGES: &str = "limitranges";
pub(super) const QUOTAS: &str = "resourcequotas";
pub(super) const NODES: &str = "nodes";
pub(super) const VPAS: &str = "verticalpodautoscalers";

impl Bounds {
    /// The watches whose first list is not complete, but for those that there is nothing to wait for.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> + use<> {
        let known = [
            (LIMIT_RANGES, self.limit_ranges.synced()),
            (QUOTAS, self.quotas.synced()),
            (NODES, self.nodes.synced() || self.nodes_refused),
            (VPAS, self.vpas.synced() || self.vpa_absent),
        ];
        known.into_iter().filter_map(|(name, known)| (!known).then_some(name))
    }

    /// RBAC keeps nodes from us.
    pub(super) fn note_nodes_refused(&mut self) {
        self.nodes_refused = true;
    }

    /// Whether the API server serves VerticalPodAutoscalers; where it does not, none is left.
    pub(super) fn note_vpa_served(&mut self, served: bool) {
        if !served {
            self.vpas.take(Event::<((), ())>::Init, |_| ObjectKey::default(), |_| None);
            self.vpas.take(Event::<((), ())>::InitDone, |_| ObjectKey::default(), |_| None);
        }
        self.vpa_absent = !served;
    }

    pub(super) fn note_nodes(&mut self, diffs: &[Diff<String, Resources>]) {
        if diffs.iter().any(|diff| diff.before != diff.after) {
            self.largest = Arc::new(Nodes::largest_of(self.nodes.iter().map(|(_, node)| **node)));
        }
    }

    /// What bounds a workload with these pods.
    pub(super) fn of(&self, workload: &Workload, pods: &[Arc<Pod>]) -> Guards {
        let namespace = workload.id.namespace.as_str();
        let start = (namespace.to_owned(), String::new());
        let here = |key: &ObjectKey| key.0 == namespace;
        let targets = |vpa: &Vpa| vpa.target_kind == workload.id.kind.as_str() && vpa.target_name == workload.id.name;
        let mut vpas = self.vpas.from(&start).take_while(|(key, _)| here(key));
        let ranges = self.limit_ranges.from(&start).take_while(|(key, _)| here(key));
        let quotas = self.quotas.from(&start).take_while(|(key, _)| here(key));
        Guards {
            vpa: vpas.find(|(_, vpa)| targets(vpa)).map(|((_, name), _)| name.clone()),
            limit_ranges: ranges.flat_map(|(_, items)| items.iter().cloned()).collect(),
            quotas: quotas.map(|(_, quota)| quota.clone()).collect(),
            nodes: self.nodes.synced().then(|| self.nodes_of(pods)),
            replicas: workload.replicas,
        }
    }

    fn nodes_of(&self, pods: &[Arc<Pod>]) -> Nodes {
        let names = pods.iter().filter_map(|pod| pod.facts.as_ref().ok()?.node.as_ref());
        let own = names.filter_map(|name| Some((name.clone(), **self.nodes.get(name)?))).collect();
        Nodes { own, largest: self.largest.clone() }
    }
}
