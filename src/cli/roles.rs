//! `optipod recommender`, `optipod controller` and `optipod run`.

use crate::config::{Flags, Settings, user_state_dir};
use crate::run;
use anyhow::Context as _;

pub async fn recommender(flags: &Flags) -> anyhow::Result<()> {
    let settings = prepare(&Settings::default(), flags)?;
    run::recommender(&settings, client().await?, shutdown_signal()).await
}

pub async fn controller(flags: &Flags) -> anyhow::Result<()> {
    let settings = prepare(&Settings::default(), flags)?;
    run::controller(&settings, client().await?, shutdown_signal()).await
}

/// On a person's machine: loopback only, the store in their state directory, dry-run unless they say otherwise.
pub async fn both(flags: &Flags, apply: bool) -> anyhow::Result<()> {
    let base = Settings {
        dry_run: !apply,
        data_dir: user_state_dir(),
        metrics_addr: "127.0.0.1:8080".to_owned(),
        health_probe_bind_address: "127.0.0.1:8081".to_owned(),
        ..Settings::default()
    };
    let settings = prepare(&base, flags)?;
    if apply && settings.dry_run {
        anyhow::bail!("--apply and dry-run contradict each other; leave one of them out");
    }
    if !apply && !settings.dry_run {
        anyhow::bail!("`optipod run` changes workloads only with --apply");
    }
    run::both(&settings, client().await?, shutdown_signal()).await
}

fn prepare(base: &Settings, flags: &Flags) -> anyhow::Result<Settings> {
    let settings = Settings::load(base, flags)?;
    crate::telemetry::init(settings.log_format()?, &settings.log_level)?;
    Ok(settings)
}

/// kube's own retries are off: how often and how long we try is ours to say.
async fn client() -> anyhow::Result<kube::Client> {
    let config = kube::Config::infer().await.context("no cluster: neither in a pod nor a usable KUBECONFIG")?;
    run::client(config)
}

/// Cancelled by SIGTERM or Ctrl-C.
fn shutdown_signal() -> tokio_util::sync::CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = tokio_util::sync::CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = tokio::signal::ctrl_c() => tracing::info!("interrupted: stopping"),
        }
        cancel.cancel();
    });
    token
}
