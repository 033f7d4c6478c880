use super::*;

#[tokio::test(start_paused = true)]
async fn usage_states_quantiles_span_and_samples_of_each_window() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &known());
    let request = get_usage(&key("web"), &[DAY, Duration::from_mins(10)]);
    let usages = bench.usage.get_usage(request).await.unwrap().into_inner().usages;
    let [day, minutes] = &usages[..] else { panic!("{usages:?}") };
    let cpu = day.cpu.unwrap();
    for (got, exact) in
        [(cpu.p50, 1.0), (cpu.p75, 1.5), (cpu.p90, 1.8), (cpu.p95, 1.9), (cpu.p98, 1.96), (cpu.p99, 1.98)]
    {
        assert!((got - exact).abs() <= 0.02, "{got} is not {exact}");
    }
    assert!((cpu.mean - 1.005).abs() < 0.002 && (cpu.peak - 2.0).abs() < 1e-3, "{cpu:?}");
    assert_eq!((cpu.samples, day.memory.unwrap().samples), (200, 200));
    assert_eq!(day.to.unwrap().seconds, bench.now.0 / 1000);
    assert_eq!(day.to.unwrap().seconds - day.from.unwrap().seconds, 199 * 15);
    assert_eq!(minutes.window, span(Duration::from_mins(10)));
    assert!(minutes.cpu.unwrap().samples < 100, "{minutes:?}");
    assert!(day.sub_usages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_window_is_divided_where_that_is_asked_for() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &known());
    let request =
        proto::GetUsageRequest { sub_window: span(Duration::from_mins(10)), ..get_usage(&key("web"), &[HOUR]) };
    let usages = bench.usage.get_usage(request).await.unwrap().into_inner().usages;
    let parts = &usages[0].sub_usages;
    assert!((5..=6).contains(&parts.len()), "{} parts", parts.len());
    assert!(parts.is_sorted_by_key(|part| part.from.unwrap().seconds));
    let samples: u64 = parts.iter().map(|part| part.cpu.unwrap().samples).sum();
    assert!((199..=200).contains(&samples), "all but perhaps the sample of this very moment: {samples}");
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_not_found_and_the_message_tells_what_to_do() {
    let mut bench = Bench::new();
    let status = bench.usage.get_usage(get_usage(&key("web"), &[HOUR])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("shop/Deployment/web/app") && status.message().contains("ListSeries"));
    let status = bench.recommender.get_recommendation(recommendation(&key("web"))).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn every_wrong_field_of_a_request_is_named() {
    let mut bench = Bench::new();
    let request = proto::GetUsageRequest {
        series: Some(proto::Series { kind: "Deplyment".into(), ..Default::default() }),
        windows: [Duration::from_secs(1), RETENTION + HOUR, HOUR].map(convert::wire_duration).to_vec(),
        sub_window: None,
    };
    let status = bench.usage.get_usage(request).await.unwrap_err();
    let expected =
        ["series.namespace", "series.workload", "series.container", "series.kind", "windows[0]", "windows[1]"];
    assert_eq!(fields(&status), expected);
    assert!(status.message().contains("from 5m to 7days, the store's retention"), "{}", status.message());

    let none = proto::GetUsageRequest::default();
    assert_eq!(fields(&bench.usage.get_usage(none).await.unwrap_err()), ["series", "windows"]);
    let many = get_usage(&key("web"), &[HOUR; 17]);
    assert_eq!(fields(&bench.usage.get_usage(many).await.unwrap_err()), ["windows"]);
    let parts =
        proto::GetUsageRequest { sub_window: span(Duration::from_mins(5)), ..get_usage(&key("web"), &[2 * DAY]) };
    assert_eq!(fields(&bench.usage.get_usage(parts).await.unwrap_err()), ["sub_window"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_series_in_order_and_leaves_out_what_is_unknown() {
    let mut bench = Bench::new();
    bench.samples(&key("b"), &[1.0]);
    bench.samples(&key("a"), &[2.0, 2.0]);
    let series = ["a", "nobody", "b"].map(|workload| convert::series(key(workload))).to_vec();
    let request = proto::BatchGetUsageRequest { series, window: span(HOUR) };
    let stream = bench.usage.batch_get_usage(request).await.unwrap().into_inner();
    let answers: Vec<_> = stream.try_collect().await.unwrap();
    let samples: Vec<_> = answers
        .iter()
        .map(|a| (a.series.clone().unwrap().workload, a.usage.as_ref().map(|usage| usage.cpu.unwrap().samples)))
        .collect();
    assert_eq!(samples, [("a".into(), Some(2)), ("nobody".into(), None), ("b".into(), Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_and_its_wrong_fields_are_named() {
    let mut bench = Bench::new();
    let many = |count| vec![convert::series(key("web")); count];
    let request = proto::BatchGetUsageRequest { series: many(MAX_BATCH + 1), window: span(HOUR) };
    assert_eq!(fields(&bench.usage.batch_get_usage(request).await.unwrap_err()), ["series"]);
    let mut series = many(2);
    series[1].container.clear();
    let request = proto::BatchGetUsageRequest { series, window: None };
    assert_eq!(fields(&bench.usage.batch_get_usage(request).await.unwrap_err()), ["window", "series[1].container"]);
}

#[tokio::test(start_paused = true)]
async fn the_largest_batch_of_the_longest_names_fits_a_message_and_a_larger_message_does_not() {
    let mut bench = Bench::new();
    let long = SeriesKey {
        namespace: "n".repeat(63),
        kind: "Deployment".into(),
        workload: "w".repeat(253),
        container: "c".repeat(63),
    };
    let request = |key: SeriesKey| proto::BatchGetUsageRequest {
        series: vec![convert::series(key); MAX_BATCH],
        window: span(HOUR),
    };
    let answers: Vec<_> =
        bench.usage.batch_get_usage(request(long.clone())).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(answers.len(), MAX_BATCH);
    let huge = SeriesKey { workload: "w".repeat(3000), ..long };
    let status = bench.usage.batch_get_usage(request(huge)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

// Feature: k8s-workload-rightsizing, Property 12: Rolling window aggregation
#[test]
fn property_12_a_window_counts_the_samples_that_fell_into_it_and_no_others() {
    use proptest::prelude::*;

    const SLOT: i64 = 300_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default(), Timestamp(0)).unwrap();
    let case = std::cell::Cell::new(0i64);
    proptest!(ProptestConfig::with_cases(256), |(
        mut ages in prop::collection::btree_set(0i64..3600, 1..8),
        window in 300u64..3600,
        phase in 0i64..SLOT,
    )| {
        case.set(case.get() + 1);
        let now = Timestamp(case.get() * 2 * 3_600_000 + phase);
        let key = key(&format!("w{}", case.get()));
        let series = store.intern(&key);
        let mut times = Vec::new();
        while let Some(age) = ages.pop_last() {
            let at = Timestamp(now.0 - age * 1000);
            let sample = Sample { series, pod: 1, at, cpu: age as f64 + 1.0, memory: 1.0 };
            prop_assert_eq!(store.append(at, &[sample]).unwrap().accepted, 1);
            times.push(at.0);
        }
        // A five-minute slot counts whole when any of it lies in the window.
        let start = now.0 - i64::try_from(window).unwrap() * 1000;
        let inside: Vec<i64> = times.into_iter().filter(|at| at.div_euclid(SLOT) * SLOT + SLOT > start).collect();
        let usage = store.usage(&key, Duration::from_secs(window), now).unwrap().map(|usage| convert::window_usage(&usage));
        prop_assert_eq!(usage.as_ref().map_or(0, |usage| usage.cpu.samples), inside.len() as u64);
        if let Some(usage) = usage {
            let oldest = inside.iter().min().map(|at| (now.0 - at) as f64 / 1000.0 + 1.0).unwrap();
            prop_assert!((usage.cpu.peak / oldest - 1.0).abs() < 1e-4, "peak {} is not {}", usage.cpu.peak, oldest);
            prop_assert_eq!(usage.from.as_millisecond(), *inside.iter().min().unwrap());
            prop_assert_eq!(usage.to.as_millisecond(), *inside.iter().max().unwrap());
            prop_assert!(usage.covered <= Duration::from_secs(window));
        }
    });
}
