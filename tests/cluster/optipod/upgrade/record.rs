//! Makes the folder of a release: `.ci/release_fixture` runs this, and adds what the store answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::super::SOON;
use super::super::history::{self, Used};
use super::super::in_place::{content, starved};
use super::super::install::{BOTH, install};
use super::super::policy::Policy;
use super::super::process::{Optipod, Role};
use super::super::rollout::recreate_only;
use super::{copy, raw, stop};
use crate::harness::{Cluster, Container, Namespace, Result, Workload};

/// Long enough for slots of an hour and of five minutes.
const PAST: Duration = Duration::from_hours(3);
/// What a policy's `status` is told apart by, of workloads that it covers.
const PART: &str = "part";

/// A short run with something of everything that a status remembers: a resize, a rollout, one that can be undone, a kill
/// for memory, a change that was taken back, a workload that was left alone.
pub async fn the_folder_of_a_release(_: &'static Cluster) -> Result {
    let dir = PathBuf::from(std::env::var_os("OPTIPOD_RELEASE_FIXTURE").context("no OPTIPOD_RELEASE_FIXTURE")?);
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    // Of its own, because the folders of all releases are brought about in one cluster.
    let name: &'static str = format!("release-{}", env!("CARGO_PKG_VERSION").replace('.', "-")).leak();
    let namespace = Namespace::create(cluster.client(), name).await?;
    let settings = Optipod::prepare(&cluster, Role::Run, BOTH).await?;
    let used = |workload| Used { namespace: name, workload, container: "app", cores: 0.2, bytes: f64::from(100 << 20) };
    history::write(&settings.data(), PAST, &[used("web"), used("gone")])?;
    let optipod = settings.clone().start()?;
    let workloads = workloads(&namespace, &optipod).await?;

    happen(&namespace, &optipod, &workloads).await?;

    stop(optipod).await?;
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let answers = json!({"recordedAt": jiff::Timestamp::now().to_string(), "store": "store"});
    fs::write(dir.join("answers.json"), answers.to_string())?;
    write(&dir.join("policies.yaml"), &policies(&namespace).await?)?;
    write(&dir.join("workloads.yaml"), &manifests(&workloads).await?)?;
    let store = dir.join("store");
    if store.exists() {
        fs::remove_dir_all(&store)?;
    }
    copy(&settings.data(), &store)
}

/// Of which usage is known. The one called idle has no pods.
async fn workloads(namespace: &Namespace, optipod: &Optipod) -> Result<Vec<Workload>> {
    // It has no limit, so that a kill is remembered with its request.
    let cache = Container::new("app").requests("100m", "64Mi").usage("60m", "40Mi");
    let all = [
        namespace.deployment("web").replicas(2).container(starved()).label(PART, "resize"),
        namespace.deployment("flaky").container(starved()).label(PART, "resize"),
        namespace.stateful_set("cache").container(cache).label(PART, "resize"),
        namespace.deployment("idle").replicas(0).container(starved()).label(PART, "resize"),
        namespace.deployment("api").replicas(2).container(starved()).container(content()).label(PART, "rollout"),
        namespace.deployment("legacy").container(starved()).label(PART, "restore"),
    ];
    let mut created = Vec::new();
    for workload in all {
        created.push(workload.create().await?);
    }
    for workload in created.iter().filter(|workload| workload.name != "idle") {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "app", 8).await?;
    }
    Ok(created)
}

async fn happen(namespace: &Namespace, optipod: &Optipod, workloads: &[Workload]) -> Result {
    let [web, flaky, cache, idle, api, legacy] = workloads else { anyhow::bail!("other workloads") };
    let killed = cache.pods().await?.first().context("no pod")?.name_any();
    namespace.oom_kill(&killed, "app").await?;
    let mut restore = recreate_only();
    restore["updateStrategy"]["onDelete"] = "Restore".into();
    let mut made = Vec::new();
    for (part, change) in [("resize", json!({})), ("rollout", recreate_only()), ("restore", restore)] {
        let mut change = change;
        change["selector"] = json!({"workloadSelector": {"matchLabels": {PART: part}}});
        made.push(Policy::create(namespace, part, change).await?);
    }
    let [resize, rollout, restore] = &made[..] else { anyhow::bail!("other policies") };
    for (policy, workload) in [(resize, web), (resize, flaky), (resize, cache), (rollout, api), (restore, legacy)] {
        optipod.wait_status(policy, workload, "Applied").await?;
    }
    let sick = flaky.pods().await?.first().context("no pod")?.name_any();
    namespace.crash_loop(&sick, "app").await?;
    optipod.wait_status(resize, flaky, "Skipped RolledBack").await?;
    let entry = resize.entry(cache).await?;
    ensure!(!entry.oom_kills.is_empty(), "{entry:?}");
    ensure!(resize.entry(idle).await?.last_applied.is_none(), "it has no pods");
    for workload in [api, legacy] {
        workload.wait_ready(SOON).await?;
    }
    for policy in &made {
        optipod.wait_cycles(policy, 2).await?;
    }
    Ok(())
}

async fn policies(namespace: &Namespace) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for policy in raw(&namespace.client(), namespace.name()).list(&ListParams::default()).await?.items {
        let mut told = serde_json::to_value(&policy)?;
        let meta = policy.metadata;
        told["metadata"] = json!({"namespace": meta.namespace, "name": meta.name, "generation": meta.generation});
        if let Some(finalizers) = meta.finalizers {
            told["metadata"]["finalizers"] = json!(finalizers);
        }
        told["apiVersion"] = "optipod.io/v1alpha1".into();
        told["kind"] = "OptimizationPolicy".into();
        all.push(told);
    }
    Ok(all)
}

/// With the annotations and the fields that are ours.
async fn manifests(workloads: &[Workload]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for workload in workloads {
        let object = workload.get().await?;
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| key.starts_with("optipod.io/"));
        let mut fields = object.metadata.managed_fields.unwrap_or_default();
        // The rest is Kubernetes' own, which comes by itself.
        fields
            .retain(|entry| entry.subresource.is_none() && entry.manager.as_deref() != Some("kube-controller-manager"));
        let labels = object.metadata.labels;
        let meta = json!({
            "namespace": workload.namespace, "name": workload.name, "labels": labels, "annotations": annotations,
            "managedFields": fields,
        });
        let kind = format!("{:?}", workload.kind);
        all.push(json!({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": object.data["spec"]}));
    }
    Ok(all)
}

fn write(path: &Path, objects: &[Value]) -> Result {
    let documents = objects.iter().map(|object| Ok(serde_yaml::to_string(object)?)).collect::<Result<Vec<String>>>()?;
    fs::write(path, documents.join("---\n")).with_context(|| format!("write {}", path.display()))
}
