//! Answers as HTTP: objects, refusals, watches, and what injected faults answer.
//!
//! What it may not know: requests and the store.
//! Invariant: every refusal has a `Status` body; 429 also names its delay in `Retry-After`.

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

use super::faults::Fault;
use super::status::StatusError;
use super::watch::Watch;

/// The body of an answer.
pub type SimBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the double answers.
pub(crate) enum Answer {
    Json(u16, Value),
    /// Rendered already: the content type, and the body.
    Bytes(&'static str, Vec<u8>),
    Watch(Box<Watch>),
}

pub(crate) fn injected(fault: &Fault) -> StatusError {
    match fault {
        Fault::TooManyRequests(seconds) => StatusError::throttled(*seconds),
        Fault::Conflict => StatusError::new(
            409,
            "Conflict",
            "Operation cannot be fulfilled: the object has been modified; please apply your \
             changes to the latest version and try again",
        ),
        Fault::Expired => StatusError::expired("too old resource version: 1 (2)"),
        Fault::Status(503) => {
            StatusError::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        }
        Fault::Status(401) => StatusError::new(401, "Unauthorized", "Unauthorized"),
        Fault::Status(504) => {
            StatusError::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
        }
        Fault::Status(code) => {
            StatusError::new(*code, "InternalError", "Internal error occurred: etcdserver: leader changed")
        }
        _ => StatusError::new(500, "InternalError", "Internal error occurred"),
    }
}

pub(crate) fn broken() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset by peer")
}

pub(crate) fn render(answer: Result<Answer, StatusError>) -> Response<SimBody> {
    match answer {
        Ok(Answer::Json(code, body)) => plain(code, "application/json", body.to_string().into()),
        Ok(Answer::Bytes(content_type, bytes)) => plain(200, content_type, bytes.into()),
        Ok(Answer::Watch(watch)) => {
            let body = BodyExt::boxed_unsync(StreamBody::new(watch.into_frames()));
            response(200, "application/json", body)
        }
        Err(error) => refusal(&error),
    }
}

pub(crate) fn refusal(error: &StatusError) -> Response<SimBody> {
    let body = error.to_json().to_string();
    let mut response = plain(error.code, "application/json", body.into());
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn plain(code: u16, content_type: &'static str, body: Bytes) -> Response<SimBody> {
    response(code, content_type, Full::new(body).map_err(|never| match never {}).boxed_unsync())
}

pub(crate) fn response(code: u16, content_type: &'static str, body: SimBody) -> Response<SimBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
