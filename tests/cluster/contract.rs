//! What OptiPod's tests take for granted of the control plane, shown without
//! OptiPod: when one of these fails, the tests of OptiPod mean nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{
    Cluster, ComponentName, Container, Namespace, Result, Workload, actual_requests,
    container_status, is_ready, requests, restart_count, wait_for,
};

/// For what a few processes on this machine do among themselves; generous,
/// because the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

pub async fn nodes_are_ready(cluster: &'static Cluster) -> Result {
    let nodes: Api<Node> = Api::all(cluster.client());

    let nodes = nodes.list(&ListParams::default()).await?.items;

    let names: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["node-0", "node-1", "node-2"]);
    for node in nodes {
        let status = node.status.context("a node without status")?;
        let allocatable = status.allocatable.unwrap_or_default();
        assert_eq!(allocatable["cpu"].0, "64");
        let mut conditions = status.conditions.unwrap_or_default().into_iter();
        assert!(conditions.any(|c| c.type_ == "Ready" && c.status == "True"));
    }
    Ok(())
}

pub async fn a_deployments_pods_become_ready(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("deployment").await?;

    let web = web(&namespace, 3).await?;

    let pods = web.wait_ready(SOON).await?;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        assert_eq!(requests(pod, "app")?["cpu"], "200m");
        assert_eq!(actual_requests(pod, "app")?["memory"], "128Mi");
        assert_eq!(restart_count(pod, "app")?, 0);
    }
    Ok(())
}

pub async fn a_stateful_set_and_a_daemon_set_become_ready(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("sets").await?;

    let db = namespace.stateful_set("db").replicas(2);
    let db = db.container(Container::new("db")).create().await?;
    let agent = namespace.daemon_set("agent");
    let agent = agent.container(Container::new("agent")).create().await?;

    let names = |pods: Vec<Pod>| pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(db.wait_ready(SOON).await?), ["db-0", "db-1"]);
    assert_eq!(agent.wait_ready(SOON).await?.len(), 3, "one on each node");
    Ok(())
}

pub async fn a_jobs_pod_completes(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("job").await?;

    namespace
        .apply(
            r"
            apiVersion: batch/v1
            kind: Job
            metadata: {name: once}
            spec:
              template:
                metadata: {annotations: {run/complete-after: 100ms}}
                spec:
                  restartPolicy: Never
                  containers: [{name: work, image: test.invalid/work}]
            ",
        )
        .await?;

    let jobs: Api<Job> = namespace.api();
    wait_for("the Job to succeed", SOON, || async {
        let status = jobs.get("once").await?.status.unwrap_or_default();
        ensure!(status.succeeded == Some(1), "{status:?}");
        Ok(())
    })
    .await
}

pub async fn metrics_list_the_usage_that_pods_are_annotated_with(
    cluster: &'static Cluster,
) -> Result {
    let namespace = cluster.namespace("usage").await?;
    let two = namespace.deployment("two").replicas(2);
    let two = two
        .container(Container::new("app").usage("250m", "90Mi"))
        .container(Container::new("sidecar").usage("20m", "16Mi"));

    let two = two.create().await?;

    let pods = two.wait_ready(SOON).await?;
    for pod in pods {
        wait_for_usage(&namespace, &pod.name_any(), "app", 250, 90).await?;
        wait_for_usage(&namespace, &pod.name_any(), "sidecar", 20, 16).await?;
    }
    Ok(())
}

pub async fn changed_usage_is_listed(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("usage-change").await?;
    let web = web(&namespace, 1).await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    wait_for_usage(&namespace, &pod, "app", 70, 64).await?;

    namespace
        .annotate_pod(&pod, "usage/cpu.app", Some("700m"))
        .await?;
    namespace
        .annotate_pod(&pod, "usage/memory.app", Some("100Mi"))
        .await?;

    wait_for_usage(&namespace, &pod, "app", 700, 100).await
}

pub async fn a_resize_is_actuated_and_leaves_the_template_alone(
    cluster: &'static Cluster,
) -> Result {
    let namespace = cluster.namespace("resize").await?;
    let web = web(&namespace, 2).await?;
    let pods = web.wait_ready(SOON).await?;
    let (generation, template) = (web.generation().await?, web.template().await?);
    let pod = pods[0].name_any();

    let wanted = json!({"cpu": "150m", "memory": "96Mi"});
    namespace.resize(&pod, "app", wanted).await?;

    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "96Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 0);
    assert_eq!(condition(&resized, "PodResizeInProgress"), None);
    let limits = &container_status(&resized, "app")?.resources;
    let limits = limits
        .as_ref()
        .and_then(|r| r.limits.clone())
        .unwrap_or_default();
    assert_eq!(limits["cpu"].0, "500m", "limits stay");
    assert_eq!(web.generation().await?, generation);
    assert_eq!(web.template().await?, template);
    let other = namespace.pod(&pods[1].name_any()).await?;
    assert_eq!(actual_requests(&other, "app")?["cpu"], "200m");
    Ok(())
}

pub async fn a_resize_restarts_a_container_whose_policy_says_so(
    cluster: &'static Cluster,
) -> Result {
    let namespace = cluster.namespace("restart").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web");
    let web = web.container(app.restarts_on_resize_of("memory"));
    let web = web.create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace
        .resize(&pod, "app", json!({"cpu": "150m"}))
        .await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 0);

    namespace
        .resize(&pod, "app", json!({"memory": "96Mi"}))
        .await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "96Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 1);
    Ok(())
}

