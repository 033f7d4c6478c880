//! The controller's side: the provider over TLS.

use super::stage::{Kind, Stage};
use optipod::provider::{GrpcProvider, ProviderError, Target, UsageProvider as _, UsageQuery};
use optipod::usage::SeriesKey;
use optipod::workload::{WorkloadId, WorkloadKind};
use std::time::Duration;

fn query() -> UsageQuery {
    let workload = WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
    UsageQuery { series: SeriesKey { workload, container: "app".into() }, window: Duration::from_hours(1) }
}

fn provider(target: Target) -> Result<GrpcProvider, ProviderError> {
    GrpcProvider::connect_lazy_to("metrics-server", target, Duration::from_secs(20))
}

#[tokio::test]
async fn a_renewed_token_is_sent_with_the_next_call() {
    let stage = Stage::new(Kind::default()).await;
    stage.reviews.token("first", "optipod", "controller");
    stage.reviews.token("second", "optipod", "controller");
    stage.reviews.right("controller", "usage", "");
    let file = stage.dir().join("token");
    std::fs::write(&file, "first").unwrap();
    let provider = provider(Target { token_file: Some(file.clone()), ..stage.target() }).unwrap();
    assert_eq!(provider.usage(&[query()]).await, Ok(vec![None]));
    assert_eq!(stage.reviews.asked().len(), 2);
    std::fs::write(&file, "second\n").unwrap();
    assert_eq!(provider.usage(&[query()]).await, Ok(vec![None]));
    assert_eq!(stage.reviews.asked().len(), 2, "another token is another question");
    std::fs::write(&file, "third").unwrap();
    let refused = provider.usage(&[query()]).await.unwrap_err();
    assert!(refused.to_string().contains("the bearer token is not accepted"), "{refused}");
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_never_shown_the_token_and_the_reason_is_told() {
    let stage = Stage::new(Kind::default()).await;
    let other = super::pki::Authority::new("other").write(stage.dir(), "other.crt");
    let file = stage.dir().join("token");
    std::fs::write(&file, "good").unwrap();
    let target = Target { ca_file: Some(other), token_file: Some(file), ..stage.target() };
    let error = provider(target).unwrap().usage(&[query()]).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("set --recommender-ca-file to the right one"), "{error}");
    assert_eq!(stage.reviews.asked(), [""; 0]);
    stage.end().await;
}

#[tokio::test]
async fn what_is_for_tls_is_refused_for_an_address_without() {
    let clear = |target: Target| provider(target).unwrap_err().to_string();
    let plain = || Target::new("http://127.0.0.1:9");
    for target in [
        Target { token_file: Some("/t".into()), ..plain() },
        Target { ca_file: Some("/c".into()), ..plain() },
        Target { identity: Some(("/c".into(), "/k".into())), ..plain() },
    ] {
        let error = clear(target);
        assert!(error.contains("write https:// in --recommender-addr"), "{error}");
    }
    for address in ["127.0.0.1:9090", "ftp://127.0.0.1", "not an address"] {
        let error = clear(Target::new(address));
        assert!(error.contains("write for example http://127.0.0.1:9090"), "{error}");
    }
}
