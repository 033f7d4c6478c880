//! What the API server says of the CRD and of policies.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::Request;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::install::printed_crd;
use super::policy::{Nulls, merge};
use super::repository;
use crate::harness::{Cluster, Result, wait_for};

#[derive(Deserialize)]
struct Accepted {
    base: Value,
    cases: Vec<AcceptedCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedCase {
    name: String,
    change: Value,
    /// Nulls of the change stay in the request.
    #[serde(default)]
    change_as_is: bool,
}

#[derive(Deserialize)]
struct Refused {
    cases: Vec<RefusedCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedCase {
    name: String,
    change: Value,
    field: String,
    expect_message: String,
    /// Refused only where the request asks for strict validation.
    #[serde(default)]
    strict: bool,
}

fn fixture<T: DeserializeOwned>(name: &str) -> Result<T> {
    let text = repository(&format!("tests/fixtures/{name}"))?;
    serde_yaml::from_str(&text).with_context(|| format!("read {name}"))
}

pub async fn the_crd_that_optipod_prints_is_established(cluster: &'static Cluster) -> Result {
    cluster.apply(&printed_crd().await?).await?;
    established(cluster).await
}

async fn established(cluster: &Cluster) -> Result {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &ApiResource::from_gvk(&kind));
    wait_for("the CRD to be established", Duration::from_secs(30), || async {
        let crd = api.get("optimizationpolicies.optipod.io").await?;
        let conditions = crd.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str, status: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == status);
        ensure!(is("Established", "True"), "{conditions:?}");
        ensure!(!is("NonStructuralSchema", "True"), "{conditions:?}");
        Ok(())
    })
    .await
}

pub async fn good_policies_are_accepted(cluster: &'static Cluster) -> Result {
    the_crd_that_optipod_prints_is_established(cluster).await?;
    let Accepted { base, cases } = fixture("accepted-policies.yaml")?;
    for case in cases {
        let mut policy = base.clone();
        merge(&mut policy, case.change, if case.change_as_is { Nulls::Stay } else { Nulls::Remove });

        let answer = create(&cluster.client(), &policy, "Strict").await;

        answer.with_context(|| case.name.clone())?;
    }
    Ok(())
}

pub async fn bad_policies_are_refused_with_the_field_and_the_reason(cluster: &'static Cluster) -> Result {
    the_crd_that_optipod_prints_is_established(cluster).await?;
    let base = fixture::<Accepted>("accepted-policies.yaml")?.base;
    for case in fixture::<Refused>("refused-policies.yaml")?.cases {
        let mut policy = base.clone();
        merge(&mut policy, case.change.clone(), Nulls::Remove);

        // Warn is what a client gets that asks for nothing.
        let answer = create(&cluster.client(), &policy, if case.strict { "Strict" } else { "Warn" }).await;

        is_refusal(answer, &case).with_context(|| case.name)?;
    }
    Ok(())
}

/// Asks for a policy's creation without creating it.
async fn create(client: &Client, policy: &Value, validation: &str) -> kube::Result<Value> {
    let path = "/apis/optipod.io/v1alpha1/namespaces/default/optimizationpolicies";
    let uri = format!("{path}?dryRun=All&fieldValidation={validation}");
    let request = Request::post(uri).header("Content-Type", "application/json");
    let request = request.body(policy.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn is_refusal(answer: kube::Result<Value>, case: &RefusedCase) -> Result {
    let status = match answer {
        Err(kube::Error::Api(status)) => status,
        Err(other) => return Err(other.into()),
        Ok(_) => bail!("it was accepted"),
    };
    let message = &status.message;
    ensure!(status.code == if case.strict { 400 } else { 422 }, "{}: {message}", status.code);
    ensure!(message.contains(&case.field), "the field is not named: {message}");
    ensure!(message.contains(&case.expect_message), "another reason: {message}");
    Ok(())
}
