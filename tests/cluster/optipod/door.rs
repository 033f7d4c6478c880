//! Who may call the recommender's gRPC over TLS: real tokens, real rights, and certificates.

#[path = "../../recommender/door/methods.rs"]
mod methods;
#[path = "../../recommender/door/pki.rs"]
pub(super) mod pki;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams};
use optipod::provider::Target;
use serde_json::json;
use tonic::{Code, Status};

use self::methods::{METHODS, Method};
use self::pki::{Authority, Pair};
use super::explain::says;
use super::in_place::{ensure_is_resized, starved};
use super::install::{CONTROLLER, RECOMMENDER, account_of, install};
use super::policy::Policy;
use super::process::{Optipod, Prepared, Role};
use super::{SOON, secrets, shared};
use crate::harness::{Cluster, Namespace, Result, ServiceAccount, output};

const AUDIENCE: &str = "optipod";
const READER: &str = "optipod-usage-reader";

/// A recommender with TLS, and what its callers need.
struct Guarded {
    recommender: Optipod,
    dir: PathBuf,
    ca: PathBuf,
    clients: Authority,
}

impl Guarded {
    async fn start(cluster: &Cluster) -> Result<Self> {
        let prepared = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?;
        let dir = prepared.dir();
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let (ca, client_ca) = (servers.write(&dir, "ca.crt"), clients.write(&dir, "client-ca.crt"));
        let (cert, key) = servers.serving(&dir, "tls");
        let recommender = prepared
            .flag(format!("--tls-cert-file={}", cert.display()))
            .flag(format!("--tls-key-file={}", key.display()))
            .flag(format!("--client-ca-file={}", client_ca.display()))
            .flag("--client-names=optipod-controller")
            // All callers here have one address, and those that are not let in count by it.
            .flag("--max-requests-per-second=1000")
            .logging_everything()
            .start()?;
        Ok(Self { recommender, dir, ca, clients })
    }

    fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.recommender.grpc_port())
    }

    fn target(&self) -> Target {
        Target { ca_file: Some(self.ca.clone()), ..Target::new(self.address()) }
    }

    fn token_file(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.token", name.replace(' ', "-")));
        std::fs::write(&path, token)?;
        Ok(path)
    }

    fn with_certificate(&self, identity: Pair) -> Target {
        Target { identity: Some(identity), ..self.target() }
    }
}

/// Somebody who calls, and what each method should answer.
struct Caller {
    name: &'static str,
    target: Target,
    expected: fn(Method) -> String,
}

pub async fn everybody_may_call_what_they_have_a_right_to_and_nothing_else(cluster: &'static Cluster) -> Result {
    shared(cluster).await?;
    let guarded = Guarded::start(cluster).await?;
    guarded.recommender.wait_ready().await?;
    // The requests of `methods` are about this namespace.
    let shop = Namespace::create(cluster.client(), "shop").await?;
    let callers = callers(cluster, &guarded, &shop).await?;
    let (mut table, mut wrong) = (head(), Vec::new());
    for caller in callers {
        let line = caller.target.lazy()?;
        let _ = write!(table, "{:<34}", caller.name);
        for method in METHODS {
            let status = tokio::time::timeout(SOON, method.call(line.clone())).await?;
            let (seen, expected) = (word(&status), (caller.expected)(method));
            let _ = write!(table, "{seen:<19}");
            if seen != expected {
                wrong.push(format!("{}: {method:?}: {expected} expected, got {status:?}", caller.name));
            }
        }
        table.push('\n');
    }
    println!("{table}");
    ensure!(wrong.is_empty(), "{}\n{table}", wrong.join("\n"));
    Ok(())
}

async fn callers(cluster: &Cluster, guarded: &Guarded, shop: &Namespace) -> Result<Vec<Caller>> {
    let (powerless, reader, tenant, all, deleted) = (
        shop.service_account("powerless").await?,
        shop.service_account("reader").await?,
        shop.service_account("tenant").await?,
        shop.service_account("all").await?,
        shop.service_account("deleted").await?,
    );
    for account in [&reader, &deleted] {
        account.bind_cluster_role(READER).await?;
    }
    shop.apply(&bound_here(&tenant)).await?;
    all.allow_everywhere(json!([{"apiGroups": ["optipod.io"], "resources": ["*"], "verbs": ["get"]}])).await?;
    let of_deleted = deleted.token_for(&[AUDIENCE]).await?;
    shop.api::<v1::ServiceAccount>().delete("deleted", &DeleteParams::default()).await?;
    let reader_uid = shop.api::<v1::ServiceAccount>().get("reader").await?.metadata.uid.context("no uid")?;

    let mut callers = Vec::new();
    let mut add = |name, token: &str, expected| {
        let token_file = guarded.token_file(name, token)?;
        callers.push(Caller { name, target: Target { token_file: Some(token_file), ..guarded.target() }, expected });
        Ok::<_, anyhow::Error>(())
    };
    add("garbage for a token", "garbage", unknown)?;
    add("token for the API server", &reader.token().await?, unknown)?;
    add("token for somebody else", &reader.token_for(&["prometheus"]).await?, unknown)?;
    add("token of a deleted account", &of_deleted, unknown)?;
    add("expired token", &signed(cluster.dir(), &reader, &reader_uid, -60)?, unknown)?;
    add("the same, not expired", &signed(cluster.dir(), &reader, &reader_uid, 600)?, reads)?;
    add("token, no right", &powerless.token_for(&[AUDIENCE]).await?, forbidden)?;
    add("token, right in the namespace", &tenant.token_for(&[AUDIENCE]).await?, reads_there)?;
    add("token, optipod-usage-reader", &reader.token_for(&[AUDIENCE]).await?, reads)?;
    add("token, every right", &all.token_for(&[AUDIENCE]).await?, passed)?;
    let controller = account_of(cluster, CONTROLLER).token_for(&[AUDIENCE]).await?;
    add("the controller's own token", &controller, asks_for_usage)?;

    callers.insert(0, Caller { name: "nothing", target: guarded.target(), expected: unknown });
    let others = Authority::new("others").client(&guarded.dir, "others");
    let unlisted = guarded.clients.client(&guarded.dir, "somebody");
    let listed = guarded.clients.client(&guarded.dir, "optipod-controller");
    for (name, identity, expected) in [
        ("certificate by another authority", others, (|_| "no TLS".to_owned()) as fn(Method) -> String),
        ("certificate of somebody else", unlisted, unknown),
        ("certificate, listed", listed, passed),
    ] {
        callers.push(Caller { name, target: guarded.with_certificate(identity), expected });
    }
    Ok(callers)
}

