//! `optipod restore KIND/NAME`: the requests from before OptiPod, put back with the caller's own rights.

use super::WorkloadArg;
use crate::controller::{Restored, Undo, Undone, notes};
use crate::workload::{Resources, WorkloadId};
use anyhow::Context as _;
use clap::Args;
use std::fmt::Write as _;

/// Arguments of `optipod restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The workload, such as deployment/checkout
    workload: WorkloadArg,
    /// The workload's namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Let OptiPod change it again: without this the workload is annotated with optipod.io/hold
    #[arg(long)]
    no_hold: bool,
}

/// Restores one workload and prints what was done.
pub async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let namespace = match &args.namespace {
        Some(namespace) => namespace.clone(),
        None => super::context_namespace().await,
    };
    let client = kube::Client::try_default().await.context("no cluster: check KUBECONFIG and its current context")?;
    let id = WorkloadId { namespace, kind: args.workload.kind, name: args.workload.name.clone() };
    let undone = Undo::new(client).workload(&id, !args.no_hold).await.with_context(|| format!("restoring {id}"))?;
    print!("{}", render(&id, !args.no_hold, &undone));
    Ok(())
}

/// What was done, as text.
fn render(id: &WorkloadId, is_held: bool, undone: &Undone) -> String {
    let mut text = format!("{} {}/{}\n\n", id.kind, id.namespace, id.name);
    // Writing to a String cannot fail.
    for Restored { pod, container, from, to } in &undone.restored {
        let place = pod.as_ref().map_or("the template".to_owned(), |pod| format!("pod {pod}"));
        let _ = writeln!(text, "  {place}, container {container}: {} -> {}", requests(*from), requests(*to));
    }
    if undone.restored.is_empty() {
        text.push_str("  Nothing to put back: OptiPod's notes and field managers tell of no change that is left.\n");
    }
    for left in &undone.left {
        let _ = writeln!(text, "  left: {left}");
    }
    if undone.restored.iter().any(|restored| restored.pod.is_none()) {
        text.push_str("\n  The template's change replaces the pods, as any rollout does.\n");
    }
    if is_held {
        let _ = writeln!(
            text,
            "\n  OptiPod leaves it alone from now on; to let it act again: kubectl -n {} annotate {} {} {}-",
            id.namespace,
            id.kind.as_str().to_lowercase(),
            id.name,
            notes::HOLD
        );
    }
    text
}

fn requests(of: Resources) -> String {
    let cpu = of.cpu.map_or("none".to_owned(), |cpu| cpu.to_string());
    let memory = of.memory.map_or("none".to_owned(), |memory| memory.to_string());
    format!("cpu {cpu}, memory {memory}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Bytes, Millicores};
    use crate::workload::WorkloadKind;

    #[test]
    fn what_was_put_back_is_told_with_what_was_there_and_how_to_go_on() {
        let id = WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
        let of = |cpu: Option<u64>, memory: u64| Resources {
            cpu: cpu.map(Millicores),
            memory: Some(Bytes(memory * Bytes::MIB)),
        };
        let restored =
            vec![Restored { pod: None, container: "app".into(), from: of(Some(110), 210), to: of(None, 128) }];
        let undone = Undone { restored, left: vec!["pod web-1, container app: stays".into()] };
        assert_eq!(
            render(&id, true, &undone),
            "Deployment shop/web\n\n\
             \x20 the template, container app: cpu 110m, memory 210Mi -> cpu none, memory 128Mi\n\
             \x20 left: pod web-1, container app: stays\n\n\
             \x20 The template's change replaces the pods, as any rollout does.\n\n\
             \x20 OptiPod leaves it alone from now on; to let it act again: kubectl -n shop annotate deployment web optipod.io/hold-\n"
        );
        let nothing = render(&id, false, &Undone::default());
        assert!(nothing.contains("Nothing to put back") && !nothing.contains("annotate"), "{nothing}");
    }
}
