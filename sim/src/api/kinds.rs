//! The resources that the double serves.
//!
//! What it may not know: any object.
//! Invariant: one row here is all it takes to store, list and watch a resource.

use std::sync::Arc;

use serde_json::Value;

/// One served resource.
#[allow(clippy::struct_excessive_bools)] // four independent traits of a row, not a state
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// API group; empty for core.
    pub group: String,
    /// API version without the group.
    pub version: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name, as discovery lists it.
    pub singular: String,
    /// Kind, as in manifests.
    pub kind: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Whether a change of the spec raises `metadata.generation`.
    pub generation: bool,
    /// Short names for kubectl.
    pub short: Vec<String>,
    /// The OpenAPI schema of a custom resource; null for what is built in.
    pub(crate) schema: Value,
    /// Whether this is a custom resource.
    pub(crate) custom: bool,
    /// Field selectors beyond name and namespace.
    pub(crate) selectable: Vec<String>,
}

impl Kind {
    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, or `pods` for core.
    pub fn group_resource(&self) -> String {
        join_group(&self.plural, &self.group)
    }

    /// The store's table: as [`Self::group_resource`], but one for the two APIs of events.
    pub(crate) fn table(&self) -> String {
        if self.plural == "events" { self.plural.clone() } else { self.group_resource() }
    }

    /// `Deployment.apps`, or `Pod` for core.
    pub(crate) fn group_kind(&self) -> String {
        join_group(&self.kind, &self.group)
    }

    /// The name of the list kind.
    pub(crate) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether this is the built-in resource with the given plural in the given group.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        !self.custom && self.group == group && self.plural == plural
    }

    /// Whether the objects hold a pod template.
    pub(crate) fn has_template(&self) -> bool {
        self.group == "apps" || self.is("batch", "jobs")
    }

    /// Whether a PUT without a resourceVersion is accepted.
    pub(crate) fn unconditional_update(&self) -> bool {
        !self.custom && self.group != "coordination.k8s.io"
    }
}

/// A resource as rules name it: plural, group (`None` for any) and subresource.
///
/// `pods` is core's, as in RBAC, never metrics-server's; `deployments` needs no group.
pub(crate) fn split_resource(text: &str) -> (String, Option<String>, Option<String>) {
    let (resource, subresource) = match text.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (text, None),
    };
    if let Some((plural, group)) = resource.split_once('.') {
        return (plural.to_owned(), Some(group.to_owned()), subresource);
    }
    let group = (resource == "pods").then(String::new);
    (resource.to_owned(), group, subresource)
}

fn join_group(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// A row of the table below: group, version, plural, kind, short name, traits.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// Traits: n = namespaced, s = status subresource, g = generation.
const BUILT_IN: &[Row] = &[
    ("", "v1", "configmaps", "ConfigMap", "cm", "n"),
    ("", "v1", "events", "Event", "ev", "n"),
    ("", "v1", "limitranges", "LimitRange", "limits", "n"),
    ("", "v1", "namespaces", "Namespace", "ns", "s"),
    ("", "v1", "nodes", "Node", "no", "s"),
    ("", "v1", "pods", "Pod", "po", "nsg"),
    ("", "v1", "resourcequotas", "ResourceQuota", "quota", "ns"),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", "n"),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "nsg"),
    ("apps", "v1", "deployments", "Deployment", "deploy", "nsg"),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "nsg"),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", "nsg"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", "ns"),
    ("batch", "v1", "cronjobs", "CronJob", "cj", "nsg"),
    ("batch", "v1", "jobs", "Job", "", "nsg"),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", "n"),
    ("events.k8s.io", "v1", "events", "Event", "ev", "n"),
    ("optipod.io", "v1alpha1", "optimizationpolicies", "OptimizationPolicy", "op", "nsgc"),
];

fn built_in((group, version, plural, kind, short, traits): &Row) -> Kind {
    let custom = traits.contains('c');
    Kind {
        group: (*group).to_owned(),
        version: (*version).to_owned(),
        plural: (*plural).to_owned(),
        singular: kind.to_lowercase(),
        kind: (*kind).to_owned(),
        namespaced: traits.contains('n'),
        status: traits.contains('s'),
        generation: traits.contains('g'),
        short: short.split_whitespace().map(str::to_owned).collect(),
        schema: Value::Null,
        custom,
        selectable: selectable(group, plural, custom),
    }
}

fn selectable(group: &str, plural: &str, custom: bool) -> Vec<String> {
    let fields: &[&str] = match plural {
        "events" if group == "events.k8s.io" => &["regarding.name", "regarding.kind", "reason", "type"],
        "pods" => &["spec.nodeName", "status.phase", "spec.restartPolicy"],
        "events" => &["involvedObject.name", "involvedObject.kind", "reason", "type"],
        _ if custom => &["spec.mode"],
        _ => &[],
    };
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// All served resources, in order of group and plural.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    kinds: Vec<Arc<Kind>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { kinds: BUILT_IN.iter().map(|row| Arc::new(built_in(row))).collect() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.iter()
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.kinds.iter().find(|k| k.group == group && k.version == version && k.plural == plural).cloned()
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub(crate) fn of_object(&self, api_version: &str, kind: &str) -> Option<Arc<Kind>> {
        self.kinds.iter().find(|k| k.kind == kind && k.api_version() == api_version).cloned()
    }

    /// Adds a custom resource, or replaces the one of the same name.
    pub(crate) fn install(&mut self, kind: Kind) {
        self.kinds.retain(|k| k.group != kind.group || k.plural != kind.plural);
        self.kinds.push(Arc::new(kind));
        self.kinds.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
    }
}
