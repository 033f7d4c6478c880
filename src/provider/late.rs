//! A provider that may not be able to start yet: its policies say why, all others go on.
//!
//! Invariant: nothing else ever answers in its place.

use super::{ProviderError, UsageProvider, UsageQuery};
use crate::usage::WindowUsage;
use std::sync::{Arc, Mutex, PoisonError};

/// What makes a provider, as often as it must be tried.
type Start = Box<dyn Fn() -> Result<Arc<dyn UsageProvider>, ProviderError> + Send + Sync>;

/// Starts a provider; where that fails, each question tries again, so that a file that comes later needs no restart.
pub struct LateProvider {
    name: String,
    start: Start,
    state: Mutex<State>,
}

enum State {
    Started(Arc<dyn UsageProvider>),
    /// Why not, the last time it was tried.
    Failed(ProviderError),
}

impl LateProvider {
    /// Tries to start it at once.
    pub fn new(
        name: impl Into<String>,
        start: impl Fn() -> Result<Arc<dyn UsageProvider>, ProviderError> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        let state = match start() {
            Ok(provider) => State::Started(provider),
            Err(error) => {
                tracing::error!(provider = name, %error, "a usage provider does not start; its policies get no usage");
                State::Failed(error)
            }
        };
        Self { name, start: Box::new(start), state: Mutex::new(state) }
    }

    /// The provider, started now if it was not before. An error is logged again only when it is another.
    fn started(&self) -> Result<Arc<dyn UsageProvider>, ProviderError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &*state {
            State::Started(provider) => return Ok(provider.clone()),
            State::Failed(error) => error,
        };
        match (self.start)() {
            Ok(provider) => {
                tracing::info!(provider = self.name, "the usage provider has started");
                *state = State::Started(provider.clone());
                Ok(provider)
            }
            Err(error) => {
                if error != *before {
                    tracing::error!(provider = self.name, %error, "the usage provider still does not start");
                }
                *state = State::Failed(error.clone());
                Err(error)
            }
        }
    }
}

#[async_trait::async_trait]
impl UsageProvider for LateProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        self.started()?.usage(queries).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use crate::provider::CustomOptions;
    use std::time::Duration;

    #[tokio::test]
    async fn a_provider_whose_file_comes_later_starts_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        let options = CustomOptions {
            addr: "https://127.0.0.1:1".into(),
            ca_file: Some(ca.clone()),
            identity: None,
            timeout: Duration::from_secs(1),
        };
        let provider = LateProvider::new("custom", move || {
            let provider = options.provider()?;
            Ok(Arc::new(provider))
        });
        for _ in 0..2 {
            let error = provider.usage(&[]).await.unwrap_err();
            assert!(matches!(&error, ProviderError::Refused { cause, .. } if cause.contains("ca.crt")), "{error}");
        }
        let certified = rcgen::generate_simple_self_signed(["usage".to_owned()]).unwrap();
        std::fs::write(&ca, certified.cert.pem()).unwrap();
        assert_eq!(provider.usage(&[]).await, Ok(Vec::new()));
        std::fs::remove_file(&ca).unwrap();
        assert_eq!(provider.usage(&[]).await, Ok(Vec::new()), "what has started stays started");
    }
}
