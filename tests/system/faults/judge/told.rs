//! What the policies' statuses announced before each change.

use super::amounts::{Sizes, told};
use super::known::Known;
use optipod_sim::Entry;
use serde_json::Value;
use std::collections::BTreeMap;

/// A size that a status announced for a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub seq: u64,
    pub at_ms: u64,
    pub policy: String,
    /// The workload's uid at that time.
    pub uid: String,
    pub cause: String,
    pub method: String,
    pub target: Sizes,
    /// What a rollback takes back.
    pub failed: Sizes,
}

/// The last announcement for each workload, by its name.
#[derive(Debug, Default)]
pub struct Told {
    said: BTreeMap<String, Said>,
}

impl Told {
    pub fn of(&self, app: &str) -> Option<&Said> {
        self.said.get(app)
    }

    /// Takes a status that was written.
    pub fn take(&mut self, entry: &Entry, known: &Known<'_>) {
        let Some(after) = entry.after.as_ref() else { return };
        for workload in after["status"]["workloads"].as_array().into_iter().flatten() {
            if workload["reason"] == "OverriddenBy" {
                continue;
            }
            let text = |field: &str| workload[field].as_str().unwrap_or_default().to_owned();
            let app = text("name");
            let target = told(&workload["target"]);
            if target.is_empty() && workload["lastApplied"].is_null() {
                self.said.retain(|name, said| *name != app || said.policy != entry.name);
                continue;
            }
            let uid = known.workload(&app).and_then(|object| object["metadata"]["uid"].as_str());
            let said = Said {
                seq: entry.seq,
                at_ms: entry.at_ms,
                policy: entry.name.clone(),
                uid: uid.unwrap_or_default().to_owned(),
                cause: text("cause"),
                method: text("method"),
                target,
                failed: told(&workload["rolledBack"]["size"]),
            };
            // The same once more for another workload of the name is an announcement of its own.
            let anew = |old: &Said| old.uid != said.uid && text("status") == "Applying";
            let same = |old: &Said| {
                (&old.target, &old.cause, &old.method) == (&said.target, &said.cause, &said.method) && !anew(old)
            };
            if !self.said.get(&app).is_some_and(same) {
                self.said.insert(app, said);
            }
        }
    }
}

/// Whether the last status of the workload's policy says what becomes of it: what is missing, if anything.
pub fn unexplained(policy: &Value, app: &str) -> Option<String> {
    let all = policy["status"]["workloads"].as_array();
    let Some(entry) = all.into_iter().flatten().find(|entry| entry["name"] == app) else {
        return Some("the status does not list it".to_owned());
    };
    let (status, reason) = (entry["status"].as_str().unwrap_or_default(), entry["reason"].as_str().unwrap_or_default());
    match status {
        "Applied" | "Published" | "Applying" => None,
        _ if !reason.is_empty() => None,
        _ => Some(format!("it is {status} without a reason")),
    }
}
