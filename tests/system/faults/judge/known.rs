//! What was true in the cluster, from when on, and from when on a controller can be expected to know it.

use super::super::played::Impairment;
use super::super::stage::Snapshot;
use super::amounts::Resource;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Why a policy may not change a workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    Brake,
    Hold,
    /// One of its pods is held; it may be gone again without anybody having acted.
    HeldPod,
    /// The policy's mode is not Auto.
    Mode,
    /// The policy does not cover the workload, or another one takes precedence.
    Scope,
    /// An autoscaler reads the CPU request.
    Autoscaler,
    /// The newest sample is older than ten minutes.
    Stale,
}

/// Watches that fail are tried again after 30 seconds at the latest.
const RECOVERY: u64 = 60_000;
/// What is read as a cycle begins may have changed as its last write is sent.
const LONGEST_CYCLE: u64 = 120_000;

pub struct Known<'a> {
    impairments: &'a [Impairment],
    pauses: &'a [(u64, u64)],
    pub now: Option<&'a Snapshot>,
    since: BTreeMap<(String, String, Why), u64>,
    /// Each policy's specs, and from when on each was in force.
    specs: BTreeMap<String, Vec<(u64, &'a Value)>>,
    peaks: BTreeMap<String, Vec<(u64, u64)>>,
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn holds(object: &Value) -> bool {
    object["metadata"]["annotations"]["optipod.io/hold"].as_str().is_some_and(|hold| hold != "false")
}

fn contains(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(|one| one == wanted))
}

fn covers(policy: &Value, workload: &Value) -> bool {
    let selector = &policy["spec"]["selector"];
    let (namespaces, kinds) = (&selector["namespaces"], &selector["kinds"]);
    let namespace = text(workload, "/metadata/namespace");
    let allowed = namespaces["allow"].as_array().is_none_or(Vec::is_empty) || contains(&namespaces["allow"], namespace);
    let of_kind = kinds.is_null() || contains(kinds, text(workload, "/kind"));
    allowed && of_kind && !contains(&namespaces["deny"], namespace)
}

/// The policy that acts on a workload: the weightiest, then the oldest, then by name.
pub fn acting<'s>(snapshot: &'s Snapshot, workload: &Value) -> Option<&'s Value> {
    let rank = |policy: &&Value| {
        let weight = policy["spec"]["weight"].as_i64().unwrap_or(100);
        (-weight, text(policy, "/metadata/creationTimestamp").to_owned(), name(policy).to_owned())
    };
    snapshot.policies.iter().filter(|policy| covers(policy, workload)).min_by_key(rank)
}

fn forbids(snapshot: &Snapshot, policy: &Value, workload: &Value) -> BTreeSet<Why> {
    let (app, namespace) = (name(workload), text(workload, "/metadata/namespace"));
    let braked = snapshot.brake.as_ref().is_some_and(|brake| {
        let only = text(brake, "/data/namespaces");
        only.is_empty() || only == namespace
    });
    let held = holds(workload) || snapshot.namespaces.iter().any(|object| name(object) == namespace && holds(object));
    let acts = acting(snapshot, workload).is_some_and(|acting| name(acting) == name(policy));
    let scaled = snapshot.autoscalers.iter().any(|scaler| {
        let target = &scaler["spec"]["scaleTargetRef"];
        text(scaler, "/metadata/namespace") == namespace && target["name"] == app && target["kind"] == workload["kind"]
    });
    let reasons = [
        (Why::Brake, braked),
        (Why::Hold, held),
        (Why::HeldPod, snapshot.held_pods.iter().any(|held| held == app)),
        (Why::Mode, policy["spec"]["mode"] != "Auto"),
        (Why::Scope, !acts),
        (Why::Autoscaler, scaled),
        (Why::Stale, snapshot.age > 10),
    ];
    reasons.into_iter().filter_map(|(why, holds)| holds.then_some(why)).collect()
}

