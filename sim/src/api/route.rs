//! From an HTTP request to what it asks for.
//!
//! What it may not know: what is stored.
//! Invariant: a path or verb that is not served becomes the real server's 404 or 405, never a guess.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use super::kinds::{Kind, Registry};
use super::status::StatusError;

/// The decoded query parameters; of repeated ones the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let mut map = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            map.entry(key.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(map)
    }

    /// The parameter, or `""`.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        ["true", "1"].contains(&self.get(key))
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.get(key).parse().ok()
    }
}

/// A resource, a collection or one object, and maybe a subresource of it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> &str {
        self.subresource.as_deref().unwrap_or_default()
    }
}

/// What a path names.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// `/version`, `/api`, `/apis` and below: served from the registry.
    Discovery(Vec<String>),
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `metrics.k8s.io`: pods, in one namespace or all, one or many.
    Metrics { namespace: Option<String>, name: Option<String> },
    /// The plural of a self review, of `authorization.k8s.io` or `authentication.k8s.io`.
    Review(String),
    /// Something stored.
    Object(Target),
}

/// Finds what the path names.
pub(crate) fn route(registry: &Registry, path: &str) -> Result<Route, StatusError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(Route::Health),
        ["version" | "api" | "apis"] | ["api" | "apis", _] | ["apis", _, _] => {
            Ok(Route::Discovery(parts.iter().map(|part| (*part).to_owned()).collect()))
        }
        ["api", version, rest @ ..] => object(registry, "", version, rest),
        ["apis", "metrics.k8s.io", "v1beta1", rest @ ..] => metrics(rest),
        ["apis", "authorization.k8s.io" | "authentication.k8s.io", "v1", review] => {
            Ok(Route::Review((*review).to_owned()))
        }
        ["apis", group, version, rest @ ..] => object(registry, group, version, rest),
        _ => Err(StatusError::no_such_path()),
    }
}

fn metrics(rest: &[&str]) -> Result<Route, StatusError> {
    let (namespace, name) = match rest {
        ["pods"] => (None, None),
        ["namespaces", namespace, "pods"] => (Some(namespace), None),
        ["namespaces", namespace, "pods", name] => (Some(namespace), Some(name)),
        _ => return Err(StatusError::no_such_path()),
    };
    Ok(Route::Metrics {
        namespace: namespace.map(|part| (*part).to_owned()),
        name: name.map(|part| (*part).to_owned()),
    })
}

fn object(registry: &Registry, group: &str, version: &str, rest: &[&str]) -> Result<Route, StatusError> {
    let (namespace, plural, tail) = match rest {
        ["namespaces", namespace, plural, tail @ ..] if !["status", "finalize"].contains(plural) => {
            (Some((*namespace).to_owned()), *plural, tail)
        }
        [plural, tail @ ..] => (None, *plural, tail),
        [] => return Err(StatusError::no_such_path()),
    };
    let kind = registry.find(group, version, plural).ok_or_else(StatusError::no_such_path)?;
    let (name, subresource) = match tail {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, subresource] => (Some((*name).to_owned()), Some((*subresource).to_owned())),
        _ => return Err(StatusError::no_such_path()),
    };
    let scope_fits = if kind.namespaced { namespace.is_some() || name.is_none() } else { namespace.is_none() };
    if !scope_fits {
        return Err(StatusError::no_such_path());
    }
    Ok(Route::Object(Target { kind, namespace, name, subresource }))
}

/// The authorisation verb of a request for something stored.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Result<&'static str, StatusError> {
    let one = target.name.is_some();
    match (method.as_str(), one) {
        ("GET", true) => Ok("get"),
        ("GET", false) if query.flag("watch") => Ok("watch"),
        ("GET", false) => Ok("list"),
        ("POST", false) => Ok("create"),
        ("PUT", true) => Ok("update"),
        ("PATCH", true) => Ok("patch"),
        ("DELETE", true) => Ok("delete"),
        ("DELETE", false) => Ok("deletecollection"),
        _ => Err(StatusError::method_not_allowed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Option<Target> {
        match route(&Registry::new(), path) {
            Ok(Route::Object(target)) => Some(target),
            _ => None,
        }
    }

    #[test]
    fn paths_name_what_the_api_conventions_say() {
        let resize = target("/api/v1/namespaces/shop/pods/web-1/resize").unwrap();
        assert_eq!((resize.namespace(), resize.name(), resize.subresource()), ("shop", "web-1", "resize"));
        let namespace = target("/api/v1/namespaces/shop/status").unwrap();
        assert_eq!((namespace.kind.kind.as_str(), namespace.subresource()), ("Namespace", "status"));
        let all = target("/apis/apps/v1/deployments").unwrap();
        assert_eq!((all.namespace, all.name), (None, None));
    }

    #[test]
    fn what_is_not_served_is_404() {
        for path in ["/apis/apps/v1/widgets", "/api/v1/pods/web-1", "/nope", "/apis/apps/v1beta1/deployments"] {
            assert_eq!(route(&Registry::new(), path).unwrap_err().code, 404, "{path}");
        }
    }
}
