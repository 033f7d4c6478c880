//! Callers with client certificates, and the server's own certificate as it changes.

use super::methods::Method;
use super::pki::Authority;
use super::stage::{Kind, SOON, Stage, all_passed, call, codes, only_health};
use optipod::api::Look;
use optipod::clock::Clock;
use optipod::provider::Target;
use std::time::Duration;
use tonic::{Code, Status};

/// The sentence of a connection that failed.
fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn mutual(no_tokens: bool) -> (Authority, Kind) {
    let clients = Authority::new("clients");
    let kind = Kind { client_names: vec!["controller"], no_tokens, ..Kind::default() };
    (clients, kind)
}

#[tokio::test]
async fn a_listed_certificate_counts_instead_of_a_token_and_no_other_does() {
    for no_tokens in [true, false] {
        let (clients, kind) = mutual(no_tokens);
        let dir = tempfile::tempdir().unwrap();
        let right = clients.client(dir.path(), "controller");
        let unlisted = clients.client(dir.path(), "somebody");
        let of_others = Authority::new("others").client(dir.path(), "stranger");
        let of_a_server = clients.serving(dir.path(), "controller-s");
        let stage = Stage::new(Kind { client_ca: Some(clients), ..kind }).await;
        assert_eq!(codes(&stage.with_certificate(right)).await, all_passed());
        let line = stage.with_certificate(unlisted);
        assert_eq!(codes(&line).await, only_health(Code::Unauthenticated));
        let refused = call(Method::GetUsage, &line).await;
        assert!(refused.message().contains("[\"somebody\"], none of which is in --client-names"), "{refused:?}");
        assert_eq!(refused.message().contains("Bearer"), !no_tokens, "{refused:?}");
        // One that another authority signed, or that is for servers, does not even come to HTTP.
        for wrong in [of_others, of_a_server] {
            let status = call(Method::Health, &stage.with_certificate(wrong)).await;
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(
                told(&status).contains("is the client certificate by an authority that it knows?"),
                "{}",
                told(&status)
            );
        }
        assert_eq!(codes(&stage.nobody()).await, only_health(Code::Unauthenticated));
        assert_eq!(stage.reviews.asked(), [""; 0]);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_certificate_counts_no_longer_than_it_lasts_though_its_connection_may() {
    let (clients, kind) = mutual(true);
    let dir = tempfile::tempdir().unwrap();
    let listed = clients.client(dir.path(), "controller");
    // For TLS it is good until 4096; the door asks a clock of its own with each request.
    let clock = Some(Clock::starting_at("5000-01-01T00:00:00Z".parse().unwrap()));
    let stage = Stage::new(Kind { client_ca: Some(clients), clock, ..kind }).await;
    let refused = call(Method::GetUsage, &stage.with_certificate(listed)).await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("the client certificate has expired"), "{refused:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_token_counts_beside_a_certificate_that_is_not_listed() {
    let (clients, kind) = mutual(false);
    let dir = tempfile::tempdir().unwrap();
    let unlisted = clients.client(dir.path(), "somebody");
    let stage = Stage::new(Kind { client_ca: Some(clients), ..kind }).await;
    stage.reviews.token("good", "optipod", "ann");
    stage.reviews.right("ann", "usage", "");
    let file = dir.path().join("token");
    std::fs::write(&file, "good\n").unwrap();
    let target = Target { identity: Some(unlisted), token_file: Some(file), ..stage.target() };
    assert_eq!(call(Method::ListSeries, &target.lazy().unwrap()).await.code(), Code::Ok);
    stage.end().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections_and_the_old_ones_go_on() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("good", "optipod", "ann");
    stage.reviews.right("ann", "usage", "");
    let old = stage.with_token("good");
    assert_eq!(call(Method::ListSeries, &old).await.code(), Code::Ok);

    // Another authority signs the new one: who trusts only the old authority tells them apart.
    let next = Authority::new("next");
    next.serving(stage.dir(), "tls");
    assert_eq!(stage.door.look(), Look::Renewed);
    assert_eq!(call(Method::ListSeries, &old).await.code(), Code::Ok, "the old connection goes on");
    let distrustful = call(Method::ListSeries, &stage.with_token("good")).await;
    assert!(told(&distrustful).contains("set --recommender-ca-file to the right one"), "{}", told(&distrustful));
    // The client reads its authority anew with each connection.
    next.write(stage.dir(), "ca.crt");
    let renewed = stage.with_token("good");
    assert_eq!(call(Method::ListSeries, &renewed).await.code(), Code::Ok);

    // A broken file changes nothing.
    std::fs::write(stage.dir().join("tls.crt"), "no certificate").unwrap();
    assert_eq!(stage.door.look(), Look::Refused);
    assert_eq!(call(Method::ListSeries, &stage.with_token("good")).await.code(), Code::Ok);
    assert_eq!(call(Method::ListSeries, &old).await.code(), Code::Ok);
    stage.end().await;
}

/// Lets so much time pass at once, for this test and its server.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_looks_at_its_files_by_itself() {
    let stage = Stage::new(Kind::default()).await;
    assert_eq!(call(Method::Health, &stage.nobody()).await.code(), Code::Ok);
    Authority::new("next").serving(stage.dir(), "tls");
    pass(Duration::from_secs(11)).await;
    assert_eq!(stage.door.look(), Look::Same, "it has looked already");
    let distrustful = call(Method::Health, &stage.nobody()).await;
    assert!(told(&distrustful).contains("set --recommender-ca-file to the right one"), "{}", told(&distrustful));
    stage.end().await;
}

#[tokio::test]
async fn a_connection_ends_after_half_an_hour_and_is_made_anew() {
    let stage = Stage::new(Kind::default()).await;
    let line = stage.nobody();
    assert_eq!(call(Method::Health, &line).await.code(), Code::Ok);
    // A new connection would show: its server is no longer trusted.
    Authority::new("next").write(stage.dir(), "ca.crt");
    pass(Duration::from_mins(29)).await;
    assert_eq!(call(Method::Health, &line).await.code(), Code::Ok);
    pass(Duration::from_mins(2)).await;
    let anew = async {
        loop {
            let status = call(Method::Health, &line).await;
            if told(&status).contains("set --recommender-ca-file to the right one") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, anew).await.expect("a new connection");
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_told_with_what_to_do() {
    let stage = Stage::new(Kind::default()).await;
    let other = Authority::new("other").write(stage.dir(), "other.crt");
    let by_name = stage.address.replace("127.0.0.1", "localhost");
    for (target, part) in [
        (Target { ca_file: Some(other), ..stage.target() }, "set --recommender-ca-file to the right one"),
        (
            Target { server_name: Some("elsewhere.example".into()), ..stage.target() },
            "or set --recommender-server-name",
        ),
        (Target { ca_file: Some("/nowhere/ca.crt".into()), ..stage.target() }, "/nowhere/ca.crt"),
        (Target::new(stage.address.as_str()), "set --recommender-ca-file, or mount"),
        (Target { server_name: Some("a b".into()), ..stage.target() }, "no server's name"),
    ] {
        let text = format!("{:#}", target.clone().connect().await.expect_err("no connection"));
        assert!(text.contains(part), "{target:?}: {text}");
    }
    let named = Target { server_name: Some("localhost".into()), ..stage.target() };
    assert_eq!(call(Method::Health, &named.connect().await.unwrap()).await.code(), Code::Ok);
    let localhost = Target { address: by_name, ..stage.target() };
    assert_eq!(call(Method::Health, &localhost.connect().await.unwrap()).await.code(), Code::Ok);
    stage.end().await;
}