impl<'a> Known<'a> {
    pub fn new(impairments: &'a [Impairment], pauses: &'a [(u64, u64)]) -> Self {
        let (since, specs, peaks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { impairments, pauses, now: None, since, specs, peaks }
    }

    /// The cluster is like this from now on.
    pub fn take(&mut self, snapshot: &'a Snapshot) {
        let mut still = BTreeMap::new();
        for policy in &snapshot.policies {
            let specs = self.specs.entry(name(policy).to_owned()).or_default();
            if specs.last().is_none_or(|(_, spec)| **spec != policy["spec"]) {
                specs.push((snapshot.at_ms, &policy["spec"]));
            }
            for workload in &snapshot.workloads {
                for why in forbids(snapshot, policy, workload) {
                    let key = (name(policy).to_owned(), name(workload).to_owned(), why);
                    let from = self.since.get(&key).copied().unwrap_or(snapshot.at_ms);
                    still.insert(key, from);
                }
            }
        }
        self.since = still;
        for (container, peak) in snapshot.peaks.iter().filter(|_| !snapshot.is_silent) {
            let peaks = self.peaks.entry(container.clone()).or_default();
            if peaks.last().is_none_or(|(_, last)| last != peak) {
                peaks.push((snapshot.at_ms, *peak));
            }
        }
        self.now = Some(snapshot);
    }

    /// Whether the policy must have known by now that it may not, for this reason.
    pub fn forbidden(&self, policy: &str, app: &str, why: Why, at_ms: u64) -> bool {
        let since = self.since.get(&(policy.to_owned(), app.to_owned(), why));
        since.is_some_and(|since| self.heard_at(why, *since) < at_ms)
    }

    /// When what became true at `at` is known at the latest.
    fn heard_at(&self, why: Why, at: u64) -> u64 {
        let mut heard = at;
        // Who stood still begins to wait for a late delivery when it moves again.
        let moved = self.pauses.iter().filter(|(from, until)| *from <= at && at <= *until).map(|(_, until)| *until);
        let moved = moved.max().unwrap_or(at);
        // Twice: one may reach into another.
        for impairment in self.impairments.iter().chain(self.impairments) {
            if impairment.from_ms > heard.max(moved) || heard > impairment.until_ms + RECOVERY {
                continue;
            }
            match impairment.lag_ms {
                // What comes while a delivery waits waits for that one and then as long again.
                Some(lag) => heard = heard.max(moved + 2 * lag + 1000),
                // A brake that cannot be seen counts as on.
                None if why == Why::Brake => {}
                None => heard = heard.max(impairment.until_ms + RECOVERY),
            }
        }
        heard + if matches!(why, Why::Brake | Why::Hold | Why::HeldPod | Why::Mode) { 0 } else { LONGEST_CYCLE }
    }

    /// The policy's specs that a controller may go by at this moment, the latest last.
    pub fn specs(&self, policy: &str, at_ms: u64) -> Vec<&'a Value> {
        let all = self.specs.get(policy).map(Vec::as_slice).unwrap_or_default();
        let mut valid = Vec::new();
        for (index, (_, spec)) in all.iter().enumerate() {
            let replaced = all.get(index + 1).is_some_and(|(from, _)| self.heard_at(Why::Mode, *from) < at_ms);
            if !replaced {
                valid.push(*spec);
            }
        }
        valid
    }

    /// The least peak that may have been observed of a container as something was decided.
    pub fn peak(&self, container: &str, at_ms: u64) -> u64 {
        let all = self.peaks.get(container).map(Vec::as_slice).unwrap_or_default();
        let last = all.iter().rposition(|(from, _)| from + LONGEST_CYCLE <= at_ms).unwrap_or(0);
        all.iter().skip(last).map(|(_, peak)| *peak).min().unwrap_or(0)
    }

    pub fn workload(&self, app: &str) -> Option<&'a Value> {
        self.now?.workloads.iter().find(|workload| name(workload) == app)
    }

    /// Whether watches told late at some time since `from_ms`.
    pub fn impaired_since(&self, from_ms: u64) -> bool {
        self.impairments.iter().any(|impairment| impairment.until_ms + RECOVERY >= from_ms)
    }
}

/// Bounds of a spec: least and greatest.
pub fn bounds(spec: &Value, resource: Resource) -> (u64, u64) {
    let of = |end: &str| spec["resourceBounds"][resource.name()][end].as_str().and_then(|text| resource.parse(text));
    (of("min").unwrap_or(0), of("max").unwrap_or(u64::MAX))
}
