//! One write to a pod or template.

use super::super::stage::is_held;
use super::amounts::{Key, Resource, Sizes, listed, qos};
use super::known::{Why, bounds};
use super::told::Said;
use super::{Judge, Write};
use optipod_sim::Entry;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A conflict's repetition comes at once; another decision takes longer.
const AT_ONCE: u64 = 2000;

impl<'a> Judge<'a> {
    pub(super) fn change(&mut self, write: Write<'_>) {
        let entry = write.entry;
        if self.played.dry_run {
            self.wrong("dry-run", "a dry run changes nothing", entry);
        }
        let named = |field: &str| entry.body["metadata"][field].as_str().unwrap_or_default();
        if named("uid").is_empty() || named("resourceVersion").is_empty() {
            self.wrong(
                "precondition",
                "uid and resourceVersion of what was decided upon are sent with each change",
                entry,
            );
        }
        let app = Self::app(entry);
        let Some(said) = self.told.of(&app).cloned() else {
            return self.wrong("announced", format!("no status announced a change of {app}"), entry);
        };
        let pods = self.pods_at(entry, &app);
        for why in [Why::Brake, Why::Hold, Why::HeldPod, Why::Mode, Why::Scope] {
            let is_over = why == Why::HeldPod && !pods.iter().any(|pod| is_held(pod));
            if !is_over && self.known.forbidden(&said.policy, &app, why, entry.at_ms) {
                self.wrong("permitted", format!("{why:?} forbids a change of {app} by {}", said.policy), entry);
            }
        }
        self.heeds_conflicts(write);
        if entry.changed
            && let (Some(before), Some(after)) = (&entry.before, &entry.after)
        {
            *self.verdict.writes.entry(said.cause.clone()).or_default() += 1;
            self.carried_out(write, &app, &said, (before, after), &pods);
        }
    }

