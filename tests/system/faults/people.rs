//! What people do to single objects.

use super::stage::{SYSTEM, Stage};
use super::world::Workload;
use optipod_sim::{Need, Series};
use serde_json::{Value, json};

impl Stage {
    /// As a person with `kubectl edit --subresource resize`: a tenth more CPU.
    pub(super) fn resize_by_hand(&self, namespace: &str, name: &str) {
        let Some(pod) = self.harness.api.get("v1", "Pod", namespace, name) else { return };
        let container = &pod["spec"]["containers"][0];
        let cpu = container["resources"]["requests"]["cpu"].as_str().unwrap_or("100m");
        let more = super::judge::millicores(cpu).map_or(110, |cpu| cpu + cpu.div_ceil(10));
        let limit = container["resources"]["limits"]["cpu"].as_str().and_then(super::judge::millicores);
        if limit.is_none_or(|limit| more <= limit) {
            let requests = json!({"requests": {"cpu": format!("{more}m")}});
            let patch = json!({"spec": {"containers": [{"name": container["name"], "resources": requests}]}});
            // Where it is refused, it is as if nobody had tried.
            let _ = self.harness.api.resize("kubectl-edit", namespace, name, &patch);
        }
    }

    pub(super) fn brake(&self, only: Option<&str>) {
        self.act_off();
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": SYSTEM, "name": "optipod-brake"}, "data": {}});
        if let Some(only) = only {
            object["data"]["namespaces"] = json!(only);
        }
        self.harness.api.create(object).unwrap();
    }

    fn act_off(&self) {
        let _ = self.harness.api.delete("v1", "ConfigMap", SYSTEM, "optipod-brake");
    }

    pub(super) fn patch(&self, index: usize, patch: &Value) {
        if let Some(workload) = self.workload(index) {
            self.harness.patch(workload.kind, &workload.namespace, &workload.name, patch);
        }
    }

    fn first_pod(&self, index: usize) -> Option<(String, Value)> {
        let workload = self.workload(index)?;
        let pod = self.harness.pods(&workload.name).into_iter().next()?;
        Some((workload.namespace, pod))
    }

    pub(super) fn patch_pod(&self, index: usize, patch: &Value) {
        if let Some((namespace, pod)) = self.first_pod(index) {
            self.harness.patch("Pod", &namespace, pod["metadata"]["name"].as_str().unwrap(), patch);
        }
    }

    pub(super) fn delete_pod(&self, index: usize) {
        if let Some((namespace, pod)) = self.first_pod(index) {
            let _ = self.harness.api.delete("v1", "Pod", &namespace, pod["metadata"]["name"].as_str().unwrap());
        }
    }

    pub(super) fn remove(&self, index: usize) {
        if let Some(workload) = self.workload(index) {
            let _ = self.harness.api.delete("apps/v1", workload.kind, &workload.namespace, &workload.name);
            self.notes.lock().unwrap().names[index] = None;
        }
    }

    pub(super) fn create(&self, index: usize, name: &str) {
        if self.name(index).is_some() {
            return;
        }
        let workload = Workload { name: name.to_owned(), ..self.world.workloads[index].clone() };
        self.harness.api.create(workload.manifest()).unwrap();
        let mut notes = self.notes.lock().unwrap();
        notes.names[index] = Some(name.to_owned());
        name.clone_into(&mut notes.last_names[index]);
    }

    pub(super) fn set_use(&self, index: usize, (cores_percent, memory_percent): (u64, u64)) {
        let of = |value: f64, percent: u64| value * percent as f64 / 100.0;
        for container in &self.world.workloads[index].containers {
            let (cores, mib) = (of(container.uses.0, cores_percent), of(container.uses.1, memory_percent));
            self.harness.provider.set(&container.name, cores, mib);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive and small
            let peak = (mib * 1_048_576.0) as u64;
            let mut notes = self.notes.lock().unwrap();
            notes.peaks.retain(|(name, _)| *name != container.name);
            notes.peaks.push((container.name.clone(), peak));
            notes.uses.push((container.name.clone(), (cores, mib)));
        }
    }

    pub(super) fn autoscaler(&self, index: usize, on: bool) {
        let Some(workload) = self.workload(index) else { return };
        let api = &self.harness.api;
        let _ = api.delete("autoscaling/v2", "HorizontalPodAutoscaler", &workload.namespace, "scaler");
        if on {
            let target = json!({"type": "Utilization", "averageUtilization": 60});
            let _ = api.create(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"namespace": workload.namespace, "name": "scaler"},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": workload.kind, "name": workload.name},
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}}));
        }
    }

    /// From now on less than what it requests now, but for a twentieth, is not enough.
    pub(super) fn need(&self, index: usize) {
        let (Some(workload), Some((_, pod))) = (self.workload(index), self.first_pod(index)) else { return };
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            let requests = &container["resources"]["requests"];
            let cpu = requests["cpu"].as_str().and_then(super::judge::millicores).unwrap_or_default();
            let series =
                Series::new(&workload.namespace, workload.kind, &workload.name, container["name"].as_str().unwrap());
            self.harness.cluster.set_need(series, Need { cpu: cpu as f64 * 0.95 / 1000.0, memory: 0.0 });
        }
    }
}
