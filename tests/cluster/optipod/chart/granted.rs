//! The rights that an account has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Context;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::ListParams;

use super::super::install::NAMESPACE;
use crate::harness::{Cluster, Result};

/// One verb on one resource. As a grant it covers all namespaces or names where it says none; as what was asked for, it
/// is about all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub namespace: Option<String>,
    pub group: String,
    /// With the subresource, as in `pods/resize`.
    pub resource: String,
    pub name: Option<String>,
    pub verb: String,
}

impl Right {
    pub fn covers(&self, asked: &Self) -> bool {
        let same = |granted: &str, asked: &str| granted == "*" || granted == asked;
        same(&self.group, &asked.group)
            && same(&self.resource, &asked.resource)
            && same(&self.verb, &asked.verb)
            && (self.namespace.is_none() || self.namespace == asked.namespace)
            && (self.name.is_none() || self.name == asked.name)
    }

    /// As kubectl writes it, `deployments.apps`, `policies.example.com/status`, with the one object that it is about.
    fn object(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        let (resource, subresource) = self.resource.split_at(self.resource.find('/').unwrap_or(self.resource.len()));
        let name = self.name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
        format!("`{resource}{dot}{}{subresource}`{name}", self.group)
    }

    fn place(&self) -> String {
        self.namespace.as_ref().map_or("everywhere".to_owned(), |namespace| format!("`{namespace}`"))
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.verb, self.object().replace('`', ""), self.place().replace('`', ""))
    }
}

/// What the roles grant that an account of OptiPod is bound to, and nothing that every account has.
pub async fn granted(cluster: &Cluster, account: &str) -> Result<BTreeSet<Right>> {
    let (client, every) = (cluster.client(), ListParams::default());
    let is_ours = |subjects: &Option<Vec<Subject>>| {
        let mut all = subjects.iter().flatten();
        all.any(|one| one.name == account && one.namespace.as_deref() == Some(NAMESPACE))
    };
    let mut rights = BTreeSet::new();
    for binding in Api::<ClusterRoleBinding>::all(client.clone()).list(&every).await? {
        if is_ours(&binding.subjects) {
            rights.extend(expanded(&rules(cluster, &binding.role_ref, "").await?, None));
        }
    }
    for binding in Api::<RoleBinding>::all(client).list(&every).await? {
        if is_ours(&binding.subjects) {
            let namespace = binding.metadata.namespace.context("a RoleBinding without namespace")?;
            rights.extend(expanded(&rules(cluster, &binding.role_ref, &namespace).await?, Some(&namespace)));
        }
    }
    Ok(rights)
}

async fn rules(cluster: &Cluster, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>> {
    let client = cluster.client();
    let rules = match role.kind.as_str() {
        "ClusterRole" => Api::<ClusterRole>::all(client).get(&role.name).await?.rules,
        _ => Api::<Role>::namespaced(client, namespace).get(&role.name).await?.rules,
    };
    rules.with_context(|| format!("{} {} has no rules", role.kind, role.name))
}

fn expanded(rules: &[PolicyRule], namespace: Option<&str>) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules {
        let names = rule.resource_names.iter().flatten().cloned().map(Some);
        let names: Vec<_> = if rule.resource_names.is_none() { vec![None] } else { names.collect() };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for (name, verb) in names.iter().flat_map(|name| rule.verbs.iter().map(move |verb| (name, verb))) {
                    rights.push(Right {
                        namespace: namespace.map(str::to_owned),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        verb: verb.clone(),
                    });
                }
            }
        }
    }
    rights
}

/// The table of `docs/security.md`: a line for each resource, in order.
pub fn table(accounts: &[(&str, BTreeSet<Right>)]) -> String {
    let mut text = "| account | where | resource | verbs |\n|---|---|---|---|\n".to_owned();
    for (account, rights) in accounts {
        let mut lines: BTreeMap<Right, Vec<&str>> = BTreeMap::new();
        for right in rights {
            let any_verb = Right { verb: String::new(), ..right.clone() };
            lines.entry(any_verb).or_default().push(&right.verb);
        }
        for (right, verbs) in lines {
            let (place, object, verbs) = (right.place(), right.object(), verbs.join(", "));
            let _ = writeln!(text, "| `{account}` | {place} | {object} | {verbs} |");
        }
    }
    text
}
