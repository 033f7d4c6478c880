//! In-place resize on the kubelet's side: allocate, actuate, or say why not.
//!
//! What it may not know: how the change came into the spec.
//! Invariant: a pod's resize is all or nothing across its containers; it is done when the status
//! shows the spec's resources.

use serde_json::{Value, json};

use super::kubelet::{PodRun, container_specs, delay, requests_of, shown_resources};
use super::objects::set_condition;
use super::scheduler::Room;
use crate::json::{At as _, list_at, map_at, set, str_at};

/// Where a pod's resize stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Resizing {
    /// Nothing to do.
    #[default]
    Settled,
    /// Not allocated: reason `Deferred` or `Infeasible`, and why.
    Pending(&'static str, String),
    /// Allocated; in force at this second.
    InProgress(f64),
    /// Allocated, but a limit lies below what is in use.
    Stuck(String),
}

/// What the kubelet has to decide with.
pub(crate) struct Host {
    pub(crate) now: f64,
    pub(crate) time: String,
    /// Seconds from allocation to actuation.
    pub(crate) resize_delay: f64,
    /// The node's allocatable, and what other pods leave of it.
    pub(crate) allocatable: Room,
    pub(crate) free: Room,
}

/// Whether the spec asks for something that is not in force.
pub(crate) fn differs(run: &PodRun, pod: &Value) -> bool {
    container_specs(pod).iter().zip(&run.containers).any(|((spec, _), have)| shown_resources(spec) != have.resources)
}

/// Takes a pod's resize one step further.
pub(crate) fn step(run: &mut PodRun, pod: &Value, host: &Host) {
    let before = run.resizing.clone();
    run.resizing = match before.clone() {
        _ if !differs(run, pod) => Resizing::Settled,
        Resizing::InProgress(at) if allocated(run, pod) => actuate_when_due(run, pod, host, at),
        Resizing::Stuck(_) if allocated(run, pod) => actuate_when_due(run, pod, host, host.now),
        _ => allocate(run, pod, host),
    };
    run.status_due |= run.resizing != before;
}

fn allocated(run: &PodRun, pod: &Value) -> bool {
    container_specs(pod).iter().zip(&run.containers).all(|((spec, _), have)| requests_of(spec) == have.allocated)
}

fn allocate(run: &mut PodRun, pod: &Value, host: &Host) -> Resizing {
    if let Some(pending) = held(pod).or_else(|| refused(pod, host)) {
        return pending;
    }
    for ((spec, _), container) in container_specs(pod).iter().zip(&mut run.containers) {
        container.allocated = requests_of(spec);
    }
    run.status_due = true;
    let wait = delay(pod, "resize/delay").unwrap_or(host.resize_delay);
    if wait > 0.0 { Resizing::InProgress(host.now + wait) } else { actuate_when_due(run, pod, host, host.now) }
}

/// A test's annotation that keeps the resize pending.
fn held(pod: &Value) -> Option<Resizing> {
    let hold = map_at(pod, "/metadata/annotations")?.get("resize/hold")?.as_str()?;
    let message = "held by the annotation resize/hold".to_owned();
    match hold {
        "Infeasible" => Some(Resizing::Pending("Infeasible", message)),
        _ => Some(Resizing::Pending("Deferred", message)),
    }
}

fn refused(pod: &Value, host: &Host) -> Option<Resizing> {
    let wants = super::scheduler::requests(pod);
    let parts = |room: Room| {
        [("cpu", wants.cpu, room.cpu), ("memory", wants.memory, room.memory)]
            .into_iter()
            .filter(|(_, want, have)| want > have)
            .map(|(name, want, have)| {
                // The kubelet counts millicores and bytes.
                let unit = if name == "cpu" { 1_000_000 } else { 1_000_000_000 };
                format!("{name}, requested: {}, capacity: {}", want / unit, have / unit)
            })
            .collect::<Vec<_>>()
            .join("; ")
    };
    let never = parts(host.allocatable);
    if !never.is_empty() {
        let message = format!("Node didn't have enough capacity: {never}");
        return Some(Resizing::Pending("Infeasible", message));
    }
    let not_now = parts(host.free);
    (!not_now.is_empty()).then(|| Resizing::Pending("Deferred", format!("Node didn't have enough resource: {not_now}")))
}

fn actuate_when_due(run: &mut PodRun, pod: &Value, host: &Host, at: f64) -> Resizing {
    if host.now < at {
        return Resizing::InProgress(at);
    }
    let specs = container_specs(pod);
    for ((spec, _), container) in specs.iter().zip(&run.containers) {
        let limit = crate::api::pods::resource(spec, "limits", "memory");
        let lowered =
            limit.map(super::super::quantity::Quantity::as_f64).filter(|l| container.memory_limit != Some(*l));
        if let Some(limit) = lowered.filter(|limit| container.memory > *limit) {
            return Resizing::Stuck(format!(
                "attempting to set container \"{}\" memory limit ({limit:.0}) below current usage ({:.0})",
                container.name, container.memory
            ));
        }
    }
    for ((spec, _), container) in specs.iter().zip(&mut run.containers) {
        let old = container.resources.clone();
        container.set_resources(spec);
        if restarts(spec, &old, &container.resources) {
            container.restart(&host.time, "Completed", 0);
        }
    }
    run.status_due = true;
    Resizing::Settled
}

/// Whether a changed resource has the policy `RestartContainer`.
fn restarts(spec: &Value, old: &Value, new: &Value) -> bool {
    list_at(spec, "/resizePolicy").iter().filter(|policy| str_at(policy, "/restartPolicy") == "RestartContainer").any(
        |policy| {
            let name = str_at(policy, "/resourceName");
            ["requests", "limits"].iter().any(|which| {
                let pointer = format!("/{which}/{name}");
                old.at(&pointer) != new.at(&pointer)
            })
        },
    )
}

/// The two resize conditions of a pod's status.
pub(crate) fn set_conditions(resizing: &Resizing, generation: i64, conditions: &mut Vec<Value>, time: &str) {
    let wanted = match resizing {
        Resizing::Settled => None,
        Resizing::Pending(reason, message) => Some(json!({"type": "PodResizePending",
            "status": "True", "reason": reason, "message": message})),
        Resizing::InProgress(_) => Some(json!({"type": "PodResizeInProgress", "status": "True"})),
        Resizing::Stuck(message) => Some(json!({"type": "PodResizeInProgress", "status": "True",
            "reason": "Error", "message": message})),
    };
    let name = wanted.as_ref().map(|c| str_at(c, "/type").to_owned()).unwrap_or_default();
    conditions.retain(|condition| {
        let have = str_at(condition, "/type");
        !have.starts_with("PodResize") || have == name
    });
    if let Some(mut condition) = wanted {
        set(&mut condition, &["observedGeneration"], generation);
        set_condition(conditions, condition, time);
    }
}
