//! OptiPod as the chart installs it: its accounts, rights, settings and admission policies, TLS and leader election.
//!
//! | file | what it is for |
//! |---|---|
//! | `granted` | the rights that an account has, by the roles and bindings in the cluster |
//! | `asked` | those that it asked for, by the audit log |
//! | `golden` | both are the same, and as documented |
//! | `modes` | the same of the modes that need less |
//! | `limits` | what becomes of policies that move limits |
//! | `tenants` | who may write policies in one namespace |
//!
//! kwok plays the chart's own pods; the roles run as processes of this machine, with the arguments and the ConfigMap of
//! those pods. Only what lies elsewhere here is changed: addresses, files, and the tests' short intervals.

mod asked;
mod granted;

pub mod golden;
pub mod limits;
pub mod modes;
pub mod tenants;

use std::fs;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use optipod::policy::OptimizationPolicy;
use serde_json::json;

use super::door::pki::Authority;
use super::guards::install_vpa;
use super::install::{CONTROLLER, NAMESPACE, RECOMMENDER, account_of};
use super::process::{Optipod, Prepared, Role};
use super::{Once, SOON, once, repository};
use crate::harness::{Cluster, Result, wait_for};
use crate::usage_double::UsageDouble;

/// A control plane with the chart, and its roles at work.
struct Chart {
    cluster: Cluster,
    controller: Optipod,
    _usage: Usage,
}

/// Where the controller has its numbers from.
enum Usage {
    Recommender(Optipod),
    /// Where the chart has no recommender.
    Elsewhere(UsageDouble),
}

/// The tests here share it.
async fn chart() -> Result<&'static Chart> {
    static CHART: Once<Chart> = Once::const_new();
    Box::pin(once(&CHART, Chart::start("full"))).await
}

impl Chart {
    /// What is installed is what `kubectl apply --kustomize deploy/kustomize/overlays/OVERLAY` does. `.ci/deploy` sees to
    /// it that this is what the chart says.
    async fn start(overlay: &str) -> Result<Self> {
        let cluster = Cluster::start_private().await?;
        let rendered = format!("deploy/kustomize/overlays/{overlay}/optipod.yaml");
        for file in ["deploy/kustomize/base/namespace.yaml", "crds/optimizationpolicies.optipod.io.yaml", &rendered] {
            cluster.apply(&repository(file)?).await.with_context(|| format!("apply {file}"))?;
        }
        install_vpa(&cluster).await?;
        wait_in_force(&cluster).await?;
        let usage = if repository(&rendered)?.contains("kind: StatefulSet") {
            let recommender = start_recommender(&cluster).await?;
            recommender.wait_ready().await?;
            Usage::Recommender(recommender)
        } else {
            Usage::Elsewhere(UsageDouble::start(modes::steady).await?)
        };
        let controller = start_controller(&cluster, &usage).await?;
        controller.wait_ready().await?;
        Ok(Self { cluster, controller, _usage: usage })
    }
}

/// What an admission policy forbids is forbidden a little after its creation.
async fn wait_in_force(cluster: &Cluster) -> Result {
    let policy = json!({
        "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy", "metadata": {"name": "elsewhere"},
        "spec": {
            "mode": "Auto", "selector": {"namespaceSelector": {}},
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "4Gi"}},
        },
    });
    let policy: OptimizationPolicy = serde_json::from_value(policy)?;
    let policies: Api<OptimizationPolicy> = Api::namespaced(cluster.client(), "default");
    wait_for("the admission policies to be in force", SOON, || async {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let answer = policies.create(&dry_run, &policy).await;
        let said = answer.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("optipod-policy-scope"), "{said:?}");
        Ok(())
    })
    .await
}

async fn start_recommender(cluster: &Cluster) -> Result<Optipod> {
    let prepared = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?;
    let dir = prepared.dir();
    let authority = Authority::new("chart");
    authority.write(&dir, "ca.crt");
    authority.serving(&dir, "tls");
    let prepared = with_config(cluster, prepared).await?;
    let mut flags = arguments(cluster, "StatefulSet", RECOMMENDER).await?;
    // A test's process has a free port and a folder of its own for these.
    flags.retain(|flag| !["--data-dir=", "--grpc-addr="].iter().any(|ours| flag.starts_with(ours)));
    let here = flags.iter().map(|flag| flag.replace("/etc/optipod-tls", &dir.display().to_string()));
    here.fold(prepared, Prepared::flag).start()
}

async fn start_controller(cluster: &Cluster, usage: &Usage) -> Result<Optipod> {
    let prepared = Optipod::prepare(cluster, Role::Controller, CONTROLLER).await?;
    let dir = prepared.dir();
    let prepared = with_config(cluster, prepared).await?;
    let flags = arguments(cluster, "Deployment", CONTROLLER).await?;
    let recommender = match usage {
        Usage::Recommender(recommender) => recommender,
        // The ConfigMap names a Prometheus that is not here. The API server sees none of it.
        Usage::Elsewhere(server) => {
            let elsewhere = ["--metrics-provider=custom".into(), format!("--custom-provider-addr={}", server.url())];
            return flags.into_iter().chain(elsewhere).fold(prepared, Prepared::flag).start();
        }
    };
    let token = account_of(cluster, CONTROLLER).token_for(&["optipod"]).await?;
    fs::write(dir.join("token"), token)?;
    let mut prepared = prepared;
    for flag in flags {
        let service =
            flag.strip_prefix("--recommender-addr=https://").and_then(|address| address.strip_suffix(":9090"));
        prepared = match service {
            // No DNS here knows the Service; its certificate is still to have that name.
            Some(name) => prepared
                .flag(format!("--recommender-addr=https://127.0.0.1:{}", recommender.grpc_port()))
                .flag(format!("--recommender-server-name={name}")),
            None => prepared.flag(flag),
        };
    }
    // The pod has both where OptiPod looks without being told.
    prepared
        .flag(format!("--recommender-ca-file={}", recommender.dir().join("ca.crt").display()))
        .flag(format!("--recommender-token-file={}", dir.join("token").display()))
        .start()
}

/// With the chart's ConfigMap in its folder.
async fn with_config(cluster: &Cluster, prepared: Prepared) -> Result<Prepared> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), NAMESPACE);
    let map = maps.get("optipod-config").await.context("get the chart's ConfigMap")?;
    for (file, text) in map.data.unwrap_or_default() {
        fs::write(prepared.dir().join(file), text)?;
    }
    let config = prepared.dir().join("config.yaml");
    Ok(prepared.flag(format!("--config={}", config.display())))
}

/// The arguments of the chart's pods, without the role and the ConfigMap.
async fn arguments(cluster: &Cluster, kind: &str, name: &str) -> Result<Vec<String>> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), NAMESPACE, &resource);
    let object = api.get(name).await.with_context(|| format!("get {kind} {name}"))?;
    let container = &object.data["spec"]["template"]["spec"]["containers"][0];
    let all: Vec<String> = serde_json::from_value(container["args"].clone()).context("read its arguments")?;
    ensure!(all.iter().any(|flag| flag == "--config=/etc/optipod/config.yaml"), "{all:?}");
    Ok(all.into_iter().skip(1).filter(|flag| !flag.starts_with("--config=")).collect())
}
