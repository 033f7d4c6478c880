//! Callers with bearer tokens.

use super::methods::{METHODS, Method};
use super::stage::{Kind, Stage, all_passed, call, codes, only_health};
use optipod::provider::Target;
use tonic::Code;

const ALL: [&str; 4] = ["usage", "recommendations", "storestatus", "reflection"];

#[tokio::test]
async fn a_caller_gets_in_with_a_token_for_us_and_the_right_and_not_otherwise() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("good", "optipod", "ann");
    stage.reviews.token("powerless", "optipod", "bob");
    stage.reviews.token("elsewhere", "kubernetes", "ann");
    for resource in ALL {
        stage.reviews.right("ann", resource, "");
    }

    assert_eq!(codes(&stage.with_token("good")).await, all_passed());
    assert_eq!(codes(&stage.with_token("powerless")).await, only_health(Code::PermissionDenied));
    assert_eq!(codes(&stage.with_token("elsewhere")).await, only_health(Code::Unauthenticated));
    assert_eq!(codes(&stage.with_token("garbage")).await, only_health(Code::Unauthenticated));
    assert_eq!(codes(&stage.nobody()).await, only_health(Code::Unauthenticated));
    let closed = METHODS.len() as u64 - 1; // health is open
    let refused = ["forbidden", "unauthenticated", "unchecked", "rate", "at_once"].map(|reason| stage.refused(reason));
    assert_eq!(refused, [closed, 3 * closed, 0, 0, 0]);
    stage.end().await;
}

#[tokio::test]
async fn each_method_needs_its_own_right() {
    let stage = Stage::new(Kind::default()).await;
    for resource in ALL {
        stage.reviews.token(resource, "optipod", resource);
        stage.reviews.right(resource, resource, "");
    }
    let needs = |method| match method {
        Method::GetRecommendation => Some("recommendations"),
        Method::GetStoreStatus => Some("storestatus"),
        Method::Reflection => Some("reflection"),
        Method::Health => None,
        _ => Some("usage"),
    };
    for resource in ALL {
        let line = stage.with_token(resource);
        for method in METHODS {
            let passes = needs(method).is_none_or(|right| right == resource);
            let expected = if passes { method.passed() } else { Code::PermissionDenied };
            assert_eq!(call(method, &line).await.code(), expected, "{method:?} with {resource}");
        }
    }
    stage.end().await;
}

#[tokio::test]
async fn a_right_in_one_namespace_is_enough_for_requests_about_it() {
    let stage = Stage::new(Kind::default()).await;
    for (user, namespace) in [("shopkeeper", "shop"), ("banker", "bank")] {
        stage.reviews.token(user, "optipod", user);
        for resource in ALL {
            stage.reviews.right(user, resource, namespace);
        }
    }
    let expected: Vec<Code> = METHODS
        .iter()
        .map(|method| match method {
            // What is not about a namespace needs the right in all.
            Method::GetStoreStatus | Method::Reflection => Code::PermissionDenied,
            method => method.passed(),
        })
        .collect();
    assert_eq!(codes(&stage.with_token("shopkeeper")).await, expected);
    assert_eq!(codes(&stage.with_token("banker")).await, only_health(Code::PermissionDenied));
    stage.end().await;
}

#[tokio::test]
async fn the_refusal_tells_what_is_missing_and_no_token() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("s3cret-powerless", "optipod", "system:serviceaccount:shop:bob");
    let nobody = call(Method::GetUsage, &stage.nobody()).await;
    assert!(nobody.message().contains("audience optipod"), "{nobody:?}");
    let unknown = call(Method::GetUsage, &stage.with_token("s3cret-garbage")).await;
    assert!(unknown.message().contains("not accepted: invalid bearer token"), "{unknown:?}");
    let powerless = call(Method::GetUsage, &stage.with_token("s3cret-powerless")).await;
    let expected = "system:serviceaccount:shop:bob may not get usage.optipod.io in namespace shop; bind";
    assert!(powerless.message().starts_with(expected), "{powerless:?}");
    for status in [nobody, unknown, powerless] {
        assert!(!format!("{status:?}").contains("s3cret"), "{status:?}");
    }
    stage.end().await;
}

#[tokio::test]
async fn the_api_server_is_asked_once_for_many_calls() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("good", "optipod", "ann");
    stage.reviews.right("ann", "usage", "");
    let line = stage.with_token("good");
    let many = (0..50).map(|_| call(Method::ListSeries, &line));
    for status in futures::future::join_all(many).await {
        assert_eq!(status.code(), Code::Ok);
    }
    assert_eq!(stage.reviews.asked(), ["TokenReview", "ann usage "]);
    let garbage = stage.with_token("garbage");
    for _ in 0..5 {
        assert_eq!(call(Method::ListSeries, &garbage).await.code(), Code::Unauthenticated);
    }
    assert_eq!(stage.reviews.asked(), ["TokenReview"]);
    stage.end().await;
}

#[tokio::test]
async fn while_the_api_server_does_not_answer_nobody_new_is_let_in() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("good", "optipod", "ann");
    stage.reviews.token("late", "optipod", "ann");
    stage.reviews.right("ann", "usage", "");
    let known = stage.with_token("good");
    assert_eq!(call(Method::ListSeries, &known).await.code(), Code::Ok);
    stage.reviews.down(true);
    let late = call(Method::ListSeries, &stage.with_token("late")).await;
    assert_eq!(late.code(), Code::Unavailable);
    assert!(
        late.message().contains("callers cannot be checked") && late.message().contains("etcd is away"),
        "{late:?}"
    );
    // A right that was not asked for before cannot be checked either; what is known goes on.
    assert_eq!(call(Method::GetStoreStatus, &known).await.code(), Code::Unavailable);
    assert_eq!(call(Method::ListSeries, &known).await.code(), Code::Ok);
    stage.end().await;
}

#[tokio::test]
async fn a_token_that_is_no_header_or_much_too_long_is_refused_without_a_question() {
    let stage = Stage::new(Kind::default()).await;
    let long = call(Method::GetUsage, &stage.with_token(&"x".repeat(17_000))).await;
    assert_ne!(long.code(), Code::Ok);
    let broken = call(Method::GetUsage, &stage.with_token("a\u{7f}b")).await;
    assert_eq!(broken.code(), Code::Unauthenticated);
    assert!(broken.message().contains("holds no token"), "{broken:?}");
    let target = Target { token_file: Some(stage.dir().join("missing")), ..stage.target() };
    let missing = call(Method::GetUsage, &target.lazy().unwrap()).await;
    assert!(missing.message().contains("missing") && missing.message().contains("mounted"), "{missing:?}");
    assert_eq!(stage.reviews.asked(), [""; 0]);
    stage.end().await;
}
