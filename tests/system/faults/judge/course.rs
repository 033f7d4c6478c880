//! What must hold from one change of a workload to the next: cooldown, steps, batches, budgets; that a rollback gives back
//! what was there, once.

use super::Write;
use super::amounts::{Key, Sizes, listed};
use super::change::given;
use super::known::{Known, Why, bounds};
use super::told::Said;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What was done to one workload: this one, not another of its name.
#[derive(Debug, Default)]
struct Past {
    uid: String,
    /// The last size that was not only announced.
    last: Option<Said>,
    last_write_ms: u64,
    /// Requests that were raised.
    raised: BTreeSet<Key>,
    /// What stood there at some time: in its pods or its template as a write of ours arrived, or by one.
    earlier: BTreeSet<(Key, u64)>,
    /// Pods that got the last size.
    sized: BTreeSet<String>,
    /// The sizes that were taken back, and what got its requests back for each.
    taken_back: Vec<(Sizes, BTreeSet<String>)>,
}

#[derive(Debug)]
pub struct Course {
    past: BTreeMap<String, Past>,
    /// When a new size began, under which policy, by which announcement.
    starts: Vec<(u64, String, u64)>,
    /// Milliseconds that readings of wall clocks may differ by.
    apart: u64,
}

/// Times in statuses have whole seconds.
const ROUNDING: u64 = 1000;

fn milliseconds(duration: &Value) -> u64 {
    let text = duration.as_str().unwrap_or("30m");
    let (number, unit) = text.split_at(text.len() - 1);
    let factor = if unit == "m" { 60_000 } else { 1000 };
    number.parse::<u64>().unwrap() * factor
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

impl Course {
    pub fn new(clocks_apart: u64) -> Self {
        Self { past: BTreeMap::new(), starts: Vec::new(), apart: clocks_apart * 1000 }
    }

    /// Whether a container of the workload requested this at some time.
    pub fn stood_before(&self, app: &str, key: &Key, amount: u64) -> bool {
        self.past.get(app).is_some_and(|past| past.earlier.contains(&(key.clone(), amount)))
    }

    /// A write back: only what stood there before, and each object once.
    pub fn rollback(
        &mut self,
        write: Write<'_>,
        app: &str,
        said: &Said,
        (before, after): (&Value, &Value),
    ) -> Vec<String> {
        let object = uid(before);
        let (was, is) = (listed(write.containers(before), "requests"), listed(write.containers(after), "requests"));
        let mut wrong = Vec::new();
        for (key, now) in given(&was, &is) {
            if !self.stood_before(app, &key, now) {
                wrong.push(format!("{key:?} became {now}, which it never was before"));
            }
        }
        let Some(past) = self.past.get_mut(app) else { return wrong };
        let known = past.taken_back.iter_mut().find(|(failed, _)| *failed == said.failed);
        match known {
            Some((failed, done)) => {
                let again = past.last.as_ref().is_some_and(|last| last.cause == "Recommend");
                if !done.insert(object) || again {
                    wrong.push(format!("{failed:?} of {app} is taken back a second time"));
                }
            }
            None => past.taken_back.push((said.failed.clone(), BTreeSet::from([object]))),
        }
        wrong
    }

    /// Takes in a write that was carried out; `pods` are the workload's as it arrived.
    pub fn take(
        &mut self,
        write: Write<'_>,
        app: &str,
        said: &Said,
        before: &Value,
        pods: &[&Value],
        known: &Known<'_>,
    ) -> Vec<(&'static str, String)> {
        let at_ms = write.entry.at_ms;
        let past = self.past.entry(app.to_owned()).or_default();
        if past.uid != said.uid {
            *past = Past { uid: said.uid.clone(), ..Past::default() };
        }
        let mut wrong = Vec::new();
        // What is left of a size decided before is none of its own.
        let is_new = past.last.as_ref().is_none_or(|last| {
            last.cause != said.cause || said.target.iter().any(|(key, size)| last.target.get(key) != Some(size))
        });
        if is_new && said.cause == "Recommend" {
            let specs = known.specs(&said.policy, said.at_ms);
            let least = of_pods(pods, listed(write.containers(before), "requests"), u64::min);
            wrong.extend(past.step(said, &least, &specs));
            wrong.extend(past.cooldown(at_ms, &specs, self.apart));
            if known.forbidden(&said.policy, app, Why::Stale, said.at_ms.saturating_sub(self.apart)) {
                wrong.push(("fresh", format!("a new size for {app} while the newest sample is older than 10 minutes")));
            }
            self.starts.push((at_ms, said.policy.clone(), said.seq));
            let begun =
                self.starts.iter().filter(|(_, policy, seq)| (policy, *seq) == (&said.policy, said.seq)).count();
            let most = specs.iter().filter_map(|spec| spec["updateStrategy"]["maxUpdatesPerCycle"].as_u64()).max();
            if begun as u64 > most.unwrap_or(10) {
                wrong.push(("budget", format!("{begun} new sizes at once under {}", said.policy)));
            }
        } else if write.is_pod && said.cause == "Recommend" && !known.impaired_since(past.last_write_ms) {
            wrong.extend(past.batch(before, pods));
        }
        let template = known.workload(app).map(|object| &object["spec"]["template"]["spec"]["containers"]);
        let stood = pods.iter().map(|pod| &pod["spec"]["containers"]).chain(template);
        past.earlier.extend(stood.flat_map(|containers| listed(containers, "requests")));
        past.note(is_new, at_ms, said, write, before, pods);
        wrong
    }

    /// Over all policies no more sizes begin than the bucket of each process holds and refills to.
    pub fn rate(&self, per_minute: u64, processes: u64) -> Vec<String> {
        let over = self.starts.iter().filter_map(|(from, _, _)| {
            let within = self.starts.iter().filter(|(at, _, _)| at >= from && *at < from + 60_000).count() as u64;
            (within > per_minute * 2 * processes)
                .then(|| format!("{within} new sizes within a minute from {from} ms on"))
        });
        over.take(1).collect()
    }
}

/// The least or the most that pods request, or the object itself.
fn of_pods(pods: &[&Value], own: Sizes, of_two: fn(u64, u64) -> u64) -> Sizes {
    let mut found = own;
    for pod in pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
        for (key, amount) in listed(&pod["spec"]["containers"], "requests") {
            found.entry(key).and_modify(|found| *found = of_two(*found, amount)).or_insert(amount);
        }
    }
    found
}

