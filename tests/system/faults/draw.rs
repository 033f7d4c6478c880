//! Draws what happens in a schedule.

use super::dice::Dice;
use super::schedule::{Act, Disturbance, Effect};
use super::world::{Container, World, bounds, strategy};
use optipod_sim::Fault;
use serde_json::{Value, json};
use std::time::Duration;

pub fn act(dice: &mut Dice, world: &World, at: u64, acts: &mut Vec<(u64, Act)>) {
    let workload = dice.index(world.workloads.len());
    let later = at + dice.between(5, 120);
    match dice.between(0, 7) {
        0 => {
            let only = dice.percent(50).then(|| dice.pick(&world.namespaces));
            acts.extend([(at, Act::Brake(only)), (later, Act::BrakeOff)]);
        }
        1 => {
            let namespace = dice.pick(&world.namespaces);
            acts.extend([
                (at, Act::HoldNamespace(namespace.clone(), true)),
                (later, Act::HoldNamespace(namespace, false)),
            ]);
        }
        2 => acts.extend([(at, Act::HoldWorkload(workload, true)), (later, Act::HoldWorkload(workload, false))]),
        3 => {
            let policy = dice.index(world.policies.len());
            let mode = world.policies[policy].1["mode"].clone();
            let other = dice.pick(&["Recommend", "Disabled"]);
            let edit = |mode: Value| Act::Edit(policy, json!({ "mode": mode }));
            acts.extend([(at, edit(json!(other))), (later, edit(mode))]);
        }
        4 => acts.push((at, Act::DeletePod(workload))),
        5 => {
            let replicas = world.workloads[workload].replicas;
            acts.extend([(at, Act::Scale(workload, replicas + 1)), (later, Act::Scale(workload, replicas))]);
        }
        6 => acts.extend([(at, Act::Remove(workload)), (later, Act::Create(workload))]),
        _ => acts.push((at, Act::Rename(workload))),
    }
}

pub fn wild_act(dice: &mut Dice, world: &World, at: u64, acts: &mut Vec<(u64, Act)>) {
    let workload = dice.index(world.workloads.len());
    let policy = dice.index(world.policies.len());
    let later = at + dice.between(30, 180);
    match dice.between(0, 11) {
        0..=3 => {
            let (cores_percent, memory_percent) = (dice.between(30, 300), dice.between(30, 300));
            acts.push((at, Act::Use { workload, cores_percent, memory_percent }));
        }
        4 => acts.push((at, Act::Edit(policy, json!({"resourceBounds": bounds(dice, false)})))),
        5 => acts.push((at, Act::Edit(policy, json!({"updateStrategy": strategy(dice, false)})))),
        6 => acts.extend([(at, Act::Autoscaler(workload, true)), (later, Act::Autoscaler(workload, false))]),
        7 => acts.push((at, Act::Release(workload, at))),
        8 | 9 => {
            let shrinks = |container: &Container| container.uses.0 * 1000.0 < container.millicores as f64 * 0.6;
            let all = (0..world.workloads.len()).filter(|index| world.workloads[*index].containers.iter().any(shrinks));
            let all: Vec<usize> = all.collect();
            let workload = if all.is_empty() { workload } else { dice.pick(&all) };
            acts.push((dice.pick(&[0, 0, at.min(120)]), Act::Need(workload)));
        }
        10 => acts.extend([(at, Act::Age(dice.between(5, 30))), (later, Act::Age(0))]),
        _ => acts.push(if dice.percent(50) { (at, Act::HoldPod(workload)) } else { (at, Act::Undo(workload)) }),
    }
}

const CHANGES: [(&str, &str); 6] = [
    ("patch", "pods/resize"),
    ("patch", "pods/resize"),
    ("patch", "deployments.apps"),
    ("patch", "statefulsets.apps"),
    ("patch", "optimizationpolicies/status"),
    ("patch", ""),
];
const READS: [(&str, &str); 4] = [("list", ""), ("list", "pods"), ("get", ""), ("create", "")];
const LEASES: [(&str, &str); 2] = [("update", "leases.coordination.k8s.io"), ("get", "leases.coordination.k8s.io")];
const WATCHED: [&str; 6] = ["", "", "pods", "deployments.apps", "configmaps", "optimizationpolicies"];

