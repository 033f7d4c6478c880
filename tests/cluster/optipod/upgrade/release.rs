//! A folder of `tests/fixtures/releases/`, and what it says brought about in a cluster.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::SOON;
use crate::harness::{Cluster, Kind, Namespace, Result, Workload};

/// The folder of one release.
pub struct Release {
    pub dir: PathBuf,
    /// With the status of then.
    pub policies: Vec<Value>,
    pub workloads: Vec<Value>,
}

/// What a release left in a cluster.
pub struct Left {
    pub release: Release,
    pub namespaces: Vec<Namespace>,
    pub workloads: Vec<Workload>,
}

impl Release {
    /// Every release, in the order of their names.
    pub fn all() -> Result<Vec<Self>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases");
        let mut folders = Vec::new();
        for entry in fs::read_dir(&root).with_context(|| format!("list {}", root.display()))? {
            folders.push(entry?.path());
        }
        folders.retain(|path| path.is_dir());
        folders.sort();
        folders.into_iter().map(Self::read).collect()
    }

    fn read(dir: PathBuf) -> Result<Self> {
        let (policies, workloads) = (documents(&dir.join("policies.yaml"))?, documents(&dir.join("workloads.yaml"))?);
        Ok(Self { dir, policies, workloads })
    }

    pub fn crd(&self) -> Result<Value> {
        documents(&self.dir.join("crd.yaml"))?.pop().context("no CRD")
    }

    /// Where its store is.
    pub fn store(&self) -> Result<PathBuf> {
        let answers: Value = serde_json::from_str(&fs::read_to_string(self.dir.join("answers.json"))?)?;
        Ok(self.dir.join(answers["store"].as_str().context("answers.json names no store")?))
    }

    /// Brings about what that version left. The cluster serves its CRD.
    pub async fn bring_about(mut self, cluster: &Cluster) -> Result<Left> {
        let names: BTreeSet<String> = self.workloads.iter().map(|object| text(object, "/metadata/namespace")).collect();
        let mut left = Vec::new();
        for name in names {
            left.push(Namespace::create(cluster.client(), &name).await?);
        }
        self.happened_just_now();
        let mut workloads = Vec::new();
        for manifest in &self.workloads {
            let home = left.iter().find(|n| n.name() == text(manifest, "/metadata/namespace"));
            workloads.push(create(home.context("no namespace")?, manifest).await?);
        }
        for (workload, manifest) in workloads.iter().zip(&self.workloads) {
            workload.wait_ready(SOON).await.context("a workload of before")?;
            own(workload, manifest).await?;
        }
        // An entry without a uid is of no workload that is younger than its last change.
        self.happened_just_now();
        for policy in &mut self.policies {
            remember(policy, &workloads).await?;
            write(&cluster.client(), policy).await.context("a policy of before")?;
        }
        for entry in self.policies.iter().flat_map(entries).filter(|entry| entry["method"] == "Resize") {
            let workload = find(&workloads, entry).context("an entry of no workload")?;
            let home = left.iter().find(|n| n.name() == workload.namespace).context("no namespace")?;
            resize(home, workload, entry).await?;
        }
        Ok(Left { release: self, namespaces: left, workloads })
    }

    /// Moves every time, so that the last change was now.
    fn happened_just_now(&mut self) {
        let times = self.policies.iter().flat_map(entries).filter_map(|entry| entry["lastApplied"].as_str());
        let last = times.filter_map(|text| text.parse::<Timestamp>().ok()).max().unwrap_or(Timestamp::UNIX_EPOCH);
        let by = SignedDuration::from_secs(Timestamp::now().as_second() - last.as_second());
        self.policies.iter_mut().chain(&mut self.workloads).for_each(|object| shift(object, by));
    }
}

impl Left {
    /// The workload of a status' entry.
    pub fn workload(&self, entry: &Value) -> Result<&Workload> {
        find(&self.workloads, entry).with_context(|| format!("no workload of {entry}"))
    }
}

/// The entries of a policy's status.
pub fn entries(policy: &Value) -> &[Value] {
    policy["status"]["workloads"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Policies of a namespace as the API server tells them, whatever fields they have.
pub fn raw(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("optipod.io", "v1alpha1", "OptimizationPolicy");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, "optimizationpolicies"))
}

fn documents(path: &Path) -> Result<Vec<Value>> {
    let content = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let all = serde_yaml::Deserializer::from_str(&content).map(|document| Ok(Value::deserialize(document)?));
    all.collect::<Result<_>>().with_context(|| format!("parse {}", path.display()))
}

pub fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn shift(value: &mut Value, by: SignedDuration) {
    match value {
        Value::String(text) => {
            if let Ok(at) = text.parse::<Timestamp>() {
                *text = at.saturating_add(by).map_or_else(|_| text.clone(), |at| at.to_string());
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| shift(one, by)),
        Value::Object(all) => all.values_mut().for_each(|one| shift(one, by)),
        _ => {}
    }
}

fn find<'a>(workloads: &'a [Workload], entry: &Value) -> Option<&'a Workload> {
    let is_it = |w: &&Workload| {
        entry["kind"] == format!("{:?}", w.kind) && entry["namespace"] == w.namespace && entry["name"] == w.name
    };
    workloads.iter().find(is_it)
}