impl Past {
    /// A step down is `maxDecreasePercent` at most, and not within a day of a step up.
    fn step(&self, said: &Said, least: &Sizes, specs: &[&Value]) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let decrease = specs.iter().filter_map(|spec| spec["updateStrategy"]["maxDecreasePercent"].as_u64()).max();
        for (key, new) in &said.target {
            let target = self.last.as_ref().and_then(|last| last.target.get(key)).copied();
            let lowest = target.into_iter().chain(least.get(key).copied()).min().unwrap_or(0);
            let most = specs.iter().map(|spec| bounds(spec, key.1).1).min().unwrap_or(u64::MAX);
            let kept = lowest * (100 - decrease.unwrap_or(50)) / 100;
            if *new < kept.min(most) {
                wrong.push(("step", format!("{key:?} goes from {lowest} to {new}, below {kept}")));
            }
            let lowered = target.is_some_and(|target| *new < target && target <= most);
            if lowered && self.raised.contains(key) {
                wrong.push(("raised", format!("{key:?} was raised within the day and goes from {target:?} to {new}")));
            }
        }
        wrong
    }

    fn cooldown(&self, at_ms: u64, specs: &[&Value], apart: u64) -> Option<(&'static str, String)> {
        let cooldown = specs.iter().map(|spec| milliseconds(&spec["updateStrategy"]["cooldown"])).min()?;
        let after = at_ms.saturating_sub(self.last_write_ms);
        let kept = self.last.is_none() || after + ROUNDING + apart >= cooldown;
        (!kept)
            .then(|| ("cooldown", format!("a new size {after} ms after the last write, the cooldown is {cooldown} ms")))
    }

    /// The batch before is actuated before the next one begins.
    fn batch(&self, before: &Value, pods: &[&Value]) -> Option<(&'static str, String)> {
        let waiting = pods.iter().find(|pod| {
            let is_other = uid(pod) != uid(before);
            is_other
                && self.sized.contains(&uid(pod))
                && pod["metadata"]["deletionTimestamp"].is_null()
                && !actuated(pod)
        })?;
        Some(("batch", format!("the resize of {} is not actuated yet", waiting["metadata"]["name"])))
    }

    fn note(&mut self, is_new: bool, at_ms: u64, said: &Said, write: Write<'_>, before: &Value, pods: &[&Value]) {
        let was = listed(write.containers(before), "requests");
        // One pod may have less than the others: the size is a raise where all have less.
        let most = of_pods(pods, was.clone(), u64::max);
        if is_new {
            if said.cause == "Recommend" {
                for (key, new) in &said.target {
                    let target = self.last.as_ref().and_then(|last| last.target.get(key));
                    if target.max(most.get(key)).is_none_or(|before| new > before) {
                        self.raised.insert(key.clone());
                    }
                }
            }
            self.last = Some(said.clone());
            self.sized.clear();
        }
        self.earlier.extend(was);
        let given = write.entry.after.as_ref().map(|after| listed(write.containers(after), "requests"));
        self.earlier.extend(given.into_iter().flatten());
        self.last_write_ms = at_ms;
        self.sized.insert(uid(before));
    }
}

/// The kubelet reports what the spec says.
fn actuated(pod: &Value) -> bool {
    let wanted = listed(&pod["spec"]["containers"], "requests");
    let reported = listed(&pod["status"]["containerStatuses"], "requests");
    reported.iter().all(|(key, amount)| wanted.get(key) == Some(amount))
}
