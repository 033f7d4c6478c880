//! `optipod recommend KIND/NAME`: what a workload's containers should request, asked of the recommender.

use super::WorkloadArg;
use crate::api::proto;
use crate::config::Flags;
use anyhow::Context as _;
use clap::Args;

/// Arguments of `optipod recommend`.
#[derive(Args, Debug)]
pub struct RecommendArgs {
    /// The workload, such as deployment/checkout
    workload: WorkloadArg,
    /// The workload's namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// How far back usage counts, such as 24h or 7d
    #[arg(long, default_value = "24h")]
    window: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One container's answer.
#[derive(serde::Serialize)]
struct Answer {
    container: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    explanation: String,
}

/// Lists the workload's series and asks for a recommendation of each.
pub async fn recommend(args: &RecommendArgs, flags: &Flags) -> anyhow::Result<()> {
    let window = crate::policy::duration::parse(&args.window)?;
    let namespace = match &args.namespace {
        Some(namespace) => namespace.clone(),
        None => super::context_namespace().await,
    };
    let channel = super::recommender_channel(flags).await?;
    let mut client = proto::recommender_service_client::RecommenderServiceClient::new(channel);
    let request = proto::ListSeriesRequest {
        page_size: 1000,
        namespace: namespace.clone(),
        kind: args.workload.kind.to_string(),
        workload: args.workload.name.clone(),
        ..Default::default()
    };
    let series = client.list_series(request).await.context("listing the workload's containers")?.into_inner().series;
    if series.is_empty() {
        anyhow::bail!(
            "the recommender knows no container of {} {namespace}/{}; it learns a workload within two scrapes of its pods running",
            args.workload.kind,
            args.workload.name
        );
    }
    let mut answers = Vec::new();
    for series in series.into_iter().filter_map(|info| info.series) {
        answers.push(ask(&mut client, series, window).await?);
    }
    print(&answers, args.json)
}

async fn ask(
    client: &mut proto::recommender_service_client::RecommenderServiceClient<crate::run::RecommenderLine>,
    series: proto::Series,
    window: std::time::Duration,
) -> anyhow::Result<Answer> {
    let rolling_window = Some(window.try_into().context("the window is too long")?);
    let metrics_config = Some(proto::MetricsConfig { rolling_window, ..Default::default() });
    let container = series.container.clone();
    let request = proto::GetRecommendationRequest { series: Some(series), metrics_config, ..Default::default() };
    match client.get_recommendation(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let requests = answer.requests.unwrap_or_default();
            Ok(Answer {
                container,
                cpu: Some(requests.cpu),
                memory: Some(requests.memory),
                explanation: answer.explanation,
            })
        }
        Err(status) if matches!(status.code(), tonic::Code::FailedPrecondition | tonic::Code::NotFound) => {
            Ok(Answer { container, cpu: None, memory: None, explanation: status.message().to_owned() })
        }
        Err(status) => Err(status).with_context(|| format!("asking for container {container}")),
    }
}

fn print(answers: &[Answer], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(answers)?);
        return Ok(());
    }
    for answer in answers {
        match (&answer.cpu, &answer.memory) {
            (Some(cpu), Some(memory)) => println!("container {}: cpu {cpu}, memory {memory}", answer.container),
            _ => println!("container {}: no recommendation yet", answer.container),
        }
        println!("  {}", answer.explanation);
    }
    Ok(())
}
