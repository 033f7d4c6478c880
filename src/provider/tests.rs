//! The gRPC provider against the real service, and against servers that misbehave.

use super::*;
use crate::api::{Api, serve_in_memory};
use crate::clock::Clock;
use crate::proto;
use crate::proto::usage_service_server::{UsageService, UsageServiceServer};
use crate::workload::{WorkloadId, WorkloadKind};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hyper_util::rt::TokioIo;
use optipod_storage::{Sample, Store, StoreOptions, Timestamp};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

const HOUR: Duration = Duration::from_hours(1);
const TIMEOUT: Duration = Duration::from_secs(5);

fn series(workload: usize) -> SeriesKey {
    SeriesKey {
        workload: WorkloadId {
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: format!("web-{workload}"),
        },
        container: "app".into(),
    }
}

fn query(workload: usize, window: Duration) -> UsageQuery {
    UsageQuery { series: series(workload), window }
}

#[tokio::test(start_paused = true)]
async fn the_recommender_s_answers_come_back_in_the_order_of_the_questions() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at("2026-11-24T10:00:00Z".parse().unwrap());
    let now = Timestamp(clock.now().as_millisecond());
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), now).unwrap());
    for workload in [0, 2] {
        let key = optipod_storage::SeriesKey {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            workload: format!("web-{workload}"),
            container: "app".into(),
        };
        let sample = Sample { series: store.intern(&key), pod: 1, at: now, cpu: 0.5, memory: 1024.0 };
        store.append(now, &[sample]).unwrap();
    }
    let api = Api::new(store, clock, 24 * HOUR);
    let (channel, server) = serve_in_memory(api, CancellationToken::new());
    tokio::spawn(server);
    let provider = GrpcProvider::new("recommender", channel, TIMEOUT);

    let questions = [query(2, HOUR), query(1, HOUR), query(0, 2 * HOUR), query(0, HOUR)];
    let answers = provider.usage(&questions).await.unwrap();
    assert_eq!(answers.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
    let usage = answers[0].as_ref().unwrap();
    assert_eq!((usage.to, usage.cpu.samples), (clock.now(), 1));
    assert!((usage.cpu.p90 - 0.5).abs() < 1e-4 && (usage.memory.peak - 1024.0).abs() < 1.0, "{usage:?}");
    assert_eq!(provider.usage(&[]).await, Ok(Vec::new()));
    let refused = provider.usage(&[query(0, 48 * HOUR)]).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Refused { cause, .. } if cause.contains("retention")), "{refused}");
}

/// How a server misbehaves.
#[derive(Clone)]
enum Manner {
    Fails(Status),
    Hangs,
    /// Gives this many good answers for each question, and then nothing, for ever.
    Repeats(usize),
    /// Answers each question after passing it through this.
    Answers(fn(usize, proto::BatchGetUsageResponse) -> Option<proto::BatchGetUsageResponse>),
}

#[derive(Clone)]
struct Custom {
    manner: Manner,
    sizes: Arc<Mutex<Vec<usize>>>,
}

#[tonic::async_trait]
impl UsageService for Custom {
    async fn get_usage(&self, _: Request<proto::GetUsageRequest>) -> Result<Response<proto::GetUsageResponse>, Status> {
        Err(Status::unimplemented("batches only"))
    }

    type BatchGetUsageStream = BoxStream<'static, Result<proto::BatchGetUsageResponse, Status>>;

    async fn batch_get_usage(
        &self,
        request: Request<proto::BatchGetUsageRequest>,
    ) -> Result<Response<Self::BatchGetUsageStream>, Status> {
        let asked = request.into_inner().series;
        self.sizes.lock().unwrap().push(asked.len());
        match self.manner.clone() {
            Manner::Fails(status) => Err(status),
            Manner::Hangs => std::future::pending().await,
            Manner::Repeats(times) => {
                let answers = asked.into_iter().flat_map(|series| vec![Ok(answer(series)); times]).collect::<Vec<_>>();
                Ok(Response::new(stream::iter(answers).chain(stream::pending()).boxed()))
            }
            Manner::Answers(change) => {
                let answers = asked.into_iter().enumerate().filter_map(move |(i, series)| change(i, answer(series)));
                Ok(Response::new(stream::iter(answers.map(Ok).collect::<Vec<_>>()).boxed()))
            }
        }
    }
}

