//! The services over an in-memory channel, on paused time.

mod lists;
mod recommendations;
mod serving;
mod usage;

use super::*;
use crate::clock::Clock;
use crate::proto::recommender_service_client::RecommenderServiceClient;
use crate::proto::usage_service_client::UsageServiceClient;
use futures::TryStreamExt as _;
use optipod_storage::{Sample, StoreOptions, Timestamp};
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const RETENTION: Duration = Duration::from_hours(7 * 24);

/// A served store that knows what it was told.
struct Bench {
    store: Arc<Store>,
    now: Timestamp,
    usage: UsageServiceClient<Channel>,
    recommender: RecommenderServiceClient<Channel>,
    channel: Channel,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::starting_at("2026-11-24T10:00:00Z".parse().unwrap());
        let now = convert::stored(clock.now());
        let store = Arc::new(
            Store::open(dir.path(), StoreOptions { retention: RETENTION, ..Default::default() }, now).unwrap(),
        );
        let api = Api::new(store.clone(), clock, RETENTION);
        let (channel, server) = serve_in_memory(api, CancellationToken::new());
        tokio::spawn(server);
        Self {
            store,
            now,
            usage: UsageServiceClient::new(channel.clone()),
            recommender: RecommenderServiceClient::new(channel.clone()),
            channel,
            _dir: dir,
        }
    }

    /// Adds a sample every 15 s, the last just now, the oldest first in `cpu`; memory is 1 MiB for each core.
    fn samples(&self, key: &SeriesKey, cpu: &[f64]) {
        let series = self.store.intern(key);
        for (ago, cpu) in cpu.iter().rev().enumerate().rev() {
            let at = self.now - Duration::from_secs(15) * u32::try_from(ago).unwrap();
            let sample = Sample { series, pod: 1, at, cpu: *cpu, memory: cpu * 1_048_576.0 };
            assert_eq!(self.store.append(at, &[sample]).unwrap().accepted, 1);
        }
    }
}

fn key(workload: &str) -> SeriesKey {
    SeriesKey {
        namespace: "shop".into(),
        kind: "Deployment".into(),
        workload: workload.into(),
        container: "app".into(),
    }
}

#[allow(clippy::unnecessary_wraps)] // as the messages want it
fn span(duration: Duration) -> Option<prost_types::Duration> {
    Some(convert::wire_duration(duration))
}

fn get_usage(series: &SeriesKey, windows: &[Duration]) -> proto::GetUsageRequest {
    proto::GetUsageRequest {
        series: Some(convert::series(series.clone())),
        windows: windows.iter().map(|window| convert::wire_duration(*window)).collect(),
        sub_window: None,
    }
}

fn recommendation(series: &SeriesKey) -> proto::GetRecommendationRequest {
    proto::GetRecommendationRequest { series: Some(convert::series(series.clone())), ..Default::default() }
}

/// The fields that an INVALID_ARGUMENT names.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|v| status.message().contains(&v.description)), "{status:?}");
    violations.into_iter().map(|v| v.field).collect()
}

/// 200 values whose order statistics are known: 0.01 to 2.00 cores, mixed up.
fn known() -> Vec<f64> {
    (0..200u32).map(|i| f64::from(i * 77 % 200 + 1) / 100.0).collect()
}
