//! Asks the door about each request before a service sees it.

use super::accept::Peer;
use super::rights::{self, Needs};
use super::{Caller, Door, Place, Refusal, forbidden};
use crate::api::limits::MAX_REQUEST_BYTES;
use crate::telemetry::RefusedCall;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Puts the door before a service.
#[derive(Clone)]
pub(in crate::api) struct DoorLayer(pub(in crate::api) Door);

impl<S> Layer<S> for DoorLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { door: self.0.clone(), inner }
    }
}

/// A service behind the door.
#[derive(Clone)]
pub(in crate::api) struct Guarded<S> {
    door: Door,
    inner: S,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready goes, a fresh one stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let door = self.door.clone();
        Box::pin(async move {
            match door.admit(request).await {
                Ok((request, place)) => Ok(holding(inner.call(request).await?, place)),
                Err(Refusal { reason, status }) => {
                    door.0.metrics.refuse(reason);
                    tracing::debug!(code = ?status.code(), message = status.message(), "a call is refused");
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// The place is taken until the last byte of the answer is sent.
fn holding(response: Response<Body>, place: Place) -> Response<Body> {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &place;
            frame
        }))
    })
}

impl Door {
    /// Lets a request through with its place, or says why not.
    async fn admit(&self, request: Request<Body>) -> Result<(Request<Body>, Place), Refusal> {
        let path = request.uri().path();
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            let status = Status::internal("the connection does not say where it comes from");
            return Err(Refusal::new(RefusedCall::Unreadable, status));
        };
        let needs = rights::of(path).ok_or_else(|| {
            let status = Status::unimplemented(format!("there is no method {path}; see proto/optipod/v1alpha1"));
            Refusal::new(RefusedCall::UnknownMethod, status)
        })?;
        if let Needs::Nothing = needs {
            return Ok((request, self.enter_unknown(&peer)?));
        }
        let (caller, place) = self.identify(&peer, bearer(&request)).await?;
        Ok((self.authorise(&caller, needs, request).await?, place))
    }

    async fn authorise(&self, caller: &Caller, needs: Needs, request: Request<Body>) -> Result<Request<Body>, Refusal> {
        let (right, namespace_of) = match needs {
            Needs::Nothing => return Ok(request),
            Needs::Everywhere(right) => (right, None),
            Needs::There(right, namespace_of) => (right, Some(namespace_of)),
        };
        if self.may(caller, right, None).await? {
            return Ok(request);
        }
        let Some(namespace_of) = namespace_of else { return Err(forbidden(caller, right, None)) };
        let (request, namespace) = read_namespace(request, namespace_of).await?;
        match &namespace {
            Some(name) if self.may(caller, right, Some(name)).await? => Ok(request),
            _ => Err(forbidden(caller, right, namespace.as_deref())),
        }
    }
}

/// The token of an `authorization` header.
fn bearer(request: &Request<Body>) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Reads the body, which is bounded, and puts it back.
async fn read_namespace(
    request: Request<Body>,
    namespace_of: rights::NamespaceOf,
) -> Result<(Request<Body>, Option<String>), Refusal> {
    let (head, body) = request.into_parts();
    let whole = Limited::new(body, MAX_REQUEST_BYTES + 5).collect().await;
    let unreadable = |error| {
        let status = Status::invalid_argument(format!("the request cannot be read: {error}; send at most 2 MiB"));
        Refusal::new(RefusedCall::Unreadable, status)
    };
    let bytes = whole.map_err(unreadable)?.to_bytes();
    let namespace = rights::namespace(&bytes, namespace_of);
    Ok((Request::from_parts(head, Body::new(Full::new(bytes))), namespace))
}
