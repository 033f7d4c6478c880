//! `optipod uninstall`: every policy is deleted, and none stays behind.

use crate::controller::{Uninstalled, uninstall as delete_all};
use anyhow::Context as _;
use clap::Args;
use std::fmt::Write as _;
use std::time::Duration;

/// Arguments of `optipod uninstall`.
#[derive(Args, Debug)]
pub struct UninstallArgs {
    /// How long a running controller may take to put back what policies with onDelete: Restore changed, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Deletes every policy and prints what became of them.
pub async fn uninstall(args: &UninstallArgs) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await.context("no cluster: check KUBECONFIG and its current context")?;
    let done = delete_all(client, Duration::from_secs(args.timeout)).await.context("deleting every policy")?;
    print!("{}", render(&done, args.timeout));
    Ok(())
}

fn render(done: &Uninstalled, seconds: u64) -> String {
    let mut text = match done.policies {
        0 => "There is no policy.\n".to_owned(),
        1 => "1 policy deleted.\n".to_owned(),
        many => format!("{many} policies deleted.\n"),
    };
    // Writing to a String cannot fail.
    for policy in &done.forced {
        let _ = writeln!(
            text,
            "  {policy}: no controller put back all that it changed within {seconds} s; `optipod restore KIND/NAME` does that for one workload"
        );
    }
    for policy in &done.kept {
        let _ = writeln!(text, "  {policy}: another finalizer than OptiPod's keeps it");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyId;

    #[test]
    fn what_was_not_put_back_is_told_with_what_to_do() {
        let id = |name: &str| PolicyId { namespace: "shop".into(), name: name.into() };
        let done = Uninstalled { policies: 3, forced: vec![id("a")], kept: vec![id("b")] };
        assert_eq!(
            render(&done, 300),
            "3 policies deleted.\n\
             \x20 shop/a: no controller put back all that it changed within 300 s; `optipod restore KIND/NAME` does that for one workload\n\
             \x20 shop/b: another finalizer than OptiPod's keeps it\n"
        );
        assert_eq!(render(&Uninstalled::default(), 300), "There is no policy.\n");
    }
}
