//! The cluster of one schedule: namespaces, workloads of the three kinds with what they use, and policies.

use super::dice::Dice;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub millicores: u64,
    pub mebibytes: u64,
    /// The limits as a multiple of the requests.
    pub limit_factor: Option<u64>,
    /// A change of memory restarts it.
    pub restarts: bool,
    /// Cores and MiB.
    pub uses: (f64, f64),
}

#[derive(Clone, Debug)]
pub struct Workload {
    pub kind: &'static str,
    pub namespace: String,
    /// Also the label `app` of its pods; no other workload of the cluster has it.
    pub name: String,
    pub replicas: u64,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug)]
pub struct World {
    /// People change nothing that the end depends on: it is the same however long everything takes.
    pub is_calm: bool,
    pub namespaces: Vec<String>,
    pub workloads: Vec<Workload>,
    /// Name and spec.
    pub policies: Vec<(String, Value)>,
    pub dry_run: bool,
    pub max_updates_per_minute: u32,
}

impl Workload {
    pub fn manifest(&self) -> Value {
        let labels = json!({"app": self.name});
        let containers: Vec<Value> = self.containers.iter().map(Container::manifest).collect();
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
        if self.kind != "DaemonSet" {
            spec["replicas"] = json!(self.replicas);
        }
        if self.kind == "StatefulSet" {
            spec["serviceName"] = json!(self.name);
        }
        json!({"apiVersion": "apps/v1", "kind": self.kind, "spec": spec,
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": labels}})
    }
}

impl Container {
    fn manifest(&self) -> Value {
        let amounts = |factor: u64| json!({"cpu": format!("{}m", self.millicores * factor), "memory": format!("{}Mi", self.mebibytes * factor)});
        let mut resources = json!({"requests": amounts(1)});
        if let Some(factor) = self.limit_factor {
            resources["limits"] = amounts(factor);
        }
        let mut container = json!({"name": self.name, "image": "example/app", "resources": resources});
        if self.restarts {
            container["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        }
        container
    }
}

impl World {
    pub fn new(dice: &mut Dice) -> Self {
        let is_calm = dice.percent(50);
        let namespaces: Vec<String> = (0..dice.between(2, 4)).map(|n| format!("n{n}")).collect();
        let workloads = (0..dice.between(3, 8)).map(|n| workload(dice, n, &namespaces)).collect();
        let policies = (0..dice.between(1, 3)).map(|n| (format!("p{n}"), policy(dice, n, &namespaces, is_calm)));
        let policies = policies.collect();
        let dry_run = dice.percent(4);
        let max_updates_per_minute = if is_calm { 20 } else { dice.pick(&[2, 5, 20]) };
        Self { is_calm, namespaces, workloads, policies, dry_run, max_updates_per_minute }
    }
}

fn workload(dice: &mut Dice, number: u64, namespaces: &[String]) -> Workload {
    let name = format!("w{number}");
    let containers = ["a", "b"].iter().take(if dice.percent(70) { 1 } else { 2 });
    Workload {
        kind: dice.pick(&["Deployment", "Deployment", "StatefulSet", "DaemonSet"]),
        namespace: dice.pick(namespaces),
        replicas: dice.between(1, 3),
        containers: containers.map(|letter| container(dice, &format!("{name}{letter}"))).collect(),
        name,
    }
}

fn container(dice: &mut Dice, name: &str) -> Container {
    let (millicores, mebibytes) = (dice.between(100, 800), dice.between(128, 800));
    // A third to a third more than requested; twelve elevenths of the use are recommended.
    let share = |dice: &mut Dice| dice.between(20, 130) as f64 / 100.0;
    let uses = (millicores as f64 / 1000.0 * share(dice), mebibytes as f64 * share(dice));
    let limit_factor = dice.percent(35).then(|| dice.between(1, 3));
    Container { name: name.to_owned(), millicores, mebibytes, limit_factor, restarts: dice.percent(10), uses }
}

fn policy(dice: &mut Dice, number: u64, namespaces: &[String], is_calm: bool) -> Value {
    let mode = if number == 0 { "Auto" } else { dice.pick(&["Auto", "Auto", "Auto", "Recommend", "Disabled"]) };
    let mut allow: Vec<String> = namespaces.iter().filter(|_| dice.percent(70)).cloned().collect();
    if allow.is_empty() {
        allow.push(namespaces[0].clone());
    }
    let deny: Vec<String> = namespaces.iter().filter(|_| dice.percent(8)).cloned().collect();
    let mut spec = json!({
        "mode": mode,
        "weight": dice.pick(&[50, 100, 100, 200]),
        "selector": {"namespaces": {"allow": allow, "deny": deny}},
        "resourceBounds": bounds(dice, is_calm),
        "metricsConfig": {"memoryFloor": dice.pick(&["Peak", "Peak", "Peak", "None"])},
        "updateStrategy": strategy(dice, is_calm),
        "reconciliationInterval": dice.pick(&["1m", "2m", "5m"]),
    });
    if is_calm && spec["reconciliationInterval"] == "5m" {
        // Two steps down have to be enough.
        spec["updateStrategy"]["maxDecreasePercent"] = json!(80);
    }
    if dice.percent(25) {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
        let some: Vec<&str> = kinds.into_iter().filter(|_| dice.percent(70)).collect();
        spec["selector"]["kinds"] = json!(if some.is_empty() { kinds.to_vec() } else { some });
    }
    spec
}

pub fn bounds(dice: &mut Dice, is_wide: bool) -> Value {
    if is_wide {
        return json!({"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "8Gi"}});
    }
    let cpu = json!({"min": dice.pick(&["10m", "50m", "150m"]), "max": dice.pick(&["400m", "1", "4"])});
    let memory = json!({"min": dice.pick(&["16Mi", "64Mi", "200Mi"]), "max": dice.pick(&["300Mi", "1Gi", "8Gi"])});
    json!({"cpu": cpu, "memory": memory})
}

pub fn strategy(dice: &mut Dice, is_calm: bool) -> Value {
    let (in_place, recreate) = dice.pick(&[(true, false), (true, false), (true, true), (false, true)]);
    let calm = |calm: Value, wild: Value| if is_calm { calm } else { wild };
    json!({
        "allowInPlaceResize": in_place,
        "allowRecreate": recreate,
        "updateRequestsOnly": dice.percent(65),
        "minChangePercent": dice.pick(&[5, 10, 10, 20]),
        "maxDecreasePercent": calm(json!(dice.pick(&[50, 80])), json!(dice.pick(&[20, 50, 80]))),
        "cooldown": calm(json!(dice.pick(&["1m", "2m"])), json!(dice.pick(&["1m", "3m", "10m"]))),
        "maxUpdatesPerCycle": calm(json!(10), json!(dice.pick(&[1, 2, 10]))),
        "direction": calm(json!("Both"), json!(dice.pick(&["Both", "Both", "Both", "IncreaseOnly", "DecreaseOnly"]))),
    })
}
