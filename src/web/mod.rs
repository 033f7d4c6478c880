//! Plain HTTP for machines: `/metrics` on one address, `/healthz` and `/readyz` on another.
//!
//! It may not know what healthy means: each role hands in its probes. Invariant: a probe only reads.

mod listen;

pub use listen::{Listen, WebError, bind, serve};

use crate::telemetry::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// The answer of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Whether all is well.
    pub ok: bool,
    /// In words, for people who look.
    pub detail: String,
}

impl From<Result<String, String>> for Probe {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self { ok: true, detail },
            Err(detail) => Self { ok: false, detail },
        }
    }
}

/// Answers whether something is well, without waiting.
pub type ProbeFn = Arc<dyn Fn() -> Probe + Send + Sync>;

/// What a role says of itself.
#[derive(Clone)]
pub struct Probes {
    /// Restarting would help where this is not ok.
    pub live: ProbeFn,
    /// Requests should come here.
    pub ready: ProbeFn,
}

/// `/metrics`
pub fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(move || std::future::ready(exposition(&metrics))))
}

/// `/healthz` and `/readyz`
pub fn health_router(probes: Probes) -> Router {
    let Probes { live, ready } = probes;
    Router::new()
        .route("/healthz", get(move || std::future::ready(answer(&live()))))
        .route("/readyz", get(move || std::future::ready(answer(&ready()))))
}

fn exposition(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {error}\n")).into_response(),
    }
}

fn answer(probe: &Probe) -> Response {
    let status = if probe.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", probe.detail)).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;
