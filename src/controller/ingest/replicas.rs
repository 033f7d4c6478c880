//! How many pods a workload wants, and how its rollout replaces them.

use crate::decide::Replicas;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DaemonSetStatus, DeploymentSpec, StatefulSetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn count(number: Option<i32>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// A quarter each where a Deployment does not say, as the API server defaults it.
pub(super) fn deployment(spec: &DeploymentSpec) -> Replicas {
    let wanted = count(Some(spec.replicas.unwrap_or(1)));
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        return Replicas { wanted, surge: 0, may_miss: true };
    }
    let quarter = IntOrString::String("25%".to_owned());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = share(rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter), wanted, u64::div_ceil);
    let missing = share(rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter), wanted, |a, b| a / b);
    // Where rounding leaves neither, the controller takes one away first.
    Replicas { wanted, surge, may_miss: missing > 0 || surge == 0 }
}

/// Each pod goes before its successor comes.
pub(super) fn stateful_set(spec: &StatefulSetSpec) -> Replicas {
    Replicas { wanted: count(Some(spec.replicas.unwrap_or(1))), surge: 0, may_miss: true }
}

/// One pod a node; by default each goes before its successor comes.
pub(super) fn daemon_set(spec: &DaemonSetSpec, status: Option<&DaemonSetStatus>) -> Replicas {
    let wanted = count(status.map(|status| status.desired_number_scheduled));
    let rolling = spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
    let surge = rolling.and_then(|r| r.max_surge.as_ref()).map_or(0, |surge| share(surge, wanted, u64::div_ceil));
    Replicas { wanted, surge, may_miss: surge == 0 }
}

/// A number of pods, or a percentage of them.
fn share(of: &IntOrString, wanted: u64, rounded: impl Fn(u64, u64) -> u64) -> u64 {
    match of {
        IntOrString::Int(number) => count(Some(*number)),
        IntOrString::String(text) => {
            let percent: u64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(0);
            rounded(wanted.saturating_mul(percent), 100)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(replicas: u32, strategy: Value) -> (u64, bool) {
        let spec = json!({"selector": {}, "template": {}, "replicas": replicas, "strategy": strategy});
        let read = deployment(&serde_json::from_value(spec).unwrap());
        assert_eq!(read.wanted, u64::from(replicas));
        (read.surge, read.may_miss)
    }

    #[test]
    fn a_deployment_surges_by_a_share_rounded_up_and_misses_one_rounded_down() {
        assert_eq!(of(3, json!({})), (1, false), "25 % of three are one more, and none less");
        assert_eq!(of(5, json!({})), (2, true));
        assert_eq!(of(3, json!({"type": "Recreate"})), (0, true));
        assert_eq!(of(3, json!({"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}})), (2, false));
        assert_eq!(of(3, json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}})), (0, true));
    }
}
