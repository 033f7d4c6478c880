//! From every release in `tests/fixtures/releases/` to this version, and back again.
//!
//! | file | what it is for |
//! |---|---|
//! | `release` | reads a folder, and brings about in a cluster what it says |
//! | `holds` | what must be as it was |
//! | `record` | makes the folder of a release |
//!
//! What the stores answer is held by `tests/recommender/releases/`, at the time when they were written.

mod holds;
pub mod record;
mod release;

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::explain::optipod;
use super::install::{CONTROLLER, RECOMMENDER, install, printed_crd};
use super::process::{Optipod, Role};
use super::{SOON, election};
use crate::harness::{Cluster, Result, wait_for};
use holds::{controller_changed_nothing, is_kept, is_restored, still_says};
use release::{Left, Release, entries, raw, text};

pub async fn every_release_is_upgraded_and_loses_no_status_and_back_again(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    let mut all = Vec::new();
    for release in Release::all()? {
        let dir = release.dir.clone();
        serve(&cluster, release.crd()?, &release.policies[0]).await?;
        all.push(release.bring_about(&cluster).await.with_context(|| format!("{}", dir.display()))?);
    }

    println!("upgrade: {} releases are in the cluster, with their CRDs, policies, status and stores", all.len());
    upgrade(&cluster, &all).await?;
    let recommender = open_stores(&cluster, &all).await?;
    for left in &all {
        use_more(left, &recommender).await?;
    }
    let controller = start_controller(&cluster, &recommender).await?;
    for left in &all {
        is_kept(left, &controller).await?;
        println!("upgrade: {} to this version: history, status and cooldowns are kept", name(left));
    }
    controller_changed_nothing(&cluster)?;
    stop(controller).await?;

    for left in &all {
        let before = told(left).await?;
        serve(&cluster, left.release.crd()?, &left.release.policies[0]).await?;
        still_says(left, &before).await?;
        println!("upgrade: back to the CRD of {}: it says what it said", name(left));
    }

    upgrade(&cluster, &all).await?;
    let controller = start_controller(&cluster, &recommender).await?;
    for left in &all {
        is_kept(left, &controller).await?;
    }
    controller_changed_nothing(&cluster)?;
    for left in &all {
        is_restored(left, &controller).await?;
        println!("upgrade: {} once more: all kept, and its changes can be put back", name(left));
    }
    stop(controller).await
}

