//! Which entries a status lists. Pure.
//!
//! Invariant: at most 500 entries and at most 512 KiB; those that need attention first, then by workload.

use super::Entry;
use crate::policy::types::{Summary, WorkloadStatus};
use crate::workload::WorkloadId;
use std::collections::BTreeMap;

const MOST_ENTRIES: usize = 500;
const MOST_BYTES: usize = 512 << 10;

/// The list and the counts over all entries.
pub(super) fn list(entries: &BTreeMap<WorkloadId, Entry>) -> (Vec<WorkloadStatus>, Summary) {
    let mut order: Vec<&Entry> = entries.values().collect();
    order.sort_by_key(|entry| rank(entry));
    let (mut listed, mut bytes) = (Vec::new(), 0);
    for entry in order {
        bytes += serde_json::to_vec(&entry.status).map_or(MOST_BYTES, |json| json.len() + 1);
        if listed.len() == MOST_ENTRIES || bytes > MOST_BYTES {
            break;
        }
        listed.push(entry.status.clone());
    }
    let with = |status: &str| count(entries.values().filter(|entry| entry.status.status == status).count());
    let summary = Summary {
        workloads: count(entries.len()),
        updated: with("Applied"),
        skipped: with("Skipped"),
        pending: with("Applying"),
        omitted: count(entries.len() - listed.len()),
    };
    (listed, summary)
}

/// What a restart must not forget comes before what can be computed again.
fn rank(entry: &Entry) -> u8 {
    match entry {
        Entry { attention: true, .. } => 0,
        // Whoever forgets it makes the same change again.
        Entry { status, .. } if status.rolled_back.is_some() => 0,
        Entry { status, .. } if status.status == "Applying" => 1,
        Entry { status, .. } if !status.target.is_empty() || !status.oom_kills.is_empty() => 2,
        _ => 3,
    }
}

fn count(workloads: usize) -> i32 {
    i32::try_from(workloads).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    fn entries(n: usize, explanation: usize) -> BTreeMap<WorkloadId, Entry> {
        let one = |i: usize| {
            let id = WorkloadId { namespace: "ns".into(), kind: WorkloadKind::Deployment, name: format!("w{i:04}") };
            let mut entry = Entry::new(&id);
            entry.status.message = Some("x".repeat(explanation));
            entry.status.status = "Skipped".into();
            entry.attention = i == n - 1;
            (id, entry)
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn what_needs_attention_is_listed_first_and_the_rest_is_counted() {
        let (listed, summary) = list(&entries(700, 10));
        assert_eq!((listed.len(), listed[0].name.as_str(), listed[1].name.as_str()), (500, "w0699", "w0000"));
        assert_eq!((summary.workloads, summary.skipped, summary.omitted), (700, 700, 200));
    }

    #[test]
    fn the_list_stays_below_its_size_in_bytes() {
        let (listed, summary) = list(&entries(400, 4000));
        assert!(serde_json::to_vec(&listed).unwrap().len() <= MOST_BYTES);
        assert!(listed.len() > 100 && summary.omitted == 400 - i32::try_from(listed.len()).unwrap());
    }
}