fn answer(series: proto::Series) -> proto::BatchGetUsageResponse {
    let distribution =
        proto::Distribution { p50: 1.0, p90: 2.0, p99: 3.0, mean: 1.5, peak: 4.0, samples: 9, ..Default::default() };
    let usage = proto::Usage {
        window: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        from: Some(prost_types::Timestamp::default()),
        to: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
        covered: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        cpu: Some(distribution),
        memory: Some(distribution),
        sub_usages: Vec::new(),
    };
    proto::BatchGetUsageResponse { series: Some(series), usage: Some(usage) }
}

async fn custom(manner: Manner) -> (GrpcProvider, Arc<Mutex<Vec<usize>>>) {
    let service = Custom { manner, sizes: Arc::default() };
    let sizes = service.sizes.clone();
    let (client, server) = tokio::io::duplex(1 << 16);
    let incoming = stream::iter([Ok::<_, std::io::Error>(server)]).chain(stream::pending());
    tokio::spawn(Server::builder().add_service(UsageServiceServer::new(service)).serve_with_incoming(incoming));
    let mut client = Some(TokioIo::new(client));
    let connector = tower::service_fn(move |_| {
        std::future::ready(client.take().ok_or_else(|| std::io::Error::other("one connection only")))
    });
    let channel: Channel = Endpoint::from_static("http://test").connect_with_connector(connector).await.unwrap();
    (GrpcProvider::new("custom", channel, TIMEOUT), sizes)
}

