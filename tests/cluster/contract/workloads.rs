//! Nodes, workloads and pods.

use anyhow::{Context, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{SOON, wait_for_requests, web};
use crate::harness::{
    Cluster, Container, Result, Server, actual_requests, container_status, is_ready, requests, restart_count, wait_for,
};

pub async fn nodes_are_ready(server: &Server) -> Result {
    let nodes: Api<Node> = Api::all(server.client());

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

pub async fn a_deployments_pods_become_ready(server: &Server) -> Result {
    let namespace = server.namespace("deployment").await?;

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

pub async fn a_stateful_set_and_a_daemon_set_become_ready(server: &Server) -> Result {
    let namespace = server.namespace("sets").await?;

    let db = namespace.stateful_set("db").replicas(2);
    let db = db.container(Container::new("db")).create().await?;
    let agent = namespace.daemon_set("agent");
    let agent = agent.container(Container::new("agent")).create().await?;

    let names = |pods: Vec<Pod>| pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    assert_eq!(names(db.wait_ready(SOON).await?), ["db-0", "db-1"]);
    assert_eq!(agent.wait_ready(SOON).await?.len(), 3, "one on each node");
    Ok(())
}

pub async fn a_pod_starts_as_late_as_it_is_annotated(server: &Server) -> Result {
    let namespace = server.namespace("late").await?;
    let web = namespace.deployment("web").container(Container::new("app"));
    let web = web.pod_annotation("start/delay", "2s").create().await?;

    wait_for("the pod to be scheduled", SOON, || async {
        let pods = web.pods().await?;
        let pod = pods.first().context("no pod yet")?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        ensure!(node.is_some(), "it has no node");
        assert!(!is_ready(pod), "Ready at once");
        Ok(())
    })
    .await?;

    web.wait_ready(SOON).await?;
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
    namespace.resize(&name, "app", json!({"cpu": "150m"})).await?;
    let pod = wait_for_requests(&namespace, &name, "app", "150m", "128Mi").await?;
    assert_eq!(restart_count(&pod, "app")?, 2);
    Ok(())
}

pub async fn an_apply_of_the_template_rolls_the_pods(server: &Server) -> Result {
    let namespace = server.namespace("force").await?;
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
