//! Each fault of each provider, and what a policy then says: by the real controller, wired as the binary wires it.

mod servers;

use super::cluster::{Harness, container, minutes};
use super::harness::{Result, test};
use libtest_mimic::Trial;
use optipod::clock::Clock;
use optipod::config::{CustomSettings, PrometheusSettings, Settings};
use optipod::provider::{GrpcProvider, Target};
use serde_json::{Value, json};
use servers::SHORT;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What may be wrong with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Unreachable,
    WrongAuthority,
    NoCredentials,
    NoRight,
    NeverAnswers,
    TooSlow,
    BadQuestion,
    NoSuchPath,
    Overloaded,
    Broken,
    Away,
    Garbage,
    WebPage,
    Huge,
    BreaksOff,
    Partial,
    NothingKnown,
    Redirect,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::Unreachable,
        Self::WrongAuthority,
        Self::NoCredentials,
        Self::NoRight,
        Self::NeverAnswers,
        Self::TooSlow,
        Self::BadQuestion,
        Self::NoSuchPath,
        Self::Overloaded,
        Self::Broken,
        Self::Away,
        Self::Garbage,
        Self::WebPage,
        Self::Huge,
        Self::BreaksOff,
        Self::Partial,
        Self::NothingKnown,
        Self::Redirect,
    ];

    /// Of whoever asks; a busy machine takes its time, so that it is short only where it is what ends the question.
    fn deadline(self) -> Duration {
        match self {
            Self::NeverAnswers | Self::TooSlow => SHORT,
            _ => Duration::from_secs(20),
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "nobody listens",
            Self::WrongAuthority => "certificate by an authority that is not trusted",
            Self::NoCredentials => "no or wrong credentials (401, UNAUTHENTICATED)",
            Self::NoRight => "no right (403, PERMISSION_DENIED)",
            Self::NeverAnswers => "no answer (deadline here 1 s)",
            Self::TooSlow => "an answer that begins, and then is slow",
            Self::BadQuestion => "4xx, INVALID_ARGUMENT",
            Self::NoSuchPath => "HTTP 404",
            Self::Overloaded => "429, RESOURCE_EXHAUSTED",
            Self::Broken => "500, INTERNAL",
            Self::Away => "503, UNAVAILABLE",
            Self::Garbage => "another protocol",
            Self::WebPage => "a web page (200)",
            Self::Huge => "a huge answer",
            Self::BreaksOff => "an answer that breaks off",
            Self::Partial => "a part of the answer only",
            Self::NothingKnown => "nothing known of the containers",
            Self::Redirect => "a redirect to another host",
        }
    }
}

pub const PROVIDERS: [&str; 3] = ["metrics-server", "prometheus", "custom"];

/// What a policy says of its usage.
pub struct Said {
    pub status: String,
    pub reason: String,
    pub message: String,
    /// What it recommends for the first container and why, if it does.
    pub explanation: String,
}

pub fn tests() -> Vec<Trial> {
    let each = Fault::ALL.into_iter();
    each.map(|fault| test(&format!("faults::{fault:?}"), move || Box::pin(is_told(fault)))).collect()
}

async fn is_told(fault: Fault) -> Result {
    let (expected, name) = (fault.expected(), fault.name());
    let parts = [expected.of_grpc, expected.of_promql, expected.of_grpc];
    for ((provider, said), parts) in PROVIDERS.into_iter().zip(said(fault).await?).zip(parts) {
        let text = format!("{} {} {}", said.status, said.reason, said.message);
        if let Some(part) = parts.first().filter(|part| **part == PARTIAL) {
            assert_eq!(said.status, "True", "{name}: {text}");
            assert!(said.explanation.contains(part), "{name}: {}", said.explanation);
            continue;
        }
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", expected.reason), "{name}: {text}");
        assert_eq!(said.explanation, "", "{name}: nothing is recommended");
        for part in parts {
            assert!(text.contains(part), "{name}, {provider}: \"{part}\" is not in \"{text}\"");
        }
        let is_named = said.reason == "InsufficientData" || text.contains(&format!("usage provider {provider} "));
        assert!(is_named && !text.contains("token=x"), "{name}: {text}");
    }
    Ok(())
}

/// What a policy must say: its condition's reason and parts of its message.
struct Expected {
    reason: &'static str,
    of_grpc: &'static [&'static str],
    of_promql: &'static [&'static str],
}

/// Said in the explanation, of an answer that counts.
const PARTIAL: &str = "the answer may be incomplete, so that nothing is lowered by it";

