//! How a workload's rollouts are judged, by its spec and status.

use crate::decide::Progress;
use crate::hash::fnv_1a;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// A Deployment has a deadline of its own, and its controller watches it.
pub(super) fn deployment(object: &Deployment) -> Progress {
    let spec = &object.spec;
    let status = object.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation) >= object.metadata.generation;
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let exceeded = conditions.any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let deadline = spec.progress_deadline_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let whole = progress(spec.min_ready_seconds, &spec.template);
    Progress { exceeded: exceeded && seen, deadline: deadline.unwrap_or(whole.deadline), ..whole }
}

pub(super) fn stateful_set(object: &StatefulSet) -> Progress {
    progress(object.spec.min_ready_seconds, &object.spec.template)
}

pub(super) fn daemon_set(object: &DaemonSet) -> Progress {
    progress(object.spec.min_ready_seconds, &object.spec.template)
}

fn progress(min_ready: Option<i32>, template: &PodTemplateSpec) -> Progress {
    let min_ready = SignedDuration::from_secs(min_ready.unwrap_or_default().into());
    Progress { min_ready, template: fingerprint(template), ..Progress::default() }
}

/// Sixteen hexadecimal digits that differ where templates differ in more than resources.
fn fingerprint(template: &PodTemplateSpec) -> String {
    let mut template = template.clone();
    let spec = template.spec.iter_mut();
    for container in spec.flat_map(|spec| spec.containers.iter_mut()) {
        container.resources = None;
    }
    format!("{:016x}", fnv_1a(serde_json::to_vec(&template).unwrap_or_default()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // a test that panics has failed; json! makes values
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value, status: Value) -> Progress {
        let mut whole = json!({"selector": {}, "template": {"spec": {"containers": [{"name": "web", "image": "a"}]}}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({"metadata": {"generation": 2}, "spec": whole, "status": status});
        deployment(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_deadline_counts_as_exceeded_when_it_is_that_of_the_present_spec() {
        let status = |generation: i64| json!({"observedGeneration": generation, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        assert!(read(json!({}), status(2)).exceeded);
        assert!(!read(json!({}), status(1)).exceeded);
        let read = read(json!({"progressDeadlineSeconds": 30, "minReadySeconds": 7}), json!({}));
        assert!(!read.exceeded);
        assert_eq!((read.deadline.as_secs(), read.min_ready.as_secs()), (30, 7));
    }

    #[test]
    fn templates_that_differ_in_resources_alone_are_the_same() {
        let of =
            |container: Value| read(json!({"template": {"spec": {"containers": [container]}}}), json!({})).template;
        let small = of(json!({"name": "web", "image": "a", "resources": {"requests": {"cpu": "1"}}}));
        assert_eq!(small, of(json!({"name": "web", "image": "a", "resources": {"requests": {"cpu": "2"}}})));
        assert_ne!(small, of(json!({"name": "web", "image": "b", "resources": {"requests": {"cpu": "1"}}})));
        assert_eq!(small.len(), 16);
    }
}
