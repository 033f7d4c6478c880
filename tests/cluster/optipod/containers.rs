//! What a pod has beside its template's containers: injected containers, init
//! containers, native sidecars, resources of its own.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use optipod::policy::types::WorkloadStatus;
use serde_json::{Value, json};

use super::guards::{held, known};
use super::history::Used;
use super::in_place::{ensure_is_resized, numbers, starved, target};
use super::look::{Requests, ensure_resized, untouched};
use super::policy::Policy;
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload, requests, wait_for};

/// A namespace whose Deployments `resize` and `roll` have a native sidecar, `mesh`.
const INIT: &str = "init-containers";

/// kwok plays no usage of init containers, which kubelets report of native sidecars; so it is put into the store.
pub fn used_by_sidecars() -> [Used; 2] {
    ["resize", "roll"].map(|workload| Used {
        namespace: INIT,
        workload,
        container: "mesh",
        cores: 0.3,
        bytes: f64::from(200 << 20),
    })
}

/// A policy for the workloads with the label `how: <name>`.
async fn policy(namespace: &Namespace, name: &str, update_strategy: Value) -> Result<Policy> {
    let selector = json!({"workloadSelector": {"matchLabels": {"how": name}}});
    // The hour holds what is in the store from before.
    let change =
        json!({"selector": selector, "updateStrategy": update_strategy, "metricsConfig": {"rollingWindow": "1h"}});
    Policy::create(namespace, name, change).await
}

async fn resizing(namespace: &Namespace) -> Result<Policy> {
    policy(namespace, "resize", json!({})).await
}

async fn rolling(namespace: &Namespace) -> Result<Policy> {
    policy(namespace, "roll", json!({"allowInPlaceResize": false, "allowRecreate": true})).await
}

fn names(entry: &WorkloadStatus) -> (Vec<&str>, Vec<&str>) {
    let recommended = entry.recommendations.iter().map(|one| one.container.as_str()).collect();
    (recommended, entry.target.iter().map(|size| size.container.as_str()).collect())
}

/// Adds a container to every pod that is created in the namespace, as a mesh does.
async fn inject(cluster: &Cluster, namespace: &Namespace) -> Result {
    let name = format!("inject-{}", namespace.name());
    let here = namespace.name();
    let mesh = "Object.spec.containers{name: 'mesh', image: 'test.invalid/mesh:1', \
                resources: Object.spec.containers.resources{requests: {'cpu': '50m', 'memory': '32Mi'}}}";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]},
            "mutations": [{"patchType": "ApplyConfiguration",
                "applyConfiguration": {"expression": format!("Object{{spec: Object.spec{{containers: [{mesh}]}}}}")}}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": here}}}},
    });
    cluster.apply(&policy.to_string()).await?;
    cluster.apply(&binding.to_string()).await?;
    let probe: Pod = serde_json::from_value(json!({"metadata": {"name": "probe"},
        "spec": {"containers": [{"name": "app", "image": "test.invalid/app:1"}]}}))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    wait_for("the injection to be in force", SOON, || async {
        let pod = namespace.api::<Pod>().create(&dry, &probe).await?;
        ensure!(pod.spec.is_some_and(|spec| spec.containers.len() == 2), "not yet");
        Ok(())
    })
    .await
}

