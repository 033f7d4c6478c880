//! The real binary: where it starts to listen, and where it refuses to.

use super::methods::Method;
use super::pki::Authority;
use super::stage::{SOON, call};
use optipod::provider::Target;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tonic::Code;

/// Ends with the test.
struct Recommender(Child);

impl Drop for Recommender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `optipod recommender` on all addresses, of a cluster that does not answer.
fn recommender(dir: &Path, flags: &[String]) -> Command {
    let kubeconfig = dir.join("kubeconfig");
    let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    std::fs::write(&kubeconfig, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_optipod"));
    command.args(["recommender", "--grpc-addr=0.0.0.0:0", "--metrics-addr=0", "--health-probe-bind-address=0"]);
    command.args(["--log-format=json", &format!("--data-dir={}", dir.join("data").display())]).args(flags);
    command.env_clear().env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    command
}

#[test]
fn outside_loopback_it_starts_only_with_tls_and_callers_that_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = Authority::new("servers").serving(dir.path(), "tls");
    let tls = [format!("--tls-cert-file={}", cert.display()), format!("--tls-key-file={}", key.display())];
    let and = |flag: &str| tls.iter().cloned().chain([flag.to_owned()]).collect::<Vec<_>>();
    for (flags, parts) in [
        (vec![], ["refusing to serve gRPC on 0.0.0.0:0", "set --tls-cert-file and --tls-key-file"]),
        (tls[..1].to_vec(), ["setting grpcTls", "--tls-key-file"]),
        (and("--token-review=false"), ["lets nobody in", "--client-ca-file and --client-names"]),
        (vec![tls[0].clone(), "--tls-key-file=/nowhere/key".into()], ["/nowhere/key", "mounted and readable"]),
    ] {
        let mut child = Recommender(recommender(dir.path(), &flags).stderr(Stdio::piped()).spawn().unwrap());
        let (sender, ended) = std::sync::mpsc::channel();
        let mut stderr = child.0.stderr.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| sender.send(text))
        });
        let text = ended.recv_timeout(SOON).expect("it ends");
        assert!(!child.0.wait().unwrap().success(), "{flags:?}");
        assert!(parts.iter().all(|part| text.contains(part)), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn with_tls_it_serves_all_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    let ca = authority.write(dir.path(), "ca.crt");
    let (cert, key) = authority.serving(dir.path(), "tls");
    let flags = [format!("--tls-cert-file={}", cert.display()), format!("--tls-key-file={}", key.display())];
    let mut child = recommender(dir.path(), &flags).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let _recommender = Recommender(child);
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    for lines in
        [Box::new(BufReader::new(stdout)) as Box<dyn std::io::BufRead + Send>, Box::new(BufReader::new(stderr))]
    {
        let sender = sender.clone();
        std::thread::spawn(move || lines.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    }
    let port = async {
        loop {
            let line = lines.recv().await.expect("it goes on");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = line["fields"]["grpc"].as_str().or(line["grpc"].as_str()) {
                return address.rsplit_once(':').unwrap().1.to_owned();
            }
        }
    };
    let port = tokio::time::timeout(SOON, port).await.expect("it tells where it listens");
    let target = Target { ca_file: Some(ca), ..Target::new(format!("https://127.0.0.1:{port}")) };
    let line = target.lazy().unwrap();
    assert_eq!(call(Method::Health, &line).await.code(), Code::Ok);
    assert_eq!(call(Method::GetUsage, &line).await.code(), Code::Unauthenticated);
}
