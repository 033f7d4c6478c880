//! What each component is started with.

use super::audit;
use super::component::Name;
use super::state::{Ports, StateDir};

/// The flags of one component of the cluster in `dir`.
pub fn of(name: Name, dir: &StateDir, ports: Ports) -> Vec<String> {
    match name {
        Name::Etcd => etcd(dir, ports),
        Name::ApiServer => api_server(dir, ports),
        Name::ControllerManager => controller_manager(dir),
        Name::Scheduler => scheduler(dir),
        Name::Kwok => kwok(dir, ports),
        Name::MetricsServer => metrics_server(dir, ports),
    }
}

fn etcd(dir: &StateDir, ports: Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        format!("--data-dir={}", dir.file("etcd")),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server(dir: &StateDir, ports: Ports) -> Vec<String> {
    let file = |name| dir.file(name);
    vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        format!("--secure-port={}", ports.api_server),
        "--bind-address=127.0.0.1".into(),
        // Loopback may not be advertised; nobody reads this documentation address.
        "--advertise-address=192.0.2.1".into(),
        "--endpoint-reconciler-type=none".into(),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--authorization-mode=Node,RBAC".into(),
        "--service-cluster-ip-range=10.0.0.0/16".into(),
        "--allow-privileged".into(),
        format!("--audit-policy-file={}", file("audit.yaml")),
        format!("--audit-log-path={}", file(audit::LOG)),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        // So that a test can wait for it: 410 for what is older. The cache in front asks every 15 s.
        "--etcd-compaction-interval=5s".into(),
        // No --enable-aggregator-routing: it refuses the ExternalName service
        // through which the API server finds metrics-server.
        "--max-requests-inflight=3000".into(),
        "--max-mutating-requests-inflight=1000".into(),
    ]
}

fn controller_manager(dir: &StateDir) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", dir.file("kube-controller-manager.kubeconfig")),
        format!("--service-account-private-key-file={}", dir.file("sa.key")),
        format!("--root-ca-file={}", dir.file("ca.crt")),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=500".into(),
        "--kube-api-burst=1000".into(),
    ]
}

fn scheduler(dir: &StateDir) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", dir.file("kube-scheduler.kubeconfig")),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=1000".into(),
        "--kube-api-burst=2000".into(),
    ]
}

fn kwok(dir: &StateDir, ports: Ports) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", dir.file("kwok.kubeconfig")),
        format!("--config={}", dir.file("kwok.yaml")),
        "--manage-all-nodes=true".into(),
        "--manage-nodes-with-annotation-selector=".into(),
        "--node-ip=127.0.0.1".into(),
        format!("--node-port={}", ports.kubelet),
        format!("--server-address=127.0.0.1:{}", ports.kubelet),
        // The default is a /24, and kwok hands out addresses past its end.
        "--cidr=10.64.0.0/12".into(),
        format!("--tls-cert-file={}", dir.file("kubelet.crt")),
        format!("--tls-private-key-file={}", dir.file("kubelet.key")),
    ]
}

fn metrics_server(dir: &StateDir, ports: Ports) -> Vec<String> {
    let kubeconfig = dir.file("metrics-server.kubeconfig");
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.metrics_server),
        format!("--tls-cert-file={}", dir.file("metrics-server.crt")),
        format!("--tls-private-key-file={}", dir.file("metrics-server.key")),
        // Without a client CA it logs "missing content for CA bundle" for ever.
        format!("--client-ca-file={}", dir.file("ca.crt")),
        format!("--kubelet-certificate-authority={}", dir.file("ca.crt")),
        "--kubelet-use-node-status-port".into(),
        // The default tries the node's name first, which resolves to nothing.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--metric-resolution=1s".into(),
        "--kubelet-request-timeout=900ms".into(),
    ]
}
