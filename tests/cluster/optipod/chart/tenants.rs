//! Who may write policies in one namespace reaches no other.

use anyhow::ensure;
use serde_json::{Value, json};

use super::super::SOON;
use super::super::in_place::{ensure_is_resized, starved};
use super::super::look::versions;
use super::super::policy::Policy;
use super::chart;
use crate::harness::{Cluster, Namespace, Result};

const SCOPE: &str = "a policy outside optipod-system acts on its own namespace only";

pub async fn a_tenant_writes_policies_for_their_own_namespace_and_affects_no_other(_: &'static Cluster) -> Result {
    let chart = chart().await?;
    let (own, other) = (chart.cluster.namespace("tenant").await?, chart.cluster.namespace("neighbour").await?);
    let account = own.service_account("tenant").await?;
    let verbs = ["create", "get", "list", "watch", "update", "patch", "delete"];
    let rule = json!({"apiGroups": ["optipod.io"], "resources": ["optimizationpolicies"], "verbs": verbs});
    account.allow_here(json!([rule])).await?;
    let tenant = chart.cluster.client_for_token(&account.token().await?).await?;
    let mut workloads = Vec::new();
    for namespace in [&own, &other] {
        let web = namespace.deployment("web").container(starved()).create().await?;
        web.wait_ready(SOON).await?;
        workloads.push(web);
    }
    let [web, neighbours] = &workloads[..] else { unreachable!("one in each namespace") };
    let before = versions(neighbours).await?;

    let create = async |namespace: &Namespace, name: &str, selector: Value| {
        Policy::create_as(tenant.clone(), namespace, name, json!({ "selector": selector })).await
    };
    let refused = async |namespace: &Namespace, selector: Value, part: &str| {
        let answer = create(namespace, "reaches-out", selector.clone()).await;
        let said = answer.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(said.contains(part), "{selector} in {}: expected {part:?}, got {said:?}", namespace.name());
        Ok(())
    };
    let forbidden = "cannot create resource \"optimizationpolicies\"";
    refused(&other, json!({}), forbidden).await?;
    refused(&own, json!({"namespaces": {"allow": [own.name(), other.name()]}}), SCOPE).await?;
    refused(&own, json!({"namespaces": null, "namespaceSelector": {}}), SCOPE).await?;

    // Every workload of the cluster has these labels, as far as the selector goes.
    let everything = json!({"namespaces": null, "workloadSelector": {"matchLabels": {"app": "web"}}});
    let policy = create(&own, "everything", everything).await?;
    let entry = chart.controller.wait_status(&policy, web, "Applied").await?;
    ensure_is_resized(web, &entry).await?;
    chart.controller.wait_cycles(&policy, 2).await?;
    let named: Vec<_> = policy.status().await?.workloads.into_iter().map(|entry| entry.namespace).collect();
    assert_eq!(named, [own.name()]);
    ensure!(versions(neighbours).await? == before, "the neighbour's Deployment or pod was changed");
    Ok(())
}