async fn error_of(manner: Manner) -> ProviderError {
    custom(manner).await.0.usage(&[query(0, HOUR), query(1, HOUR)]).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn statuses_become_the_provider_s_errors() {
    for (code, expected) in [
        ("unavailable", "is not available"),
        ("internal", "is not available"),
        ("resource_exhausted", "is not available"),
        ("unauthenticated", "gave no usable answer"),
        ("unimplemented", "gave no usable answer"),
        ("deadline_exceeded", "did not answer within 5s"),
    ] {
        let status = match code {
            "unavailable" => Status::unavailable("x"),
            "internal" => Status::internal("x"),
            "resource_exhausted" => Status::resource_exhausted("x"),
            "unauthenticated" => Status::unauthenticated("x"),
            "unimplemented" => Status::unimplemented("x"),
            _ => Status::deadline_exceeded("x"),
        };
        let error = error_of(Manner::Fails(status)).await.to_string();
        assert!(error.contains("provider custom") && error.contains(expected), "{code}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_ends_with_the_deadline() {
    for manner in [Manner::Hangs, Manner::Repeats(0), Manner::Repeats(1)] {
        let error = error_of(manner).await;
        assert_eq!(error, ProviderError::Timeout { provider: "custom".into(), after: TIMEOUT });
    }
}

#[tokio::test(start_paused = true)]
async fn more_answers_than_questions_are_not_read_to_their_end() {
    let error = custom(Manner::Repeats(1000)).await.0.usage(&[query(0, HOUR)]).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Refused { cause, .. } if cause.contains("answer 1 is not")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn answers_that_cannot_be_trusted_are_refused() {
    type Change = fn(usize, proto::BatchGetUsageResponse) -> Option<proto::BatchGetUsageResponse>;
    fn cpu(answer: &mut proto::BatchGetUsageResponse) -> &mut proto::Distribution {
        answer.usage.as_mut().unwrap().cpu.as_mut().unwrap()
    }
    let cases: [(&str, Change); 14] = [
        ("1 answers to 2 questions", |i, answer| (i == 0).then_some(answer)),
        ("not about the series asked for", |_, mut answer| {
            answer.series.as_mut().unwrap().workload = "other".into();
            Some(answer)
        }),
        ("answer 0 is not about the series asked for", |i, mut answer| {
            answer.series.as_mut().unwrap().workload = format!("web-{}", 1 - i); // each of the two in the other's place
            Some(answer)
        }),
        ("not about the series asked for", |_, mut answer| {
            answer.series = None;
            Some(answer)
        }),
        ("after they end", |_, mut answer| {
            answer.usage.as_mut().unwrap().from = Some(prost_types::Timestamp { seconds: 61, nanos: 0 });
            Some(answer)
        }),
        ("lacks memory", |_, mut answer| {
            answer.usage.as_mut().unwrap().memory = None;
            Some(answer)
        }),
        ("lacks to", |_, mut answer| {
            answer.usage.as_mut().unwrap().to = None;
            Some(answer)
        }),
        ("covered is no duration", |_, mut answer| {
            answer.usage.as_mut().unwrap().covered = Some(prost_types::Duration { seconds: i64::MIN, nanos: i32::MIN });
            Some(answer)
        }),
        ("cpu is no distribution", |_, mut answer| {
            cpu(&mut answer).p90 = f64::NAN;
            Some(answer)
        }),
        ("cpu is no distribution", |_, mut answer| {
            cpu(&mut answer).p90 = 0.5; // below P50
            Some(answer)
        }),
        ("cpu is no distribution", |_, mut answer| {
            cpu(&mut answer).mean = f64::INFINITY;
            Some(answer)
        }),
        ("too large", |_, mut answer| {
            answer.series.as_mut().unwrap().workload = "x".repeat(5 << 20);
            Some(answer)
        }),
        ("cpu is no distribution", |_, mut answer| {
            cpu(&mut answer).p50 = -1.0;
            Some(answer)
        }),
        ("cpu is no distribution", |_, mut answer| {
            cpu(&mut answer).p99 = 5.0;
            Some(answer)
        }),
    ];
    for (expected, change) in cases {
        let error = error_of(Manner::Answers(change)).await;
        assert!(
            matches!(&error, ProviderError::Refused { cause, .. } if cause.contains(expected)),
            "{expected}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn many_questions_go_in_chunks_and_come_back_in_order() {
    let (provider, sizes) = custom(Manner::Answers(|i, mut answer| {
        if i % 3 == 0 {
            answer.usage = None;
        }
        Some(answer)
    }))
    .await;
    let questions: Vec<_> = (0..1201).map(|i| query(i, HOUR)).collect();
    let answers = provider.usage(&questions).await.unwrap();
    assert_eq!(*sizes.lock().unwrap(), [500, 500, 201]);
    assert_eq!(answers.len(), 1201);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_none(), (i % 500) % 3 == 0, "question {i}");
    }
}

#[tokio::test]
async fn the_channel_connects_anew_when_the_server_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), Timestamp(0)).unwrap());
    let api = Api::new(store, Clock::system(), 24 * HOUR);
    let mut listener = crate::api::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let provider = GrpcProvider::connect_lazy("recommender", &format!("http://{address}"), TIMEOUT).unwrap();
    for _ in 0..2 {
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(crate::api::serve(listener, api.clone(), shutdown.clone()));
        assert_eq!(provider.usage(&[query(0, HOUR)]).await, Ok(vec![None]));
        shutdown.cancel();
        server.await.unwrap().unwrap();
        let away = provider.usage(&[query(0, HOUR)]).await.unwrap_err();
        assert!(matches!(away, ProviderError::Unavailable { .. }), "{away}");
        listener = crate::api::bind(address).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_endpoint_is_told_with_a_right_one() {
    let error = GrpcProvider::connect_lazy("custom", "not an address", TIMEOUT).unwrap_err();
    assert!(error.to_string().contains("write for example http://127.0.0.1:9090"), "{error}");
}