pub async fn an_injected_container_is_resized_and_never_applied(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("injected").await?;
    inject(cluster, &namespace).await?;
    let make = async |how: &str| -> Result<Workload> {
        let web = namespace.deployment(how).label("how", how).container(starved());
        let web = web.pod_annotation("usage/cpu.mesh", "100m").pod_annotation("usage/memory.mesh", "60Mi");
        web.create().await
    };
    let (resized, rolled) = (make("resize").await?, make("roll").await?);
    for workload in [&resized, &rolled] {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "mesh", 8).await?;
        optipod.wait_usage(workload, "app", 8).await?;
    }
    let before = untouched(&namespace, &resized).await?;

    let (resize, roll) = (resizing(&namespace).await?, rolling(&namespace).await?);

    let entry = optipod.wait_status(&resize, &resized, "Applied").await?;
    assert_eq!(names(&entry), (vec!["app", "mesh"], vec!["app", "mesh"]));
    let mesh = target(&entry, "mesh")?;
    assert_eq!(numbers(&mesh)?.1, 90, "1.5 times 60Mi, not {mesh:?}");
    ensure_is_resized(&resized, &entry).await?;
    resized.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "mesh", &mesh))?;
    assert_eq!(untouched(&namespace, &resized).await?, before);

    let entry = optipod.wait_status(&roll, &rolled, "Applied").await?;
    assert_eq!(names(&entry), (vec!["app"], vec!["app"]), "the template cannot give it anything");
    let template = rolled.template().await?;
    let containers = template["spec"]["containers"].as_array().context("no containers")?;
    assert_eq!(containers.iter().map(|container| &container["name"]).collect::<Vec<_>>(), ["app"]);
    for pod in rolled.wait_ready(SOON).await? {
        assert_eq!(requests(&pod, "app")?, target(&entry, "app")?);
        assert_eq!(
            requests(&pod, "mesh")?,
            Requests::from([("cpu".into(), "50m".into()), ("memory".into(), "32Mi".into())])
        );
    }
    Ok(())
}

pub async fn init_containers_and_native_sidecars_stay_as_they_are(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = Namespace::create(cluster.client(), INIT).await?;
    let init = |name: &str, cpu: &str, restart: Option<&str>| {
        let mut container = json!({"name": name, "image": format!("test.invalid/{name}:1"),
            "resources": {"requests": {"cpu": cpu, "memory": "48Mi"}}});
        if let Some(restart) = restart {
            container["restartPolicy"] = restart.into();
        }
        container
    };
    let containers = json!([init("once", "900m", None), init("mesh", "70m", Some("Always"))]);
    let make = async |how: &str| -> Result<Workload> {
        let web = namespace.deployment(how).label("how", how).container(starved());
        web.with("/template/spec/initContainers", containers.clone()).create().await
    };
    let (resized, rolled) = (make("resize").await?, make("roll").await?);
    for workload in [&resized, &rolled] {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "app", 8).await?;
    }

    let (resize, roll) = (resizing(&namespace).await?, rolling(&namespace).await?);

    for (policy, workload) in [(&resize, &resized), (&roll, &rolled)] {
        let entry = optipod.wait_status(policy, workload, "Applied").await?;
        assert_eq!(names(&entry), (vec!["app"], vec!["app"]));
        let wanted = target(&entry, "app")?;
        assert_eq!(numbers(&wanted)?.1, 150, "{wanted:?}");
        for pod in workload.wait_ready(SOON).await? {
            assert_eq!(requests(&pod, "app")?, wanted);
            let pod = serde_json::to_value(pod)?;
            for (index, cpu) in ["900m", "70m"].into_iter().enumerate() {
                let resources = &pod["spec"]["initContainers"][index]["resources"];
                assert_eq!(*resources, json!({"requests": {"cpu": cpu, "memory": "48Mi"}}));
            }
        }
    }
    Ok(())
}

pub async fn pods_with_resources_of_their_own_are_held(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("pod-level").await?;
    let own = json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "4", "memory": "2Gi"}});
    let web = namespace.deployment("web").container(starved()).with("/template/spec/resources", own);
    let web = web.create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let beside = known(optipod, &namespace, "beside", starved()).await?;

    // Neither method, though both are allowed.
    let policy = Policy::create(&namespace, "all", json!({"updateStrategy": {"allowRecreate": true}})).await?;

    let message = held(optipod, &policy, &web, "UnsupportedPodResources").await?;
    assert!(message.starts_with("pod web-") && message.contains("sets pod-level resources"), "{message}");
    let entry = optipod.wait_status(&policy, &beside, "Applied").await?;
    ensure_is_resized(&beside, &entry).await
}