impl Fault {
    fn expected(self) -> Expected {
        const REACH: &str = "check that it runs and that the network allows the call";
        const LATE: &[&str] = &["did not answer within 1s"];
        let reason = if self == Self::NothingKnown { "InsufficientData" } else { "MetricsUnavailable" };
        let (of_grpc, of_promql): (&[&str], &[&str]) = match self {
            Self::Unreachable => (&["Connection refused", REACH], &["Connection refused", REACH]),
            Self::WrongAuthority => (&["no authority in", "ca.crt"], &["UnknownIssuer", "set prometheus.caFile"]),
            Self::NoCredentials => (&["check the files with the token"], &["401", "check the files with the cred"]),
            Self::NoRight => (&["may not read this usage"], &["403", "may not read metrics"]),
            Self::NeverAnswers | Self::TooSlow => (LATE, LATE),
            Self::BadQuestion => (&["no usable answer", "so says the server"], &["no usable answer", "so says"]),
            Self::NoSuchPath => (&["HTTP 404", "check the address"], &["404", "check the path in prometheus.url"]),
            Self::Overloaded => (&["not available", "so says"], &["not available", "429", "maxConcurrency"]),
            Self::Broken => (&["not available", "so says"], &["not available", "500", "its log"]),
            Self::Away => (&["not available", "so says", "its log"], &["not available", "503", "its log"]),
            Self::Garbage => (&["is a gRPC server there?"], &["not available", "HTTP version"]),
            Self::WebPage => (&["does not speak gRPC", "web page"], &["not what Prometheus answers", "login page"]),
            Self::Huge => (&["too large", "4 MiB"], &["larger than 16777216 bytes"]),
            Self::BreaksOff => (&["not available", "its log"], &["broke off", "its log"]),
            Self::Partial => (&["1 answers to 2 questions"], &[PARTIAL]),
            Self::NothingKnown => (&["no usage is known"], &["no usage is known"]),
            Self::Redirect => (&["redirects are not followed"], &["/elsewhere; redirects are not followed"]),
        };
        Expected { reason, of_grpc, of_promql }
    }
}

/// What three policies say, one by each provider, each of which has this fault.
pub async fn said(fault: Fault) -> Result<[Said; 3]> {
    let (grpc, promql) = (fault.of_grpc().await?, fault.of_promql().await?);
    tokio::time::pause(); // until the pods run
    let harness = Harness::new().await;
    for (policy, app) in PROVIDERS.into_iter().zip(["a", "web", "b"]) {
        harness.create_deployment(app, 2, &json!(["web", "proxy"].map(|name| container(name, "1", "1Gi"))));
        let selector = json!({"workloadSelector": {"matchLabels": {"app": app}}});
        harness
            .policy(policy, json!({"mode": "Recommend", "selector": selector, "metricsConfig": {"provider": policy}}));
    }
    minutes(1).await;
    tokio::time::resume(); // for sockets
    let deadline = fault.deadline();
    let timeout = format!("{}s", deadline.as_secs());
    let settings = Settings {
        prometheus: PrometheusSettings {
            url: Some(promql.url.clone()),
            ca_file: promql.ca_file.clone(),
            timeout: timeout.clone(),
            ..PrometheusSettings::default()
        },
        custom: CustomSettings {
            addr: Some(grpc.url.clone()),
            ca_file: grpc.ca_file.clone(),
            timeout,
            ..CustomSettings::default()
        },
        ..Settings::default()
    };
    let recommender = Target { ca_file: grpc.ca_file.clone(), ..Target::new(grpc.url.as_str()) };
    let recommender = GrpcProvider::connect_lazy_to("metrics-server", recommender, deadline)?;
    let (client, clock) = (harness.api.client(), Clock::starting_at(harness.api.clock().now()));
    let controller = optipod::run::controller_of(&settings, client, recommender, &harness.metrics, clock)?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(controller.run(stop.clone()));
    let conditions = conditions(&harness).await;
    stop.cancel();
    running.await?;
    let [a, web, b] = conditions?;
    Ok([
        read(&harness, "metrics-server", "a", &a),
        read(&harness, "prometheus", "web", &web),
        read(&harness, "custom", "b", &b),
    ])
}

/// Waits until all policies say whether they have usage.
async fn conditions(harness: &Harness) -> Result<[Value; 3]> {
    for _ in 0..1200 {
        let conditions = PROVIDERS.map(|policy| harness.condition(policy, "MetricsAvailable"));
        if conditions.iter().all(|condition| condition["status"].is_string()) {
            return Ok(conditions);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("no conditions: {:?}", PROVIDERS.map(|policy| harness.status(policy)))
}

fn read(harness: &Harness, policy: &str, workload: &str, condition: &Value) -> Said {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Said {
        status: text(&condition["status"]),
        reason: text(&condition["reason"]),
        message: text(&condition["message"]),
        explanation: text(&harness.entry(policy, workload)["recommendations"][0]["explanation"]),
    }
}
