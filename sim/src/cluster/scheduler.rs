//! The scheduler: a node for each pod, by requests.
//!
//! What it may not know: usage.
//! Invariant: the sum of requests on a node never exceeds its allocatable by the scheduler's doing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::objects::{Plane, is_deleting, set_condition};
use crate::api::pods::{is_terminal, total};
use crate::api::store::Key;
use crate::json::{At as _, list_at, set, str_at};
use crate::quantity::Quantity;

/// Requests, or what is free of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    /// Nanocores.
    pub(crate) cpu: i128,
    /// 10⁻⁹ bytes.
    pub(crate) memory: i128,
}

/// What is left on each node, by name.
pub(crate) fn free(plane: &Plane<'_>) -> BTreeMap<String, Room> {
    let mut rooms = BTreeMap::new();
    if let Some(kind) = plane.kind("nodes") {
        for (key, node) in plane.state.store.list(&kind, None) {
            rooms.insert(key.name.clone(), allocatable(node));
        }
    }
    if let Some(kind) = plane.kind("pods") {
        for (_, pod) in plane.state.store.list(&kind, None) {
            if let Some(room) = rooms.get_mut(str_at(pod, "/spec/nodeName"))
                && !is_terminal(pod)
            {
                let used = requests(pod);
                room.cpu -= used.cpu;
                room.memory -= used.memory;
            }
        }
    }
    rooms
}

/// A node's allocatable.
pub(crate) fn allocatable(node: &Value) -> Room {
    let amount = |name: &str| {
        node.at(&format!("/status/allocatable/{name}")).and_then(Quantity::from_json).map_or(0, Quantity::nanos)
    };
    Room { cpu: amount("cpu"), memory: amount("memory") }
}

/// A pod's requests.
pub(crate) fn requests(pod: &Value) -> Room {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    Room { cpu: total(spec, "requests", "cpu").nanos(), memory: total(spec, "requests", "memory").nanos() }
}

/// Binds what fits; what does not stays waiting with the reason in its condition.
pub(crate) fn schedule(plane: &mut Plane<'_>, waiting: &mut BTreeSet<Key>) {
    if waiting.is_empty() {
        return;
    }
    let mut rooms = free(plane);
    for key in std::mem::take(waiting) {
        let Some(pod) = plane.get("pods", &key) else {
            continue;
        };
        if !str_at(&pod, "/spec/nodeName").is_empty() || is_deleting(&pod) {
            continue;
        }
        let wants = requests(&pod);
        if let Some(node) = best_node(&rooms, wants) {
            if let Some(room) = rooms.get_mut(&node) {
                room.cpu -= wants.cpu;
                room.memory -= wants.memory;
            }
            let mut bound = Value::clone(&pod);
            set(&mut bound, &["spec", "nodeName"], node);
            condition(plane, &mut bound, None);
            plane.put("pods", bound);
        } else {
            waiting.insert(key);
            refuse(plane, &pod, rooms.len());
        }
    }
}

/// The node with the most room in its scarcer resource; ties go by name.
fn best_node(rooms: &BTreeMap<String, Room>, wants: Room) -> Option<String> {
    let fits = |room: &Room| room.cpu >= wants.cpu && room.memory >= wants.memory;
    rooms
        .iter()
        .filter(|(_, room)| fits(room))
        // A core weighs as much as 4 GiB, the usual shape of a node.
        .max_by_key(|(name, room)| (room.cpu.min(room.memory / (4 << 30)), std::cmp::Reverse(*name)))
        .map(|(name, _)| name.clone())
}

fn condition(plane: &Plane<'_>, pod: &mut Value, refused: Option<String>) {
    let mut conditions = list_at(pod, "/status/conditions").to_vec();
    let scheduled = match refused {
        None => json!({"type": "PodScheduled", "status": "True"}),
        Some(message) => json!({"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": message}),
    };
    set_condition(&mut conditions, scheduled, &plane.time());
    set(pod, &["status", "conditions"], conditions);
}

fn refuse(plane: &mut Plane<'_>, pod: &Value, nodes: usize) {
    let mut object = pod.clone();
    let message = format!("0/{nodes} nodes are available: {nodes} Insufficient cpu or memory.");
    condition(plane, &mut object, Some(message));
    if object != *pod {
        plane.put("pods", object);
    }
}
