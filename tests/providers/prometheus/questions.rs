//! What is asked, and what becomes of answers that are odd.

use super::super::harness::Result;
use super::double::{Double, Reply, success, usual};
use super::{provider, query};
use optipod::provider::{PrometheusOptions, UsageProvider as _};
use optipod::usage::WindowUsage;
use std::collections::BTreeSet;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The answer about `db` over an hour.
async fn usage_of(server: &Double) -> Result<Option<WindowUsage>> {
    let asking = provider(PrometheusOptions::new(server.url()))?;
    Ok(asking.usage(&[query("shop", "StatefulSet/db", "app", HOUR)]).await?.remove(0))
}

pub async fn a_namespace_is_asked_as_a_whole() -> Result {
    let server = Double::start(|asked| usual(asked, &["db-0", "db-1", "web-0"], "")).await;
    let queries: Vec<_> = (0..200).map(|n| query("shop", &format!("StatefulSet/db-{n}"), "app", HOUR)).collect();
    let mut queries = [queries, vec![query("shop", "StatefulSet/db", "app", HOUR)]].concat();
    queries.push(query("shop", "StatefulSet/web", "app", HOUR));
    let answers = provider(PrometheusOptions::new(server.url()))?.usage(&queries).await?;
    let known: Vec<_> = answers.iter().map(Option::is_some).collect();
    assert_eq!(known, [vec![false; 200], vec![true; 2]].concat());
    let db = answers[200].as_ref().unwrap();
    assert_eq!((db.cpu.samples, db.cpu.p90, db.memory.p50, db.memory.peak), (120, 0.25, 1e6, 1.5e6));
    assert_eq!(server.asked().len(), 7, "three about owners, one about scrapes, three about usage");
    Ok(())
}

pub async fn no_question_has_too_many_points_or_too_small_a_step() -> Result {
    let server = Double::start(|asked| usual(asked, &["db-0"], "")).await;
    let asking = provider(PrometheusOptions::new(server.url()))?;
    for window in [Duration::from_mins(30), DAY, 7 * DAY, 30 * DAY, 400 * DAY] {
        let usage = asking.usage(&[query("shop", "StatefulSet/db", "app", window)]).await?.remove(0).unwrap();
        assert!(usage.covered <= window && usage.covered >= window.mul_f64(0.99), "{:?}", usage.covered);
    }
    let ranges: Vec<_> = server.asked().iter().filter_map(super::double::Asked::range).collect();
    for (start, end, step) in ranges {
        assert!(step >= 60 && (end - start) / step < 11_000, "{start} {end} {step}");
    }
    Ok(())
}

pub async fn credentials_are_read_anew_and_headers_are_always_there() -> Result {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    let server = Double::start(|asked| usual(asked, &["db-0"], "")).await;
    let mut options = PrometheusOptions::new(format!("{}/prometheus/", server.url()));
    options.bearer_token_file = Some(token.clone());
    options.headers.insert("X-Scope-OrgID".into(), "team".into());
    options.matchers = vec!["cluster=\"prod\"".parse()?];
    let asking = provider(options)?;
    for (secret, window) in [("one", HOUR), ("two", DAY)] {
        std::fs::write(&token, format!("{secret}\n"))?;
        let before = server.asked().len();
        asking.usage(&[query("shop", "StatefulSet/db", "app", window)]).await?;
        assert!(server.asked().len() > before);
        for asked in &server.asked()[before..] {
            assert_eq!(asked.headers["authorization"], format!("Bearer {secret}"));
            assert_eq!(asked.headers["x-scope-orgid"], "team");
            assert!(asked.path.starts_with("/prometheus/api/v1/query"), "{}", asked.path);
            assert!(asked.query().contains("namespace=\"shop\",cluster=\"prod\""), "{}", asked.query());
        }
    }
    Ok(())
}

pub async fn no_more_requests_are_under_way_than_allowed() -> Result {
    for most in [1, 2, 5] {
        let server = Double::start(|asked| usual(asked, &["db-0"], "")).await;
        let options = PrometheusOptions { max_concurrency: most, ..PrometheusOptions::new(server.url()) };
        let asking = provider(options)?;
        let queries: Vec<_> = (0..4).map(|n| [query(&format!("ns-{n}"), "StatefulSet/db", "app", 30 * DAY)]).collect();
        futures::future::try_join_all(queries.iter().map(|queries| asking.usage(queries))).await?;
        assert!((1..=most).contains(&server.most_at_once()), "{} of {most}", server.most_at_once());
    }
    Ok(())
}

pub async fn what_loads_too_much_is_asked_in_smaller_slices() -> Result {
    let refused = r#"{"status":"error","error":"query processing would load too many samples into memory"}"#;
    let server = Double::start(move |asked| match asked.range() {
        Some((start, end, _)) if end - start >= 1000 => Reply::Status(422, "X-Test: 1", refused.to_owned()),
        _ => usual(asked, &["db-0"], ""),
    })
    .await;
    let usage = usage_of(&server).await?.unwrap();
    assert_eq!((usage.covered, usage.cpu.samples, usage.memory.samples), (HOUR, 60, 60));
    let hopeless = Double::start(move |asked| match asked.range() {
        Some(_) => Reply::Status(422, "X-Test: 1", refused.to_owned()),
        None => usual(asked, &["db-0"], ""),
    })
    .await;
    let error = usage_of(&hopeless).await.unwrap_err().to_string();
    assert!(error.contains("too many samples") && hopeless.asked().len() < 50, "{error}");
    Ok(())
}

pub async fn a_partial_answer_is_said_and_lowers_nothing() -> Result {
    for (more, part) in [(r#","isPartial":true"#, "partial"), (r#","warnings":["store 7 is gone"]"#, "store 7 is gone")]
    {
        for which in ["kube_pod_owner", "rate(", "max_over_time(container"] {
            let server = Double::start(move |asked| {
                usual(asked, &["db-0"], if asked.query().contains(which) { more } else { "" })
            })
            .await;
            let usage = usage_of(&server).await?.unwrap();
            assert_eq!(usage.covered, HOUR.mul_f64(0.9), "{which}");
            assert!(usage.notes.iter().any(|note| note.contains(part)), "{which}: {:?}", usage.notes);
        }
    }
    Ok(())
}

pub async fn numbers_that_are_none_and_what_is_said_twice_do_not_count() -> Result {
    let server = Double::start(|asked| match asked.range() {
        Some((start, ..)) => {
            let at = |n: i64| start + 60 * n;
            let values: Vec<_> = [
                (at(0), "\"2\""),
                (at(1), "\"NaN\""),
                (at(2), "\"+Inf\""),
                (at(3), "null"),
                (at(4), "\"-1\""),
                (at(5), "\"4\""),
                (at(5), "\"4\""),
                (at(99), "\"9\""),
            ]
            .map(|(at, value)| format!("[{at},{value}]"))
            .to_vec();
            let series =
                format!("{{\"metric\":{{\"pod\":\"db-0\",\"container\":\"app\"}},\"values\":[{}]}}", values.join(","));
            success(&[series.clone(), series], "")
        }
        None => usual(asked, &["db-0"], ""),
    })
    .await;
    let usage = usage_of(&server).await?.unwrap();
    assert_eq!((usage.cpu.samples, usage.cpu.p50, usage.cpu.peak, usage.cpu.mean), (2, 2.0, 4.0, 3.0));
    assert_eq!(usage.covered, Duration::from_mins(2));
    let paths: BTreeSet<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, BTreeSet::from(["/api/v1/query".to_owned(), "/api/v1/query_range".to_owned()]));
    Ok(())
}
