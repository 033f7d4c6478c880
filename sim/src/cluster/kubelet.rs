//! The kubelets: what runs, what it uses, and what the pod's status says of it.
//!
//! What it may not know: workloads and controllers.
//! Invariant: the status is written only when something changed, and always from `PodRun`.

use serde_json::{Value, json};

use super::objects::{Plane, is_ready};
use super::resizing::{self, Resizing};
use crate::api::pods::{CONTAINER_LISTS, is_sidecar, resource};
use crate::api::store::Key;
use crate::json::{At as _, int_at, list_at, map_at, set, str_at};
use crate::load::Load;
use crate::quantity::Quantity;
use crate::truth::RowId;

/// Whether a container runs, and since when or until when not (seconds of the simulation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    /// Not started yet.
    Created,
    /// Runs since.
    Running(f64),
    /// Waits for its next start, at.
    BackOff(f64),
}

/// One container as its kubelet knows it.
#[derive(Debug)]
pub(crate) struct ContainerRun {
    pub(crate) name: String,
    pub(crate) sidecar: bool,
    pub(crate) load: Load,
    pub(crate) row: RowId,
    pub(crate) phase: Phase,
    /// Resources in force, as the status shows them.
    pub(crate) resources: Value,
    /// Requests that the kubelet has promised.
    pub(crate) allocated: Value,
    pub(crate) cpu_request: f64,
    pub(crate) cpu_limit: Option<f64>,
    pub(crate) memory_request: f64,
    pub(crate) memory_limit: Option<f64>,
    pub(crate) demand: f64,
    pub(crate) memory: f64,
    /// Core-seconds used since the last scrape, and asked for.
    pub(crate) used: f64,
    pub(crate) wanted: f64,
    /// Whether a scrape has seen it since its start.
    pub(crate) scraped: bool,
    pub(crate) restarts: i64,
    /// Restarts in a row, which set the back-off.
    pub(crate) streak: i32,
    pub(crate) last_state: Option<Value>,
}

/// One pod as its kubelet knows it.
#[allow(clippy::struct_excessive_bools)] // independent facts, each set in one place
#[derive(Debug)]
pub(crate) struct PodRun {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) containers: Vec<ContainerRun>,
    pub(crate) start_at: f64,
    /// Running and ready, once started.
    pub(crate) started: bool,
    pub(crate) never_ready: bool,
    pub(crate) gone_at: Option<f64>,
    pub(crate) generation: i64,
    pub(crate) resizing: Resizing,
    /// The spec changed since resizing was last looked at.
    pub(crate) spec_changed: bool,
    pub(crate) status_due: bool,
    pub(crate) ip: String,
}

/// The first back-off after a crash, and the longest, in seconds (the kubelet's own numbers).
const FIRST_BACK_OFF: f64 = 10.0;
const LONGEST_BACK_OFF: f64 = 300.0;
/// A container that ran this long starts from the first back-off again.
const BACK_OFF_RESET: f64 = 600.0;

impl ContainerRun {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// Seconds since the last start; 0 while not running.
    pub(crate) fn uptime(&self, now: f64) -> f64 {
        match self.phase {
            Phase::Running(since) => now - since,
            _ => 0.0,
        }
    }

    /// Puts resources in force.
    pub(crate) fn set_resources(&mut self, spec: &Value) {
        let amount = |which: &str, name: &str| resource(spec, which, name).map(Quantity::as_f64);
        self.cpu_request = amount("requests", "cpu").unwrap_or(0.0);
        self.cpu_limit = amount("limits", "cpu");
        self.memory_request = amount("requests", "memory").unwrap_or(0.0);
        self.memory_limit = amount("limits", "memory");
        self.resources = shown_resources(spec);
        self.allocated = requests_of(spec);
    }

    /// Ends the container; it starts again after the back-off.
    pub(crate) fn crash(&mut self, now: f64, time: &str, reason: &str, exit_code: i32) {
        let ran = self.uptime(now);
        self.streak = if ran > BACK_OFF_RESET { 0 } else { self.streak + 1 };
        // The first restart is immediate, as the kubelet's is.
        let wait = match self.streak {
            0 | 1 => 0.0,
            n => (FIRST_BACK_OFF * 2.0_f64.powi(n - 2)).min(LONGEST_BACK_OFF),
        };
        self.restart_after(now + wait, time, reason, exit_code);
    }

    /// Ends the container; it starts again at the given second.
    pub(crate) fn restart_after(&mut self, at: f64, time: &str, reason: &str, exit_code: i32) {
        self.phase = Phase::BackOff(at);
        self.restarts += 1;
        self.demand = 0.0;
        self.memory = 0.0;
        self.scraped = false;
        self.used = 0.0;
        self.wanted = 0.0;
        self.last_state = Some(json!({"terminated": {"exitCode": exit_code, "reason": reason,
            "finishedAt": time, "startedAt": time}}));
    }
}

/// The requests and limits of a container spec, as its status shows them.
pub(crate) fn shown_resources(spec: &Value) -> Value {
    let mut shown = json!({});
    for which in ["requests", "limits"] {
        if let Some(list) = map_at(spec, &format!("/resources/{which}")) {
            set(&mut shown, &[which], Value::Object(list.clone()));
        }
    }
    shown
}

/// The requests of a container spec; null where there are none.
pub(crate) fn requests_of(spec: &Value) -> Value {
    spec.at("/resources/requests").cloned().unwrap_or_default()
}

