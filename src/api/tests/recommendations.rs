use super::*;

#[tokio::test(start_paused = true)]
async fn a_recommendation_is_the_pure_code_s_and_explains_itself() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &[0.5; 640]);
    let request = proto::GetRecommendationRequest {
        current: Some(proto::Requests { cpu: "1200m".into(), memory: String::new() }),
        ..recommendation(&key("web"))
    };
    let got = bench.recommender.get_recommendation(request).await.unwrap().into_inner();
    // P90 0.5 cores × 1.2; P90 0.5 MiB × 1.2, up to a mebibyte.
    assert_eq!(got.requests.unwrap(), proto::Requests { cpu: "600m".into(), memory: "1Mi".into() });
    assert!(got.explanation.contains("P90 0.5 cores × 1.2 = 0.6 cores"), "{}", got.explanation);
    assert!(!got.window_covered);
    assert_eq!(got.cpu_change_percent, Some(-50.0));
    assert_eq!(got.memory_change_percent, None);
    assert_eq!(got.usage.unwrap().cpu.unwrap().samples, 640);
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_request_replace_the_defaults() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &known());
    let resource = |percentile: proto::Percentile, safety_factor| {
        Some(proto::ResourceConfig { percentile: percentile.into(), safety_factor })
    };
    let request = proto::GetRecommendationRequest {
        metrics_config: Some(proto::MetricsConfig {
            rolling_window: span(HOUR),
            cpu: resource(proto::Percentile::P50, 2.0),
            memory: resource(proto::Percentile::P99, 1.0),
            memory_floor: proto::MemoryFloor::None.into(),
            min_samples: 10,
            min_span: span(Duration::from_mins(1)),
        }),
        resource_bounds: Some(proto::ResourceBounds { memory_min: "100Mi".into(), ..Default::default() }),
        ..recommendation(&key("web"))
    };
    let got = bench.recommender.get_recommendation(request).await.unwrap().into_inner();
    let requests = got.requests.unwrap();
    let cpu: crate::quantity::Millicores = requests.cpu.parse().unwrap();
    assert!((1980..=2040).contains(&cpu.0), "P50 1.0 × 2 gave {cpu}");
    assert_eq!(requests.memory, "100Mi");
}

#[tokio::test(start_paused = true)]
async fn too_little_data_is_a_failed_precondition_that_tells_what_is_missing() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &[0.5; 40]);
    let status = bench.recommender.get_recommendation(recommendation(&key("web"))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "40 of 100 samples so far; the recommendation follows when there are enough")
    );
    let quiet = Bench::new();
    let old = quiet.now - 2 * DAY;
    let sample = Sample { series: quiet.store.intern(&key("web")), pod: 1, at: old, cpu: 1.0, memory: 1.0 };
    quiet.store.append(old, &[sample]).unwrap();
    let status = quiet.recommender.clone().get_recommendation(recommendation(&key("web"))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "known, but not within the window: {status:?}");
}

#[tokio::test(start_paused = true)]
async fn wrong_settings_of_a_recommendation_are_named() {
    let mut bench = Bench::new();
    let request = proto::GetRecommendationRequest {
        metrics_config: Some(proto::MetricsConfig {
            rolling_window: span(RETENTION + HOUR),
            cpu: Some(proto::ResourceConfig { percentile: 77, safety_factor: 0.5 }),
            memory_floor: 9,
            min_span: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
            ..Default::default()
        }),
        resource_bounds: Some(proto::ResourceBounds {
            cpu_min: "2".into(),
            cpu_max: "1".into(),
            memory_max: "lots".into(),
            ..Default::default()
        }),
        ..recommendation(&key("web"))
    };
    let status = bench.recommender.get_recommendation(request).await.unwrap_err();
    let mut fields = fields(&status);
    fields.sort();
    assert_eq!(
        fields,
        [
            "metrics_config.cpu.percentile",
            "metrics_config.cpu.safety_factor",
            "metrics_config.memory_floor",
            "metrics_config.min_span",
            "metrics_config.rolling_window",
            "resource_bounds.cpu_min",
            "resource_bounds.memory_max",
        ]
    );
}
