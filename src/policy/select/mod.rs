//! Which workloads a policy covers, and which of two policies wins. Pure: it sees names and labels, nothing else.
//!
//! Invariant: every denial beats every permission. A namespace that the operator denies is never covered, a namespace
//! that the policy denies is not covered whatever `allow` and the selectors say, and the namespaces that keep the cluster
//! alive are covered only where `allow` names them.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

use super::resolved::Policy;
use super::types::Namespaces;
use crate::plant::planted;
use crate::workload::{WorkloadId, WorkloadKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

/// Namespaces that are covered only where a policy's `allow` names them; the operator's own is one more.
const RESERVED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// How far policies reach, as the operator was started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// Where OptiPod itself runs. Policies there may cover any namespace.
    pub operator_namespace: String,
    /// Policies of every namespace may cover any namespace (`--policy-scope=any`).
    pub any: bool,
    /// Covered by no policy (`--deny-namespaces`).
    pub deny_namespaces: BTreeSet<String>,
}

/// What selection needs to know of a namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NamespaceFacts {
    /// The namespace's name.
    pub name: String,
    /// The namespace's labels.
    pub labels: BTreeMap<String, String>,
}

/// What selection needs to know of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadFacts {
    /// Which workload.
    pub id: WorkloadId,
    /// The workload's own labels, not those of its pods.
    pub labels: BTreeMap<String, String>,
}

/// Why a policy does not cover a workload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutOfScope {
    /// The workload's kind is not one of the policy's.
    #[error("{0} is not one of the policy's selector.kinds")]
    Kind(WorkloadKind),
    /// The workload and the namespace do not belong together; the caller mixed up its facts.
    #[error("the workload is not in namespace {0}")]
    OtherNamespace(String),
    /// The operator was told to leave the namespace alone.
    #[error("namespace {0} is in the operator's --deny-namespaces")]
    DeniedByOperator(String),
    /// A policy outside the operator's namespace covers its own namespace only.
    #[error(
        "a policy in namespace {policy} covers that namespace only, not {workload}; move the policy to the operator's namespace or start the operator with --policy-scope=any"
    )]
    PolicyScope {
        /// The policy's namespace.
        policy: String,
        /// The workload's namespace.
        workload: String,
    },
    /// The policy's `deny` names the namespace.
    #[error("namespace {0} is in the policy's selector.namespaces.deny")]
    DeniedByPolicy(String),
    /// A system namespace or the operator's own, which the policy's `allow` does not name.
    #[error("namespace {0} is covered only where selector.namespaces.allow names it")]
    Reserved(String),
    /// The policy's `allow` names other namespaces only.
    #[error("namespace {0} is not in the policy's selector.namespaces.allow")]
    NotAllowed(String),
    /// The namespace's labels do not match.
    #[error("the labels of namespace {0} do not match selector.namespaceSelector")]
    NamespaceLabels(String),
    /// The workload's labels do not match.
    #[error("the workload's labels do not match selector.workloadSelector")]
    WorkloadLabels,
}

/// Whether `policy` covers `workload`, which lies in `namespace`.
///
/// # Errors
/// The first reason against it, denials first.
pub fn covers(
    policy: &Policy,
    scope: &Scope,
    namespace: &NamespaceFacts,
    workload: &WorkloadFacts,
) -> Result<(), OutOfScope> {
    if workload.id.namespace != namespace.name {
        return Err(OutOfScope::OtherNamespace(namespace.name.clone()));
    }
    if !policy.selector.kinds.iter().any(|kind| WorkloadKind::from(*kind) == workload.id.kind) {
        return Err(OutOfScope::Kind(workload.id.kind));
    }
    covers_namespace(policy, scope, namespace)?;
    if !policy.selector.workload_selector.as_ref().is_none_or(|selector| matches(selector, &workload.labels)) {
        return Err(OutOfScope::WorkloadLabels);
    }
    Ok(())
}

/// Whether `policy` covers anything in `namespace`.
///
/// # Errors
/// The first reason against it, denials first.
pub fn covers_namespace(policy: &Policy, scope: &Scope, namespace: &NamespaceFacts) -> Result<(), OutOfScope> {
    let name = &namespace.name;
    if scope.deny_namespaces.contains(name) {
        return Err(OutOfScope::DeniedByOperator(name.clone()));
    }
    let home = &policy.id.namespace;
    if !scope.any && *home != scope.operator_namespace && home != name {
        return Err(OutOfScope::PolicyScope { policy: home.clone(), workload: name.clone() });
    }
    let reserved = RESERVED.contains(&name.as_str()) || *name == scope.operator_namespace;
    listed(policy.selector.namespaces.as_ref(), name, reserved)?;
    if !policy.selector.namespace_selector.as_ref().is_none_or(|selector| matches(selector, &namespace.labels)) {
        return Err(OutOfScope::NamespaceLabels(name.clone()));
    }
    Ok(())
}

/// What the policy's own lists say of a namespace; deny wins, and an empty `allow` allows all but reserved namespaces.
fn listed(lists: Option<&Namespaces>, name: &String, reserved: bool) -> Result<(), OutOfScope> {
    let (allow, deny) = lists.map(|lists| (lists.allow.as_slice(), lists.deny.as_slice())).unwrap_or_default();
    if deny.contains(name) && !(planted(27) && allow.contains(name)) {
        Err(OutOfScope::DeniedByPolicy(name.clone()))
    } else if allow.contains(name) {
        Ok(())
    } else if reserved {
        Err(OutOfScope::Reserved(name.clone()))
    } else if allow.is_empty() {
        Ok(())
    } else {
        Err(OutOfScope::NotAllowed(name.clone()))
    }
}

/// Whether labels satisfy a selector: every label and every expression of it. An empty selector matches everything.
///
/// As in Kubernetes, `NotIn` holds where the key is absent. An operator that Kubernetes does not know matches nothing,
/// so that a mistake never widens a policy.
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().flatten().all(equal)
        && selector.match_expressions.iter().flatten().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let among = |value: &String| expression.values.iter().flatten().any(|v| v == value);
    match expression.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The policy that acts where several cover the same workload; `None` only where there is none.
pub fn winner<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Option<&'a Policy> {
    policies.into_iter().min_by(|a, b| precedence(a, b))
}

/// Orders policies, the winner first: the higher weight, then the older, then namespace and name.
pub fn precedence(a: &Policy, b: &Policy) -> Ordering {
    let rank = |policy: &'_ Policy| (Reverse(policy.weight), policy.created);
    rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id))
}