pub fn disturbance(dice: &mut Dice, world: &World, is_elected: bool) -> Disturbance {
    // Most happens in the beginning, when everything is to be changed.
    let from = if dice.percent(40) { dice.between(1, 60) } else { dice.between(1, 400) };
    let until = from + dice.between(20, 120);
    let slot = dice.index(if is_elected { 2 } else { 1 });
    match dice.between(0, if is_elected { 25 } else { 23 }) {
        0..=4 => {
            let of_lease = is_elected && dice.percent(30);
            let (verb, resource) = if of_lease { dice.pick(&LEASES) } else { dice.pick(&CHANGES) };
            Disturbance::Requests { from, until, fault: failure(dice), verb, resource, percent: dice.between(20, 100) }
        }
        5 => {
            let (verb, resource) = dice.pick(&READS);
            let fault = dice.pick(&[Fault::Status(500), Fault::Expired, Fault::DropBefore, Fault::TooManyRequests(2)]);
            Disturbance::Requests { from, until, fault, verb, resource, percent: dice.between(20, 100) }
        }
        6..=9 => {
            let lag = Fault::LagWatch(Duration::from_secs(dice.between(1, 45)));
            let cut = Fault::CutWatch(Duration::from_secs(dice.between(5, 20)));
            let fault = dice.pick(&[lag.clone(), lag, cut, Fault::EchoWatch, Fault::ShuffleWatch]);
            Disturbance::Watches { from, until, fault, resource: dice.pick(&WATCHED) }
        }
        10 => Disturbance::Expire { at: from },
        11 => {
            let resource = dice.pick(&["pods/resize", "deployments.apps", "statefulsets.apps"]);
            Disturbance::Deny { from, until, resource, namespace: dice.pick(&world.namespaces) }
        }
        12 => Disturbance::Silence { from, until },
        13 => Disturbance::Crash { at: from, slot, back_after: dice.between(0, 60), renamed: dice.percent(50) },
        14 if dice.percent(50) => Disturbance::Restart { at: from, slot },
        14 => Disturbance::Pause { at: from, slot, seconds: dice.between(5, 100) },
        15 => {
            let by = i64::try_from(dice.between(1, 90)).unwrap();
            Disturbance::Jump { at: from, slot, by: if dice.percent(50) { by } else { -by } }
        }
        24 | 25 => {
            let first = dice.between(1, 150);
            Disturbance::Swap { first, then: first + dice.between(60, 250) }
        }
        _ => Disturbance::OnWrite { nth: dice.between(1, 14), effect: effect(dice), back_after: dice.between(0, 60) },
    }
}

fn failure(dice: &mut Dice) -> Fault {
    let slow = Fault::Latency(Duration::from_millis(dice.between(200, 12_000)));
    let throttled = Fault::TooManyRequests(dice.between(1, 30));
    dice.pick(&[
        Fault::Conflict,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(504),
        Fault::Hang,
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::DropAfter,
        Fault::Garbage,
        slow,
        throttled,
    ])
}

fn effect(dice: &mut Dice) -> Effect {
    let seconds = dice.between(20, 100);
    dice.pick(&[
        Effect::CrashBefore,
        Effect::CrashAfter,
        Effect::CrashAfter,
        Effect::LoseAnswer,
        Effect::LoseAnswer,
        Effect::PauseAfter(seconds),
        Effect::PauseAfter(seconds),
        Effect::Touch,
        Effect::Resize,
        Effect::DeletePod,
        Effect::Recreate,
        Effect::Brake(seconds),
        Effect::Hold(seconds),
        Effect::Recommend(seconds),
    ])
}
