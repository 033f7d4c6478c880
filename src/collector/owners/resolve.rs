//! The way from a pod to its workload.

use crate::workload::{WorkloadId, WorkloadKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// The controller of an object, of a kind that we know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerRef {
    /// The controller's kind.
    pub kind: WorkloadKind,
    /// The controller's name, in the object's own namespace.
    pub name: String,
}

/// A pod and its controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PodOwner<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// Its controller, where it has one that we know.
    pub owner: Option<&'a OwnerRef>,
}

/// What is known of the controller of a replicaset or job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Controller<'a> {
    /// The object itself is not known yet.
    UnknownYet,
    /// It has no controller that we know.
    None,
    /// It has this one.
    Owner(&'a OwnerRef),
}

/// Looks up the controllers of replicasets and jobs.
pub trait Lookup {
    /// What is known of the controller of this object.
    fn controller(&self, kind: WorkloadKind, namespace: &str, name: &str) -> Controller<'_>;
}

impl OwnerRef {
    /// The controller among the owners of an object. A kind of a foreign API group is none of ours, whatever its name.
    pub fn controller_of(owners: &[OwnerReference]) -> Option<Self> {
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = match (group, owner.kind.as_str()) {
            ("apps", "Deployment") => WorkloadKind::Deployment,
            ("apps", "StatefulSet") => WorkloadKind::StatefulSet,
            ("apps", "DaemonSet") => WorkloadKind::DaemonSet,
            ("apps", "ReplicaSet") => WorkloadKind::ReplicaSet,
            ("batch", "Job") => WorkloadKind::Job,
            ("batch", "CronJob") => WorkloadKind::CronJob,
            _ => return None,
        };
        Some(Self { kind, name: owner.name.clone() })
    }
}

/// The workload that a pod belongs to; `None` while it cannot be told.
///
/// Pod → ReplicaSet → Deployment, Pod → Job → CronJob; what has no further controller is the workload itself, and so is
/// a pod without a controller that we know.
pub fn resolve(pod: PodOwner<'_>, lookup: &impl Lookup) -> Option<WorkloadId> {
    let workload =
        |kind, name: &str| Some(WorkloadId { namespace: pod.namespace.to_owned(), kind, name: name.to_owned() });
    let Some(owner) = pod.owner else {
        return workload(WorkloadKind::Pod, pod.pod);
    };
    let above = match owner.kind {
        WorkloadKind::ReplicaSet => WorkloadKind::Deployment,
        WorkloadKind::Job => WorkloadKind::CronJob,
        kind => return workload(kind, &owner.name),
    };
    match lookup.controller(owner.kind, pod.namespace, &owner.name) {
        Controller::UnknownYet => None,
        Controller::Owner(controller) if controller.kind == above => workload(above, &controller.name),
        Controller::Owner(_) | Controller::None => workload(owner.kind, &owner.name),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::str::FromStr as _;

    /// `kind/name` → `kind/name` of its controller, or nothing.
    struct Table(BTreeMap<String, Option<OwnerRef>>);

    impl Lookup for Table {
        fn controller(&self, kind: WorkloadKind, namespace: &str, name: &str) -> Controller<'_> {
            match self.0.get(&format!("{namespace}/{kind}/{name}")) {
                None => Controller::UnknownYet,
                Some(None) => Controller::None,
                Some(Some(owner)) => Controller::Owner(owner),
            }
        }
    }

    fn owner(text: &str) -> Option<OwnerRef> {
        let (kind, name) = text.split_once('/')?;
        Some(OwnerRef { kind: WorkloadKind::from_str(kind).unwrap(), name: name.to_owned() })
    }

    #[test]
    fn pods_belong_to_the_topmost_controller_that_we_know() {
        let table = Table(BTreeMap::from([
            ("ns/ReplicaSet/web-5d".into(), owner("Deployment/web")),
            ("ns/ReplicaSet/alone".into(), None),
            ("ns/ReplicaSet/odd".into(), owner("StatefulSet/x")),
            ("ns/Job/nightly-1".into(), owner("CronJob/nightly")),
            ("ns/Job/once".into(), None),
            ("other/ReplicaSet/hidden".into(), None),
        ]));
        for (pod_owner, expected) in [
            ("", Some("Pod/p")),
            ("ReplicaSet/web-5d", Some("Deployment/web")),
            ("ReplicaSet/alone", Some("ReplicaSet/alone")),
            ("ReplicaSet/odd", Some("ReplicaSet/odd")),
            ("ReplicaSet/unknown", None),
            ("ReplicaSet/hidden", None),
            ("Job/nightly-1", Some("CronJob/nightly")),
            ("Job/once", Some("Job/once")),
            ("Job/unknown", None),
            ("StatefulSet/db", Some("StatefulSet/db")),
            ("DaemonSet/agent", Some("DaemonSet/agent")),
        ] {
            let owner_ref = owner(pod_owner);
            let pod = PodOwner { namespace: "ns", pod: "p", owner: owner_ref.as_ref() };
            let got = resolve(pod, &table).map(|id| id.to_string());
            assert_eq!(got, expected.map(|e| format!("ns/{e}")), "owned by {pod_owner:?}");
        }
    }

    #[test]
    fn only_the_controller_counts_and_only_of_a_kind_that_we_know() {
        let reference = |api_version: &str, kind: &str, controller| OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: "x".into(),
            controller,
            ..OwnerReference::default()
        };
        let kind_of = |owners: &[OwnerReference]| OwnerRef::controller_of(owners).map(|owner| owner.kind);
        assert_eq!(kind_of(&[]), None);
        assert_eq!(kind_of(&[reference("apps/v1", "ReplicaSet", None)]), None);
        assert_eq!(kind_of(&[reference("v1", "Node", Some(true))]), None, "a static pod stands by itself");
        assert_eq!(kind_of(&[reference("batch.volcano.sh/v1alpha1", "Job", Some(true))]), None);
        assert_eq!(
            kind_of(&[reference("v1", "ConfigMap", None), reference("apps/v1", "DaemonSet", Some(true))]),
            Some(WorkloadKind::DaemonSet)
        );
    }
}
