use super::*;
use tonic::Code;
use tonic_types::StatusExt as _;

fn limiter(per_second: u32, at_once: usize) -> Limiter {
    Limiter::new(Allowance { per_second, at_once, set_by: "requests, as --some-flag says" })
}

/// RESOURCE_EXHAUSTED for this reason: when to ask again, by its details.
fn refused(answer: Result<Place, Refusal>, expected: RefusedCall) -> Duration {
    let Refusal { reason, status } = answer.unwrap_err();
    assert_eq!(reason, expected, "{status:?}");
    let is_of_rate = status.message().contains("the limit a second of") && status.message().contains("--some-flag");
    assert!(is_of_rate == (reason == RefusedCall::Rate), "{status:?}");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("ask again in"), "{status:?}");
    status.get_details_retry_info().unwrap().retry_delay.unwrap()
}

#[tokio::test(start_paused = true)]
async fn four_seconds_worth_may_come_at_once_and_then_the_rate() {
    let limiter = limiter(5, 64);
    for _ in 0..20 {
        drop(limiter.enter("a").unwrap());
    }
    let wait = refused(limiter.enter("a"), RefusedCall::Rate);
    assert_eq!(wait.as_millis(), 200);
    drop(limiter.enter("b").unwrap());
    advance(Duration::from_millis(199)).await;
    refused(limiter.enter("a"), RefusedCall::Rate);
    advance(Duration::from_millis(2)).await;
    drop(limiter.enter("a").unwrap());
    refused(limiter.enter("a"), RefusedCall::Rate);
    // An hour of quiet allows no more than four seconds of it.
    advance(Duration::from_hours(1)).await;
    assert_eq!((0..100).filter(|_| limiter.enter("a").is_ok()).count(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_until_it_is_given_back() {
    let limiter = limiter(100, 2);
    let (one, _two) = (limiter.enter("a").unwrap(), limiter.enter("a").unwrap());
    refused(limiter.enter("a"), RefusedCall::AtOnce);
    drop(limiter.enter("b").unwrap());
    drop(one);
    drop(limiter.enter("a").unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_table_of_clients_is_bounded_and_forgets_only_who_was_quiet() {
    let limiter = limiter(1, 8);
    for _ in 0..4 {
        drop(limiter.enter("greedy").unwrap());
    }
    for client in 0..1023 {
        drop(limiter.enter(&client.to_string()).unwrap());
    }
    refused(limiter.enter("one more"), RefusedCall::Callers);
    // After a second the others have their full allowance back; greedy has not.
    advance(Duration::from_secs(1)).await;
    drop(limiter.enter("one more").unwrap());
    drop(limiter.enter("greedy").unwrap());
    refused(limiter.enter("greedy"), RefusedCall::Rate);
}

#[test]
fn an_address_is_a_client_and_so_is_a_network_of_ipv6() {
    let client = |text: &str| accept::client_of(text.parse().unwrap());
    assert_eq!(client("10.0.0.7"), "10.0.0.7");
    assert_eq!(client("::ffff:10.0.0.7"), "10.0.0.7");
    assert_eq!(client("fd00:1:2:3:4:5:6:7"), client("fd00:1:2:3:ffff::1"));
    assert_ne!(client("fd00:1:2:3::1"), client("fd00:1:2:4::1"));
}
