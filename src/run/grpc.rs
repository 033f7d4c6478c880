//! gRPC as the settings want it: where it is served, and how the recommender is called.

use crate::api::{self, Api, Door, DoorOptions, ServeError, TlsFiles};
use crate::clock::Clock;
use crate::config::Settings;
use crate::provider::{Line, Target};
use crate::telemetry::Metrics;
use crate::web::{self, Listen};
use std::pin::Pin;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The services' listener, and the door before it where there is TLS.
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    door: Option<Door>,
}

type Serving = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

impl Listening {
    /// Listens on `grpcAddr`: anywhere behind a door, else on loopback only.
    pub(super) async fn begin(
        settings: &Settings,
        client: &kube::Client,
        metrics: &Metrics,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let address = settings.grpc_listen()?;
        let door = door(settings, client, metrics, clock)?;
        let anywhere = if door.is_some() { web::bind(Listen::On(address)).await? } else { None };
        let listener = match anywhere {
            Some(listener) => listener,
            None => api::bind(address).await?,
        };
        Ok(Self { listener, door })
    }

    /// Answers until `shutdown`.
    pub(super) fn serve(self, api: Api, shutdown: CancellationToken) -> Serving {
        match self.door {
            Some(door) => Box::pin(api::serve_guarded(self.listener, api, door, shutdown)),
            None => Box::pin(api::serve(self.listener, api, shutdown)),
        }
    }
}

fn door(settings: &Settings, client: &kube::Client, metrics: &Metrics, clock: Clock) -> anyhow::Result<Option<Door>> {
    let tls = &settings.grpc_tls;
    let Some((cert, key)) = tls.pair() else { return Ok(None) };
    let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: tls.client_ca_file.clone() };
    let tokens = tls.token_review.then(|| (client.clone(), tls.token_audience.clone()));
    let requests_per_second = tls.max_requests_per_second;
    let client_names = tls.client_names.clone();
    let metrics = metrics.door().clone();
    Ok(Some(Door::new(DoorOptions { files, client_names, tokens, requests_per_second, clock, metrics })?))
}

/// The recommender at `recommenderAddr`.
pub(super) fn target(settings: &Settings) -> Target {
    let tls = settings.recommender_tls.clone();
    Target {
        address: settings.recommender_addr.clone(),
        ca_file: tls.ca_file,
        token_file: tls.token_file,
        identity: tls.cert_file.zip(tls.key_file),
        server_name: tls.server_name,
        is_foreign: false,
    }
}

/// A line to the recommender that a command speaks over; it is connected already.
pub type RecommenderLine = Line;

/// Connects to the recommender at `recommenderAddr`, for a command.
pub async fn recommender_line(settings: &Settings) -> anyhow::Result<RecommenderLine> {
    target(settings).connect().await
}
