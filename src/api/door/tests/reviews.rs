use super::*;
use crate::api::door::reviews::expiry;
use base64::Engine as _;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

/// A reviewer whose API server answers each review with `answer` of it.
fn reviewer(answer: fn(Value) -> (u16, Value)) -> Reviewer {
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let body = request.into_body().collect().await?.to_bytes();
        let (code, answer) = answer(serde_json::from_slice(&body).unwrap_or_default());
        let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
        Ok::<_, tower::BoxError>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
    });
    Reviewer::new(kube::Client::new(service, "default"), "optipod".to_owned(), Clock::starting_at(now()))
}

fn with(mut review: Value, status: Value) -> (u16, Value) {
    review["status"] = status;
    (201, review)
}

async fn identified(answer: fn(Value) -> (u16, Value)) -> Answer<Arc<UserInfo>> {
    reviewer(answer).identify("secret".to_owned()).await.0
}

#[tokio::test(start_paused = true)]
async fn the_audience_is_asked_for_and_must_come_back() {
    let echo = |review: Value| {
        let audiences = review["spec"]["audiences"].clone();
        with(review, json!({"authenticated": true, "audiences": audiences, "user": {"username": "ann"}}))
    };
    let Answer::Yes(user) = identified(echo).await else { panic!("not known") };
    assert_eq!(user.username.as_deref(), Some("ann"));
    // An authenticator that knows no audiences leaves them out: its tokens are the API server's.
    let answer = identified(|review| with(review, json!({"authenticated": true, "user": {"username": "ann"}}))).await;
    assert_eq!(answer, Answer::No("it was issued for another audience".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refused_in_the_api_servers_words_and_never_in_its_own() {
    let answer = identified(|review| with(review, json!({"error": "token has expired"}))).await;
    assert_eq!(answer, Answer::No("token has expired".to_owned()));
    let answer = identified(|review| with(review, json!({"authenticated": false}))).await;
    assert_eq!(answer, Answer::No("it is not known".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_neither_yes_nor_no() {
    let answer = identified(|_| {
        (
            403,
            json!({"kind": "Status", "apiVersion": "v1", "code": 403, "status": "Failure",
        "reason": "Forbidden", "message": "cannot create resource tokenreviews"}),
        )
    })
    .await;
    assert!(
        matches!(&answer, Answer::Unknown(cause) if cause.contains("cannot create resource tokenreviews")),
        "{answer:?}"
    );
    assert!(matches!(identified(|_| (200, json!("?"))).await, Answer::Unknown(_)));
    let silent =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, tower::BoxError>>());
    let silent = Reviewer::new(kube::Client::new(silent, "default"), "optipod".to_owned(), Clock::starting_at(now()));
    let (answer, lasts) = silent.identify("secret".to_owned()).await;
    assert!(matches!(&answer, Answer::Unknown(cause) if cause.contains("no answer within 5s")), "{answer:?}");
    assert_eq!(lasts, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_believed_no_longer_than_it_lasts() {
    let yes =
        |review| with(review, json!({"authenticated": true, "audiences": ["optipod"], "user": {"username": "ann"}}));
    for (ends_in, lasts) in [(3600, 30), (30, 30), (7, 7), (0, 0), (-5, 0)] {
        let claims = json!({"exp": now().as_second() + ends_in}).to_string();
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let answered = reviewer(yes).identify(format!("head.{payload}.signature")).await;
        assert!(matches!(answered.0, Answer::Yes(_)));
        assert_eq!(answered.1, Duration::from_secs(lasts), "{ends_in}");
    }
    for other in ["opaque", "a.b.c", "a..c", "a.e30.c"] {
        assert_eq!(expiry(other), None, "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_right_is_asked_for_in_rbacs_words() {
    let answer = |review: Value| {
        let expected = json!({"user": "ann", "uid": "7", "groups": ["team"], "extra": {"a": ["b"]},
            "resourceAttributes": {"group": "optipod.io", "resource": "usage", "verb": "get", "namespace": "shop"}});
        assert_eq!(review["spec"], expected);
        with(review, json!({"allowed": true}))
    };
    let user = json!({"username": "ann", "uid": "7", "groups": ["team"], "extra": {"a": ["b"]}});
    let user: Arc<UserInfo> = Arc::new(serde_json::from_value(user).unwrap());
    let ask = |answer, namespace: Option<String>| reviewer(answer).authorise(user.clone(), Right::Usage, namespace);
    assert_eq!(ask(answer, Some("shop".into())).await.0, Answer::Yes(()));
    let everywhere = |review: Value| {
        assert_eq!(review["spec"]["resourceAttributes"]["namespace"], Value::Null);
        with(review, json!({"allowed": false, "reason": "no"}))
    };
    assert_eq!(ask(everywhere, None).await.0, Answer::No("no".to_owned()));
    let denied = |review| with(review, json!({"allowed": true, "denied": true}));
    assert!(matches!(ask(denied, None).await.0, Answer::No(_)), "denied wins");
    assert!(matches!(ask(|review| (201, review), None).await.0, Answer::No(_)), "no status is no");
}
