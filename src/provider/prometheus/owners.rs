//! From a pod to its workload, also when both are long gone. Pure.
//!
//! kube-state-metrics tells it (`kube_pod_owner`, `kube_replicaset_owner`, `kube_job_owner`); of a pod that it does not
//! know, the name must do. Invariant: what kube-state-metrics says is never overruled by a name.

use super::answer::{Answer, Series};
use super::names::{candidates, is_cut_name_of};
use super::promql::pods_like;
use crate::workload::{WorkloadId, WorkloadKind};
use std::collections::{BTreeMap, HashMap};

/// Patterns of pods are given up for all pods of the namespace when they would be longer than this.
const LONGEST_PATTERN: usize = 4000;

/// Prefixes in patterns are cut to this, so that pods match whose generated names are cut.
const LONGEST_PREFIX: usize = 40;

/// How a pod's workload was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// kube-state-metrics names it.
    Metrics,
    /// The pod's name looks like one of its pods'.
    Name,
}

type Owner = (WorkloadKind, String);

/// What kube-state-metrics tells of one namespace.
#[derive(Default, Debug)]
pub struct Owners {
    /// Pods, each with its controller; itself where that is none of our kinds.
    pods: HashMap<String, Owner>,
    /// Replicasets with their deployment, if there is one.
    replicasets: HashMap<String, Option<String>>,
    /// Jobs with their cronjob, if there is one.
    jobs: HashMap<String, Option<String>>,
}

impl Owners {
    /// Takes in what the three questions about owners gave.
    pub fn new(pods: &Answer<'_>, replicasets: &Answer<'_>, jobs: &Answer<'_>) -> Self {
        let parents = |answer: &Answer<'_>, label: &str, kind: WorkloadKind| {
            let parent = |series: &Series<'_>| {
                let is_owned = series.label("owner_kind") == kind.as_str();
                (series.label(label).to_owned(), is_owned.then(|| series.label("owner_name").to_owned()))
            };
            answer.series.iter().map(parent).collect()
        };
        Self {
            pods: pods.series.iter().map(|series| (series.label("pod").to_owned(), controller(series))).collect(),
            replicasets: parents(replicasets, "replicaset", WorkloadKind::Deployment),
            jobs: parents(jobs, "job_name", WorkloadKind::CronJob),
        }
    }

    /// The workload of a pod, where it is known.
    pub fn of(&self, pod: &str) -> Option<(WorkloadKind, &str)> {
        let (kind, name) = self.pods.get(pod)?;
        let (parents, above) = match kind {
            WorkloadKind::ReplicaSet => (&self.replicasets, WorkloadKind::Deployment),
            WorkloadKind::Job => (&self.jobs, WorkloadKind::CronJob),
            kind => return Some((*kind, name)),
        };
        match parents.get(name)? {
            Some(parent) => Some((above, parent)),
            None => Some((*kind, name)),
        }
    }

    fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }
}

/// The kinds of `WorkloadKind` are told by name only: the metric does not name the API group.
fn controller(series: &Series<'_>) -> Owner {
    let kind = WorkloadKind::ALL.into_iter().find(|kind| kind.as_str() == series.label("owner_kind"));
    match kind {
        Some(kind) => (kind, series.label("owner_name").to_owned()),
        None => (WorkloadKind::Pod, series.label("pod").to_owned()),
    }
}

/// The workloads of a namespace that somebody asks about.
#[derive(Debug)]
pub struct Wanted<'a>(BTreeMap<(WorkloadKind, &'a str), &'a WorkloadId>);

impl<'a> Wanted<'a> {
    /// These, all of one namespace.
    pub fn new(workloads: impl IntoIterator<Item = &'a WorkloadId>) -> Self {
        Self(workloads.into_iter().map(|id| ((id.kind, id.name.as_str()), id)).collect())
    }

    /// Which of them a pod belongs to.
    pub fn workload_of(&self, owners: &Owners, pod: &str) -> Option<(&'a WorkloadId, Source)> {
        match owners.of(pod) {
            Some((kind, name)) => self.0.get(&(kind, name)).map(|id| (*id, Source::Metrics)),
            None => self.by_name(pod).map(|id| (id, Source::Name)),
        }
    }

