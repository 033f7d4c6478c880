//! Judges a schedule by the double's journal alone, with a naive model of its own.
//!
//! [`known`]: what was true, and what a controller can know of it. [`told`]: what statuses announced. [`lease`]: who leads.
//! [`change`]: one write to a pod or template. [`course`]: what must hold from one change of a workload to the next.

mod amounts;
mod change;
mod course;
mod known;
mod lease;
mod told;

pub use amounts::millicores;

use super::played::Played;
use course::Course;
use known::{Known, acting};
use lease::Lease;
use optipod_sim::Entry;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use told::{Told, unexplained};

/// What must not be.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: &'static str,
    pub detail: String,
    /// The offending request, if it is one.
    pub entry: Option<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)?;
        self.entry.as_ref().map_or(Ok(()), |entry| write!(f, "\n    {entry}"))
    }
}

/// Everything that was wrong, and how many writes were judged by cause.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub writes: BTreeMap<String, u64>,
}

pub struct Judge<'a> {
    played: &'a Played,
    known: Known<'a>,
    told: Told,
    lease: Lease,
    course: Course,
    /// The last conflict at each path, by user: the journal's number and the time.
    conflicts: BTreeMap<(String, String), (u64, u64)>,
    verdict: Verdict,
}

/// One write that changes a pod or a template.
#[derive(Clone, Copy)]
pub struct Write<'e> {
    pub entry: &'e Entry,
    pub is_pod: bool,
}

impl<'e> Write<'e> {
    fn of(entry: &'e Entry) -> Option<Self> {
        let is_pod = entry.resource == "pods" && entry.subresource == "resize";
        let is_template = ["deployments", "statefulsets", "daemonsets"].contains(&entry.resource.as_str());
        (is_pod || is_template).then_some(Self { entry, is_pod })
    }

    /// The containers of an object as it was before or after.
    pub fn containers(self, object: &'e Value) -> &'e Value {
        let pointer = if self.is_pod { "/spec/containers" } else { "/spec/template/spec/containers" };
        object.pointer(pointer).unwrap_or(&Value::Null)
    }
}

/// Judges the whole of it.
pub fn judge(played: &Played) -> Verdict {
    let known = Known::new(&played.impairments, &played.pauses);
    let (told, lease, course) = (Told::default(), Lease::default(), Course::new(played.clocks_apart));
    let conflicts = BTreeMap::new();
    let mut judge = Judge { played, known, told, lease, course, conflicts, verdict: Verdict::default() };
    let mut snapshots = played.snapshots.iter().peekable();
    for entry in &played.journal {
        while let Some(snapshot) = snapshots.next_if(|snapshot| snapshot.seq <= entry.seq) {
            judge.known.take(snapshot);
        }
        judge.take(entry);
    }
    snapshots.for_each(|snapshot| judge.known.take(snapshot));
    judge.explained();
    judge.course.rate(played.per_minute, played.starts.len() as u64).into_iter().for_each(|detail| {
        judge.verdict.violations.push(Violation { rule: "budget", detail, entry: None });
    });
    judge.verdict
}

impl Judge<'_> {
    fn wrong(&mut self, rule: &'static str, detail: impl Into<String>, entry: &Entry) {
        let object = format!("{}/{} {}/{}", entry.resource, entry.subresource, entry.namespace, entry.name);
        let text = format!(
            "#{} at {}.{:03} s by {}: {} {object} -> {} {} {}",
            entry.seq,
            entry.at_ms / 1000,
            entry.at_ms % 1000,
            entry.user,
            entry.verb,
            entry.code,
            entry.fault,
            entry.body
        );
        self.verdict.violations.push(Violation { rule, detail: detail.into(), entry: Some(text) });
    }

