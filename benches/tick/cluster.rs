//! An API server that knows the pods, replicasets and metrics of a [`List`], in memory.

use super::list::{self, Form, List};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// A cluster of pods; their metrics are set tick by tick.
#[derive(Clone)]
pub(super) struct Cluster {
    pods: usize,
    form: Form,
    metrics: Arc<Mutex<Bytes>>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Cluster {
    pub(super) fn new(form: Form, pods: usize) -> Self {
        Self { pods, form, metrics: Arc::default() }
    }

    /// Answers this list from now on.
    pub(super) fn publish(&self, list: &List) {
        *self.metrics.lock().unwrap() = Bytes::copy_from_slice(&list.bytes);
    }

    pub(super) fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let answer = cluster.answer(request.uri().path(), request.uri().query().unwrap_or_default());
            async move { Ok::<_, Infallible>(answer) }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, path: &str, query: &str) -> Response<Body> {
        if query.contains("watch=true") {
            return Response::new(StreamBody::new(futures::stream::pending()).boxed());
        }
        match path {
            "/api/v1/pods" => self.page(query, |pod| {
                let owner = owner("ReplicaSet", &list::replica_set(pod));
                object(pod, &list::pod_name(pod), &owner)
            }),
            "/apis/apps/v1/replicasets" => self.page(query, |pod| {
                let owner = owner("Deployment", &list::deployment(pod));
                object(pod, &list::replica_set(pod), &owner)
            }),
            "/apis/batch/v1/jobs" => json_answer(&page(&[], "")),
            _ => self.metrics(),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let content_type = match self.form {
            Form::Protobuf => "application/vnd.kubernetes.protobuf",
            Form::Json => "application/json",
        };
        let body = Full::new(self.metrics.lock().unwrap().clone()).boxed();
        Response::builder().header(http::header::CONTENT_TYPE, content_type).body(body).unwrap()
    }

    /// 500 objects from where the last page ended.
    fn page(&self, query: &str, object: impl Fn(usize) -> Value) -> Response<Body> {
        let from = query.split('&').find_map(|part| part.strip_prefix("continue="));
        let from = from.map_or(0, |from| from.parse().unwrap());
        let to = self.pods.min(from + 500);
        let more = if to < self.pods { to.to_string() } else { String::new() };
        json_answer(&page(&(from..to).map(object).collect::<Vec<_>>(), &more))
    }
}

fn object(pod: usize, name: &str, owner: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "namespace": list::namespace(pod), "name": name, "uid": format!("uid-{name}"), "ownerReferences": [owner]}})
}

fn owner(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true})
}

fn page(items: &[Value], more: &str) -> Value {
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "1", "continue": more}, "items": items})
}

fn json_answer(value: &Value) -> Response<Body> {
    Response::new(Full::new(Bytes::from(value.to_string())).boxed())
}