fn passed(method: Method) -> String {
    format!("{:?}", method.passed())
}

fn or_health(method: Method, code: Code) -> String {
    if method == Method::Health { passed(method) } else { format!("{code:?}") }
}

fn unknown(method: Method) -> String {
    or_health(method, Code::Unauthenticated)
}

fn forbidden(method: Method) -> String {
    or_health(method, Code::PermissionDenied)
}

fn reads(method: Method) -> String {
    if method == Method::Reflection { forbidden(method) } else { passed(method) }
}

/// `optipod-usage`: no recommendations, no status of the store.
fn asks_for_usage(method: Method) -> String {
    if matches!(method, Method::GetRecommendation | Method::GetStoreStatus) { forbidden(method) } else { reads(method) }
}

fn reads_there(method: Method) -> String {
    if method == Method::GetStoreStatus { forbidden(method) } else { reads(method) }
}

/// An answer as the table shows it.
fn word(status: &Status) -> String {
    if status.code() == Code::Unavailable && told(status).contains("is the client certificate by an authority") {
        return "no TLS".to_owned();
    }
    format!("{:?}", status.code())
}

fn told(status: &Status) -> String {
    let mut text = status.to_string();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn head() -> String {
    let mut text = format!("\n{:<34}", "caller");
    for method in METHODS {
        let _ = write!(text, "{:<19}", format!("{method:?}"));
    }
    text + "\n"
}

/// `optipod-usage-reader` in the account's own namespace.
fn bound_here(account: &ServiceAccount) -> String {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "usage-reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READER},
        "subjects": [{"kind": "ServiceAccount", "namespace": account.namespace, "name": account.name}],
    })
    .to_string()
}

/// A token of the account as the API server would sign it with its own key, which ends in so many seconds. The server
/// itself issues none that ends within ten minutes.
fn signed(cluster: &Path, account: &ServiceAccount, uid: &str, ends_in: i64) -> Result<String> {
    let path = cluster.join("sa.key");
    let key = optipod::pem::private_key(&path, &optipod::pem::read(&path)?)?;
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let now = jiff::Timestamp::now().as_second();
    let head = json!({"alg": "ES256", "typ": "JWT"});
    let claims = json!({
        "iss": "https://kubernetes.default.svc", "aud": [AUDIENCE], "iat": now - 3600, "nbf": now - 3600,
        "exp": now + ends_in, "sub": format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        "kubernetes.io": {
            "namespace": account.namespace, "serviceaccount": {"name": account.name, "uid": uid},
        },
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let signature = key.sign(&random, text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
}

pub async fn a_controller_asks_over_tls_with_its_own_token(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let guarded = Guarded::start(&cluster).await?;
    let token = account_of(&cluster, CONTROLLER).token_for(&[AUDIENCE]).await?;
    let token_file = guarded.token_file("controller", &token)?;
    let flags = [
        format!("--recommender-addr={}", guarded.address()),
        format!("--recommender-ca-file={}", guarded.ca.display()),
        format!("--recommender-token-file={}", token_file.display()),
    ];
    let controller = Optipod::prepare(&cluster, Role::Controller, CONTROLLER).await?;
    let controller = flags.iter().fold(controller, Prepared::flag).logging_everything().start()?;
    let namespace = cluster.namespace("door").await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    let entry = controller.wait_status(&policy, &web, "Applied").await?;
    ensure_is_resized(&web, &entry).await?;

    let key = std::fs::read_to_string(guarded.dir.join("tls.key"))?;
    for role in [&guarded.recommender, &controller] {
        secrets::ensure_not_logged(role, &[&token, &role.kubeconfig()?], &key)?;
    }

    // A person asks with the same token.
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    says(&optipod(&["top"], &flags).await?, &["Deployment/web", "app", "100Mi"]);
    let refused = format!("{:#}", optipod(&["top"], &flags[..2]).await.expect_err("without a token"));
    says(&refused, &["listing series", "create token ACCOUNT --audience optipod"]);
    let refused = format!("{:#}", optipod(&["top"], &flags[..1]).await.expect_err("without an authority"));
    says(&refused, &["no recommender answers at https://127.0.0.1", "set --recommender-ca-file"]);

    // Without the right it is told so, within a minute, and holds.
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client());
    bindings.delete("optipod-controller-usage", &DeleteParams::default()).await?;
    let entry = controller.wait_status(&policy, &web, "Skipped MetricsUnavailable").await?;
    let message = entry.message.unwrap_or_default();
    let refusal = "system:serviceaccount:optipod-system:optipod-controller may not get usage.optipod.io";
    says(&message, &[refusal, "optipod-usage-reader"]);
    Ok(())
}

async fn optipod(arguments: &[&str], flags: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optipod"));
    command.args(arguments).args(flags).env_clear();
    output(command).await
}
