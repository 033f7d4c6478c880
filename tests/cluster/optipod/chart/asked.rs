//! The rights that an account asked for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::install::NAMESPACE;
use super::granted::Right;

/// Each right that was asked for, with the refusals of the API server.
pub type Asked = BTreeMap<Right, Vec<String>>;

/// What the audit log says of an account of OptiPod: its requests for objects, and what the recommender asked about it.
/// Discovery is no request for an object; every account may read it.
pub fn asked(log: &[Value], account: &str) -> Asked {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let mut asked = Asked::new();
    for event in log {
        if event["user"]["username"] == user
            && let Some(right) = request(event)
        {
            asked.entry(right).or_default().extend(refusal(event));
        }
        let spec = &event["requestObject"]["spec"];
        if spec["user"] == user {
            asked.entry(reviewed(&spec["resourceAttributes"])).or_default();
        }
    }
    asked
}

fn request(event: &Value) -> Option<Right> {
    let object = event["objectRef"].as_object()?;
    let part = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let verb = event["verb"].as_str()?;
    Some(right(part, verb))
}

/// What a SubjectAccessReview asks.
fn reviewed(attributes: &Value) -> Right {
    let part = |key: &str| {
        let key = if key == "apiGroup" { "group" } else { key };
        attributes[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    right(part, attributes["verb"].as_str().unwrap_or_default())
}

fn right(part: impl Fn(&str) -> Option<String>, verb: &str) -> Right {
    let resource = part("resource").unwrap_or_default();
    let subresource = part("subresource").map(|name| format!("/{name}")).unwrap_or_default();
    Right {
        namespace: part("namespace"),
        group: part("apiGroup").unwrap_or_default(),
        resource: resource + &subresource,
        name: part("name"),
        verb: verb.to_owned(),
    }
}

/// By RBAC or by an admission policy.
fn refusal(event: &Value) -> Option<String> {
    let status = &event["responseStatus"];
    (status["code"] == 403).then(|| format!("{}", status["message"]))
}
