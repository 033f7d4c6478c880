//! Changing a workload's template, which replaces its pods.

use super::facts::{Facts, Rollout, Size};
use super::reason::Reason;
use super::resize::{above_use, allows, resized};
use crate::workload::{ContainerResources, QosClass, qos_class};

/// The resources of a template after a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateChange {
    /// EVERY container of the template: server-side apply drops what a manager no longer lists.
    pub containers: Vec<ContainerResources>,
    /// Limits are ours to set too (`updateRequestsOnly: false`).
    pub with_limits: bool,
}

/// The whole template with the new requests.
pub(super) fn plan(facts: &Facts<'_>, target: &[Size]) -> Result<TemplateChange, Reason> {
    if !facts.rights.rollout {
        return Err(Reason::RolloutForbidden);
    }
    if let Some(manager) = &facts.reverted_by {
        return Err(Reason::RevertedByOther { manager: manager.clone() });
    }
    if let Some(pod) = facts.pods.iter().find(|pod| pod.pod_level_resources) {
        return Err(Reason::UnsupportedPodResources { pod: pod.name.clone() });
    }
    let requests_only = facts.update.requests_only;
    let containers: Vec<_> = facts
        .template
        .iter()
        .map(|container| match target.iter().find(|size| size.container == container.name) {
            Some(size) => resized(container, size.requests, requests_only),
            None => container.clone(),
        })
        .collect();
    if qos_class(&facts.template) == QosClass::Guaranteed && qos_class(&containers) != QosClass::Guaranteed {
        return Err(Reason::QosWouldChange);
    }
    if containers == facts.template {
        return Err(Reason::AlreadySized { min_change_percent: facts.update.min_change_percent });
    }
    Ok(TemplateChange { containers, with_limits: !requests_only })
}

/// Of a rollout of ours that is complete but for pods that nobody has deleted yet, that is what there is to say.
pub(super) fn awaits_deletion(facts: &Facts<'_>, reason: Reason) -> Reason {
    let Rollout::OnDelete { outdated } = facts.rollout else { return reason };
    let ours = facts.aftermath.by_rollout && !facts.target.is_empty();
    let nothing_to_do = matches!(
        reason,
        Reason::AlreadySized { .. }
            | Reason::Cooldown { .. }
            | Reason::WindowNotCovered
            | Reason::RaisedRecently { .. }
    );
    if ours && nothing_to_do && outdated > 0 { Reason::PodsAwaitDeletion { outdated } } else { reason }
}

/// What of a size decided before the policy's direction still allows: it may have been edited since.
pub(super) fn allowed(facts: &Facts<'_>, target: &[Size]) -> Vec<Size> {
    let of_template = |name: &str| Some(facts.template.iter().find(|container| container.name == name)?.requests);
    let target = above_use(facts, target, of_template);
    let one = |size: &Size| {
        let before = facts.template.iter().find(|container| container.name == size.container)?.requests;
        let mut size = size.clone();
        size.requests.cpu = size.requests.cpu.filter(|cpu| allows(facts.update.direction, before.cpu, *cpu));
        size.requests.memory = size.requests.memory.filter(|m| allows(facts.update.direction, before.memory, *m));
        Some(size)
    };
    target.iter().filter_map(one).collect()
}

/// The template lacks the size. Containers that are not in the template were injected and are not ours to add.
pub(super) fn differs(template: &[ContainerResources], target: &[Size]) -> bool {
    target.iter().any(|size| {
        template.iter().any(|container| {
            container.name == size.container
                && (size.requests.cpu.is_some_and(|cpu| container.requests.cpu != Some(cpu))
                    || size.requests.memory.is_some_and(|memory| container.requests.memory != Some(memory)))
        })
    })
}
