//! Where OptiPod lacks a right.

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use super::in_place::{ensure_is_resized, starved};
use super::install::{BRAKE, CONTROLLER, NAMESPACE, RECOMMENDER, account_of, install};
use super::look::versions;
use super::policy::Policy;
use super::process::{Optipod, Role};
use super::{SOON, repository};
use crate::harness::{Cluster, Result};

const LIMITED: &str = "limited";

pub async fn without_the_right_to_resize_it_says_so_and_serves_other_namespaces(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let closed = cluster.namespace("closed").await?;
    let open = cluster.namespace("open").await?;
    limited_account(&cluster).await?;
    open.apply(&may_resize_here()).await.context("grant pods/resize in one namespace")?;
    let optipod = Optipod::prepare(&cluster, Role::Run, LIMITED).await?.start()?;
    let untouchable = closed.deployment("web").container(starved()).create().await?;
    let other = open.deployment("web").container(starved()).create().await?;
    for web in [&untouchable, &other] {
        web.wait_ready(SOON).await?;
        optipod.wait_usage(web, "app", 8).await?;
    }
    let before = versions(&untouchable).await?;

    let refused = Policy::create(&closed, "all", json!({})).await?;
    let served = Policy::create(&open, "all", json!({})).await?;

    let entry = optipod.wait_status(&refused, &untouchable, "Skipped ResizeForbidden").await?;
    let message = entry.message.unwrap_or_default();
    assert!(message.contains("may not patch pods/resize"), "{message}");
    assert_eq!(entry.recommendations.len(), 1, "it is recommended all the same");
    let event = optipod.wait_event(&closed, "web", "ResizeForbidden").await?;
    assert_eq!((event.type_.as_deref(), event.action.as_deref()), (Some("Warning"), Some("Hold")));
    let entry = optipod.wait_status(&served, &other, "Applied").await?;
    ensure_is_resized(&other, &entry).await?;
    optipod.wait_cycles(&refused, 2).await?;
    assert_eq!(versions(&untouchable).await?, before);
    assert_eq!(refused.condition("Ready").await?, "True PolicyValid");
    Ok(())
}

/// An account with everything that `deploy/rbac.yaml` gives but `pods/resize`.
async fn limited_account(cluster: &Cluster) -> Result {
    let manifest = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": LIMITED, "namespace": NAMESPACE},
    });
    cluster.apply(&manifest.to_string()).await?;
    let account = account_of(cluster, LIMITED);
    account.bind_cluster_role(RECOMMENDER).await?;
    account.bind_role(BRAKE).await?;
    let mut rules = rules_of(CONTROLLER)?;
    let all = rules.len();
    rules.retain(|rule| rule["resources"] != json!(["pods/resize"]));
    assert_eq!(rules.len(), all - 1, "the role has one rule for pods/resize");
    account.allow_everywhere(Value::Array(rules)).await
}

/// The rules of a ClusterRole in `deploy/rbac.yaml`.
fn rules_of(role: &str) -> Result<Vec<Value>> {
    let text = repository("deploy/rbac.yaml")?;
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    let documents = documents.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut roles = documents.iter().filter(|object| object["kind"] == "ClusterRole");
    let found = roles.find(|object| object["metadata"]["name"] == role).context("no such ClusterRole")?;
    Ok(found["rules"].as_array().context("no rules")?.clone())
}

fn may_resize_here() -> String {
    format!(
        r#"
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata: {{name: resize}}
        rules: [{{apiGroups: [""], resources: [pods/resize], verbs: [patch]}}]
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: RoleBinding
        metadata: {{name: resize}}
        roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: resize}}
        subjects: [{{kind: ServiceAccount, name: {LIMITED}, namespace: {NAMESPACE}}}]
        "#
    )
}
