use super::*;

#[tokio::test(start_paused = true)]
async fn series_are_listed_page_by_page_each_once_and_in_order() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..25).map(|i| format!("w{i:02}")).collect();
    for name in &names {
        bench.samples(&key(name), &[1.0]);
    }
    let (mut listed, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = proto::ListSeriesRequest { page_size: 10, page_token, ..Default::default() };
        let page = bench.recommender.list_series(request).await.unwrap().into_inner();
        listed.extend(page.series.into_iter().map(|info| info.series.unwrap().workload));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((listed, pages), (names, 3));
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_filtered() {
    let mut bench = Bench::new();
    for (namespace, kind, workload) in [
        ("a", "Deployment", "x"),
        ("b", "CronJob", "y"),
        ("b", "Deployment", "x"),
        ("b", "Deployment", "z"),
        ("c", "Deployment", "x"),
    ] {
        let key = SeriesKey { namespace: namespace.into(), kind: kind.into(), ..key(workload) };
        bench.samples(&key, &[1.0]);
    }
    for (namespace, kind, workload, expected) in [
        ("b", "", "", vec!["b/CronJob/y", "b/Deployment/x", "b/Deployment/z"]),
        ("", "deploy", "x", vec!["a/Deployment/x", "b/Deployment/x", "c/Deployment/x"]),
        ("b", "Deployment", "z", vec!["b/Deployment/z"]),
        ("nobody", "", "", vec![]),
    ] {
        let filter = |page_size| proto::ListSeriesRequest {
            page_size,
            namespace: namespace.into(),
            kind: kind.into(),
            workload: workload.into(),
            page_token: String::new(),
        };
        let page = bench.recommender.list_series(filter(0)).await.unwrap().into_inner();
        let listed: Vec<_> = page
            .series
            .into_iter()
            .map(|info| info.series.unwrap())
            .map(|s| format!("{}/{}/{}", s.namespace, s.kind, s.workload))
            .collect();
        assert_eq!(listed, expected);
        assert_eq!(page.next_page_token, "");
        if let Some(size) = i32::try_from(expected.len()).ok().filter(|size| *size > 0) {
            let exact = bench.recommender.list_series(filter(size)).await.unwrap().into_inner();
            assert_eq!(exact.series.len(), expected.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_pages_and_foreign_tokens_are_refused() {
    let mut bench = Bench::new();
    bench.samples(&key("a"), &[1.0]);
    bench.samples(&key("b"), &[1.0]);
    let first = proto::ListSeriesRequest { page_size: 1, ..Default::default() };
    let page_token = bench.recommender.list_series(first).await.unwrap().into_inner().next_page_token;
    assert!(!page_token.is_empty());
    let foreign = proto::ListSeriesRequest { page_token, namespace: "shop".into(), ..Default::default() };
    assert_eq!(fields(&bench.recommender.list_series(foreign).await.unwrap_err()), ["page_token"]);
    let wrong = proto::ListSeriesRequest {
        page_size: 1001,
        page_token: "made up".into(),
        kind: "Planet".into(),
        ..Default::default()
    };
    assert_eq!(fields(&bench.recommender.list_series(wrong).await.unwrap_err()), ["page_size", "kind", "page_token"]);
    let negative = proto::ListSeriesRequest { page_size: -1, ..Default::default() };
    assert_eq!(fields(&bench.recommender.list_series(negative).await.unwrap_err()), ["page_size"]);
}

fn range(start: Timestamp, end: Timestamp, step: Duration) -> proto::QueryRangeRequest {
    proto::QueryRangeRequest {
        series: Some(convert::series(key("web"))),
        start: Some(convert::wire_time(start)),
        end: Some(convert::wire_time(end)),
        step: span(step),
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_gives_one_usage_a_step_oldest_first() {
    let mut bench = Bench::new();
    bench.samples(&key("web"), &known());
    let request = range(bench.now - HOUR, bench.now, Duration::from_mins(5));
    let usages = bench.recommender.query_range(request).await.unwrap().into_inner().usages;
    assert!((9..=11).contains(&usages.len()), "{} steps", usages.len());
    assert!(usages.is_sorted_by_key(|usage| usage.to.unwrap().seconds));
    let unknown = proto::QueryRangeRequest {
        series: Some(convert::series(key("x"))),
        ..range(bench.now - HOUR, bench.now, HOUR)
    };
    assert_eq!(bench.recommender.query_range(unknown).await.unwrap_err().code(), Code::NotFound);
    let quiet = range(bench.now - 3 * DAY, bench.now - 2 * DAY, HOUR);
    assert_eq!(bench.recommender.query_range(quiet).await.unwrap().into_inner().usages, []);
}

#[tokio::test(start_paused = true)]
async fn ranges_are_bounded() {
    let mut bench = Bench::new();
    let now = bench.now;
    for (request, expected) in [
        (range(now, now, HOUR), vec!["end"]),
        (range(now - HOUR, now, Duration::from_mins(1)), vec!["step"]),
        (range(now - DAY, now + 100 * DAY, Duration::from_mins(5)), vec!["step"]),
        (range(now - RETENTION - DAY, now, HOUR), vec!["start"]),
        (
            proto::QueryRangeRequest { start: None, end: None, step: None, ..range(now, now, HOUR) },
            vec!["start", "end", "step", "end", "start"],
        ),
    ] {
        assert_eq!(fields(&bench.recommender.query_range(request).await.unwrap_err()), expected);
    }
}
