//! Our notes on workloads: the annotations that say what we wrote, what was there before, when and why. Pure.
//!
//! Invariant: what [`requests_json`] prints, [`parse_requests`] reads back.

use crate::decide::Size;
use crate::workload::{ContainerResources, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// On a namespace, workload or pod: leave it alone. Any value but `false` holds.
pub const HOLD: &str = "optipod.io/hold";
/// On a workload: the requests that we decided and applied to its template, JSON. Those that we left as they were are
/// not in it.
pub const REQUESTS: &str = "optipod.io/requests";
/// On a workload: the requests before that, JSON.
pub const PREVIOUS_REQUESTS: &str = "optipod.io/previous-requests";
/// On a workload: the requests before the first change of ours, JSON. A template that somebody has set since begins anew.
pub const ORIGINAL_REQUESTS: &str = "optipod.io/original-requests";
/// On a workload: why we wrote, `Recommend`, `Rollback` or `Undo`.
pub const CAUSE: &str = "optipod.io/cause";
/// On a workload: when we wrote, RFC 3339.
pub const CHANGED_AT: &str = "optipod.io/changed-at";

/// On a policy with `onDelete: Restore`: it stays until what it changed is put back.
pub const FINALIZER: &str = "optipod.io/restore";

/// Whether annotations ask us to leave the object alone.
pub(super) fn held(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|all| all.get(HOLD)).is_some_and(|value| value != "false")
}

#[derive(Serialize, Deserialize, Default)]
struct Pair {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
}

/// `{"web":{"cpu":"250m","memory":"128Mi"}}`
pub(super) fn requests_json(containers: &[ContainerResources]) -> String {
    let pairs: BTreeMap<&str, Pair> = containers
        .iter()
        .map(|c| {
            let pair =
                Pair { cpu: c.requests.cpu.map(|m| m.to_string()), memory: c.requests.memory.map(|b| b.to_string()) };
            (c.name.as_str(), pair)
        })
        .collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

/// Reads such a text; what cannot be read counts as not written by us.
pub(super) fn parse_requests(text: &str) -> Vec<Size> {
    let pairs: BTreeMap<String, Pair> = serde_json::from_str(text).unwrap_or_default();
    pairs
        .into_iter()
        .map(|(container, pair)| Size {
            container,
            requests: Resources {
                cpu: pair.cpu.and_then(|text| text.parse().ok()),
                memory: pair.memory.and_then(|text| text.parse().ok()),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Bytes, Millicores};

    #[test]
    fn what_we_note_we_read_back() {
        let requests = Resources { cpu: Some(Millicores(250)), memory: None };
        let containers = [ContainerResources {
            name: "web".into(),
            requests,
            limits: Resources { cpu: None, memory: Some(Bytes(1)) },
        }];
        let text = requests_json(&containers);
        assert_eq!(text, r#"{"web":{"cpu":"250m"}}"#);
        assert_eq!(parse_requests(&text), [Size { container: "web".into(), requests }]);
        assert!(parse_requests("nonsense").is_empty());
    }

    #[test]
    fn any_value_but_false_holds() {
        let with = |value: &str| held(Some(&BTreeMap::from([(HOLD.to_owned(), value.to_owned())])));
        assert!(with("true") && with("") && with("until friday") && !with("false") && !held(None));
    }
}
