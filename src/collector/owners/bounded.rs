//! A client whose calls end: kube has no read timeout, and its watcher lists before it watches.

use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use std::time::Duration;
use tower::BoxError;

/// The same client, with `timeout` for every call that is not a watch, its body included. A watch is ended by the
/// API server and noticed by kube.
pub(super) fn bounded(client: &kube::Client, timeout: Duration) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            if is_watch(&request) {
                return Ok(client.send(request).await?);
            }
            let answer = tokio::time::timeout(timeout, whole(client, request)).await;
            answer.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}").into()))
        }
    });
    kube::Client::new(service, namespace)
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"))
}

async fn whole(client: kube::Client, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = client.send(request).await?.into_parts();
    let body: Bytes = body.collect_bytes().await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}
