//! A small double of the API server for these tests: metadata lists, watches that a test feeds, and pod metrics.

use bytes::Bytes;
use futures::StreamExt as _;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(super) const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
pub(super) const PODS: &str = "/api/v1/pods";
pub(super) const REPLICA_SETS: &str = "/apis/apps/v1/replicasets";
pub(super) const JOBS: &str = "/apis/batch/v1/jobs";

/// What a path answers.
#[derive(Clone)]
pub(super) enum Answer {
    Json(Value),
    /// Bytes of this content type.
    Bytes(&'static str, Vec<u8>),
    /// 406 where the client would take protobuf, as a server answers whose types have no such form.
    JsonOnly(Value),
    Error(u16, &'static str),
    Never,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<&'static str, Answer>,
    watches: BTreeMap<String, mpsc::UnboundedSender<String>>,
    /// Every request that is not a watch: path, `Accept`, time.
    requests: Vec<(String, String, Instant)>,
}

#[derive(Clone, Default)]
pub(super) struct ApiServer(Arc<Mutex<State>>);

type Body = BoxBody<Bytes, Infallible>;

impl ApiServer {
    /// One that knows no pods, replicasets or jobs and has no metrics-server.
    pub(super) fn new() -> Self {
        let server = Self::default();
        for path in [PODS, REPLICA_SETS, JOBS] {
            server.list(path, &[]);
        }
        server.set(METRICS, Answer::Error(404, "the server could not find the requested resource"));
        server
    }

    pub(super) fn set(&self, path: &'static str, answer: Answer) {
        self.0.lock().unwrap().answers.insert(path, answer);
    }

    /// Lists these objects under `path` from now on.
    pub(super) fn list(&self, path: &'static str, objects: &[Value]) {
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "1"}, "items": objects});
        self.set(path, Answer::Json(list));
    }

    /// Sends a watch event on `path`.
    pub(super) fn event(&self, path: &str, event: &str, object: &Value) {
        let line = json!({"type": event, "object": object}).to_string() + "\n";
        self.0.lock().unwrap().watches[path].send(line).unwrap();
    }

    /// When `path` was listed, in seconds after `start`.
    pub(super) fn lists(&self, path: &str, start: Instant) -> Vec<u64> {
        let state = self.0.lock().unwrap();
        let of_path = state.requests.iter().filter(|(requested, _, _)| requested == path);
        of_path.map(|(_, _, at)| (*at - start).as_secs()).collect()
    }

    /// When pod metrics were asked for, in seconds after `start`.
    pub(super) fn scrapes(&self, start: Instant) -> Vec<u64> {
        self.lists(METRICS, start)
    }

    /// The `Accept` headers of watched kinds.
    pub(super) fn accepts(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.requests.iter().filter(|(path, _, _)| path != METRICS).map(|(_, accept, _)| accept.clone()).collect()
    }

    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            let parts = request.into_parts().0;
            async move { Ok::<_, Infallible>(server.answer(&parts).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: &Parts) -> Response<Body> {
        let path = request.uri.path();
        let watch = request.uri.query().unwrap_or_default().contains("watch=true");
        if watch {
            return self.watch(path);
        }
        let accept = request.headers[http::header::ACCEPT].to_str().unwrap().to_owned();
        let protobuf = accept.contains("protobuf");
        let answer = {
            let mut state = self.0.lock().unwrap();
            state.requests.push((path.to_owned(), accept, Instant::now()));
            state.answers.get(path).cloned()
        };
        match answer {
            Some(Answer::JsonOnly(_)) if protobuf => respond(406, &failure(406, "it has no protobuf form")),
            Some(Answer::Json(value) | Answer::JsonOnly(value)) => respond(200, &value),
            Some(Answer::Bytes(content_type, bytes)) => {
                let body = BodyExt::boxed(Full::new(Bytes::from(bytes)));
                Response::builder().header(http::header::CONTENT_TYPE, content_type).body(body).unwrap()
            }
            Some(Answer::Error(code, message)) => respond(code, &failure(code, message)),
            Some(Answer::Never) => std::future::pending().await,
            None => respond(404, &failure(404, path)),
        }
    }

    fn watch(&self, path: &str) -> Response<Body> {
        let (sender, lines) = mpsc::unbounded_channel();
        self.0.lock().unwrap().watches.insert(path.to_owned(), sender);
        let frames = UnboundedReceiverStream::new(lines).map(|line| Ok(Frame::data(Bytes::from(line))));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

fn respond(code: u16, value: &Value) -> Response<Body> {
    let body = BodyExt::boxed(Full::new(Bytes::from(value.to_string())));
    Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap()
}

fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "x"})
}

/// The metadata of an object, owned by `owner` = (apiVersion, kind, name).
pub(super) fn object(name: &str, owner: Option<(&str, &str, &str)>) -> Value {
    let owners: Vec<Value> = owner
        .iter()
        .map(|(api_version, kind, name)| {
            json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": true})
        })
        .collect();
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
        "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "2",
        "ownerReferences": owners, "managedFields": [{"manager": "kubelet"}]}})
}

/// One pod's entry in metrics-server's list: one container `app`.
pub(super) fn point(pod: &str, at: jiff::Timestamp, cpu: &str, memory: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": pod}, "timestamp": at.to_string(), "window": "15s",
        "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": memory}}]})
}

/// metrics-server's list.
pub(super) fn points(items: &[Value]) -> Answer {
    Answer::Json(
        json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items}),
    )
}

/// Lets paused time pass.
pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
