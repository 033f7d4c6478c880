//! Roles: what a user without the default rights may do, as RBAC rules say it.
//!
//! What it may not know: the store; roles and bindings are no objects here.
//! Invariant: a user who was granted anything may do what the rules say, and nothing else.

use serde_json::Value;

use super::access::Asked;
use crate::json::list_at;

/// RBAC rules that one user has in one namespace, or in all.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) user: String,
    /// Empty for all, and then for cluster-wide requests too.
    pub(crate) namespace: String,
    /// A list of `rbac.authorization.k8s.io/v1` `PolicyRule`s.
    pub(crate) rules: Value,
}

impl Grant {
    pub(crate) fn allows(&self, asked: &Asked<'_>) -> bool {
        let here = self.namespace.is_empty() || self.namespace == asked.namespace;
        here && self.rules.as_array().into_iter().flatten().any(|rule| covers(rule, asked))
    }
}

/// As the RBAC authoriser's `RuleAllows`.
fn covers(rule: &Value, asked: &Asked<'_>) -> bool {
    let lists = |field: &str, wanted: &str| {
        let list = list_at(rule, field);
        list.iter().any(|item| item == "*" || item == wanted)
    };
    let resource = match asked.subresource {
        "" => asked.resource.to_owned(),
        sub => format!("{}/{sub}", asked.resource),
    };
    let names = list_at(rule, "/resourceNames");
    lists("/verbs", asked.verb)
        && lists("/apiGroups", asked.group)
        && lists("/resources", &resource)
        && (names.is_empty() || names.iter().any(|name| name == asked.name))
}
