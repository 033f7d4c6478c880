use super::*;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

async fn get_text(router: Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn probes(live: &'static str, ready: Arc<AtomicBool>) -> Probes {
    Probes {
        live: Arc::new(move || Probe { ok: true, detail: live.to_owned() }),
        ready: Arc::new(move || {
            if ready.load(Ordering::Relaxed) { Ok("ready".into()) } else { Err("no tick yet".into()) }.into()
        }),
    }
}

#[tokio::test]
async fn probes_answer_with_their_detail_and_the_right_status() {
    let ready = Arc::new(AtomicBool::new(false));
    let router = health_router(probes("ticking", ready.clone()));
    assert_eq!(get_text(router.clone(), "/healthz").await, (StatusCode::OK, "ticking\n".into()));
    assert_eq!(get_text(router.clone(), "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "no tick yet\n".into()));
    ready.store(true, Ordering::Relaxed);
    assert_eq!(get_text(router, "/readyz").await, (StatusCode::OK, "ready\n".into()));
}

#[tokio::test]
async fn metrics_and_health_are_apart() {
    let metrics = Metrics::new().unwrap();
    metrics.collector().accept(5);
    let (status, text) = get_text(metrics_router(metrics.clone()), "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("optipod_collector_samples_accepted_total 5"), "{text}");
    assert_eq!(get_text(metrics_router(metrics), "/healthz").await.0, StatusCode::NOT_FOUND);
}

#[test]
fn addresses_parse_as_flags_write_them() {
    let on = |text: &str| Listen::On(text.parse().unwrap());
    assert_eq!(":8080".parse::<Listen>().unwrap(), on("[::]:8080"));
    assert_eq!("127.0.0.1:1".parse::<Listen>().unwrap(), on("127.0.0.1:1"));
    assert_eq!("[::1]:9".parse::<Listen>().unwrap(), on("[::1]:9"));
    assert_eq!("0".parse::<Listen>().unwrap(), Listen::Off);
    assert_eq!("".parse::<Listen>().unwrap(), Listen::Off);
    assert!("8080".parse::<Listen>().unwrap_err().to_string().contains("write :8080"));
}

#[tokio::test]
async fn a_server_listens_where_it_is_told_and_stops_when_asked() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let taken = bind(Listen::On(address)).await.unwrap_err();
    assert!(taken.to_string().contains(&format!("cannot listen on {address}")), "{taken}");
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Router::new(), shutdown.clone()));
    tokio::net::TcpStream::connect(address).await.unwrap();
    shutdown.cancel();
    server.await.unwrap().unwrap();
    assert!(bind(Listen::Off).await.unwrap().is_none());
}
