//! A provider whose answering time is observed.

use super::{ProviderError, UsageProvider, UsageQuery};
use crate::usage::WindowUsage;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Tells `observe` the provider's name and the time that each question took, answered or not.
pub struct Measured<F> {
    inner: Arc<dyn UsageProvider>,
    observe: F,
}

impl<F: Fn(&str, Duration) + Send + Sync> Measured<F> {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn UsageProvider>, observe: F) -> Self {
        Self { inner, observe }
    }
}

#[async_trait::async_trait]
impl<F: Fn(&str, Duration) + Send + Sync> UsageProvider for Measured<F> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let began = Instant::now();
        let answer = self.inner.usage(queries).await;
        (self.observe)(self.inner.name(), began.elapsed());
        answer
    }
}
