//! Where usage comes from: the one seam between numbers and decisions.
//!
//! Invariant: the controller reads usage only through [`UsageProvider`]; it knows no store and no PromQL.

mod bearer;
mod cache;
mod connect;
mod custom;
mod grpc;
mod late;
mod only_grpc;
pub mod prometheus;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use bearer::Bearer;
pub use cache::CachedProvider;
pub use connect::{Line, Target, TargetError};
pub use custom::{CUSTOM, CustomOptions};
pub use grpc::GrpcProvider;
pub use late::LateProvider;
pub use prometheus::{PrometheusOptions, PrometheusProvider};

use crate::usage::{SeriesKey, WindowUsage};
use std::time::Duration;

/// One question: how was this container used over this window, ending now?
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UsageQuery {
    /// The container.
    pub series: SeriesKey,
    /// How far back.
    pub window: Duration,
}

/// Why a provider could not answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProviderError {
    /// It could not be reached, broke off, is overloaded or broken.
    #[error("usage provider {provider} is not available: {cause}")]
    Unavailable {
        /// The provider's name.
        provider: String,
        /// What went wrong, and what to do.
        cause: String,
    },
    /// It did not answer in time.
    #[error("usage provider {provider} did not answer within {after:?}")]
    Timeout {
        /// The provider's name.
        provider: String,
        /// The deadline.
        after: Duration,
    },
    /// It refused the question or answered something that cannot be used.
    #[error("usage provider {provider} gave no usable answer: {cause}")]
    Refused {
        /// The provider's name.
        provider: String,
        /// What went wrong.
        cause: String,
    },
}

/// What to do about a server to which nothing comes through.
const TO_REACH_IT: &str = "check that it runs and that the network allows the call";

/// What to do about a server that breaks off, or says that it cannot answer now.
const TO_MEND_IT: &str = "look at its log";

/// A source of usage.
#[async_trait::async_trait]
pub trait UsageProvider: Send + Sync {
    /// The name that policies use in `metricsConfig.provider`.
    fn name(&self) -> &str;

    /// Answers every query, in order; `None` where nothing is known of the series within the window.
    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError>;
}

/// The text of an error, and what caused it where that says more: of a failed connection the error alone says only that.
fn with_causes(text: String, error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .map(ToString::to_string)
        .fold(text, |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}
