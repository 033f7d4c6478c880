//! Whether a workload's rollout is under way, by the rules of each kind.
//!
//! A pod that turns unready after its rollout was complete is no rollout: it may be in need of the very change we make.

use crate::decide::Rollout;
use k8s_openapi::api::apps::v1::{
    DaemonSetSpec, DaemonSetStatus, DeploymentSpec, DeploymentStatus, StatefulSetSpec, StatefulSetStatus,
};

fn progressing(progressing: bool) -> Rollout {
    if progressing { Rollout::Progressing } else { Rollout::Stable }
}

fn on_delete(pods: i32, updated: i32) -> Rollout {
    Rollout::OnDelete { outdated: u32::try_from(pods.saturating_sub(updated)).unwrap_or_default() }
}

fn unseen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or_default() < generation.unwrap_or_default()
}

/// As `kubectl rollout status`: all replicas updated, no old ones left, and available once.
pub(super) fn deployment(generation: Option<i64>, spec: &DeploymentSpec, status: Option<&DeploymentStatus>) -> Rollout {
    if spec.paused == Some(true) {
        return Rollout::Paused;
    }
    let Some(status) = status else { return Rollout::Progressing };
    if unseen(generation, status.observed_generation) {
        return Rollout::Progressing;
    }
    let wanted = spec.replicas.unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or_default();
    let complete =
        status.conditions.iter().flatten().any(|c| {
            c.type_.as_deref() == Some("Progressing") && c.reason.as_deref() == Some("NewReplicaSetAvailable")
        });
    let available = status.available_replicas.unwrap_or_default() >= wanted;
    progressing(updated < wanted || status.replicas.unwrap_or_default() > updated || !(available || complete))
}

/// With `OnDelete` nothing rolls by itself; with a partition only the pods above it do.
pub(super) fn stateful_set(
    generation: Option<i64>,
    spec: &StatefulSetSpec,
    status: Option<&StatefulSetStatus>,
) -> Rollout {
    let Some(status) = status else { return Rollout::Progressing };
    if unseen(generation, status.observed_generation) {
        return Rollout::Progressing;
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return on_delete(status.replicas, status.updated_replicas.unwrap_or_default());
    }
    let partition = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition).unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1) - partition;
    // The controller moves `currentRevision` on when the last updated pod is ready.
    let same_revision = status.update_revision.is_some() && status.current_revision == status.update_revision;
    let done =
        if partition > 0 { updated >= wanted } else { same_revision || updated >= wanted && all_ready(spec, status) };
    progressing(!done)
}

fn all_ready(spec: &StatefulSetSpec, status: &StatefulSetStatus) -> bool {
    status.ready_replicas.unwrap_or_default() >= spec.replicas.unwrap_or(1)
}

/// With `OnDelete` nothing rolls by itself.
pub(super) fn daemon_set(generation: Option<i64>, spec: &DaemonSetSpec, status: Option<&DaemonSetStatus>) -> Rollout {
    let Some(status) = status else { return Rollout::Progressing };
    if unseen(generation, status.observed_generation) {
        return Rollout::Progressing;
    }
    if spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        let updated = status.updated_number_scheduled.unwrap_or_default();
        return on_delete(status.desired_number_scheduled, updated);
    }
    progressing(status.updated_number_scheduled.unwrap_or_default() < status.desired_number_scheduled)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of_deployment(spec: Value, status: Value) -> Rollout {
        let mut whole = json!({"selector": {}, "template": {}, "replicas": 2});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        deployment(Some(2), &serde_json::from_value(whole).unwrap(), Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_deployment_rolls_until_all_replicas_are_updated_and_were_available() {
        let status = |observed: i64, replicas: i64, updated: i64, available: i64| json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available});
        assert_eq!(of_deployment(json!({}), status(2, 2, 2, 2)), Rollout::Stable);
        assert_eq!(of_deployment(json!({"paused": true}), status(2, 2, 2, 2)), Rollout::Paused);
        assert_eq!(of_deployment(json!({}), status(1, 2, 2, 2)), Rollout::Progressing, "not observed yet");
        assert_eq!(of_deployment(json!({}), status(2, 3, 2, 2)), Rollout::Progressing, "an old pod is left");
        assert_eq!(of_deployment(json!({}), status(2, 2, 2, 1)), Rollout::Progressing);
        let mut complete = status(2, 2, 2, 1);
        complete["conditions"] = json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
        assert_eq!(of_deployment(json!({}), complete), Rollout::Stable, "a pod broke after the rollout was complete");
        assert_eq!(of_deployment(json!({"replicas": 0}), json!({"observedGeneration": 2})), Rollout::Stable);
    }

    fn of_stateful_set(strategy: Value, status: Value) -> Rollout {
        let spec =
            json!({"selector": {}, "template": {}, "serviceName": "s", "replicas": 3, "updateStrategy": strategy});
        stateful_set(Some(1), &serde_json::from_value(spec).unwrap(), Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_stateful_set_rolls_down_to_its_partition() {
        let status = |updated: i64, current: &str| json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 2, "updatedReplicas": updated, "currentRevision": current, "updateRevision": "b"});
        assert_eq!(of_stateful_set(json!({}), status(1, "a")), Rollout::Progressing);
        assert_eq!(of_stateful_set(json!({}), status(3, "a")), Rollout::Progressing, "the last pod is not ready");
        assert_eq!(of_stateful_set(json!({}), status(3, "b")), Rollout::Stable);
        let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        assert_eq!(of_stateful_set(partition, status(1, "a")), Rollout::Stable);
        assert_eq!(of_stateful_set(json!({"type": "OnDelete"}), status(1, "a")), Rollout::OnDelete { outdated: 2 });
    }

    #[test]
    fn a_daemon_set_rolls_until_every_node_has_the_update() {
        let of = |strategy: &str, updated: i32| {
            let spec = json!({"selector": {}, "template": {}, "updateStrategy": {"type": strategy}});
            let status = json!({"observedGeneration": 1, "currentNumberScheduled": 3, "desiredNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3, "updatedNumberScheduled": updated});
            daemon_set(Some(1), &serde_json::from_value(spec).unwrap(), Some(&serde_json::from_value(status).unwrap()))
        };
        assert_eq!(of("RollingUpdate", 2), Rollout::Progressing);
        assert_eq!(of("RollingUpdate", 3), Rollout::Stable);
        assert_eq!(of("OnDelete", 1), Rollout::OnDelete { outdated: 2 });
        assert_eq!(of("OnDelete", 3), Rollout::OnDelete { outdated: 0 });
    }
}