fn name(left: &Left) -> String {
    left.release.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// As the chart does: the CRD over the one that is there, the roles, then the processes.
async fn upgrade(cluster: &Cluster, all: &[Left]) -> Result {
    let crd = serde_yaml::Deserializer::from_str(&printed_crd().await?).map(Value::deserialize).last();
    let some_policy = &all.last().context("no release")?.release.policies[0];
    serve(cluster, crd.context("no CRD")??, some_policy).await?;
    install(cluster).await
}

/// Applies a CRD and waits until the API server goes by it, which a field shows that no other has.
async fn serve(cluster: &Cluster, mut crd: Value, some_policy: &Value) -> Result {
    let mark = format!("mark{}", jiff::Timestamp::now().as_millisecond());
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = crd.pointer_mut(spec).and_then(Value::as_object_mut).context("a CRD without a schema")?;
    fields.insert(mark.clone(), json!({"type": "string"}));
    cluster.apply(&crd.to_string()).await.context("apply the CRD")?;
    let mut probe = some_policy.clone();
    probe["spec"][&mark] = "here".into();
    probe["metadata"] = json!({"name": "probe"});
    let api = raw(&cluster.client(), "default");
    let probe = serde_json::from_value(probe)?;
    wait_for("the schema to be served", SOON, || async {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let answer = api.create(&dry_run, &probe).await?;
        ensure!(answer.data["spec"][&mark].is_string(), "another schema is served");
        Ok(())
    })
    .await
}

/// Opens every store with today's recommender; the last goes on. It is given the past of the workloads, as a file.
async fn open_stores(cluster: &Cluster, all: &[Left]) -> Result<Optipod> {
    let mut running: Option<Optipod> = None;
    for left in all {
        if let Some(before) = running.take() {
            stop(before).await?;
        }
        let prepared = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?;
        copy(&left.release.store()?, &prepared.data())?;
        let past = prepared.dir().join("past.csv");
        fs::write(&past, past_of(all)?)?;
        let (data, past) = (prepared.data().display().to_string(), past.display().to_string());
        optipod(cluster, &["store", "verify", &data]).await?;
        optipod(cluster, &["store", "import", &data, &past]).await?;
        let recommender = prepared.start()?;
        recommender.wait_ready().await?;
        recommender.wait_whole().await?;
        running = Some(recommender);
    }
    running.context("no release")
}

/// A day and more of CPU and memory beyond what the changed workloads have.
fn past_of(all: &[Left]) -> Result<String> {
    let now = jiff::Timestamp::now().as_second();
    let mut lines = vec!["time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes".to_owned()];
    for at in (now - 26 * 3600..now).step_by(300) {
        for entry in all.iter().flat_map(|left| &left.release.policies).flat_map(changed) {
            let [kind, namespace, name] = ["/kind", "/namespace", "/name"].map(|field| text(entry, field));
            for size in entry["target"].as_array().context("a change without a target")? {
                let container = text(size, "/container");
                lines.push(format!("{at},{namespace},{kind},{name},{container},past,0.4,{}", 300 << 20));
            }
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// The entries of workloads that were changed, and not back again.
fn changed(policy: &Value) -> impl Iterator<Item = &Value> {
    entries(policy).iter().filter(|entry| entry["lastApplied"].is_string() && entry["rolledBack"].is_null())
}

/// What was changed uses more from now on, so that only the cooldown keeps it from being changed again.
async fn use_more(left: &Left, recommender: &Optipod) -> Result {
    for entry in left.release.policies.iter().flat_map(changed) {
        let workload = left.workload(entry)?;
        let home = left.namespaces.iter().find(|n| n.name() == workload.namespace).context("no namespace")?;
        for size in entry["target"].as_array().into_iter().flatten() {
            let container = text(size, "/container");
            for pod in workload.pods().await? {
                for (resource, amount) in [("cpu", "400m"), ("memory", "300Mi")] {
                    let key = format!("usage/{resource}.{container}");
                    home.annotate_pod(&pod.name_any(), &key, Some(amount)).await?;
                }
            }
            let more = || async {
                let memory = recommender.usage(workload, &container).await?.memory.unwrap_or_default();
                ensure!(memory.peak > 299.0 * f64::from(1 << 20) && memory.samples >= 8, "{memory:?}");
                Ok(())
            };
            recommender.wait_for(format!("more usage of {}", workload.name), more).await?;
        }
    }
    Ok(())
}

async fn start_controller(cluster: &Cluster, recommender: &Optipod) -> Result<Optipod> {
    let controller = Optipod::prepare(cluster, Role::Controller, CONTROLLER).await?;
    let controller = controller.asking(recommender).start()?;
    controller.wait_ready().await?;
    Ok(controller)
}

async fn stop(process: Optipod) -> Result {
    let (status, took) = process.terminate().await?;
    ensure!(status.code() == Some(0) && took < election::STOPS_WITHIN, "{status} after {took:?}");
    Ok(())
}

/// The release's policies as they are told now.
async fn told(left: &Left) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for policy in &left.release.policies {
        let (namespace, name) = (text(policy, "/metadata/namespace"), text(policy, "/metadata/name"));
        let client = left.namespaces.first().context("no namespace")?.client();
        all.push(serde_json::to_value(raw(&client, &namespace).get(&name).await?)?);
    }
    Ok(all)
}

/// Merges a change into a policy's spec.
async fn edit(left: &Left, policy: &Value, change: Value) -> Result {
    let client = left.namespaces.first().context("no namespace")?.client();
    let api = raw(&client, &text(policy, "/metadata/namespace"));
    let patch = Patch::Merge(json!({ "spec": change }));
    api.patch(&text(policy, "/metadata/name"), &PatchParams::default(), &patch).await?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else if path.is_file() {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
