//! How clusters and waits end.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::SOON;
use crate::harness::{Cluster, Result, wait_for};

pub async fn a_wait_that_fails_tells_what_it_saw(_: &'static Cluster) -> Result {
    let never = || async {
        ensure!(1 + 1 == 3, "the sum is 2");
        Ok(())
    };

    let error = wait_for("a sum of 3", Duration::from_millis(250), never).await;

    let message = error.err().context("it ended well")?.to_string();
    assert_eq!(message, "waited 250ms for a sum of 3; last seen: the sum is 2");
    Ok(())
}

/// A test run that is killed cannot clean up; nothing may be left of it.
pub async fn a_cluster_ends_with_the_process_that_started_it(cluster: &'static Cluster) -> Result {
    let output = cluster.dir().join("killed-run.out");
    let mut run = KilledOnDrop(
        Command::new(std::env::current_exe()?)
            .arg("--serve")
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .spawn()?,
    );
    // A second control plane starts beside this one and all other tests.
    let port = wait_for("the other run's cluster", Duration::from_mins(2), || async {
        let text = fs::read_to_string(&output)?;
        ensure!(text.contains("Ctrl-C"), "it printed {text:?}");
        let path = text.lines().find_map(|l| l.strip_prefix("export KUBECONFIG="));
        port_of(path.context("it printed no KUBECONFIG")?)
    })
    .await?;
    TcpStream::connect(("127.0.0.1", port))?;

    run.0.kill()?;
    run.0.wait()?;

    wait_for("its API server to be gone", SOON, || async {
        ensure!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it answers");
        Ok(())
    })
    .await
}

fn port_of(kubeconfig: &str) -> Result<u16> {
    let config: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    let server = config["clusters"][0]["cluster"]["server"].as_str();
    let port = server.and_then(|url| url.rsplit(':').next());
    Ok(port.context("no server")?.parse()?)
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
