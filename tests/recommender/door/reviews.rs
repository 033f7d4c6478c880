//! The API server, as far as TokenReview and SubjectAccessReview go.

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What it knows, and what it was asked. Clones share it.
#[derive(Clone, Default)]
pub struct Reviews(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Token, audience, user.
    tokens: Vec<(String, String, String)>,
    /// User, resource, namespace; an empty one is all of them.
    rights: Vec<(String, String, String)>,
    asked: Vec<String>,
    down: bool,
}

impl Reviews {
    pub fn token(&self, token: &str, audience: &str, user: &str) {
        self.0.lock().unwrap().tokens.push((token.into(), audience.into(), user.into()));
    }

    pub fn right(&self, user: &str, resource: &str, namespace: &str) {
        self.0.lock().unwrap().rights.push((user.into(), resource.into(), namespace.into()));
    }

    pub fn down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    /// The reviews since the last time: the kind and, of an access review, what it is about.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    pub fn client(&self) -> kube::Client {
        let reviews = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let reviews = reviews.clone();
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let (code, answer) = reviews.answer(serde_json::from_slice(&body)?);
                let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()))?;
                Ok::<_, tower::BoxError>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, mut review: Value) -> (u16, Value) {
        let mut known = self.0.lock().unwrap();
        if known.down {
            known.asked.push("down".to_owned());
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503, "message": "etcd is away"});
            return (503, status);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = review["spec"].clone();
        review["status"] = if review["kind"] == "TokenReview" {
            known.asked.push("TokenReview".to_owned());
            let (token, audience) = (text(&spec["token"]), text(&spec["audiences"][0]));
            match known.tokens.iter().find(|(one, for_whom, _)| (one, for_whom) == (&token, &audience)) {
                Some((_, _, user)) => {
                    json!({"authenticated": true, "audiences": [audience], "user": {"username": user}})
                }
                None => json!({"error": "invalid bearer token"}),
            }
        } else {
            let of = &spec["resourceAttributes"];
            let (user, resource, namespace) = (text(&spec["user"]), text(&of["resource"]), text(&of["namespace"]));
            known.asked.push(format!("{user} {resource} {namespace}"));
            let granted = known.rights.iter().any(|(who, what, place)| {
                (who, what) == (&user, &resource) && (place.is_empty() || *place == namespace)
            });
            json!({"allowed": granted && of["verb"] == "get" && of["group"] == "optipod.io"})
        };
        (201, review)
    }
}
