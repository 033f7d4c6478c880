//! Composition: the only place that wires parts together. The roles of the binary, and the demo, are made here.

mod filling;
mod grpc;
mod providers;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests;

pub use grpc::{RecommenderLine, recommender_line};

use crate::api::{self, Api};
use crate::clock::Clock;
use crate::collector::{Collector, CollectorHealth, CollectorOptions};
use crate::config::{PolicyScope, Settings};
use crate::controller::{Controller, ControllerOptions, Deps};
use crate::policy::Scope;
use crate::provider::GrpcProvider;
use crate::telemetry::Metrics;
use crate::web::{self, Listen, Probe, Probes};
use anyhow::Context as _;
use grpc::Listening;
use optipod_storage::{OpenError, Store};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// After SIGTERM a role has this long to finish what it is doing; Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(10);

/// A store, what fills it and what answers from it.
#[derive(Clone)]
pub struct Recommender {
    store: Arc<Store>,
    collector: Arc<Collector>,
    api: Api,
    clock: Clock,
}

impl Recommender {
    /// Opens the store in `dir`, which answers from its sealed slots, and prepares the rest; nothing runs yet.
    pub fn open(
        dir: &Path,
        settings: &Settings,
        client: kube::Client,
        metrics: &Metrics,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (retention, interval) = (settings.retention()?, settings.scrape_interval()?);
        let store = Store::open_sealed(dir, settings.store_options()?)
            .with_context(|| format!("opening the store in {}", dir.display()))?;
        let store = Arc::new(store);
        let options = CollectorOptions { interval, ..CollectorOptions::default() };
        let collector = Arc::new(Collector::new(client, store.clone(), metrics, &options));
        Ok(Self { collector, api: Api::new(store.clone(), clock, retention), store, clock })
    }

    /// How collection is doing.
    pub fn health(&self) -> CollectorHealth {
        self.collector.health()
    }

    /// Reads the open slots, then collects until `shutdown`. Where they cannot be read yet, as on a full volume, samples
    /// wait and each tick tries again; only a store of a newer OptiPod is an error.
    pub async fn collect(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        match self.collector.load(self.clock.now()) {
            Ok(()) => {}
            Err(error @ OpenError::NewerFormat { .. }) => return Err(error).context("reading the store"),
            Err(error) => tracing::error!(%error, "the open slots cannot be read; sealed ones are served meanwhile"),
        }
        self.collector.run(self.clock, shutdown).await;
        Ok(())
    }

    /// [`Recommender::collect`] in a task of its own, so that nothing else waits while it waits for the disk.
    async fn collect_apart(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let recommender = self.clone();
        tokio::spawn(async move { recommender.collect(shutdown).await }).await.context("the collector stopped")?
    }

    /// A channel to the services within this process; they are served in a task until `shutdown`.
    pub fn channel(&self, shutdown: CancellationToken) -> Channel {
        let (channel, serving) = api::serve_in_memory(self.api.clone(), shutdown);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the in-memory services stopped");
            }
        });
        channel
    }

    /// Answers `optipod store` until `shutdown`. Where it cannot, that is no reason to stop.
    async fn serve_admin(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        if let Err(error) = api::serve_admin(self.api.clone(), shutdown).await {
            tracing::warn!(%error, "`optipod store` works on this store only while the recommender is stopped");
        }
        Ok(())
    }

    fn probes(&self) -> Probes {
        let probe = |ask: fn(&CollectorHealth, jiff::Timestamp) -> Result<String, String>| {
            let (health, clock) = (self.health(), self.clock);
            Arc::new(move || Probe::from(ask(&health, clock.now())))
        };
        Probes { live: probe(CollectorHealth::live), ready: probe(CollectorHealth::ready) }
    }
}

/// A silent connection is given up after this: longer than a watch, which the API server ends after 290 s. Without it a
/// list that is never answered would keep its watch waiting for ever.
const SILENCE: Duration = Duration::from_mins(5);

/// A client of the cluster. kube's own retries are off: a constant 503 would be tried for minutes.
pub fn client(mut config: kube::Config) -> anyhow::Result<kube::Client> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config).context("making a client of the cluster")
}

/// `optipod recommender`: collects, keeps, answers on `grpcAddr`.
pub async fn recommender(settings: &Settings, client: kube::Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let recommender = open(settings, client.clone(), &metrics)?;
    let filling = recommender.filling(settings, shutdown.clone())?;
    let listening = Listening::begin(settings, &client, &metrics, recommender.clock).await?;
    tracing::info!(grpc = %listening.listener.local_addr()?, data = %settings.data_dir.display(), "recommender started");
    let web = serve_web(settings, &metrics, recommender.probes(), &shutdown).await?;
    let serving = listening.serve(recommender.api.clone(), shutdown.clone());
    let work = async {
        let collecting = Box::pin(recommender.collect_apart(shutdown.clone()));
        let admin = recommender.serve_admin(shutdown.clone());
        tokio::try_join!(collecting, filling, async { Ok(serving.await?) }, web, admin).map(|_| ())
    };
    until_finished(work, &shutdown).await
}

/// `optipod controller`: reconciles policies with usage from the recommender at `recommenderAddr`.
pub async fn controller(settings: &Settings, client: kube::Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let provider = GrpcProvider::connect_lazy_to(METRICS_SERVER, grpc::target(settings), PROVIDER_TIMEOUT)?;
    let controller = controller_of(settings, client, provider, &metrics, Clock::system())?;
    tracing::info!(recommender = settings.recommender_addr, dry_run = settings.dry_run, "controller started");
    let web = serve_web(settings, &metrics, controller_probes(&controller), &shutdown).await?;
    let work = async { tokio::try_join!(finishing(Box::pin(controller.run(shutdown.clone()))), web).map(|_| ()) };
    until_finished(work, &shutdown).await
}

