//! The usage providers that the settings name.

use crate::clock::Clock;
use crate::config::Settings;
use crate::controller::Providers;
use crate::provider::{
    CUSTOM, CachedProvider, CustomOptions, GrpcProvider, LateProvider, PrometheusProvider, UsageProvider, prometheus,
};
use std::sync::Arc;

/// All providers that are set up, each behind a cache of its own.
pub(super) fn of(settings: &Settings, recommender: GrpcProvider, clock: Clock) -> anyhow::Result<Providers> {
    let ttl = settings.usage_cache_ttl()?;
    let cached = |provider| Arc::new(CachedProvider::new(provider, ttl, clock));
    let mut providers = Providers::new(settings.metrics_provider.as_str());
    providers = providers.with(super::METRICS_SERVER, cached(Arc::new(recommender)));
    if let Some(options) = settings.prometheus_options()? {
        providers = providers.with(prometheus::NAME, cached(PrometheusProvider::start(options, clock)));
    }
    if let Some(options) = settings.custom.options()? {
        providers = providers.with(CUSTOM, cached(custom_of(options)));
    }
    Ok(providers)
}

/// Asks a server of the user's own, as soon as its files can be read.
fn custom_of(options: CustomOptions) -> Arc<dyn UsageProvider> {
    Arc::new(LateProvider::new(CUSTOM, move || {
        let provider = options.provider()?;
        Ok(Arc::new(provider))
    }))
}
