//! Who may do what: everything is allowed but what a rule denies, or what a user with roles was not granted.
//!
//! What it may not know: the store.
//! Invariant: a self review answers exactly what the request itself would meet.

use serde_json::{Value, json};

use super::grants::Grant;
use super::kinds::{Kind, Registry, split_resource};
use super::status::StatusError;
use crate::json::str_at;

/// Denies requests. Empty strings match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// The user; empty for all.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; empty for all.
    pub verb: String,
    /// API group; `None` for all.
    pub group: Option<String>,
    /// Plural name; empty for all.
    pub resource: String,
    /// Subresource; `None` for all and for none, `Some("")` for the resource itself only.
    pub subresource: Option<String>,
    /// Namespace; empty for all, and then for cluster-wide requests too.
    pub namespace: String,
    /// Denies in every namespace but these: the effect of RoleBindings without a ClusterRoleBinding.
    pub except_namespaces: Vec<String>,
}

impl Deny {
    /// Denies a verb on a resource: `pods`, `pods/resize`, `deployments.apps`.
    ///
    /// Without a slash the rule covers the resource itself, not its subresources.
    pub fn new(verb: &str, resource: &str) -> Self {
        let (resource, group, subresource) = split_resource(resource);
        Self {
            verb: verb.to_owned(),
            group,
            resource,
            subresource: Some(subresource.unwrap_or_default()),
            ..Self::default()
        }
    }

    /// Only in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Everywhere but in these namespaces.
    #[must_use]
    pub fn outside(mut self, namespaces: &[&str]) -> Self {
        self.except_namespaces = namespaces.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Only this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    fn matches(&self, user: &str, asked: &Asked<'_>) -> bool {
        let fits = |wanted: &str, have: &str| wanted.is_empty() || wanted == have;
        fits(&self.user, user)
            && fits(&self.verb, asked.verb)
            && self.group.as_ref().is_none_or(|group| group == asked.group)
            && fits(&self.resource, asked.resource)
            && self.subresource.as_ref().is_none_or(|s| s == asked.subresource)
            && fits(&self.namespace, asked.namespace)
            && !self.except_namespaces.iter().any(|n| n == asked.namespace)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) denied: Vec<Deny>,
    pub(crate) granted: Vec<Grant>,
}

impl Access {
    pub(crate) fn allows(&self, user: &str, asked: &Asked<'_>) -> bool {
        let mut grants = self.granted.iter().filter(|grant| grant.user == user).peekable();
        let granted = grants.peek().is_none() || grants.any(|grant| grant.allows(asked));
        granted && !self.denied.iter().any(|rule| rule.matches(user, asked))
    }

    /// 403 with the message of the RBAC authoriser.
    pub(crate) fn check(&self, user: &str, asked: &Asked<'_>) -> Result<(), StatusError> {
        if self.allows(user, asked) {
            return Ok(());
        }
        let resource = if asked.subresource.is_empty() {
            asked.resource.to_owned()
        } else {
            format!("{}/{}", asked.resource, asked.subresource)
        };
        let place = if asked.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", asked.namespace)
        };
        let why = format!(
            "User \"{user}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
            asked.verb, asked.group
        );
        Err(StatusError::forbidden(&anonymous_kind(asked), asked.name, &why))
    }

    /// Answers a SelfSubjectAccessReview.
    pub(crate) fn review(&self, user: &str, mut body: Value) -> Value {
        let attribute = |name: &str| str_at(&body, &format!("/spec/resourceAttributes/{name}")).to_owned();
        let names = ["verb", "group", "resource", "subresource", "namespace", "name"];
        let [verb, group, resource, subresource, namespace, name] = names.map(attribute);
        let asked = Asked {
            verb: &verb,
            group: &group,
            resource: &resource,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
        };
        let allowed = self.allows(user, &asked);
        let reason = if allowed { "RBAC: allowed by ClusterRoleBinding \"sim\"" } else { "" };
        crate::json::set(&mut body, &["status"], json!({"allowed": allowed, "reason": reason}));
        body
    }

    /// Answers a SelfSubjectRulesReview: one rule for each resource, with the verbs left.
    pub(crate) fn rules(&self, user: &str, registry: &Registry, mut body: Value) -> Value {
        let namespace = str_at(&body, "/spec/namespace").to_owned();
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        let mut rules = Vec::new();
        for kind in registry.iter() {
            for subresource in subresources(kind) {
                let allowed = |verb: &&str| {
                    self.allows(
                        user,
                        &Asked {
                            verb,
                            group: &kind.group,
                            resource: &kind.plural,
                            subresource,
                            namespace: &namespace,
                            name: "",
                        },
                    )
                };
                let verbs: Vec<&str> = verbs.iter().copied().filter(allowed).collect();
                let resource = match *subresource {
                    "" => kind.plural.clone(),
                    sub => format!("{}/{sub}", kind.plural),
                };
                if !verbs.is_empty() {
                    rules.push(json!({"verbs": verbs, "apiGroups": [kind.group],
                        "resources": [resource]}));
                }
            }
        }
        let status = json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false});
        crate::json::set(&mut body, &["status"], status);
        body
    }
}

/// The plural of the review that [`who`] answers.
pub(crate) const WHO: &str = "selfsubjectreviews";

/// Answers a SelfSubjectReview. The uid of a user is the same for ever.
pub(crate) fn who(user: &str, mut body: Value) -> Value {
    let info = json!({"username": user, "uid": format!("uid-of-{user}"), "groups": ["system:authenticated"]});
    crate::json::set(&mut body, &["status"], json!({"userInfo": info}));
    body
}

/// The subresources of a kind, and the kind itself.
pub(crate) fn subresources(kind: &Kind) -> &'static [&'static str] {
    match kind.plural.as_str() {
        "pods" => &["", "resize", "status"],
        _ if kind.status => &["", "status"],
        _ => &[""],
    }
}

fn anonymous_kind(asked: &Asked<'_>) -> Kind {
    Kind {
        group: asked.group.to_owned(),
        version: String::new(),
        plural: asked.resource.to_owned(),
        singular: String::new(),
        kind: String::new(),
        namespaced: true,
        status: false,
        generation: false,
        short: Vec::new(),
        schema: Value::Null,
        custom: false,
        selectable: Vec::new(),
    }
}
