//! Every method of the server, called once with a request about namespace `shop`.

use futures::StreamExt as _;
use optipod::proto;
use optipod::proto::recommender_service_client::RecommenderServiceClient;
use optipod::proto::usage_service_client::UsageServiceClient;
use optipod::provider::Line;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

/// In the order of the tables that tests print.
pub const METHODS: [Method; 8] = [
    Method::GetUsage,
    Method::BatchGetUsage,
    Method::GetRecommendation,
    Method::ListSeries,
    Method::QueryRange,
    Method::GetStoreStatus,
    Method::Reflection,
    Method::Health,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    GetUsage,
    BatchGetUsage,
    GetRecommendation,
    ListSeries,
    QueryRange,
    GetStoreStatus,
    Reflection,
    Health,
}

impl Method {
    /// What it answers to a caller that is let in, where the store knows nothing.
    pub fn passed(self) -> Code {
        match self {
            Self::GetUsage | Self::GetRecommendation | Self::QueryRange => Code::NotFound,
            _ => Code::Ok,
        }
    }

    /// Calls it; the answer's code and message.
    pub async fn call(self, line: Line) -> Status {
        match self.answer(line).await {
            Ok(()) => Status::new(Code::Ok, ""),
            Err(status) => status,
        }
    }

    async fn answer(self, line: Line) -> Result<(), Status> {
        let mut usage = UsageServiceClient::new(line.clone());
        let mut recommender = RecommenderServiceClient::new(line.clone());
        match self {
            Self::GetUsage => {
                let request = proto::GetUsageRequest { series: series(), windows: vec![HOUR], sub_window: None };
                usage.get_usage(request).await.map(drop)
            }
            Self::BatchGetUsage => {
                let request =
                    proto::BatchGetUsageRequest { series: series().into_iter().collect(), window: Some(HOUR) };
                drain(usage.batch_get_usage(request).await?.into_inner()).await
            }
            Self::GetRecommendation => {
                let request = proto::GetRecommendationRequest { series: series(), ..Default::default() };
                recommender.get_recommendation(request).await.map(drop)
            }
            Self::ListSeries => {
                let request = proto::ListSeriesRequest { namespace: "shop".into(), ..Default::default() };
                recommender.list_series(request).await.map(drop)
            }
            Self::QueryRange => {
                let now = std::time::SystemTime::now();
                let start = Some((now - std::time::Duration::from_hours(1)).into());
                let request =
                    proto::QueryRangeRequest { series: series(), start, end: Some(now.into()), step: Some(HOUR) };
                recommender.query_range(request).await.map(drop)
            }
            Self::GetStoreStatus => recommender.get_store_status(proto::GetStoreStatusRequest {}).await.map(drop),
            Self::Reflection => {
                let message_request = Some(MessageRequest::ListServices(String::new()));
                let ask = ServerReflectionRequest { host: String::new(), message_request };
                let mut client = ServerReflectionClient::new(line);
                drain(client.server_reflection_info(futures::stream::iter([ask])).await?.into_inner()).await
            }
            Self::Health => HealthClient::new(line).check(HealthCheckRequest::default()).await.map(drop),
        }
    }
}

const HOUR: prost_types::Duration = prost_types::Duration { seconds: 3600, nanos: 0 };

#[allow(clippy::unnecessary_wraps, reason = "as the messages want it")]
fn series() -> Option<proto::Series> {
    Some(proto::Series {
        namespace: "shop".into(),
        kind: "Deployment".into(),
        workload: "web".into(),
        container: "app".into(),
    })
}

async fn drain<T>(mut stream: tonic::Streaming<T>) -> Result<(), Status> {
    while let Some(answer) = stream.next().await {
        answer?;
    }
    Ok(())
}
