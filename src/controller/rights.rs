//! What RBAC allows us and what the API server serves, asked once in a while.
//!
//! A right is asked for all namespaces first, then for the one; most installations are answered by three questions.
//! Invariant: nothing here decides; where the answer is not known, the API server's own refusal counts.

use crate::decide::Rights;
use crate::plant::planted;
use crate::workload::WorkloadKind;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A right is asked again after this time.
const RIGHT_LASTS: Duration = Duration::from_mins(5);
/// Discovery is read again after this time.
const DISCOVERY_LASTS: Duration = Duration::from_mins(10);

/// One thing that we may or may not do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Right {
    /// `patch` on `pods/resize`.
    Resize,
    /// `patch` on a workload kind.
    Rollout(WorkloadKind),
}

/// The answers so far. The empty namespace stands for all.
pub(super) struct RightsCache {
    client: Client,
    deadline: Duration,
    limits: bool,
    rights: BTreeMap<(Right, String), (bool, Instant)>,
    resize_served: Option<(bool, Instant)>,
}

impl RightsCache {
    /// `limits`: whether limits may be changed, which no review tells.
    pub(super) fn new(client: Client, deadline: Duration, limits: bool) -> Self {
        Self { client, deadline, limits, rights: BTreeMap::new(), resize_served: None }
    }

    /// What we may do to workloads of this kind in this namespace.
    pub(super) async fn rights(&mut self, namespace: &str, kind: WorkloadKind) -> Rights {
        Rights {
            resize: self.allowed(Right::Resize, namespace).await,
            rollout: self.allowed(Right::Rollout(kind), namespace).await,
            limits: self.limits,
        }
    }

    /// The API server itself refused: believe it rather than the review.
    pub(super) fn refused(&mut self, right: Right, namespace: &str) {
        self.rights.insert((right, namespace.to_owned()), (false, Instant::now()));
    }

    async fn allowed(&mut self, right: Right, namespace: &str) -> bool {
        // A refusal in the namespace itself is the most exact answer.
        if self.known(right, namespace) == Some(false) {
            return false;
        }
        self.review(right, "").await || self.review(right, namespace).await
    }

    fn known(&self, right: Right, namespace: &str) -> Option<bool> {
        let (allowed, at) = self.rights.get(&(right, namespace.to_owned()))?;
        (at.elapsed() < RIGHT_LASTS).then_some(*allowed)
    }

    async fn review(&mut self, right: Right, namespace: &str) -> bool {
        if let Some(known) = self.known(right, namespace) {
            return known;
        }
        match timeout(self.deadline, ask(&self.client, right, namespace)).await {
            Ok(Ok(allowed)) => {
                self.rights.insert((right, namespace.to_owned()), (allowed, Instant::now()));
                allowed
            }
            Ok(Err(error)) => {
                tracing::warn!(?right, namespace, %error, "an access review failed; the write itself will tell");
                true
            }
            Err(_) => true,
        }
    }

    /// Whether `/api/v1` lists `pods/resize`; an error only where no answer is known at all.
    pub(super) async fn resize_served(&mut self) -> Result<bool, String> {
        if let Some((served, at)) = self.resize_served
            && at.elapsed() < DISCOVERY_LASTS
            && !planted(32)
        {
            return Ok(served);
        }
        let answer = timeout(self.deadline, self.client.list_core_api_resources("v1")).await;
        let cause = match answer {
            Ok(Ok(list)) => {
                let served = list.resources.iter().any(|resource| resource.name == "pods/resize" || planted(20));
                self.resize_served = Some((served, Instant::now()));
                return Ok(served);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.deadline),
        };
        match self.resize_served {
            Some((served, _)) => Ok(served),
            None => Err(format!("the API server does not say which resources it serves: {cause}")),
        }
    }
}

async fn ask(client: &Client, right: Right, namespace: &str) -> Result<bool, kube::Error> {
    let (group, resource, subresource) = match right {
        Right::Resize => ("", "pods", Some("resize".to_owned())),
        Right::Rollout(kind) => ("apps", plural(kind), None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some("patch".to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
        ..Default::default()
    };
    // A review is a question; nothing is stored.
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(planted(28) || answer.status.is_some_and(|status| status.allowed))
}

fn plural(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::StatefulSet => "statefulsets",
        WorkloadKind::DaemonSet => "daemonsets",
        _ => "deployments",
    }
}