    fn take(&mut self, entry: &Entry) {
        if !entry.is_write() || entry.group == "authorization.k8s.io" {
            return;
        }
        if entry.resource == "leases" {
            if let Some(wrong) = self.lease.take(entry) {
                self.wrong("lease", wrong, entry);
            }
            return;
        }
        if entry.user == "alice" {
            return self.undo(entry);
        }
        if self.played.is_elected
            && let Some(wrong) = self.lease.forbids(entry)
        {
            self.wrong("lease", wrong, entry);
        }
        match (entry.resource.as_str(), Write::of(entry)) {
            (_, Some(write)) => self.change(write),
            ("optimizationpolicies", None) if entry.subresource == "status" => self.status(entry),
            ("events", None) => {}
            _ => self.wrong(
                "scope",
                "nothing but pods, templates, statuses, events and the lease is ever written",
                entry,
            ),
        }
    }

    fn status(&mut self, entry: &Entry) {
        if entry.body["metadata"]["uid"].as_str().unwrap_or_default().is_empty() {
            self.wrong("precondition", "a status is sent without the policy's uid", entry);
        }
        if let (Some(before), Some(after)) = (&entry.before, &entry.after)
            && before["spec"] != after["spec"]
        {
            self.wrong("nothing else", "a status write changed the spec", entry);
        }
        self.told.take(entry, &self.known);
    }

    /// A person's `optipod restore`: whatever it sets stood there before OptiPod's changes.
    fn undo(&mut self, entry: &Entry) {
        let Some(write) = Write::of(entry) else { return };
        let (Some(before), Some(after)) = (&entry.before, &entry.after) else { return };
        *self.verdict.writes.entry("Undo".to_owned()).or_default() += 1;
        let (before, after) = (write.containers(before), write.containers(after));
        let (before, after) = (amounts::listed(before, "requests"), amounts::listed(after, "requests"));
        let app = Self::app(entry);
        let changed = after.iter().filter(|(key, amount)| before.get(key) != Some(amount));
        let strange: Vec<_> = changed.filter(|(key, amount)| !self.course.stood_before(&app, key, **amount)).collect();
        if !strange.is_empty() {
            self.wrong("undo", format!("{strange:?} was never there before"), entry);
        }
    }

    /// The workload that a write is about.
    fn app(entry: &Entry) -> String {
        let label = entry.before.as_ref().and_then(|before| before["metadata"]["labels"]["app"].as_str());
        let of_name = || entry.name.split('-').next().unwrap_or_default();
        label.unwrap_or_else(of_name).to_owned()
    }

    /// Two cycles after the last fault every workload's policy says what becomes of it.
    fn explained(&mut self) {
        let Some(last) = self.known.now else { return };
        let mut missing = BTreeSet::new();
        for workload in &last.workloads {
            let Some(policy) = acting(last, workload).filter(|policy| policy["spec"]["mode"] != "Disabled") else {
                continue;
            };
            let now = self.played.policies.iter().find(|now| known::name(now) == known::name(policy));
            let app = known::name(workload);
            missing.extend(now.and_then(|now| unexplained(now, app)).map(|what| format!("{app}: {what}")));
        }
        let found = missing.into_iter().map(|detail| Violation { rule: "explained", detail, entry: None });
        self.verdict.violations.extend(found);
    }
}

/// What differs between the ends of a schedule with and without its disturbances.
pub fn same_end(played: &Played, undisturbed: &Played) -> Vec<Violation> {
    let mut violations = Vec::new();
    let apps: BTreeSet<&String> = played.end.keys().chain(undisturbed.end.keys()).collect();
    for app in apps {
        let of = |played: &Played| {
            let all = played.end.get(app).cloned().unwrap_or_default();
            let (template, pods) =
                all.split_first().map(|(first, rest)| (first.clone(), rest.to_vec())).unwrap_or_default();
            let pods: BTreeSet<String> = pods.iter().map(ToString::to_string).collect();
            (template, pods)
        };
        let (with, without) = (of(played), of(undisturbed));
        if with != without {
            let detail = format!("{app} ends as {with:?}, without faults as {without:?}");
            violations.push(Violation { rule: "same end", detail, entry: None });
        }
    }
    violations
}
