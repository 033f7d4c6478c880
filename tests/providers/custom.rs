//! The provider `custom`: the example's server as a user would start it, and a controller on the simulated cluster, wired
//! as the binary wires it.

use super::cluster::Harness;
use super::harness::{Program, Result, free_address, test};
use libtest_mimic::Trial;
use optipod::clock::Clock;
use optipod::config::{CustomSettings, Settings};
use optipod::provider::GrpcProvider;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Tests that run the example's program.
macro_rules! on_example {
    ($($test:path),* $(,)?) => {
        vec![$(test(concat!("custom::", stringify!($test)), || {
            LazyLock::force(&EXAMPLE); // not within the test's deadline
            Box::pin($test())
        })),*]
    };
}

pub fn tests() -> Vec<Trial> {
    on_example![
        each_policy_gets_the_numbers_of_its_own_provider,
        a_server_that_comes_later_is_used_without_a_restart,
        a_file_that_is_missing_at_the_start_is_named_and_others_go_on,
    ]
}

/// The example's program; cargo builds it with `cargo test` but not with `cargo test --test providers`.
static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let arguments = ["build", "--quiet", "--offline", "--example", "usage_server"];
    let built = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success(), "cargo {}: {built}", arguments.join(" "));
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/usage_server") // beside target/debug/deps
});

/// The example's server, which tells of the Deployments `web` and `other` that each used as many cores and bytes.
struct Server {
    _program: Program,
    _folder: TempDir,
}

impl Server {
    fn start(address: SocketAddr, cores: &str, bytes: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let line = |name| {
            format!("shop,Deployment,{name},web, {cores},{cores},{cores},{cores}, {bytes},{bytes},{bytes},{bytes}\n")
        };
        let file = folder.path().join("usage.csv");
        std::fs::write(&file, format!("# a comment\n{}\n{}", line("web"), line("other")))?;
        let arguments = [EXAMPLE.display().to_string(), address.to_string(), file.display().to_string()];
        let program = Program::start(&arguments, address, &folder.path().join("log"))?;
        Ok(Self { _program: program, _folder: folder })
    }
}

/// A controller with the policy `p` for `web` by the provider `custom`, and `q` for `other`, which names none and gets the
/// recommender at `recommender`.
async fn controlled(custom: CustomSettings, recommender: SocketAddr) -> Result<Harness> {
    tokio::time::pause(); // until the pods run
    let harness = Harness::new().await;
    for (policy, app) in [("p", "web"), ("q", "other")] {
        harness.deployment(app, 1).await;
        let selector = json!({"workloadSelector": {"matchLabels": {"app": app}}});
        let metrics = if policy == "p" { json!({"provider": "custom"}) } else { json!({}) };
        let spec = json!({"mode": "Recommend", "selector": selector, "metricsConfig": metrics,
            "reconciliationInterval": "10s"});
        harness.policy(policy, spec);
    }
    tokio::time::resume(); // for sockets
    let settings = Settings { custom, usage_cache_ttl: "1s".into(), ..Settings::default() };
    let recommender =
        GrpcProvider::connect_lazy("metrics-server", &format!("http://{recommender}"), Duration::from_secs(5))?;
    // The example's answers are of the machine's time.
    let controller =
        optipod::run::controller_of(&settings, harness.api.client(), recommender, &harness.metrics, Clock::system())?;
    tokio::spawn(controller.run(CancellationToken::new()));
    Ok(harness)
}

fn at(address: SocketAddr) -> CustomSettings {
    CustomSettings { addr: Some(format!("http://{address}")), timeout: "5s".into(), ..CustomSettings::default() }
}

/// Waits until the policies say this of their usage, and returns what `p` says.
async fn until(harness: &Harness, expected: [&str; 2]) -> Result<Value> {
    for _ in 0..1200 {
        let said = ["p", "q"].map(|policy| harness.condition(policy, "MetricsAvailable"));
        if [0, 1].iter().all(|i| said[*i]["status"] == expected[*i]) {
            let [p, _] = said;
            return Ok(p);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("not {expected:?}: {} {}", harness.status("p"), harness.status("q"))
}

fn recommended(harness: &Harness, policy: &str, workload: &str) -> Value {
    let entry = harness.entry(policy, workload);
    let of = &entry["recommendations"][0];
    json!([of["cpu"], of["memory"]])
}

async fn each_policy_gets_the_numbers_of_its_own_provider() -> Result {
    let [custom, recommender] = [free_address()?, free_address()?];
    let server = Server::start(custom, "0.2", "209715200")?;
    let _other = Server::start(recommender, "0.3", "314572800")?;
    let harness = controlled(at(custom), recommender).await?;
    until(&harness, ["True", "True"]).await?;
    // P90 × 1.2 of 0.2 cores and 200 MiB, and of 0.3 cores and 300 MiB.
    assert_eq!(recommended(&harness, "p", "web"), json!(["240m", "240Mi"]), "{}", harness.status("p"));
    assert_eq!(recommended(&harness, "q", "other"), json!(["360m", "360Mi"]));

    drop(server); // the recommender knows `web` too, and is not asked in its place
    let condition = until(&harness, ["False", "True"]).await?;
    let message = condition["message"].as_str().unwrap_or_default();
    assert!(message.contains("usage provider custom is not available"), "{message}");
    let entry = harness.entry("p", "web").to_string();
    assert!(!entry.contains("360m") && !entry.contains("360Mi"), "{entry}");
    Ok(())
}

async fn a_server_that_comes_later_is_used_without_a_restart() -> Result {
    let [custom, recommender] = [free_address()?, free_address()?];
    let _other = Server::start(recommender, "0.3", "314572800")?;
    let harness = controlled(at(custom), recommender).await?;
    until(&harness, ["False", "True"]).await?;
    assert_eq!(recommended(&harness, "p", "web"), json!([null, null]));
    let _server = Server::start(custom, "0.2", "209715200")?;
    until(&harness, ["True", "True"]).await?;
    assert_eq!(recommended(&harness, "p", "web"), json!(["240m", "240Mi"]));
    Ok(())
}

async fn a_file_that_is_missing_at_the_start_is_named_and_others_go_on() -> Result {
    let recommender = free_address()?;
    let _other = Server::start(recommender, "0.3", "314572800")?;
    let custom = CustomSettings {
        addr: Some("https://127.0.0.1:1".into()),
        ca_file: Some("/nowhere/ca.crt".into()),
        ..CustomSettings::default()
    };
    let harness = controlled(custom, recommender).await?;
    let condition = until(&harness, ["False", "True"]).await?;
    let message = condition["message"].as_str().unwrap_or_default();
    assert!(message.contains("/nowhere/ca.crt"), "{message}");
    assert_eq!(recommended(&harness, "q", "other"), json!(["360m", "360Mi"]));
    Ok(())
}