    /// The workload's pods as the write arrived.
    fn pods_at(&self, entry: &Entry, app: &str) -> Vec<&'a Value> {
        let witness =
            self.played.witnesses.iter().find(|witness| {
                (&witness.user, witness.at_ms) == (&entry.user, entry.at_ms) && witness.path == entry.path
            });
        let pods = witness.map(|witness| witness.pods.as_slice()).unwrap_or_default();
        pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).collect()
    }

    fn carried_out(
        &mut self,
        write: Write<'_>,
        app: &str,
        said: &Said,
        (before, after): (&Value, &Value),
        pods: &[&Value],
    ) {
        let entry = write.entry;
        let uid = self.known.workload(app).and_then(|object| object["metadata"]["uid"].as_str()).unwrap_or_default();
        if !uid.is_empty() && said.uid != uid {
            self.wrong("announced", format!("what was announced for an earlier {app} is done to this one"), entry);
        }
        if !write.is_pod && after["metadata"]["annotations"]["optipod.io/cause"] != said.cause.as_str() {
            self.wrong("announced", format!("the template's cause is not {}", said.cause), entry);
        }
        if else_changed(before, write) != else_changed(after, write) {
            self.wrong("nothing else", format!("{app} was changed in more than its requests and limits"), entry);
        }
        self.quality(write, (before, after));
        let found = match said.cause.as_str() {
            "Recommend" => self.recommended(write, app, said, (before, after)),
            "Rollback" => self.course.rollback(write, app, said, (before, after)),
            other => vec![format!("\"{other}\" is no cause")],
        };
        for detail in found {
            self.wrong(if said.cause == "Rollback" { "rollback" } else { "recommend" }, detail, entry);
        }
        let (known, course) = (&self.known, &mut self.course);
        let found = course.take(write, app, said, before, pods, known);
        for (rule, detail) in found {
            self.wrong(rule, detail, entry);
        }
    }

    /// Requests up to limits, and the QoS class by the method's rule.
    fn quality(&mut self, write: Write<'_>, (before, after): (&Value, &Value)) {
        let (before, after) = (write.containers(before), write.containers(after));
        let (requests, limits) = (listed(after, "requests"), listed(after, "limits"));
        let above = requests.iter().filter(|(key, request)| limits.get(key).is_some_and(|limit| limit < request));
        let above: Vec<&Key> = above.map(|(key, _)| key).collect();
        if !above.is_empty() {
            self.wrong("limit", format!("{above:?} requests more than its limit"), write.entry);
        }
        let (was, is) = (qos(before), qos(after));
        if was != is && (write.is_pod || was == "Guaranteed") {
            self.wrong("qos", format!("{was} became {is}"), write.entry);
        }
    }

    fn recommended(&self, write: Write<'_>, app: &str, said: &Said, (before, after): (&Value, &Value)) -> Vec<String> {
        let at_ms = write.entry.at_ms;
        let specs = self.known.specs(&said.policy, at_ms);
        let (before, after) = (write.containers(before), write.containers(after));
        let (was, is) = (listed(before, "requests"), listed(after, "requests"));
        let (limit_was, limits) = (listed(before, "limits"), listed(after, "limits"));
        let mut wrong = Vec::new();
        if limits != limit_was && !specs.iter().any(|spec| spec["updateStrategy"]["updateRequestsOnly"] == false) {
            wrong.push(format!("limits went from {limit_was:?} to {limits:?}"));
        }
        for (key, now) in is.iter().filter(|(key, now)| was.get(key) != Some(now)) {
            let limit = limits.get(key).copied().unwrap_or(u64::MAX);
            let promised = said.target.get(key).map(|target| (*target).min(limit));
            if promised != Some(*now) {
                wrong.push(format!("{key:?} became {now}, announced was {:?}", said.target.get(key)));
            }
            let lowered = was.get(key).is_some_and(|was| now < was);
            wrong.extend(self.resource(key, *now, limit, lowered, said, &specs));
            if key.1 == Resource::Cpu && self.known.forbidden(&said.policy, app, Why::Autoscaler, at_ms) {
                wrong.push(format!("{key:?} is scaled upon"));
            }
        }
        let gone: BTreeSet<&Key> = was.keys().filter(|key| !is.contains_key(*key)).collect();
        if !gone.is_empty() {
            wrong.push(format!("{gone:?} lost their requests"));
        }
        wrong
    }

    /// One request within the bounds, not below the peak, in a direction that is allowed.
    fn resource(&self, key: &Key, now: u64, limit: u64, lowered: bool, said: &Said, specs: &[&Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        let within = |spec: &&Value| {
            let (least, most) = bounds(spec, key.1);
            now >= least.min(limit) && now <= most
        };
        if !specs.iter().any(within) {
            let all: Vec<_> = specs.iter().map(|spec| bounds(spec, key.1)).collect();
            wrong.push(format!("{key:?} became {now}, outside of {all:?}"));
        }
        let floored = specs.iter().all(|spec| spec["metricsConfig"]["memoryFloor"] != "None");
        if key.1 == Resource::Memory && lowered && floored {
            // The bounds of when it was decided: they win over the peak.
            let decided = self.known.specs(&said.policy, said.at_ms);
            let most = decided.iter().chain(specs).map(|spec| bounds(spec, key.1).1).min().unwrap_or(u64::MAX);
            let peak = self.known.peak(&key.0, said.at_ms).min(most);
            if now < peak {
                wrong.push(format!("{key:?} became {now}, below the observed peak {peak}"));
            }
        }
        let against = if lowered { "IncreaseOnly" } else { "DecreaseOnly" };
        if !specs.is_empty() && specs.iter().all(|spec| spec["updateStrategy"]["direction"] == against) {
            wrong.push(format!("{key:?} became {now}, which {against} forbids"));
        }
        wrong
    }

    /// A write that met a change by somebody else is not repeated upon it unseen.
    fn heeds_conflicts(&mut self, write: Write<'_>) {
        let entry = write.entry;
        let place = (entry.user.clone(), entry.path.clone());
        if entry.code == 409 {
            self.conflicts.insert(place, (entry.seq, entry.at_ms));
            return;
        }
        let Some((seq, at_ms)) = self.conflicts.remove(&place) else { return };
        let object = format!("{}/{}", entry.namespace, entry.name);
        let meddled = self.played.snapshots.iter().any(|snapshot| {
            let just_now = snapshot.seq <= seq && snapshot.at_ms + AT_ONCE >= at_ms;
            just_now && snapshot.what == format!("Resize of {object}")
        });
        if meddled && entry.changed && entry.at_ms < at_ms + AT_ONCE {
            self.wrong("conflict", "what somebody changed a moment before was written over unseen", entry);
        }
    }
}

/// An object without what a change may change.
fn else_changed(object: &Value, write: Write<'_>) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    for field in ["managedFields", "resourceVersion", "generation"] {
        metadata[field] = Value::Null;
    }
    let notes = metadata["annotations"].as_object().cloned().unwrap_or_default();
    let others: serde_json::Map<_, _> = notes.into_iter().filter(|(key, _)| !key.starts_with("optipod.io/")).collect();
    metadata["annotations"] = Value::Object(others);
    let containers = if write.is_pod { "/spec/containers" } else { "/spec/template/spec/containers" };
    for container in object.pointer_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
        container["resources"]["requests"] = json!({});
        container["resources"]["limits"] = json!({});
    }
    if write.is_pod {
        // The kubelet's part is told beside it: which generation it has seen.
        object["status"] = Value::Null;
    }
    object
}

/// What a write gives that was not so before.
pub(super) fn given(before: &Sizes, after: &Sizes) -> Vec<(Key, u64)> {
    after.iter().filter(|(key, now)| before.get(*key) != Some(*now)).map(|(key, now)| (key.clone(), *now)).collect()
}