/// `optipod run`: both roles in one process; the controller asks the recommender over an in-memory channel.
pub async fn both(settings: &Settings, client: kube::Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let recommender = open(settings, client.clone(), &metrics)?;
    let filling = recommender.filling(settings, shutdown.clone())?;
    let listening = Listening::begin(settings, &client, &metrics, recommender.clock).await?;
    let provider = in_memory(recommender.channel(shutdown.clone()));
    let controller = controller_of(settings, client, provider, &metrics, recommender.clock)?;
    tracing::info!(
        grpc = %listening.listener.local_addr()?, data = %settings.data_dir.display(), dry_run = settings.dry_run,
        "recommender and controller started"
    );
    let web = serve_web(settings, &metrics, both_probes(&recommender, &controller), &shutdown).await?;
    let serving = listening.serve(recommender.api.clone(), shutdown.clone());
    let work = async {
        let collecting = Box::pin(recommender.collect_apart(shutdown.clone()));
        let reconciling = finishing(Box::pin(controller.run(shutdown.clone())));
        let admin = recommender.serve_admin(shutdown.clone());
        tokio::try_join!(collecting, filling, reconciling, async { Ok(serving.await?) }, web, admin).map(|_| ())
    };
    until_finished(work, &shutdown).await
}

/// The name that policies use for OptiPod's own recommender, fed from metrics-server.
const METRICS_SERVER: &str = "metrics-server";

/// The deadline of one question to the recommender.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

/// The provider behind a channel of [`Recommender::channel`].
pub fn in_memory(channel: Channel) -> GrpcProvider {
    GrpcProvider::new(METRICS_SERVER, channel, PROVIDER_TIMEOUT)
}

/// A controller that asks `provider`; nothing runs yet.
pub fn controller_of(
    settings: &Settings,
    client: kube::Client,
    provider: GrpcProvider,
    metrics: &Metrics,
    clock: Clock,
) -> anyhow::Result<Controller> {
    let providers = providers::of(settings, provider, clock)?;
    let options = ControllerOptions {
        dry_run: settings.dry_run,
        scope: Scope {
            operator_namespace: settings.namespace.clone(),
            any: settings.policy_scope == PolicyScope::Any,
            deny_namespaces: settings.deny_namespaces.clone(),
        },
        allow_limit_changes: settings.allow_limit_changes,
        max_updates_per_minute: settings.max_updates_per_minute,
        interval: settings.reconciliation_interval()?,
        leader_election: settings.leader_election,
        provider_timeout: PROVIDER_TIMEOUT,
        ..ControllerOptions::new(settings.namespace.as_str(), identity())
    };
    Ok(Controller::new(Deps { client, providers, metrics: metrics.clone(), clock }, options))
}

/// Names this process in the lease and in events: the pod's name where there is one.
fn identity() -> String {
    let host =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "optipod".to_owned());
    format!("{host}-{}", std::process::id())
}

/// The controller's loop answers for itself through its watches; it has no tick that could be late. Ready while its caches are
/// filled, however old, but for the brake: one that cannot be seen counts as on.
fn controller_probes(controller: &Controller) -> Probes {
    let readiness = controller.readiness();
    let ready = move || match readiness.missing() {
        missing if missing.is_empty() => Probe { ok: true, detail: "all watches are complete".to_owned() },
        missing => Probe { ok: false, detail: format!("waiting for a complete list of {}", missing.join(", ")) },
    };
    let live = || Probe { ok: true, detail: "the runtime answers".to_owned() };
    Probes { live: Arc::new(live), ready: Arc::new(ready) }
}

/// Live as the recommender is; ready when both are.
fn both_probes(recommender: &Recommender, controller: &Controller) -> Probes {
    let (one, other) = (recommender.probes(), controller_probes(controller));
    let ready = move || {
        let of_controller = (other.ready)();
        if of_controller.ok { (one.ready)() } else { of_controller }
    };
    Probes { live: recommender.probes().live, ready: Arc::new(ready) }
}

async fn finishing(work: impl Future<Output = ()>) -> anyhow::Result<()> {
    work.await;
    Ok(())
}

fn open(settings: &Settings, client: kube::Client, metrics: &Metrics) -> anyhow::Result<Recommender> {
    std::fs::create_dir_all(&settings.data_dir).with_context(|| {
        format!("making the folder {}; set --data-dir to one that is writable", settings.data_dir.display())
    })?;
    Recommender::open(&settings.data_dir, settings, client, metrics, Clock::system())
}

/// Serves `/metrics` and the probes until `shutdown`, on the addresses that are set.
async fn serve_web(
    settings: &Settings,
    metrics: &Metrics,
    probes: Probes,
    shutdown: &CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let metrics = serve_http(settings.metrics_listen()?, web::metrics_router(metrics.clone()), shutdown).await?;
    let health = serve_http(settings.health_listen()?, web::health_router(probes), shutdown).await?;
    Ok(async { tokio::try_join!(metrics, health).map(|_| ()) })
}

async fn serve_http(
    listen: Listen,
    router: axum::Router,
    shutdown: &CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let listener = web::bind(listen).await?;
    let shutdown = shutdown.clone();
    Ok(async move {
        match listener {
            Some(listener) => Ok(web::serve(listener, router, shutdown).await?),
            None => Ok(()),
        }
    })
}

/// Runs `work`; once `shutdown` is cancelled it has [`GRACE`] to end.
async fn until_finished(
    work: impl Future<Output = anyhow::Result<()>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = work => result,
        () = too_late => {
            tracing::warn!("not everything ended within {GRACE:?} after the signal; stopping all the same");
            Ok(())
        }
    }
}