/// Creates a workload as its owner did.
async fn create(home: &Namespace, manifest: &Value) -> Result<Workload> {
    let kind = match manifest["kind"].as_str() {
        Some("Deployment") => Kind::Deployment,
        Some("StatefulSet") => Kind::StatefulSet,
        Some("DaemonSet") => Kind::DaemonSet,
        other => bail!("a workload of kind {other:?}"),
    };
    let workload = Workload::new(home, kind, &text(manifest, "/metadata/name"));
    let mut object: DynamicObject = serde_json::from_value(manifest.clone())?;
    object.metadata.managed_fields = None;
    let owner = PostParams { field_manager: Some("kubectl-create".to_owned()), ..PostParams::default() };
    workload.api().create(&owner, &object).await.with_context(|| format!("create {}", workload.name))?;
    Ok(workload)
}

/// Gives its fields to who had them.
async fn own(workload: &Workload, manifest: &Value) -> Result {
    let fields = &manifest["metadata"]["managedFields"];
    if fields.is_null() {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"metadata": {"managedFields": fields}}));
    let patched = workload.api().patch(&workload.name, &PatchParams::default(), &patch).await?;
    let managers: Vec<_> = patched.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
    let is_there = |entry: &Value| entry["manager"].as_str().is_some_and(|manager| managers.contains(&manager));
    let all = fields.as_array().is_some_and(|entries| entries.iter().all(is_there));
    ensure!(all, "{managers:?} are not the owners of {fields}");
    Ok(())
}

/// A status knows workloads by their uid, and no kill of before they were created.
async fn remember(policy: &mut Value, workloads: &[Workload]) -> Result {
    let entries = policy["status"]["workloads"].as_array_mut().context("a policy without entries")?;
    for entry in entries.iter_mut().filter(|entry| entry["uid"].is_string()) {
        let workload = find(workloads, entry).with_context(|| format!("an entry of no workload: {entry}"))?;
        let object = workload.get().await?;
        entry["uid"] = object.uid().into();
        let created = object.creation_timestamp().context("no creation")?.0 + SignedDuration::from_secs(1);
        let kills = entry.get_mut("oomKills").and_then(Value::as_array_mut);
        for kill in kills.into_iter().flatten() {
            kill["at"] = text(kill, "/at").parse::<Timestamp>()?.max(created).to_string().into();
        }
    }
    Ok(())
}

/// A weight that a policy had before it was edited.
const ONCE: i64 = 7;

/// Creates a policy with its status, of the generation that its status speaks of.
async fn write(client: &Client, policy: &Value) -> Result {
    let (namespace, name) = (text(policy, "/metadata/namespace"), text(policy, "/metadata/name"));
    let api = raw(client, &namespace);
    let meta = json!({"namespace": namespace, "name": name, "finalizers": policy["metadata"]["finalizers"]});
    let mut object = json!({
        "apiVersion": policy["apiVersion"], "kind": policy["kind"], "metadata": meta, "spec": policy["spec"],
    });
    let generation = policy["status"]["observedGeneration"].as_i64();
    if generation == Some(2) {
        object["spec"]["weight"] = ONCE.into();
    }
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    let edit = Patch::Merge(json!({"spec": policy["spec"]}));
    let written = api.patch(&name, &PatchParams::default(), &edit).await?;
    ensure!(written.metadata.generation == generation, "generation {:?}", written.metadata.generation);
    ensure!(written.data["spec"] == policy["spec"], "its own schema makes {}", written.data["spec"]);
    let status = Patch::Merge(json!({"status": policy["status"]}));
    let written = api.patch_status(&name, &PatchParams::default(), &status).await?;
    ensure!(written.data["status"] == policy["status"], "its own schema keeps {}", written.data["status"]);
    Ok(())
}

/// Gives a workload's pods the size that the status says they were brought to, as OptiPod does.
async fn resize(home: &Namespace, workload: &Workload, entry: &Value) -> Result {
    let optipod = PatchParams { field_manager: Some("optipod".to_owned()), ..PatchParams::default() };
    for pod in workload.pods().await? {
        for size in entry["target"].as_array().into_iter().flatten().filter(|_| entry["rolledBack"].is_null()) {
            let mut requests = size.clone();
            requests.as_object_mut().context("no size")?.remove("container");
            let containers = json!([{"name": size["container"], "resources": {"requests": requests}}]);
            let patch = Patch::Strategic(json!({"spec": {"containers": containers}}));
            home.api::<Pod>().patch_resize(&pod.name_any(), &optipod, &patch).await?;
        }
    }
    Ok(())
}
