//! The backfill beside the collector.

use super::Recommender;
use crate::backfill::Backfill;
use crate::config::Settings;
use crate::provider::PrometheusProvider;
use std::pin::Pin;
use tokio_util::sync::CancellationToken;

type Filling = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

impl Recommender {
    /// Fills the store with the past, where the settings say so and it is due; to be called before [`Self::collect`]. What
    /// fails is logged: it is no reason to stop.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn filling(&self, settings: &Settings, shutdown: CancellationToken) -> anyhow::Result<Filling> {
        let nothing = || -> Filling { Box::pin(async { Ok(()) }) };
        let (Some(window), Some(options)) = (settings.backfill_window()?, settings.prometheus_options()?) else {
            return Ok(nothing());
        };
        let source = PrometheusProvider::new(options, self.clock)?;
        let window = window.min(settings.retention()?);
        match Backfill::begin(self.store.clone(), source, window, self.clock) {
            Ok(Some(backfill)) => Ok(Box::pin(self.clone().fill(backfill, shutdown))),
            Ok(None) => Ok(nothing()),
            Err(error) => {
                tracing::error!(%error, "no backfill");
                Ok(nothing())
            }
        }
    }

    /// In a task of its own, since it waits for the disk now and then.
    async fn fill(self, backfill: Backfill, shutdown: CancellationToken) -> anyhow::Result<()> {
        let filling = tokio::spawn(async move {
            let owners = self.collector.owners();
            if shutdown.run_until_cancelled(owners.until_synced()).await.is_none() {
                return;
            }
            match backfill.run(&owners.workloads(), &shutdown).await {
                Ok(filled) if filled.complete => tracing::info!(?filled, "the backfill is complete"),
                Ok(filled) => tracing::info!(?filled, "the backfill goes on with the next start"),
                Err(error) => tracing::error!(%error, "the backfill stops; it goes on with the next start"),
            }
        });
        Ok(filling.await?)
    }
}
