//! Tells what is no gRPC from what is: a login page, a proxy's error, a redirect. tonic reads their text as messages.
//!
//! Invariants: a redirect is not followed; nothing of a page is read.

use http::header::{CONTENT_TYPE, LOCATION};
use http::{Request, Response, StatusCode};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::Service;

/// A channel whose answers are of gRPC, or errors.
#[derive(Clone, Debug)]
pub struct OnlyGrpc(pub(super) Channel);

impl Service<Request<Body>> for OnlyGrpc {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, StdError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answering = self.0.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            if is_grpc(&answer) { Ok(answer) } else { Err(refusal(&answer).into()) }
        })
    }
}

fn is_grpc(answer: &Response<Body>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    answer.status() == StatusCode::OK && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What came instead, with what to do. Codes are those of gRPC's `http-grpc-status-mapping.md`, but where nothing of gRPC is
/// there at all.
fn refusal(answer: &Response<Body>) -> Status {
    let status = answer.status().as_u16();
    let (code, what_to_do) = match status {
        300..=399 => {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            let to: String = to.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect();
            return Status::failed_precondition(format!(
                "it redirects to {to} (HTTP {status}); redirects are not followed: set the address to where it really is"
            ));
        }
        401 => (Code::Unauthenticated, "something before it wants to know who asks"),
        403 => (Code::PermissionDenied, "something before it lets nobody through who asks like this"),
        429 | 500..=599 => (Code::Unavailable, "something before it does not reach it, or is overloaded"),
        _ => (Code::FailedPrecondition, "check the address and the port: is a web page there, or a proxy for HTTP?"),
    };
    Status::new(code, format!("what answers does not speak gRPC (HTTP {status}); {what_to_do}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
        let builder = headers.iter().fold(Response::builder(), |builder, (name, value)| builder.header(*name, *value));
        builder.status(status).body(Body::default()).unwrap()
    }

    #[test]
    fn grpc_is_told_by_its_status_and_its_content_type() {
        for kind in ["application/grpc", "application/grpc+proto"] {
            assert!(is_grpc(&answer(200, &[("content-type", kind)])), "{kind}");
            assert!(!is_grpc(&answer(502, &[("content-type", kind)])), "{kind}");
        }
        assert!(!is_grpc(&answer(200, &[("content-type", "text/html")])));
        assert!(!is_grpc(&answer(200, &[])));
    }

    #[test]
    fn what_comes_instead_is_told_and_no_query_of_a_redirect() {
        for (status, code) in [
            (200, Code::FailedPrecondition),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::FailedPrecondition),
            (500, Code::Unavailable),
            (503, Code::Unavailable),
        ] {
            let told = refusal(&answer(status, &[]));
            assert_eq!(told.code(), code, "{told}");
            assert!(told.message().contains(&format!("HTTP {status}")), "{told}");
        }
        let told = refusal(&answer(307, &[("location", "https://login.example/in?token=x")]));
        assert!(told.message().contains("https://login.example/in (HTTP 307)"), "{told}");
        assert!(!told.message().contains("token"), "{told}");
    }
}
