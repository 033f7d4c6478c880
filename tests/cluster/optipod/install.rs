//! OptiPod's CRD, roles and accounts.

use std::process::Command;

use anyhow::Context;

use super::repository;
use crate::harness::{Cluster, Result, ServiceAccount, output};

pub const NAMESPACE: &str = "optipod-system";
/// The accounts of `deploy/rbac.yaml`.
pub const RECOMMENDER: &str = "optipod-recommender";
pub const CONTROLLER: &str = "optipod-controller";
/// Lets a controller see the ConfigMap that holds it.
pub const BRAKE: &str = "optipod-controller-brake";
/// `optipod run` is both roles in one process; a person runs it with rights of
/// their own. Here it has what the two roles have together, and no more.
pub const BOTH: &str = "optipod-run";

/// Applies what `optipod crd` prints and `deploy/rbac.yaml`, as `README.md` says.
pub async fn install(cluster: &Cluster) -> Result {
    cluster.apply(&printed_crd().await?).await.context("apply the CRD")?;
    cluster.apply(&repository("deploy/rbac.yaml")?).await.context("apply the roles")?;
    let account =
        format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {BOTH}, namespace: {NAMESPACE}}}}}");
    cluster.apply(&account).await?;
    let both = account_of(cluster, BOTH);
    both.bind_cluster_role(RECOMMENDER).await?;
    both.bind_cluster_role(CONTROLLER).await?;
    both.bind_role("optipod-controller-leader").await?;
    both.bind_role(BRAKE).await
}

/// What `optipod crd` prints.
pub async fn printed_crd() -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optipod"));
    command.arg("crd");
    output(command).await.context("optipod crd")
}

/// An account in OptiPod's namespace.
pub fn account_of(cluster: &Cluster, name: &str) -> ServiceAccount {
    cluster.service_account(NAMESPACE, name)
}