    /// The one with the longest name of those that could have made this name.
    fn by_name(&self, pod: &str) -> Option<&'a WorkloadId> {
        let fitting = candidates(pod).into_iter().filter_map(|(kind, name)| self.0.get(&(kind, name)).copied());
        let whole = fitting.max_by_key(|id| (id.name.len(), std::cmp::Reverse(id.kind)));
        whole.or_else(|| self.0.values().copied().filter(|id| is_cut_name_of(pod, id)).max_by_key(|id| id.name.len()))
    }

    /// A regular expression for pods among which all pods of these workloads are; `None` where all pods are as good.
    pub fn pattern(&self, owners: &Owners) -> Option<String> {
        let prefixes: Vec<&str> = self.0.values().map(|id| id.name.get(..LONGEST_PREFIX).unwrap_or(&id.name)).collect();
        if prefixes.iter().map(|prefix| prefix.len() + 3).sum::<usize>() > LONGEST_PATTERN {
            return None;
        }
        let is_strange = |pod: &&str| {
            let (pod, is_wanted) = (*pod, self.workload_of(owners, pod).is_some());
            is_wanted && !prefixes.iter().any(|prefix| pod.starts_with(prefix))
        };
        let mut strange: Vec<&str> = owners.pods().filter(is_strange).collect();
        strange.sort_unstable();
        let pattern = pods_like(prefixes.iter().copied(), strange);
        (pattern.len() <= LONGEST_PATTERN).then_some(pattern)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::super::answer;
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> WorkloadId {
        let (kind, name) = text.split_once('/').unwrap();
        WorkloadId { namespace: "ns".into(), kind: kind.parse().unwrap(), name: name.into() }
    }

    fn vector(series: &[&[(&str, &str)]]) -> Vec<u8> {
        let one = |labels: &&[(&str, &str)]| {
            let labels: BTreeMap<_, _> = labels.iter().copied().collect();
            serde_json::json!({"metric": labels, "value": [1, "1"]})
        };
        let result: Vec<_> = series.iter().map(one).collect();
        serde_json::json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string().into()
    }

    fn owners() -> Owners {
        let pod = |pod, kind, name| [("pod", pod), ("owner_kind", kind), ("owner_name", name)];
        let pods = [
            pod("web-5d-b", "ReplicaSet", "web-5d"),
            pod("alone-b", "ReplicaSet", "alone"),
            pod("lost-5d-bcdfg", "ReplicaSet", "lost-5d"),
            pod("nightly-1-b", "Job", "nightly-1"),
            pod("once-b", "Job", "once"),
            pod("db-0", "StatefulSet", "db"),
            pod("bare", "<none>", "<none>"),
            pod("static-node-1", "Node", "node-1"),
            pod("strange", "StatefulSet", "web"),
        ];
        let pods = vector(&pods.iter().map(|labels| &labels[..]).collect::<Vec<_>>());
        let replicasets = vector(&[
            &[("replicaset", "web-5d"), ("owner_kind", "Deployment"), ("owner_name", "web")],
            &[("replicaset", "alone"), ("owner_kind", "<none>"), ("owner_name", "<none>")],
        ]);
        let jobs = vector(&[
            &[("job_name", "nightly-1"), ("owner_kind", "CronJob"), ("owner_name", "nightly")],
            &[("job_name", "once"), ("owner_kind", ""), ("owner_name", "")],
        ]);
        let read = |body| answer::read(body).unwrap();
        Owners::new(&read(&pods), &read(&replicasets), &read(&jobs))
    }

    #[test]
    fn kube_state_metrics_leads_to_the_topmost_controller() {
        let owners = owners();
        for (pod, expected) in [
            ("web-5d-b", Some("Deployment/web")),
            ("alone-b", Some("ReplicaSet/alone")),
            ("lost-5d-bcdfg", None),
            ("nightly-1-b", Some("CronJob/nightly")),
            ("once-b", Some("Job/once")),
            ("db-0", Some("StatefulSet/db")),
            ("bare", Some("Pod/bare")),
            ("static-node-1", Some("Pod/static-node-1")),
            ("unknown", None),
        ] {
            let found = owners.of(pod).map(|(kind, name)| format!("{kind}/{name}"));
            assert_eq!(found.as_deref(), expected, "{pod}");
        }
    }

    #[test]
    fn names_tell_workloads_of_pods_that_nothing_else_tells() {
        let long = "a-deployment-whose-name-is-so-long-that-its-pods-names-are-cut"; // 62 letters
        let ids: Vec<WorkloadId> = [
            "Deployment/web",
            "Deployment/web-api",
            "StatefulSet/db",
            "DaemonSet/agent",
            "Job/once",
            "CronJob/nightly",
            "ReplicaSet/alone",
            "Pod/bare",
            &format!("Deployment/{long}"),
        ]
        .map(id)
        .to_vec();
        let wanted = Wanted::new(&ids);
        let cut = format!("{}bcdfg", &long[..58]);
        for (pod, expected) in [
            ("web-6d4cf56db6-x2x45", Some("Deployment/web")),
            ("web-api-6d4cf56db6-x2x45", Some("Deployment/web-api")),
            ("web-hook-6d4cf56db6-x2x45", None),
            ("web-6d4cf56db6-x2x4", None),
            ("web-6d4cf56db6-x2xa5", None),
            ("db-0", Some("StatefulSet/db")),
            ("db-11", Some("StatefulSet/db")),
            ("db-x", None),
            ("agent-x2x45", Some("DaemonSet/agent")),
            ("once-x2x45", Some("Job/once")),
            ("once-3-x2x45", Some("Job/once")),
            ("nightly-29389920-x2x45", Some("CronJob/nightly")),
            ("nightly-29389920-0-x2x45", Some("CronJob/nightly")),
            ("nightly-2938-x2x45", None),
            ("alone-x2x45", Some("ReplicaSet/alone")),
            ("bare", Some("Pod/bare")),
            (&cut, Some(&format!("Deployment/{long}"))),
            ("", None),
        ] {
            let found = wanted.workload_of(&Owners::default(), pod);
            let found = found.map(|(id, source)| {
                assert_eq!(source, Source::Name);
                format!("{}/{}", id.kind, id.name)
            });
            assert_eq!(found.as_deref(), expected, "{pod}");
        }
    }

    #[test]
    fn what_kube_state_metrics_says_is_not_overruled_by_a_name() {
        let (owners, ids) = (owners(), [id("Deployment/static-node"), id("Deployment/lost"), id("StatefulSet/web")]);
        let wanted = Wanted::new(&ids);
        assert_eq!(wanted.workload_of(&owners, "static-node-1"), None);
        assert_eq!(wanted.workload_of(&owners, "strange"), Some((&ids[2], Source::Metrics)));
        assert_eq!(wanted.workload_of(&owners, "lost-5d-bcdfg"), Some((&ids[1], Source::Name)));
    }

    #[test]
    fn the_pattern_takes_pods_by_their_beginning_and_strangers_by_name() {
        let ids = [id("StatefulSet/web"), id("Deployment/a.b")];
        assert_eq!(Wanted::new(&ids).pattern(&owners()).as_deref(), Some(r"a\.b.*|web.*|strange"));
        let many: Vec<_> = (0..1000).map(|n| id(&format!("Deployment/web-{n}"))).collect();
        assert_eq!(Wanted::new(&many).pattern(&owners()), None);
    }

    proptest! {
        #[test]
        fn generated_names_lead_back(
            name in "[a-z]([a-z0-9-]{0,60}[a-z0-9])?", hash in "[bcdfghjklmnpqrstvwxz2456789]{1,10}",
            random in "[bcdfghjklmnpqrstvwxz2456789]{5}", index in 0u32..1000, minutes in 20_000_000u32..40_000_000
        ) {
            let generated = |base: String| format!("{}{random}", &base[..base.len().min(58)]);
            for (kind, pod) in [
                ("Deployment", generated(format!("{name}-{hash}-"))),
                ("StatefulSet", format!("{name}-{index}")),
                ("DaemonSet", generated(format!("{name}-"))),
                ("Job", generated(format!("{name}-"))),
                ("Job", generated(format!("{name}-{index}-"))),
                ("CronJob", generated(format!("{name}-{minutes}-"))),
                ("Pod", name.clone()),
            ] {
                let ids = [id(&format!("{kind}/{name}"))];
                let wanted = Wanted::new(&ids);
                prop_assert_eq!(wanted.workload_of(&Owners::default(), &pod), Some((&ids[0], Source::Name)), "{}", pod);
                let pattern = regex::Regex::new(&format!("^(?:{})$", wanted.pattern(&Owners::default()).unwrap())).unwrap();
                prop_assert!(pattern.is_match(&pod), "{}", pod);
            }
        }
    }
}
