//! A running control plane.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::Request;
use kube::Client;
use kube::api::DynamicObject;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::component::{Component, Name, output};
use super::identity::{Identities, base64, kubeconfig};
use super::state::{Ports, StateDir};
use super::{Namespace, Result, audit, binary, flags, nodes, objects, wait_for};

const KWOK_CONFIG: &str = include_str!("../../controlplane/kwok.yaml");
const ADDONS: &str = include_str!("../../controlplane/addons.yaml");
const LIVENESS_PERIOD: Duration = Duration::from_millis(200);
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A control plane of our own, with Ready nodes. Tests share one; a test of
/// something cluster-wide (a CRD's upgrade, an outage) starts its own.
pub struct Cluster {
    dir: StateDir,
    ports: Ports,
    ca: String,
    client: Client,
    components: Mutex<Vec<Component>>,
    namespaces: AtomicU32,
}

impl Cluster {
    /// Starts everything and waits for Ready nodes: 5 to 10 seconds, 1.2 GiB.
    pub async fn start(binary: &Path) -> Result<Self> {
        let dir = StateDir::create()?;
        let ports = Ports::choose()?;
        let identities = Identities::write(&dir, ports).context("make certificates")?;
        dir.write("kwok.yaml", KWOK_CONFIG)?;
        dir.write("audit.yaml", audit::POLICY)?;
        let component = |name| Component::new(name, binary, flags::of(name, &dir, ports), dir.path());
        let components = ALL.map(component).into();
        let cluster = Self {
            client: connect(&identities.admin).await?,
            dir,
            ports,
            ca: identities.ca,
            components: Mutex::new(components),
            namespaces: AtomicU32::new(0),
        };
        cluster.bring_up().await?;
        Ok(cluster)
    }

    /// A cluster of the calling test's own, which ends when it is dropped.
    pub async fn start_private() -> Result<Self> {
        let binary = binary::find().map_err(anyhow::Error::msg)?;
        Self::start(&binary).await
    }

    async fn bring_up(&self) -> Result {
        self.start_component(Name::Etcd)?;
        self.start_component(Name::ApiServer)?;
        self.wait_api_server().await?;
        for name in [Name::ControllerManager, Name::Scheduler, Name::Kwok] {
            self.start_component(name)?;
        }
        let addons = ADDONS
            .replace("${METRICS_SERVER_PORT}", &self.ports.metrics_server.to_string())
            .replace("${CA_BUNDLE}", &base64(self.ca.as_bytes()));
        objects::apply(&self.client, "addons", None, &addons).await?;
        nodes::create(&self.client).await?;
        self.start_component(Name::MetricsServer)?;
        let ready = nodes::wait_ready(&self.client);
        self.unless_one_dies(&[Name::Kwok], ready).await
    }

    async fn wait_api_server(&self) -> Result {
        let ready = wait_for("the API server", READY_WITHIN, || async {
            let request = Request::get("/readyz").body(Vec::new())?;
            self.client.request_text(request).await?;
            Ok(())
        });
        let involved = [Name::Etcd, Name::ApiServer];
        self.unless_one_dies(&involved, ready).await
    }

    /// Waits for `ready`, which `involved` bring about. When one of them dies,
    /// that is the answer; in either case the error quotes a log.
    async fn unless_one_dies(&self, involved: &[Name], ready: impl Future<Output = Result>) -> Result {
        let death = async {
            loop {
                let mut checks = involved.iter().map(|&n| self.component(n, Component::check));
                if let Some(dead) = checks.find_map(Result::err) {
                    return dead;
                }
                tokio::time::sleep(LIVENESS_PERIOD).await;
            }
        };
        tokio::select! {
            ready = ready => ready.map_err(|error| {
                let logs = involved.iter().map(|&n| self.component(n, |c| c.log_tail()));
                anyhow!("{error:#}; {}", logs.collect::<Vec<_>>().join("\n"))
            }),
            dead = death => Err(dead),
        }
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that is whoever holds `token`.
    pub async fn client_for_token(&self, token: &str) -> Result<Client> {
        connect(&self.kubeconfig_text(token)).await
    }

    /// The administrator's kubeconfig, for child processes.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig of whoever holds `token`; `name` names the file.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> Result<PathBuf> {
        let file = format!("{name}.kubeconfig");
        self.dir.write(&file, &self.kubeconfig_text(token))?;
        Ok(self.dir.path().join(file))
    }

    fn kubeconfig_text(&self, token: &str) -> String {
        kubeconfig(self.ports.api_server, &self.ca, token)
    }

    /// A new namespace `<prefix>-<n>` that pods can be created in.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        let count = self.namespaces.fetch_add(1, Ordering::Relaxed);
        Namespace::create(self.client(), &format!("{prefix}-{count}")).await
    }

    /// Server-side applies cluster-wide objects, as kubectl would.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        objects::apply(&self.client, "kubectl", None, yaml).await
    }

    /// What kubectl prints, as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let binary = binary::find().map_err(anyhow::Error::msg)?;
        let mut command = Command::new(binary);
        command.arg("kubectl").args(arguments).env("KUBECONFIG", self.kubeconfig_path());
        output(command).await
    }

    /// Starts a component that is not running. kwok takes over its old nodes
    /// only when their leases are deleted or 40 seconds old.
    pub fn start_component(&self, name: Name) -> Result {
        self.component(name, Component::start)
    }

    /// Kills a component: an outage. Only for a cluster of the test's own.
    pub fn kill_component(&self, name: Name) {
        self.component(name, Component::kill);
    }

    /// Where data and logs are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills everything, the last started first, and removes the folder.
    pub fn stop(&self, keep_logs: bool) {
        self.lock().iter_mut().rev().for_each(Component::kill);
        if !keep_logs {
            self.dir.remove();
        }
    }

    fn component<T>(&self, name: Name, with: impl FnOnce(&mut Component) -> T) -> T {
        let mut components = self.lock();
        let component = components.iter_mut().find(|c| c.name == name);
        with(component.expect("start() makes one of each name"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the order of their start.
const ALL: [Name; 6] =
    [Name::Etcd, Name::ApiServer, Name::ControllerManager, Name::Scheduler, Name::Kwok, Name::MetricsServer];

async fn connect(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).context("read the kubeconfig")?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // Loopback needs no proxy, whatever the environment says.
    config.proxy_url = None;
    // A refusal is what a test wants to see, not what it wants retried for minutes.
    config.default_retry = false;
    Client::try_from(config).context("make a client")
}
