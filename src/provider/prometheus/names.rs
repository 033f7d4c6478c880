//! What the name of a pod says of its workload. Pure.
//!
//! Invariant: a name is only ever read as controllers of Kubernetes make them.

use crate::workload::{WorkloadId, WorkloadKind};

/// The letters of generated names (`k8s.io/apimachinery`, `util/rand`).
const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";

/// A generated name is cut to this before its five random letters are appended (`apiserver`, `storage/names`).
const LONGEST_BASE: usize = 58;

/// The workloads that could have made a pod of this name.
pub fn candidates(pod: &str) -> Vec<(WorkloadKind, &str)> {
    use WorkloadKind::{CronJob, DaemonSet, Deployment, Job, Pod, ReplicaSet, StatefulSet};
    let mut found = vec![(Pod, pod)];
    let Some((base, tail)) = pod.rsplit_once('-') else { return found };
    if is_number(tail) {
        found.push((StatefulSet, base));
    }
    if !is_random(tail, 5) {
        return found;
    }
    found.extend([(DaemonSet, base), (ReplicaSet, base), (Job, base)]);
    let Some((above, middle)) = base.rsplit_once('-') else { return found };
    if (1..=10).contains(&middle.len()) && is_random(middle, middle.len()) {
        found.push((Deployment, above));
    }
    if is_number(middle) {
        found.push((Job, above)); // of an indexed job, middle is the index
        let time = above.rsplit_once('-').filter(|(_, time)| is_time(time));
        found.extend(time.map(|(name, _)| (CronJob, name)));
    }
    if is_time(middle) {
        found.push((CronJob, above));
    }
    found
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A cronjob names its jobs after the minutes since 1970; once these were seconds.
fn is_time(text: &str) -> bool {
    (8..=10).contains(&text.len()) && is_number(text)
}

fn is_random(text: &str, length: usize) -> bool {
    text.len() == length && text.chars().all(|c| ALPHABET.contains(c))
}

/// Whether a pod's name was cut, and what is left of it begins like this workload's pods.
pub fn is_cut_name_of(pod: &str, id: &WorkloadId) -> bool {
    let Some((base, tail)) = pod.split_at_checked(LONGEST_BASE) else { return false };
    let has_random_name = !matches!(id.kind, WorkloadKind::Pod | WorkloadKind::StatefulSet);
    if !has_random_name || !is_random(tail, 5) {
        return false;
    }
    match base.strip_prefix(id.name.as_str()) {
        Some(rest) => rest.is_empty() || rest.strip_prefix('-').is_some_and(|hash| !hash.contains('-')),
        None => id.name.starts_with(base),
    }
}
