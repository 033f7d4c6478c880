//! ServiceAccounts with chosen rights.

use anyhow::Context;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::{Cluster, Namespace, Result, objects};

/// A ServiceAccount of a test, without any rights at first.
pub struct ServiceAccount {
    client: Client,
    pub namespace: String,
    pub name: String,
}

impl Namespace {
    pub async fn service_account(&self, name: &str) -> Result<ServiceAccount> {
        let accounts: Api<v1::ServiceAccount> = self.api();
        let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let created = accounts.create(&PostParams::default(), &object).await;
        created.with_context(|| format!("create ServiceAccount {name}"))?;
        Ok(ServiceAccount { client: self.client(), namespace: self.name().to_owned(), name: name.to_owned() })
    }
}

impl Cluster {
    /// A ServiceAccount that exists already.
    pub fn service_account(&self, namespace: &str, name: &str) -> ServiceAccount {
        ServiceAccount { client: self.client(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl ServiceAccount {
    /// Gives it `rules` in every namespace, through a ClusterRole of its own.
    pub async fn allow_everywhere(&self, rules: Value) -> Result {
        let name = format!("{}-{}", self.namespace, self.name);
        self.create_role("ClusterRole", &name, rules).await?;
        self.bind("ClusterRoleBinding", "ClusterRole", &name).await
    }

    /// Gives it `rules` in its own namespace, through a Role of its own.
    pub async fn allow_here(&self, rules: Value) -> Result {
        self.create_role("Role", &self.name, rules).await?;
        self.bind("RoleBinding", "Role", &self.name).await
    }

    /// Binds it to a ClusterRole that exists, in every namespace.
    pub async fn bind_cluster_role(&self, role: &str) -> Result {
        self.bind("ClusterRoleBinding", "ClusterRole", role).await
    }

    /// A bearer token for the API server that is valid for an hour.
    pub async fn token(&self) -> Result<String> {
        self.token_for(&[]).await
    }

    /// A bearer token for these audiences that is valid for an hour.
    pub async fn token_for(&self, audiences: &[&str]) -> Result<String> {
        let accounts: Api<v1::ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": audiences}}))?;
        let params = PostParams::default();
        let answer = accounts.create_token_request(&self.name, &params, &request);
        let status = answer.await.context("request a token")?.status;
        let token = status.and_then(|status| status.token);
        token.context("the answer has no token")
    }

    /// Binds it to a Role that exists in its namespace.
    pub async fn bind_role(&self, role: &str) -> Result {
        self.bind("RoleBinding", "Role", role).await
    }

    async fn create_role(&self, kind: &str, name: &str, rules: Value) -> Result {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "rules": rules,
        });
        self.apply(&role).await
    }

    async fn bind(&self, kind: &str, role_kind: &str, role: &str) -> Result {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": format!("{}-{}-{role}", self.namespace, self.name)},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": self.namespace, "name": self.name}],
        });
        self.apply(&binding).await
    }

    async fn apply(&self, object: &Value) -> Result {
        let here = Some(self.namespace.as_str());
        objects::apply(&self.client, "kubectl", here, &object.to_string()).await?;
        Ok(())
    }
}
