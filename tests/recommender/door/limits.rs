//! Callers that ask too much.

use super::methods::Method;
use super::stage::{Kind, SOON, Stage, call};
use futures::StreamExt as _;
use optipod::provider::Target;
use tokio::io::AsyncReadExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again_and_others_are_served() {
    let stage = Stage::new(Kind { requests_per_second: Some(1), ..Kind::default() }).await;
    for user in ["ann", "bob"] {
        stage.reviews.token(user, "optipod", user);
        stage.reviews.right(user, "usage", "");
    }
    let ann = stage.with_token("ann");
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(call(Method::ListSeries, &ann).await);
    }
    // Four at once; more only with the seconds that the calls took.
    assert!(answers[..4].iter().all(|status| status.code() == Code::Ok), "{answers:?}");
    let refused = answers.iter().find(|status| status.code() == Code::ResourceExhausted).expect("a refusal");
    let (message, count) = (refused.message(), answers.iter().filter(|status| status.code() != Code::Ok).count());
    assert!(
        message.contains("ann goes beyond the limit a second of 1 requests, as --max-requests-per-second"),
        "{message}"
    );
    assert_eq!(stage.refused("rate"), count as u64);
    let wait = refused.get_details_retry_info().expect("retry info").retry_delay.unwrap();
    assert!(wait.as_millis() <= 1000, "{wait:?}");
    assert_eq!(call(Method::ListSeries, &stage.with_token("bob")).await.code(), Code::Ok);
    stage.end().await;
}

#[tokio::test]
async fn guessing_tokens_costs_the_api_server_little() {
    let stage = Stage::new(Kind { requests_per_second: Some(50), ..Kind::default() }).await;
    let file = stage.dir().join("token");
    let line = Target { token_file: Some(file.clone()), ..stage.target() }.lazy().unwrap();
    let mut codes = Vec::new();
    for guess in 0..100 {
        std::fs::write(&file, format!("guess-{guess}")).unwrap();
        codes.push(call(Method::ListSeries, &line).await.code());
    }
    let refused = codes.iter().filter(|code| **code == Code::ResourceExhausted).count();
    let asked = stage.reviews.asked().len();
    assert_eq!(asked + refused, 100, "{codes:?}");
    assert!(asked >= 20 && refused > 0, "{asked} questions");
    stage.end().await;
}

#[tokio::test]
async fn streams_at_once_are_bounded_and_their_places_come_back() {
    let stage = Stage::new(Kind::default()).await;
    // Health is open, and a watch of it lasts. Over two connections, because each bounds its streams too.
    let lines = [stage.nobody(), stage.nobody()];
    let mut watches = Vec::new();
    let refused = loop {
        let mut client = HealthClient::new(lines[watches.len() % 2].clone());
        match client.watch(HealthCheckRequest::default()).await {
            Ok(answer) => watches.push(answer.into_inner()),
            Err(status) => break status,
        }
        assert!(watches.len() <= 64, "no bound");
    };
    assert_eq!((watches.len(), refused.code()), (64, Code::ResourceExhausted), "{refused:?}");
    assert!(refused.message().contains("has 64 under way, the most at once"), "{refused:?}");
    assert_eq!((stage.refused("at_once"), stage.refused("rate")), (1, 0));
    for watch in &mut watches {
        assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    }
    drop(watches);
    let again = async {
        while call(Method::Health, &stage.nobody()).await.code() != Code::Ok {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, again).await.expect("room again");
    stage.end().await;
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_their_room_comes_back() {
    let stage = Stage::new(Kind::default()).await;
    let address = stage.address.trim_start_matches("https://");
    let mut silent = Vec::new();
    while stage.refused("connections") == 0 {
        assert!(silent.len() < 200, "no bound");
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        tokio::task::yield_now().await;
    }
    let beyond = silent.len() as u64 - 64; // the others wait for TLS
    let all_seen = async {
        while stage.refused("connections") < beyond {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, all_seen).await.expect("each beyond the bound is refused");
    assert_eq!(stage.refused("connections"), beyond);
    drop(silent);
    let again = async { while call(Method::Health, &stage.nobody()).await.code() != Code::Ok {} };
    tokio::time::timeout(SOON, again).await.expect("room again");
    stage.end().await;
}

#[tokio::test]
async fn who_speaks_no_tls_is_hung_up_on_and_the_next_is_served() {
    let stage = Stage::new(Kind::default()).await;
    let address = stage.address.trim_start_matches("https://");
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(SOON, plain.read_to_end(&mut rest)).await.expect("the end");
    assert!(end.is_err() || rest.len() < 16, "an alert at most: {rest:?}");
    assert_eq!(call(Method::Health, &stage.nobody()).await.code(), Code::Ok);
    stage.end().await;
}
