//! `optipod top`: the usage of the containers that the recommender knows.

use crate::api::proto;
use crate::config::Flags;
use anyhow::Context as _;
use clap::Args;

/// Arguments of `optipod top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Only this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// How far back usage counts, such as 1h or 7d
    #[arg(long, default_value = "24h")]
    window: String,
    /// At most this many containers, those with the highest CPU first
    #[arg(long, default_value_t = 40)]
    limit: usize,
}

/// The recommender's largest page, and the largest batch of one call.
const PAGE: i32 = 1000;

/// Lists all series, asks for their usage in batches, and prints a table.
pub async fn top(args: &TopArgs, flags: &Flags) -> anyhow::Result<()> {
    let window = crate::policy::duration::parse(&args.window)?;
    let channel = super::recommender_channel(flags).await?;
    let mut recommender = proto::recommender_service_client::RecommenderServiceClient::new(channel.clone());
    let mut usage = proto::usage_service_client::UsageServiceClient::new(channel);
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let namespace = args.namespace.clone().unwrap_or_default();
        let request = proto::ListSeriesRequest { page_size: PAGE, page_token, namespace, ..Default::default() };
        let page = recommender.list_series(request).await.context("listing series")?.into_inner();
        let series = page.series.into_iter().filter_map(|info| info.series).collect();
        let window = Some(window.try_into().context("the window is too long")?);
        let request = proto::BatchGetUsageRequest { series, window };
        let mut answers = usage.batch_get_usage(request).await.context("reading usage")?.into_inner();
        while let Some(answer) = answers.message().await.context("reading usage")? {
            if let (Some(series), Some(usage)) = (answer.series, answer.usage) {
                rows.push((series, usage));
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    rows.sort_by(|a, b| cpu_p90(&b.1).total_cmp(&cpu_p90(&a.1)));
    print(&rows, args.limit);
    Ok(())
}

fn cpu_p90(usage: &proto::Usage) -> f64 {
    usage.cpu.as_ref().map_or(0.0, |cpu| cpu.p90)
}

fn print(rows: &[(proto::Series, proto::Usage)], limit: usize) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "NAMESPACE",
        "WORKLOAD",
        "CONTAINER",
        "CPU P50",
        "P90",
        "P99",
        "MEMORY P50",
        "P90",
        "PEAK",
        "SAMPLES",
    ]);
    for (series, usage) in rows.iter().take(limit) {
        let (cpu, memory) = (usage.cpu.unwrap_or_default(), usage.memory.unwrap_or_default());
        let cores = |value: f64| format!("{:.0}m", value * 1000.0);
        let mebibytes = |value: f64| format!("{:.0}Mi", value / f64::from(1 << 20));
        table.add_row([
            series.namespace.clone(),
            format!("{}/{}", series.kind, series.workload),
            series.container.clone(),
            cores(cpu.p50),
            cores(cpu.p90),
            cores(cpu.p99),
            mebibytes(memory.p50),
            mebibytes(memory.p90),
            mebibytes(memory.peak),
            cpu.samples.to_string(),
        ]);
    }
    println!("{table}");
    if rows.len() > limit {
        println!("{} more; see --limit", rows.len() - limit);
    }
}
