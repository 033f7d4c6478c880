//! The commands, one file each.

mod explain;
mod recommend;
mod restore;
mod roles;
mod store;
mod top;
mod uninstall;

#[cfg(test)]
pub(crate) use explain::render as explanation;

use crate::config::Flags;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// OptiPod watches what containers use and sets their requests to match.
#[derive(Parser, Debug)]
#[command(name = "optipod", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Collect usage, keep it, and answer over gRPC
    Recommender,
    /// Reconcile policies: decide and apply
    Controller,
    /// Recommender and controller in one process, against the current kubeconfig context; changes nothing without --apply
    Run {
        /// Apply what policies in mode Auto decide
        #[arg(long)]
        apply: bool,
    },
    /// Print the CustomResourceDefinition, for `kubectl apply --server-side -f -`
    Crd,
    /// Say in plain words what is recommended for a workload, why, and why it was or was not applied
    Explain(explain::ExplainArgs),
    /// Ask the recommender what a workload's containers should request
    Recommend(recommend::RecommendArgs),
    /// Put back the requests that a workload had before OptiPod changed it, and let OptiPod leave it alone
    Restore(restore::RestoreArgs),
    /// Verify, inspect, export, import, back up and restore a store's folder
    Store(store::StoreArgs),
    /// Show the usage of the containers that the recommender knows
    Top(top::TopArgs),
    /// Delete every policy and wait until what they changed is put back where they say so; none stays behind
    Uninstall(uninstall::UninstallArgs),
}

/// Runs the command of `cli`; what the process exits with.
pub async fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = match cli.command {
        Command::Recommender => roles::recommender(&cli.flags).await,
        Command::Controller => roles::controller(&cli.flags).await,
        Command::Run { apply } => roles::both(&cli.flags, apply).await,
        Command::Crd => {
            print!("{}", crate::policy::crd::yaml());
            Ok(())
        }
        Command::Explain(args) => explain::explain(&args).await,
        Command::Recommend(args) => recommend::recommend(&args, &cli.flags).await,
        Command::Restore(args) => restore::restore(&args).await,
        Command::Store(args) => return store::store(&args, &cli.flags).await,
        Command::Top(args) => top::top(&args, &cli.flags).await,
        Command::Uninstall(args) => uninstall::uninstall(&args).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// An error as people read it: what was tried, then each cause that says something new, without a backtrace.
pub fn told(error: &anyhow::Error) -> String {
    let mut lines = vec![format!("error: {error}")];
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !lines.iter().any(|line| line.contains(&cause)) {
            lines.push(format!("  because: {cause}"));
        }
    }
    lines.join("\n") + "\n"
}

/// `KIND/NAME`, as in `deployment/checkout`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadArg {
    /// The kind.
    pub kind: crate::workload::WorkloadKind,
    /// The name.
    pub name: String,
}

impl std::str::FromStr for WorkloadArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or("write KIND/NAME, for example deployment/checkout")?;
        let kind = kind.parse().map_err(|error: crate::workload::UnknownKind| error.to_string())?;
        if name.is_empty() {
            return Err("the name after the slash is empty".to_owned());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// The namespace of the current kubeconfig context, or `default`.
async fn context_namespace() -> String {
    kube::Config::infer().await.map_or_else(|_| "default".to_owned(), |config| config.default_namespace)
}

/// A line to the recommender, with a deadline on connecting and on every call.
async fn recommender_channel(flags: &Flags) -> anyhow::Result<crate::run::RecommenderLine> {
    use anyhow::Context as _;
    let settings = crate::config::Settings::load(&crate::config::Settings::default(), flags)?;
    crate::run::recommender_line(&settings).await.with_context(|| {
        format!(
            "no recommender answers at {}; start `optipod run`, or forward its port and set --recommender-addr",
            settings.recommender_addr
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod chart;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_told_without_repeating_itself() {
        let error =
            anyhow::anyhow!("connection refused").context("tcp: connection refused").context("no recommender answers");
        assert_eq!(told(&error), "error: no recommender answers\n  because: tcp: connection refused\n");
    }

    #[test]
    fn the_flags_of_the_specification_are_taken() {
        let words = "optipod controller --metrics-addr=:8080 --health-probe-bind-address=:8081 \
                     --enable-leader-election --metrics-provider=metrics-server --dry-run=false";
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
        assert_eq!(cli.flags.dry_run, Some(false));
        assert_eq!(cli.flags.leader_election, Some(true));
        assert_eq!(cli.flags.metrics_addr.as_deref(), Some(":8080"));
    }

    #[test]
    fn workloads_are_named_as_kubectl_names_them() {
        let arg: WorkloadArg = "deploy/checkout".parse().unwrap();
        assert_eq!((arg.kind, arg.name.as_str()), (crate::workload::WorkloadKind::Deployment, "checkout"));
        assert!("checkout".parse::<WorkloadArg>().unwrap_err().contains("KIND/NAME"));
        assert!("thing/checkout".parse::<WorkloadArg>().unwrap_err().contains("unknown workload kind"));
    }
}
