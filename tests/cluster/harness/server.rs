//! The API server that a contract test runs against: the real one, or the double of `sim/`.
//!
//! What can only be brought about in one way on each stands here, so that a test
//! is the same function on both and does not know where it runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use optipod_sim::{ClusterOptions, SimApi, SimCluster, SimOptions};
use serde_json::Value;

use super::{Cluster, Namespace, Result, objects};

/// An API server with three Ready nodes of 64 cores and 256 GiB, controllers and
/// a scheduler, whose pods heed the annotations of `kwok.yaml`.
pub struct Server {
    backend: Backend,
    namespaces: AtomicU32,
}

enum Backend {
    Real(&'static Cluster),
    Double(SimCluster),
}

/// Somebody with few rights.
pub struct Account {
    pub client: Client,
    /// As refusals name it.
    pub user: String,
}

/// The nodes of the double are those that `nodes.rs` creates.
const NODES: [&str; 3] = ["node-0", "node-1", "node-2"];
/// The double works in steps; kwok looks about this often too.
const STEP: Duration = Duration::from_millis(100);

impl Server {
    pub fn real(cluster: &'static Cluster) -> Self {
        Self { backend: Backend::Real(cluster), namespaces: AtomicU32::new(0) }
    }

    /// A double of the calling test's own. Time passes as the runtime says, which
    /// may be paused.
    pub fn double() -> Result<Self> {
        let api = SimApi::new(SimOptions::default());
        let options = ClusterOptions {
            step: STEP,
            scrape_every: Duration::from_secs(1),
            start_delay: Duration::ZERO,
            start_spread: Duration::ZERO,
            resize_delay: Duration::ZERO,
            ..ClusterOptions::default()
        };
        let cluster = SimCluster::new(&api, options);
        for node in NODES {
            cluster.add_node(node, "64", "256Gi")?;
        }
        let running = cluster.clone();
        tokio::spawn(async move { running.run().await });
        Ok(Self { backend: Backend::Double(cluster), namespaces: AtomicU32::new(0) })
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        match &self.backend {
            Backend::Real(cluster) => cluster.client(),
            Backend::Double(cluster) => cluster.api().client(),
        }
    }

    /// A new namespace that pods can be created in.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        match &self.backend {
            Backend::Real(cluster) => cluster.namespace(prefix).await,
            Backend::Double(_) => {
                let count = self.namespaces.fetch_add(1, Ordering::Relaxed);
                Namespace::new(self.client(), &format!("{prefix}-{count}")).await
            }
        }
    }

    /// A ServiceAccount that may do in `namespace` what `rules` (RBAC) say, and no more.
    pub async fn account(&self, namespace: &Namespace, name: &str, rules: Value) -> Result<Account> {
        let user = format!("system:serviceaccount:{}:{name}", namespace.name());
        let client = match &self.backend {
            Backend::Real(cluster) => {
                let account = namespace.service_account(name).await?;
                account.allow_here(rules).await?;
                cluster.client_for_token(&account.token().await?).await?
            }
            Backend::Double(cluster) => {
                cluster.api().grant(&user, namespace.name(), rules);
                cluster.api().client_as(&user)
            }
        };
        Ok(Account { client, user })
    }

    /// Serves a custom resource.
    pub async fn define(&self, crd: &str) -> Result {
        match &self.backend {
            Backend::Real(cluster) => {
                cluster.apply(crd).await?;
            }
            Backend::Double(cluster) => {
                let crd: Value = serde_yaml::from_str(&objects::outdented(crd)).context("parse the CRD")?;
                cluster.api().install_crd(crd)?;
            }
        }
        Ok(())
    }

    /// Lets what has been until now expire: the real server compacts its history
    /// by itself (`flags.rs` says how often), so that it may take a while.
    pub fn compact(&self) {
        match &self.backend {
            Backend::Real(_) => {}
            Backend::Double(cluster) => cluster.api().faults().expire_history(),
        }
    }
}