/// The running containers of a pod: regular ones and sidecars, with whether they are sidecars.
pub(crate) fn container_specs(pod: &Value) -> Vec<(&Value, bool)> {
    CONTAINER_LISTS
        .iter()
        .flat_map(|list| {
            let containers = list_at(
                pod,
                match *list {
                    "containers" => "/spec/containers",
                    _ => "/spec/initContainers",
                },
            );
            containers.iter().map(move |container| (container, *list != "containers"))
        })
        .filter(|(container, init)| !*init || is_sidecar(container))
        .collect()
}

impl PodRun {
    pub(crate) fn is_ready(&self) -> bool {
        self.started && !self.never_ready && self.containers.iter().all(ContainerRun::is_running)
    }

    /// What time brings: the start, restarts, the end of a resize.
    pub(crate) fn advance(&mut self, now: f64) {
        if !self.started && now >= self.start_at {
            self.started = true;
            self.status_due = true;
            for container in &mut self.containers {
                container.phase = Phase::Running(now);
            }
        }
        for container in &mut self.containers {
            if let Phase::BackOff(until) = container.phase
                && now >= until
            {
                container.phase = Phase::Running(now);
                self.status_due = true;
            }
        }
    }

    /// Writes the status, if it changed.
    pub(crate) fn write_status(&mut self, plane: &mut Plane<'_>) {
        if !std::mem::take(&mut self.status_due) {
            return;
        }
        let Some(pod) = plane.get("pods", &self.key) else {
            return;
        };
        let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
        let time = plane.time();
        if self.started {
            set(&mut status, &["phase"], "Running");
            for (field, value) in [("podIP", self.ip.as_str()), ("hostIP", "10.0.0.1")] {
                set(&mut status, &[field], value);
            }
            crate::json::set_default(&mut status, &["startTime"], time.as_str());
            set(&mut status, &["observedGeneration"], self.generation);
            for (field, sidecar) in [("containerStatuses", false), ("initContainerStatuses", true)] {
                let statuses = self.container_statuses(&pod, sidecar, &time);
                if !(sidecar && statuses.is_empty()) {
                    set(&mut status, &[field], statuses);
                }
            }
        }
        self.set_conditions(&mut status, &time);
        plane.put_status("pods", &pod, status);
    }

    fn container_statuses(&self, pod: &Value, sidecar: bool, time: &str) -> Vec<Value> {
        let field = if sidecar { "/status/initContainerStatuses" } else { "/status/containerStatuses" };
        let before = list_at(pod, field);
        let specs = container_specs(pod);
        self.containers
            .iter()
            .filter(|container| container.sidecar == sidecar)
            .map(|container| {
                let named = |v: &&Value| str_at(v, "/name") == container.name;
                let old = before.iter().find(named).unwrap_or(&Value::Null);
                let spec = specs.iter().map(|(spec, _)| *spec).find(named).unwrap_or(&Value::Null);
                container_status(container, spec, old, self.never_ready, time)
            })
            .collect()
    }

    fn set_conditions(&self, status: &mut Value, time: &str) {
        let mut conditions = list_at(status, "/conditions").to_vec();
        let flag = |on: bool| if on { "True" } else { "False" };
        let ready = self.is_ready();
        for (name, on) in [
            ("PodReadyToStartContainers", self.started),
            ("Initialized", true),
            ("ContainersReady", ready),
            ("Ready", ready),
            ("PodScheduled", true),
        ] {
            let mut condition = json!({"type": name, "status": flag(on)});
            if !on {
                set(&mut condition, &["reason"], "ContainersNotReady");
            }
            super::objects::set_condition(&mut conditions, condition, time);
        }
        resizing::set_conditions(&self.resizing, self.generation, &mut conditions, time);
        set(status, &["conditions"], conditions);
    }
}

fn container_status(container: &ContainerRun, spec: &Value, old: &Value, never_ready: bool, time: &str) -> Value {
    let running = container.is_running();
    let same_run = int_at(old, "/restartCount", 0) == container.restarts;
    let started = Some(str_at(old, "/state/running/startedAt")).filter(|at| !at.is_empty() && same_run).unwrap_or(time);
    let state = match container.phase {
        Phase::Running(_) => json!({"running": {"startedAt": started}}),
        // The first restart is immediate, and so is one that a resize asks for: no back-off is shown.
        Phase::BackOff(_) if container.streak < 2 => container.last_state.clone().unwrap_or_default(),
        Phase::BackOff(_) => json!({"waiting": {"reason": "CrashLoopBackOff",
            "message": "back-off restarting failed container"}}),
        Phase::Created => json!({"waiting": {"reason": "ContainerCreating"}}),
    };
    let mut status = json!({
        "name": container.name, "image": str_at(spec, "/image"), "imageID": str_at(spec, "/image"),
        "containerID": format!("sim://{}-{}", container.name, container.restarts),
        "ready": running && !never_ready, "started": running,
        "restartCount": container.restarts, "state": state,
        "lastState": container.last_state.clone().unwrap_or_else(|| json!({})),
        "resources": container.resources,
    });
    if !container.allocated.is_null() {
        set(&mut status, &["allocatedResources"], container.allocated.clone());
    }
    status
}

/// The delay that an annotation asks for, in seconds: `3s`, `500ms`, `2m` or a plain number.
pub(crate) fn delay(pod: &Value, annotation: &str) -> Option<f64> {
    let text = map_at(pod, "/metadata/annotations")?.get(annotation)?.as_str()?;
    for (suffix, factor) in [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)] {
        if let Some(number) = text.strip_suffix(suffix) {
            return number.parse::<f64>().ok().map(|n| n * factor);
        }
    }
    text.parse().ok()
}

/// Whether the API already says what this pod would write of its readiness.
pub(crate) fn readiness_agrees(run: &PodRun, pod: &Value) -> bool {
    is_ready(pod) == run.is_ready()
}
