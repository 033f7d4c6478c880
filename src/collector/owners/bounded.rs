//! A client whose calls end, and that tells when a watch has begun: kube has no read timeout, its watcher lists before
//! it watches, and a watch without events tells nothing.

use http::{Request, Response};
use kube::client::Body;
use std::time::Duration;
use tower::BoxError;

/// The same client, with `timeout` for every call, its body included; for a watch until it is answered, because the
/// API server ends it later. `watching` is called for each watch that was answered well.
pub(super) fn bounded(
    client: &kube::Client,
    timeout: Duration,
    watching: impl Fn() + Clone + Send + Sync + 'static,
) -> kube::Client {
    let namespace = client.default_namespace().to_owned();
    let client = client.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, watching) = (client.clone(), watching.clone());
        async move {
            let answer = tokio::time::timeout(timeout, answer(client, request, watching)).await;
            answer.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}").into()))
        }
    });
    kube::Client::new(service, namespace)
}

async fn answer(client: kube::Client, request: Request<Body>, watching: impl Fn()) -> Result<Response<Body>, BoxError> {
    let watch = is_watch(&request);
    let response = client.send(request).await?;
    if watch {
        if response.status().is_success() {
            watching();
        }
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, Body::from(body.collect_bytes().await?)))
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"))
}
