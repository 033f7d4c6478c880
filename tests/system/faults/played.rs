//! What came of a schedule: the journal, what was true when, and how it ended.

use super::stage::{Snapshot, Witness};
use optipod_sim::Entry;
use serde_json::Value;
use std::collections::BTreeMap;

/// For so long watches tell late, or may tell nothing.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_field_names)] // the unit is part of each name
pub struct Impairment {
    pub from_ms: u64,
    pub until_ms: u64,
    /// They do tell, this much later.
    pub lag_ms: Option<u64>,
}

/// What came of a schedule.
pub struct Played {
    pub journal: Vec<Entry>,
    pub snapshots: Vec<Snapshot>,
    pub witnesses: Vec<Witness>,
    pub impairments: Vec<Impairment>,
    /// When some process stood still, in milliseconds.
    pub pauses: Vec<(u64, u64)>,
    /// When each process began: its user, and the journal's next number.
    pub starts: Vec<(String, u64)>,
    /// The furthest that two readings of wall clocks lie apart, in seconds.
    pub clocks_apart: u64,
    pub is_elected: bool,
    pub is_calm: bool,
    pub dry_run: bool,
    pub per_minute: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<String, u64>,
    /// What workloads and pods request in the end.
    pub end: BTreeMap<String, Vec<Value>>,
    /// The policies two cycles after the last disturbance, with their statuses.
    pub policies: Vec<Value>,
}

impl Played {
    /// What happened, a line each: what people and disturbances did to objects, and every write.
    pub fn story(&self) -> String {
        let acts = self.snapshots.iter().map(|snapshot| (snapshot.seq, snapshot.at_ms, snapshot.what.clone()));
        let writes = self.journal.iter().filter(|entry| entry.is_write() && entry.resource != "leases");
        let is_told = |entry: &&Entry| entry.resource != "events" && !entry.resource.ends_with("reviews");
        let writes = writes.filter(is_told);
        let line = |entry: &Entry| {
            let of_policy = entry.resource == "optimizationpolicies";
            let told = entry.body["status"]["workloads"].as_array().into_iter().flatten();
            let told: Vec<String> = told.map(summary).collect();
            let body = if of_policy { told.join(" ") } else { entry.body.to_string() };
            let what =
                format!("{} {}/{} -> {} {} {body}", entry.user, entry.resource, entry.name, entry.code, entry.fault);
            (entry.seq, entry.at_ms, what)
        };
        let mut lines: Vec<(u64, u64, String)> = acts.chain(writes.map(line)).collect();
        lines.sort_by_key(|(seq, at_ms, _)| (*at_ms, *seq));
        let lines = lines.iter().map(|(seq, at_ms, what)| format!("{:>9.3} #{seq} {what}\n", *at_ms as f64 / 1000.0));
        lines.collect()
    }
}

fn summary(workload: &Value) -> String {
    let text = |field: &str| workload[field].as_str().unwrap_or_default().to_owned();
    let target = workload["target"].to_string();
    format!(
        "[{} {} {} {} {} {target}]",
        text("name"),
        text("status"),
        text("reason"),
        text("cause"),
        text("lastApplied")
    )
}
