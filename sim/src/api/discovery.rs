//! `/version`, `/api`, `/apis` and the resource lists: what is served, as clients discover it.
//!
//! What it may not know: any object.
//! Invariant: nothing is listed that is not served.

use serde_json::{Value, json};

use super::access::subresources;
use super::kinds::Kind;
use super::state::State;
use super::status::StatusError;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl State {
    /// Answers a discovery path.
    pub(crate) fn discover(&self, parts: &[String]) -> Result<Value, StatusError> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["version"] => Ok(version()),
            ["api"] => Ok(json!({"kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "sim:443"}]})),
            ["api", "v1"] => Ok(self.resources("", "v1")),
            ["apis"] => Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": self.groups()})),
            ["apis", group] => self
                .groups()
                .into_iter()
                .find(|have| have.get("name").and_then(Value::as_str) == Some(group))
                .map(|mut found| {
                    crate::json::set(&mut found, &["kind"], "APIGroup");
                    crate::json::set(&mut found, &["apiVersion"], "v1");
                    found
                })
                .ok_or_else(StatusError::no_such_path),
            ["apis", group, version] => {
                let known = self.group_versions().iter().any(|(g, v)| g == group && v == version);
                if known { Ok(self.resources(group, version)) } else { Err(StatusError::no_such_path()) }
            }
            _ => Err(StatusError::no_such_path()),
        }
    }

    fn group_versions(&self) -> Vec<(String, String)> {
        let stored = self.registry.iter().map(|k| (k.group.clone(), k.version.clone()));
        let mut all: Vec<(String, String)> = stored.filter(|(group, _)| !group.is_empty()).collect();
        all.push(("authorization.k8s.io".to_owned(), "v1".to_owned()));
        all.push(("authentication.k8s.io".to_owned(), "v1".to_owned()));
        if self.metrics_served {
            all.push(("metrics.k8s.io".to_owned(), "v1beta1".to_owned()));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn groups(&self) -> Vec<Value> {
        self.group_versions()
            .into_iter()
            .map(|(group, version)| {
                let one = json!({"groupVersion": format!("{group}/{version}"), "version": version});
                json!({"name": group, "versions": [one], "preferredVersion": one})
            })
            .collect()
    }

    fn resources(&self, group: &str, version: &str) -> Value {
        let stored = self.registry.iter().filter(|k| k.group == group && k.version == version);
        let mut resources: Vec<Value> = stored.flat_map(|kind| self.rows(kind)).collect();
        match group {
            "metrics.k8s.io" => resources.push(json!({"name": "pods", "singularName": "",
                "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]})),
            "authorization.k8s.io" => {
                resources.extend(["SelfSubjectAccessReview", "SelfSubjectRulesReview"].map(review));
            }
            "authentication.k8s.io" => resources.push(review("SelfSubjectReview")),
            _ => {}
        }
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": resources})
    }

    fn rows(&self, kind: &Kind) -> Vec<Value> {
        subresources(kind)
            .iter()
            .filter(|subresource| **subresource != "resize" || self.resize_served)
            .map(|subresource| match *subresource {
                "" => json!({"name": kind.plural, "singularName": kind.singular,
                    "namespaced": kind.namespaced, "kind": kind.kind, "verbs": VERBS,
                    "shortNames": kind.short}),
                sub => json!({"name": format!("{}/{sub}", kind.plural), "singularName": "",
                    "namespaced": kind.namespaced, "kind": kind.kind,
                    "verbs": ["get", "patch", "update"]}),
            })
            .collect()
    }
}

/// The row of a review.
fn review(kind: &str) -> Value {
    let singular = kind.to_lowercase();
    json!({"name": format!("{singular}s"), "singularName": singular, "namespaced": false, "kind": kind, "verbs": ["create"]})
}

fn version() -> Value {
    json!({"major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "sim",
        "gitTreeState": "clean", "buildDate": "2026-10-01T00:00:00Z", "goVersion": "go1.26",
        "compiler": "gc", "platform": "linux/amd64"})
}
