//! A proxy between a client and the API server: it counts requests, and can hide
//! `pods/resize`, as an API server would that is older than it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Result;

/// No request and no answer that is read here as a whole is larger.
const LARGEST: usize = 4 << 20;

/// A running proxy, which ends when it is dropped.
pub struct Proxy {
    port: u16,
    relay: Arc<Relay>,
    server: JoinHandle<()>,
}

struct Relay {
    upstream: Client,
    hides_resize: AtomicBool,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// Listens on loopback, and asks as whoever `upstream` is: its own clients need no token.
    pub async fn start(upstream: Client) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let relay = Arc::new(Relay { upstream, hides_resize: AtomicBool::default(), requests: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(relay.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Ok(Self { port, relay, server })
    }

    /// From now on `pods/resize` is neither discovered nor served, or both.
    pub fn hide_resize(&self, hidden: bool) {
        self.relay.hides_resize.store(hidden, Ordering::SeqCst);
    }

    /// What was asked since the last call of this, each as in `GET /api/v1/pods?limit=500`.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.relay.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For its clients.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        })
        .to_string()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(relay): State<Arc<Relay>>, request: Request) -> Response {
    relay.answer(request).await.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response())
}

impl Relay {
    async fn answer(&self, request: Request) -> Result<Response> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let line = format!("{method} {}", request.uri().path_and_query().map_or(path.as_str(), |whole| whole.as_str()));
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let hides = self.hides_resize.load(Ordering::SeqCst);
        if hides && path.starts_with("/api/v1/") && path.ends_with("/resize") {
            return Ok(not_found());
        }
        let answer = self.pass_on(request).await?;
        if hides && method == Method::GET && path == "/api/v1" { without_resize(answer).await } else { Ok(answer) }
    }

    async fn pass_on(&self, request: Request) -> Result<Response> {
        let (mut head, body) = request.into_parts();
        for own in [header::HOST, header::AUTHORIZATION, header::CONNECTION] {
            head.headers.remove(own);
        }
        let body = to_bytes(body, LARGEST).await?.to_vec();
        let answer = self.upstream.send(http::Request::from_parts(head, body.into())).await?;
        let (mut head, body) = answer.into_parts();
        head.headers.remove(header::TRANSFER_ENCODING);
        // A watch is an answer that goes on.
        Ok(Response::from_parts(head, Body::new(body)))
    }
}

/// What an API server says of a path that it does not know.
fn not_found() -> Response {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "the server could not find the requested resource"});
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], status.to_string()).into_response()
}

async fn without_resize(answer: Response) -> Result<Response> {
    let (mut head, body) = answer.into_parts();
    let mut list: Value = serde_json::from_slice(&to_bytes(body, LARGEST).await?)?;
    if let Some(resources) = list["resources"].as_array_mut() {
        resources.retain(|resource| resource["name"] != "pods/resize");
    }
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::from(list.to_string())))
}
