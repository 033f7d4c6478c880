//! What the API server refuses and serves.

use anyhow::{Context, ensure};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{SOON, refusal, web};
use crate::harness::{Cluster, Namespace, Result, actual_requests, wait_for};

pub async fn an_apply_of_another_managers_field_conflicts(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("conflict").await?;
    let manifest = |cpu: &str| {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{
                        "name": "app",
                        "image": "test.invalid/app",
                        "resources": {"requests": {"cpu": cpu}},
                    }]},
                },
            },
        })
        .to_string()
    };
    namespace.apply_as("owner", &manifest("200m")).await?;

    let refused = namespace.apply_as("other", &manifest("100m")).await;

    let refused = refused.err().context("the apply went through")?;
    let error = refused.downcast::<kube::Error>()?;
    let (code, _) = refusal::<()>(Err(error))?;
    assert_eq!(code, 409);
    Ok(())
}

pub async fn a_forced_apply_takes_the_field_and_rolls_the_pods(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("force").await?;
    let web = web(&namespace, 2).await?;
    let before = web.wait_ready(SOON).await?;

    let requests = json!({"requests": {"cpu": "100m"}});
    let apply = Patch::Apply(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "app", "resources": requests}]}}},
    }));
    let params = PatchParams::apply("other").force();
    web.api().patch(&web.name, &params, &apply).await?;

    let after = web.wait_ready(SOON).await?;
    assert_ne!(before[0].name_any(), after[0].name_any());
    assert_eq!(actual_requests(&after[0], "app")?["cpu"], "100m");
    let template = web.template_requests("app").await?;
    assert_eq!(template, json!({"cpu": "100m", "memory": "128Mi"}));
    assert_eq!(web.generation().await?, 2);
    let managers = web.field_managers().await?;
    assert!(managers.contains(&"other".to_owned()), "{managers:?}");
    Ok(())
}

pub async fn a_quota_and_a_limit_range_bound_a_resize(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("bounds").await?;
    namespace
        .apply(
            r"
            apiVersion: v1
            kind: ResourceQuota
            metadata: {name: quota}
            spec: {hard: {requests.cpu: 300m}}
            ---
            apiVersion: v1
            kind: LimitRange
            metadata: {name: range}
            spec: {limits: [{type: Container, min: {cpu: 50m}}]}
            ",
        )
        .await?;
    let web = web(&namespace, 1).await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    wait_for_used_cpu(&namespace, "200m").await?;

    for (cpu, message) in [("400m", "exceeded quota"), ("40m", "minimum cpu usage per Container")] {
        let answer = namespace.resize(&pod, "app", json!({"cpu": cpu})).await;
        let refused = answer.err().context("the resize went through")?;
        assert!(refused.to_string().contains(message), "{refused}");
        assert_eq!(refusal::<()>(Err(refused))?.0, 403);
    }

    namespace.resize(&pod, "app", json!({"cpu": "250m"})).await?;
    wait_for_used_cpu(&namespace, "250m").await
}

async fn wait_for_used_cpu(namespace: &Namespace, cpu: &str) -> Result {
    let quotas: Api<ResourceQuota> = namespace.api();
    wait_for(format!("{cpu} of the quota to be used"), SOON, || async {
        let status = quotas.get("quota").await?.status.unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let used = used.get("requests.cpu").map(|quantity| &quantity.0);
        ensure!(used.is_some_and(|used| used == cpu), "{used:?}");
        Ok(())
    })
    .await
}

pub async fn a_service_account_is_limited_to_its_role(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("access").await?;
    let account = namespace.service_account("reader").await?;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]);
    account.allow_here(rules).await?;

    let client = cluster.client_for_token(&account.token().await?).await?;

    let here = namespace.name();
    wait_for("the role to be in force", SOON, || async {
        ensure!(may(&client, here, "list", "").await?, "not yet");
        Ok(())
    })
    .await?;
    assert!(!may(&client, here, "patch", "resize").await?);
    assert!(!may(&client, "default", "list", "").await?);
    let pods: Api<Pod> = Api::namespaced(client.clone(), here);
    pods.list(&ListParams::default()).await?;
    let refused = pods.delete("none", &DeleteParams::default()).await;
    assert_eq!(refusal(refused)?, (403, "Forbidden".to_owned()));

    account.bind_cluster_role("view").await?;
    wait_for("the role to be in force everywhere", SOON, || async {
        ensure!(may(&client, "default", "list", "").await?, "not yet");
        Ok(())
    })
    .await
}

pub async fn a_custom_resource_is_served_after_its_definition(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("custom").await?;
    cluster
        .apply(
            r"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata: {name: widgets.contract.test}
            spec:
              group: contract.test
              scope: Namespaced
              names: {kind: Widget, plural: widgets}
              versions:
              - name: v1
                served: true
                storage: true
                schema:
                  openAPIV3Schema:
                    type: object
                    properties:
                      size: {type: integer, x-kubernetes-validations: [{rule: self < 10, message: too big}]}
            ",
        )
        .await?;

    let widget = |size| format!("{{apiVersion: contract.test/v1, kind: Widget, metadata: {{name: w}}, size: {size}}}");
    let made: Vec<DynamicObject> = namespace.apply(&widget(9)).await?;

    assert_eq!(made[0].data["size"], 9);
    let refused = namespace.apply(&widget(10)).await.err().context("accepted")?;
    assert!(format!("{refused:#}").contains("too big"), "{refused:#}");
    Ok(())
}

async fn may(client: &Client, namespace: &str, verb: &str, subresource: &str) -> Result<bool> {
    let review = json!({"spec": {"resourceAttributes": {
        "namespace": namespace, "verb": verb, "resource": "pods", "subresource": subresource,
    }}});
    let review: SelfSubjectAccessReview = serde_json::from_value(review)?;
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer: Value = serde_json::to_value(api.create(&PostParams::default(), &review).await?)?;
    Ok(answer["status"]["allowed"] == json!(true))
}