pub async fn a_held_resize_is_pending_until_released(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("hold").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app);
    let web = web
        .pod_annotation("resize/hold", "Deferred")
        .create()
        .await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace
        .resize(&pod, "app", json!({"cpu": "150m"}))
        .await?;

    wait_for("the resize to be Deferred", SOON, || async {
        let reason = condition(&namespace.pod(&pod).await?, "PodResizePending");
        ensure!(reason.as_deref() == Some("Deferred"), "{reason:?}");
        Ok(())
    })
    .await?;
    let held = namespace.pod(&pod).await?;
    assert_eq!(actual_requests(&held, "app")?["cpu"], "200m");

    namespace.annotate_pod(&pod, "resize/hold", None).await?;

    let released = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(condition(&released, "PodResizePending"), None);
    Ok(())
}

pub async fn a_resize_above_the_nodes_capacity_is_refused(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("capacity").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    let answer = namespace.resize(&pod, "app", json!({"cpu": "65"})).await;

    assert_eq!(refusal(answer)?, (403, "Forbidden".to_owned()));
    Ok(())
}

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
    let pods: Api<Pod> = Api::namespaced(client, here);
    pods.list(&ListParams::default()).await?;
    let refused = pods
        .delete("none", &kube::api::DeleteParams::default())
        .await;
    assert_eq!(refusal(refused)?, (403, "Forbidden".to_owned()));
    Ok(())
}

pub async fn an_oom_kill_and_a_crash_loop_are_reported(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("faults").await?;
    let web = web(&namespace, 1).await?;
    let name = web.wait_ready(SOON).await?[0].name_any();

    namespace.oom_kill(&name, "app").await?;
    let pod = namespace.pod(&name).await?;
    let last = container_status(&pod, "app")?.last_state.clone();
    let last = last.and_then(|s| s.terminated).context("nothing ended")?;
    assert_eq!(last.reason.as_deref(), Some("OOMKilled"));
    assert_eq!((restart_count(&pod, "app")?, is_ready(&pod)), (1, true));

    namespace.crash_loop(&name, "app").await?;
    let pod = namespace.pod(&name).await?;
    assert_eq!((restart_count(&pod, "app")?, is_ready(&pod)), (2, false));

    // A resize after it keeps what was reported.
    namespace
        .resize(&name, "app", json!({"cpu": "150m"}))
        .await?;
    let pod = wait_for_requests(&namespace, &name, "app", "150m", "128Mi").await?;
    assert_eq!(restart_count(&pod, "app")?, 2);
    Ok(())
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

    let widget = |size| {
        format!(
            "{{apiVersion: contract.test/v1, kind: Widget, metadata: {{name: w}}, size: {size}}}"
        )
    };
    let made: Vec<DynamicObject> = namespace.apply(&widget(9)).await?;

    assert_eq!(made[0].data["size"], 9);
    let refused = namespace
        .apply(&widget(10))
        .await
        .err()
        .context("accepted")?;
    assert!(format!("{refused:#}").contains("too big"), "{refused:#}");
    Ok(())
}

pub async fn an_outage_of_metrics_server_is_seen_and_ends(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    let namespace = cluster.namespace("outage").await?;
    let answers = || async { namespace.usage().await.map(|_| ()) };
    wait_for("metrics to be served", SOON, answers).await?;

    cluster.kill_component(ComponentName::MetricsServer);

    let refused = namespace.usage().await.err().context("still served")?;
    let (code, _) = refusal::<()>(Err(refused.downcast()?))?;
    assert_eq!(code, 503);

    cluster.start_component(ComponentName::MetricsServer)?;
    wait_for("metrics to be served again", SOON, answers).await
}

/// A Deployment with one Burstable container `app` that uses 70m and 64Mi.
async fn web(namespace: &Namespace, replicas: u32) -> Result<Workload> {
    let app = Container::new("app")
        .requests("200m", "128Mi")
        .limits("500m", "256Mi")
        .usage("70m", "64Mi");
    let web = namespace.deployment("web").replicas(replicas);
    web.container(app).create().await
}

/// Waits until metrics-server lists this usage, in millicores (within 5 %: it
/// divides a counter by the time between two scrapes) and MiB.
async fn wait_for_usage(
    namespace: &Namespace,
    pod: &str,
    container: &str,
    millicores: u64,
    mebibytes: u64,
) -> Result {
    let what = format!("{container} of {pod} to use {millicores}m and {mebibytes}Mi");
    wait_for(what, SOON, || async {
        let usage = namespace.usage().await?;
        let usage = usage.get(pod).and_then(|all| all.get(container));
        let usage = usage.context("not listed")?;
        let seen = usage.millicores()?;
        ensure!(seen.abs_diff(millicores) * 20 <= millicores, "{usage:?}");
        ensure!(usage.bytes()? == mebibytes << 20, "{usage:?}");
        Ok(())
    })
    .await
}

async fn wait_for_requests(
    namespace: &Namespace,
    pod: &str,
    container: &str,
    cpu: &str,
    memory: &str,
) -> Result<Pod> {
    let what = format!("{container} of {pod} to have {cpu} and {memory}");
    wait_for(what, SOON, || async {
        let pod = namespace.pod(pod).await?;
        let actual = actual_requests(&pod, container)?;
        ensure!(
            actual["cpu"] == cpu && actual["memory"] == memory,
            "{actual:?}"
        );
        Ok(pod)
    })
    .await
}

/// The reason of a condition that is True; "" where it has none.
fn condition(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == "True")?;
    Some(found.reason.clone().unwrap_or_default())
}

/// Code and reason of the API server's refusal.
fn refusal<T>(answer: kube::Result<T>) -> Result<(u16, String)> {
    match answer {
        Err(kube::Error::Api(status)) => Ok((status.code, status.reason.clone())),
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("the API server accepted it"),
    }
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
