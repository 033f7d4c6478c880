//! What a node's containers use: CPU shared out, memory held, and who is killed for it.
//!
//! What it may not know: controllers, resizes, how a container was started.
//! Invariant: only running containers use anything, and every kill is in the ledger.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kubelet::{ContainerRun, PodRun};
use super::node::series_of;
use super::objects::Plane;
use super::pressure::{CpuClaim, MemoryHold, memory_victims, share_cpu};
use super::{Cluster, Moment};
use crate::json::At as _;
use crate::quantity::Quantity;
use crate::truth::OomKill;

impl Cluster {
    /// Load, CPU shares and memory kills since the last step.
    pub(crate) fn use_up(&mut self, plane: &Plane<'_>, moment: &Moment<'_>) {
        for run in self.pods.values_mut() {
            for container in run.containers.iter_mut().filter(|c| c.is_running()) {
                let uptime = container.uptime(moment.now);
                let demand = container.load.demand(moment.of_day, uptime);
                container.demand = demand.cpu;
                container.memory = demand.memory;
            }
        }
        for (node, capacity) in nodes(plane) {
            let mut here: Vec<&mut PodRun> = self.pods.values_mut().filter(|run| run.node == node).collect();
            give_cpu(capacity, &mut here, moment.elapsed);
            kill_over_limit(plane, moment, &mut here);
            kill_for_node(plane, moment, capacity, &mut here);
        }
    }
}

/// Cores and bytes of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Capacity {
    cpu: f64,
    memory: f64,
}

fn nodes(plane: &Plane<'_>) -> BTreeMap<String, Capacity> {
    let Some(kind) = plane.kind("nodes") else {
        return BTreeMap::new();
    };
    let amount = |node: &Value, name: &str| {
        node.at(&format!("/status/allocatable/{name}")).and_then(Quantity::from_json).map_or(0.0, Quantity::as_f64)
    };
    let nodes = plane.state.store.list(&kind, None);
    nodes
        .map(|(key, node)| {
            let capacity = Capacity { cpu: amount(node, "cpu"), memory: amount(node, "memory") };
            (key.name.clone(), capacity)
        })
        .collect()
}

fn running<'a>(here: &'a mut [&mut PodRun]) -> impl Iterator<Item = &'a mut ContainerRun> {
    here.iter_mut().flat_map(|run| run.containers.iter_mut()).filter(|c| c.is_running())
}

fn give_cpu(capacity: Capacity, here: &mut [&mut PodRun], elapsed: f64) {
    let claims: Vec<CpuClaim> = running(here)
        .map(|container| CpuClaim {
            demand: container.demand,
            request: container.cpu_request,
            limit: container.cpu_limit,
        })
        .collect();
    let got = share_cpu(capacity.cpu, &claims);
    for (container, cores) in running(here).zip(got) {
        container.used += cores * elapsed;
        container.wanted += container.demand * elapsed;
    }
}

fn kill_over_limit(plane: &Plane<'_>, moment: &Moment<'_>, here: &mut [&mut PodRun]) {
    for run in here.iter_mut() {
        let victims: Vec<usize> = run
            .containers
            .iter()
            .enumerate()
            .filter(|(_, c)| c.memory_limit.is_some_and(|limit| c.is_running() && c.memory > limit))
            .map(|(index, _)| index)
            .collect();
        for index in victims {
            kill(plane, moment, run, index, false);
        }
    }
}

fn kill_for_node(plane: &Plane<'_>, moment: &Moment<'_>, capacity: Capacity, here: &mut [&mut PodRun]) {
    let places: Vec<(usize, usize)> = here
        .iter()
        .enumerate()
        .flat_map(|(pod, run)| {
            let alive = run.containers.iter().enumerate().filter(|(_, c)| c.is_running());
            alive.map(move |(index, _)| (pod, index)).collect::<Vec<_>>()
        })
        .collect();
    let holds: Vec<MemoryHold> = running(here)
        .map(|container| MemoryHold { usage: container.memory, request: container.memory_request })
        .collect();
    for victim in memory_victims(capacity.memory, &holds) {
        if let Some((pod, index)) = places.get(victim)
            && let Some(run) = here.get_mut(*pod)
        {
            kill(plane, moment, run, *index, true);
        }
    }
}

fn kill(plane: &Plane<'_>, moment: &Moment<'_>, run: &mut PodRun, index: usize, node_full: bool) {
    let Some(container) = run.containers.get_mut(index) else {
        return;
    };
    if let Some(pod) = plane.get("pods", &run.key) {
        moment.truth.record_kill(OomKill {
            at: plane.now,
            series: series_of(plane, &pod, &container.name),
            pod: run.key.name.clone(),
            bytes: container.memory,
            node_full,
        });
    }
    container.crash(moment.now, &plane.time(), "OOMKilled", 137);
    run.status_due = true;
}
