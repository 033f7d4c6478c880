//! Who may do what, asked before and met afterwards.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::Error;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{SOON, pod};
use crate::harness::{Account, Namespace, Result, Server, wait_for};

async fn may(client: &Client, namespace: &str, verb: &str, resource: &str, subresource: &str) -> Result<bool> {
    let review = json!({"metadata": {}, "spec": {"resourceAttributes": {
        "namespace": namespace, "verb": verb, "resource": resource, "subresource": subresource,
    }}});
    let review: SelfSubjectAccessReview = serde_json::from_value(review)?;
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.context("a review without an answer")?.allowed)
}

/// May list pods, and patch pods' `resize`.
async fn reader(server: &Server, namespace: &Namespace) -> Result<Account> {
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
    ]);
    let account = server.account(namespace, "reader", rules).await?;
    wait_for("the role to be in force", SOON, || async {
        ensure!(may(&account.client, namespace.name(), "list", "pods", "").await?, "not yet");
        Ok(())
    })
    .await?;
    Ok(account)
}

pub async fn a_review_tells_what_a_request_would_meet(server: &Server) -> Result {
    let namespace = server.namespace("review").await?;
    let account = reader(server, &namespace).await?;
    let here = namespace.name();
    for (place, verb, resource, subresource, allowed) in [
        (here, "list", "pods", "", true),
        (here, "patch", "pods", "resize", true),
        (here, "patch", "pods", "", false),
        (here, "patch", "pods", "status", false),
        (here, "list", "configmaps", "", false),
        ("default", "list", "pods", "", false),
        ("", "list", "pods", "", false),
    ] {
        let answer = may(&account.client, place, verb, resource, subresource).await?;
        ensure!(answer == allowed, "{verb} {resource}/{subresource} in {place:?}: {answer}");
    }
    assert!(may(&server.client(), "", "list", "pods", "").await?, "somebody with all rights");
    Ok(())
}

pub async fn a_review_tells_who_asks(server: &Server) -> Result {
    let namespace = server.namespace("who").await?;
    let account = server.account(&namespace, "somebody", json!([])).await?;
    let api: Api<SelfSubjectReview> = Api::all(account.client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).context("a review without an answer")?;
    assert_eq!(user.username.as_deref(), Some(&*account.user));
    ensure!(user.uid.is_some_and(|uid| !uid.is_empty()), "an account has a uid");
    Ok(())
}

pub async fn a_refusal_names_user_verb_resource_and_place(server: &Server) -> Result {
    let namespace = server.namespace("forbidden").await?;
    let all = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    let Account { client, user } = reader(server, &namespace).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "100m"}}}]}});

    assert_eq!(pods.list(&ListParams::default()).await?.items.len(), 1);
    pods.patch_resize("app", &PatchParams::default(), &Patch::Strategic(patch.clone())).await?;

    let place = format!("in the namespace \"{}\"", namespace.name());
    let refusals = [
        (
            pods.delete("app", &DeleteParams::default()).await.map(drop),
            "pods \"app\"",
            "delete",
            "pods",
            place.as_str(),
        ),
        (
            pods.patch_status("app", &PatchParams::default(), &Patch::Merge(patch)).await.map(drop),
            "pods \"app\"",
            "patch",
            "pods/status",
            &place,
        ),
        (
            Api::<Pod>::all(client).list(&ListParams::default()).await.map(drop),
            "pods",
            "list",
            "pods",
            "at the cluster scope",
        ),
    ];
    for (answer, what, verb, resource, place) in refusals {
        let Err(Error::Api(status)) = answer else { bail!("{verb} {resource}: {answer:?}") };
        assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
        let message = format!(
            "{what} is forbidden: User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"\" {place}"
        );
        assert_eq!(status.message, message);
    }
    assert!(all.get_opt("app").await?.is_some());
    Ok(())
}

pub async fn a_rules_review_lists_what_is_granted(server: &Server) -> Result {
    let namespace = server.namespace("rules").await?;
    let account = reader(server, &namespace).await?;
    let api: Api<SelfSubjectRulesReview> = Api::all(account.client);
    let review = json!({"metadata": {}, "spec": {"namespace": namespace.name()}});

    let answer = api.create(&PostParams::default(), &serde_json::from_value(review)?).await?;

    let answer = serde_json::to_value(answer.status)?;
    let covers = |verb: &str, resource: &str| {
        let names = |rule: &Value, field: &str, wanted: &str| {
            rule[field].as_array().is_some_and(|all| all.iter().any(|one| one == wanted))
        };
        let mut rules = answer["resourceRules"].as_array().into_iter().flatten();
        rules.any(|rule| {
            names(rule, "verbs", verb) && names(rule, "apiGroups", "") && names(rule, "resources", resource)
        })
    };
    assert!(covers("list", "pods") && covers("patch", "pods/resize"), "{answer}");
    assert!(!covers("patch", "pods") && !covers("list", "configmaps"), "{answer}");
    assert_eq!(answer["incomplete"], false);
    Ok(())
}
