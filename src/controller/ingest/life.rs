//! What the judgement of a change needs of a pod's status.

use crate::controller::kills::{Killed, PodMemory};
use crate::decide::{ContainerLife, Ended, PodLife};
use crate::quantity::Bytes;
use crate::recommend::OomKill;
use crate::workload::Resources;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// When a pod was created, and since when it is ready or not.
pub(super) fn pod(object: &Pod) -> PodLife {
    let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    let since = ready.and_then(|condition| condition.last_transition_time.as_ref()).map_or(created, |time| time.0);
    PodLife { created, since }
}

/// How a container of a pod has fared.
pub(super) fn container(status: Option<&PodStatus>, name: &str) -> ContainerLife {
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().find(|status| status.name == name).map(life).unwrap_or_default()
}

fn life(status: &ContainerStatus) -> ContainerLife {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    ContainerLife {
        restarts: u32::try_from(status.restart_count).unwrap_or_default(),
        backing_off: waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff")),
        ended: last_end(status),
    }
}

fn last_end(status: &ContainerStatus) -> Option<Ended> {
    let both = [&status.state, &status.last_state].into_iter().flatten();
    both.filter_map(|state| state.terminated.as_ref()).find_map(ended)
}

fn ended(end: &ContainerStateTerminated) -> Option<Ended> {
    let at = end.finished_at.as_ref()?.0;
    Some(Ended { at, killed: end.reason.as_deref() == Some("OOMKilled") })
}

/// What each container may use of memory, and whose last end was a kill for it. One that has neither a limit nor a request
/// has nothing that could be raised.
pub(super) fn memory(object: &Pod) -> PodMemory {
    let containers = object.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let statuses = object.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let mut found = PodMemory::default();
    for status in statuses.into_iter().flatten() {
        let container = containers.iter().find(|container| container.name == status.name);
        let Some(memory) = in_force(status, container) else { continue };
        found.in_force.push((status.name.clone(), memory));
        if let Some(end) = last_end(status).filter(|end| end.killed) {
            found.kills.push(Killed { container: status.name.clone(), kill: OomKill { at: end.at, memory } });
        }
    }
    found
}

/// The limit, else the request. What the kubelet reports comes before the spec, which a resize may have changed just now.
fn in_force(status: &ContainerStatus, container: Option<&Container>) -> Option<Bytes> {
    let both = [status.resources.as_ref(), container.and_then(|container| container.resources.as_ref())];
    let both = || both.into_iter().flatten();
    let memory = |list| Resources::of(list).ok()?.memory;
    let limit = both().find_map(|resources| memory(resources.limits.as_ref()));
    limit.or_else(|| both().find_map(|resources| memory(resources.requests.as_ref())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn read(mut of_container: Value) -> ContainerLife {
        of_container["name"] = "web".into();
        for (key, value) in [("image", json!("i")), ("imageID", json!("")), ("ready", json!(false))] {
            of_container[key] = value;
        }
        let status = serde_json::from_value(json!({"containerStatuses": [of_container]})).unwrap();
        container(Some(&status), "web")
    }

    #[test]
    fn the_latest_end_counts_whether_the_container_is_up_again_or_not() {
        let end = |reason: &str, minute: u8| json!({"terminated": {"exitCode": 1, "reason": reason, "finishedAt": format!("1970-01-01T00:{minute:02}:00Z")}});
        let life = read(
            json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end("Error", 1)}),
        );
        assert_eq!((life.restarts, life.backing_off), (3, true));
        assert_eq!(life.ended, Some(Ended { at: second(60), killed: false }));
        let life = read(json!({"restartCount": 1, "state": end("OOMKilled", 2), "lastState": end("Error", 1)}));
        assert_eq!(life.ended, Some(Ended { at: second(120), killed: true }));
        assert!(!life.backing_off);
        let life = read(json!({"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}));
        assert_eq!(life, ContainerLife::default());
        assert_eq!(container(None, "web"), ContainerLife::default());
    }

    /// What the only container hit, by its spec and what the kubelet reports to be in force.
    fn hit(spec: Value, in_force: Value, reason: &str) -> Option<(i64, u64)> {
        let end = json!({"terminated": {"exitCode": 137, "reason": reason, "finishedAt": "1970-01-01T00:02:00Z"}});
        let status = json!({"name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": 1, "lastState": end, "resources": in_force});
        let object = json!({"spec": {"containers": [{"name": "web", "resources": spec}]}, "status": {"containerStatuses": [status]}});
        let found = memory(&serde_json::from_value(object).unwrap()).kills;
        found.first().map(|killed| (killed.kill.at.as_second(), killed.kill.memory.0 >> 20))
    }

    #[test]
    fn a_kill_hits_the_limit_in_force_else_the_request() {
        let limited =
            |request: &str, limit: &str| json!({"requests": {"memory": request}, "limits": {"memory": limit}});
        let request = |request: &str| json!({"requests": {"memory": request}});
        assert_eq!(hit(limited("64Mi", "128Mi"), Value::Null, "OOMKilled"), Some((120, 128)));
        assert_eq!(
            hit(limited("64Mi", "256Mi"), limited("64Mi", "128Mi"), "OOMKilled"),
            Some((120, 128)),
            "not resized yet"
        );
        assert_eq!(hit(request("64Mi"), Value::Null, "OOMKilled"), Some((120, 64)));
        assert_eq!(hit(request("96Mi"), request("64Mi"), "OOMKilled"), Some((120, 64)));
        assert_eq!(hit(json!({}), Value::Null, "OOMKilled"), None, "nothing that could be raised");
        assert_eq!(hit(limited("64Mi", "128Mi"), Value::Null, "Error"), None);
    }

    #[test]
    fn a_pod_without_a_ready_condition_is_as_it_is_since_it_was_created() {
        let read = |status: Value| {
            pod(&serde_json::from_value(
                json!({"metadata": {"creationTimestamp": "1970-01-01T00:01:00Z"}, "status": status}),
            )
            .unwrap())
        };
        assert_eq!(read(json!({})), PodLife { created: second(60), since: second(60) });
        let ready =
            json!({"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:02:00Z"}]});
        assert_eq!(read(ready), PodLife { created: second(60), since: second(120) });
    }
}
