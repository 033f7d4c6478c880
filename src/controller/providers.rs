//! The usage providers that policies can name.

use crate::decide::Reason;
use crate::plant::planted;
use crate::provider::{ProviderError, UsageProvider, UsageQuery};
use crate::usage::WindowUsage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Providers by name, and the one for policies that name none.
#[derive(Clone)]
pub struct Providers {
    by_name: BTreeMap<String, Arc<dyn UsageProvider>>,
    default: String,
}

impl Providers {
    /// No provider yet; `default` names the one for policies that name none.
    pub fn new(default: impl Into<String>) -> Self {
        Self { by_name: BTreeMap::new(), default: default.into() }
    }

    /// Adds a provider under a name of its own choice, which may be one of several.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, provider: Arc<dyn UsageProvider>) -> Self {
        self.by_name.insert(name.into(), provider);
        self
    }

    /// The provider that a policy means.
    ///
    /// # Errors
    /// The reason to hold: there is none of that name.
    pub(super) fn named(&self, name: Option<&str>) -> Result<(&str, &Arc<dyn UsageProvider>), Reason> {
        let name = name.filter(|_| !planted(30)).unwrap_or(&self.default);
        self.by_name.get_key_value(name).map(|(name, provider)| (name.as_str(), provider)).ok_or_else(|| {
            let known: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            let detail = format!("there is no usage provider \"{name}\"; configured: {}", known.join(", "));
            Reason::MetricsUnavailable { detail }
        })
    }
}

/// Asks with a deadline; an answer of another length than the question is none.
pub(super) async fn ask(
    provider: &Arc<dyn UsageProvider>,
    queries: &[UsageQuery],
    deadline: Duration,
) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
    let name = || provider.name().to_owned();
    let answer = tokio::time::timeout(deadline, provider.usage(queries)).await;
    let answer = answer.unwrap_or_else(|_| Err(ProviderError::Timeout { provider: name(), after: deadline }))?;
    if answer.len() == queries.len() {
        Ok(answer)
    } else {
        let cause = format!("{} answers to {} questions", answer.len(), queries.len());
        Err(ProviderError::Refused { provider: name(), cause })
    }
}
