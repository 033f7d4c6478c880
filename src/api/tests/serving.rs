use super::*;

#[tokio::test(start_paused = true)]
async fn the_store_s_state_is_told() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &[1.0, 2.0]);
    let status = bench.recommender.get_store_status(proto::GetStoreStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.series, status.samples_accepted, status.retention), (1, 2, span(RETENTION)));
    assert_eq!(status.last_tick.unwrap().seconds, bench.now.0 / 1000);
}

#[tokio::test(start_paused = true)]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let bench = Bench::new();
    for service in ["", "optipod.v1alpha1.UsageService", "optipod.v1alpha1.RecommenderService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(bench.channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "SERVING: {service}");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(bench.channel.clone());
    let mut stream = client.server_reflection_info(futures::stream::iter([ask])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = stream.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["optipod.v1alpha1.UsageService", "optipod.v1alpha1.RecommenderService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), Timestamp(0)).unwrap());
    let shutdown = CancellationToken::new();
    let (channel, server) = serve_in_memory(Api::new(store, Clock::system(), DAY), shutdown.clone());
    let server = tokio::spawn(server);
    let mut client = RecommenderServiceClient::new(channel);
    client.get_store_status(proto::GetStoreStatusRequest {}).await.unwrap();
    shutdown.cancel();
    server.await.unwrap().unwrap();
    let status = client.get_store_status(proto::GetStoreStatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn outside_loopback_it_refuses_to_listen_and_to_serve() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051"] {
        let error = bind(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
        assert!(error.to_string().contains("only with TLS and authentication"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), Timestamp(0)).unwrap());
    let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let served = serve(open, Api::new(store, Clock::system(), DAY), CancellationToken::new()).await;
    assert!(matches!(served, Err(ServeError::NotLoopback(_))));
}

#[tokio::test]
async fn on_loopback_it_serves_over_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), Timestamp(0)).unwrap());
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Api::new(store, Clock::system(), DAY), shutdown.clone()));
    let mut client = RecommenderServiceClient::connect(endpoint).await.unwrap();
    let status = client.get_store_status(proto::GetStoreStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.retention, span(DAY));
    shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_many_threads_requests_are_answered_side_by_side() {
    let bench = Bench::new();
    bench.samples(&key("web"), &[1.0, 2.0]);
    let ask = |_| {
        let mut client = bench.usage.clone();
        async move { client.get_usage(get_usage(&key("web"), &[HOUR])).await.unwrap().into_inner().usages.len() }
    };
    assert_eq!(futures::future::join_all((0..200).map(ask)).await, vec![1; 200]);
}

#[tokio::test(start_paused = true)]
async fn no_extreme_of_a_field_does_more_than_be_refused() {
    let mut bench = Bench::new();
    let extremes = [i64::MIN, -1, 0, 1, 253_402_300_800, i64::MAX];
    for seconds in extremes {
        for nanos in [i32::MIN, -1, 0, 999_999_999, i32::MAX] {
            let duration = Some(prost_types::Duration { seconds, nanos });
            let at = Some(prost_types::Timestamp { seconds, nanos });
            let series = Some(convert::series(key("web")));
            let request = proto::GetUsageRequest {
                series: series.clone(),
                windows: duration.into_iter().collect(),
                sub_window: duration,
            };
            refused(bench.usage.get_usage(request).await);
            for (start, end) in
                [(at, Some(convert::wire_time(bench.now))), (Some(convert::wire_time(bench.now)), at), (at, at)]
            {
                let request = proto::QueryRangeRequest { series: series.clone(), start, end, step: duration };
                refused(bench.recommender.query_range(request).await);
            }
            let config = proto::MetricsConfig { rolling_window: duration, min_span: duration, ..Default::default() };
            let request = proto::GetRecommendationRequest {
                series,
                metrics_config: Some(config),
                resource_bounds: Some(proto::ResourceBounds {
                    cpu_max: "1e40".into(),
                    memory_max: "-1".into(),
                    ..Default::default()
                }),
                current: None,
            };
            refused(bench.recommender.get_recommendation(request).await);
        }
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) {
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
}
