//! Deleting every policy so that it ends: what `optipod uninstall` does.
//!
//! A running controller puts back what policies with `onDelete: Restore` changed. Where none runs, or it does not come to
//! an end, their finalizers are taken away after a while, so that neither the policies nor the CRD stay for ever.

use super::notes::FINALIZER;
use super::writer::{DEADLINE, Writer};
use crate::policy::{OptimizationPolicy, PolicyId};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, ResourceExt};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Between two looks at what is left.
const EVERY: Duration = Duration::from_secs(2);
/// Policies of one list.
const PAGE: u32 = 500;

/// What became of the policies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Uninstalled {
    /// How many there were.
    pub policies: usize,
    /// Those whose changes nobody put back in time: their finalizer was taken away.
    pub forced: Vec<PolicyId>,
    /// Those that somebody else's finalizer keeps.
    pub kept: Vec<PolicyId>,
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct UninstallError {
    what: String,
    cause: String,
}

/// Deletes every policy with the rights of `client` and waits until they are gone, at most `patience`.
///
/// # Errors
/// What could not be listed, deleted or let go; asking again goes on.
pub async fn uninstall(client: Client, patience: Duration) -> Result<Uninstalled, UninstallError> {
    let writer = Writer::of_a_person(client.clone());
    let policies = list(&client).await?;
    let mut done = Uninstalled { policies: policies.len(), ..Uninstalled::default() };
    for policy in &policies {
        let deleted = writer.delete_policy(&id(policy), &policy.uid().unwrap_or_default()).await;
        deleted.map_err(|error| failed(format!("deleting policy {}", id(policy)), &error))?;
    }
    let until = Instant::now() + patience;
    let mut left = list(&client).await?;
    while !left.is_empty() && Instant::now() < until {
        sleep(EVERY).await;
        left = list(&client).await?;
    }
    for policy in left {
        let id = id(&policy);
        if policy.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
            let released = writer.finalizer(&id, &policy.uid().unwrap_or_default(), false).await;
            released.map_err(|error| failed(format!("taking the finalizer of policy {id} away"), &error))?;
            done.forced.push(id.clone());
        }
        if policy.finalizers().iter().any(|finalizer| finalizer != FINALIZER) {
            done.kept.push(id);
        }
    }
    Ok(done)
}

fn id(policy: &DynamicObject) -> PolicyId {
    PolicyId { namespace: policy.namespace().unwrap_or_default(), name: policy.name_any() }
}

/// Every policy; none where the CRD is not installed.
async fn list(client: &Client) -> Result<Vec<DynamicObject>, UninstallError> {
    let resource = ApiResource::erase::<OptimizationPolicy>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut params = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    let what = || "listing policies".to_owned();
    loop {
        let page = match timeout(DEADLINE, api.list(&params)).await {
            Ok(Ok(page)) => page,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(failed(what(), &error)),
            Err(_) => return Err(failed(what(), &format!("the API server did not answer within {DEADLINE:?}"))),
        };
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn failed(what: String, cause: &impl ToString) -> UninstallError {
    UninstallError { what, cause: cause.to_string() }
}
