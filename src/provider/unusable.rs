//! A provider that could not be set up: its policies say why, and all others go on.

use super::{ProviderError, UsageProvider, UsageQuery};
use crate::usage::WindowUsage;

/// Answers every question with the error that kept the provider from starting.
#[derive(Clone, Debug)]
pub struct UnusableProvider {
    name: String,
    error: ProviderError,
}

impl UnusableProvider {
    /// In place of the provider of this name.
    pub fn new(name: impl Into<String>, error: ProviderError) -> Self {
        Self { name: name.into(), error }
    }
}

#[async_trait::async_trait]
impl UsageProvider for UnusableProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn usage(&self, _: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        Err(self.error.clone())
    }
}
