//! Servers that misbehave: of gRPC, of PromQL, or of neither.

use super::super::harness::{Result, free_address};
use super::super::prometheus::double::{Double, Reply, http, usual};
use super::super::usage_double::{Answers, UsageDouble, all};
use super::Fault;
use futures::StreamExt as _;
use futures::stream;
use optipod::proto::{BatchGetUsageRequest, BatchGetUsageResponse, Distribution, Series, Usage};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::any::Any;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tonic::{Code, Status};

/// The deadline of whoever asks a server that is too slow.
pub const SHORT: Duration = Duration::from_secs(1);

/// The pods of the two Deployments that are asked about.
const PODS: [&str; 2] = ["web-6d4cf56db6-x2x45", "web-6d4cf56db6-zz9zz"];

/// A server, for as long as this lives.
pub struct Stand {
    pub url: String,
    /// The authority that is trusted.
    pub ca_file: Option<PathBuf>,
    _kept: Box<dyn Any>,
}

impl Stand {
    fn new(url: impl Into<String>, kept: impl Any) -> Self {
        Self { url: url.into(), ca_file: None, _kept: Box::new(kept) }
    }
}

impl Fault {
    /// A server of `UsageService` with this fault.
    pub async fn of_grpc(self) -> Result<Stand> {
        let fails = |code| UsageDouble::start(move |_| Err(Status::new(code, "so says the server")));
        let server = match self {
            Self::Unreachable => return Ok(Stand::new(format!("http://{}", free_address()?), ())),
            Self::WrongAuthority => return untrusted().await,
            Self::Garbage => return raw(|stream| Box::pin(greet(stream))).await,
            Self::BreaksOff => return cut_off().await,
            Self::WebPage => return web(200, None).await,
            Self::Redirect => {
                let other = UsageDouble::start(|asked| Ok(all(answers(asked)))).await?; // it would answer well
                let web = web(302, Some(format!("{}/?token=x", other.url()))).await?;
                return Ok(Stand::new(web.url.clone(), (other, web)));
            }
            Self::NoSuchPath => return web(404, None).await,
            Self::NoCredentials => fails(Code::Unauthenticated).await?,
            Self::NoRight => fails(Code::PermissionDenied).await?,
            Self::BadQuestion => fails(Code::InvalidArgument).await?,
            Self::Overloaded => fails(Code::ResourceExhausted).await?,
            Self::Broken => fails(Code::Internal).await?,
            Self::Away => fails(Code::Unavailable).await?,
            Self::NeverAnswers => UsageDouble::start(|_| Ok(stream::pending().boxed())).await?,
            Self::TooSlow => UsageDouble::start(|asked| Ok(slowly(asked))).await?,
            Self::Huge => UsageDouble::start(|asked| Ok(all(asked.series.into_iter().map(huge)))).await?,
            Self::Partial => UsageDouble::start(|asked| Ok(all(answers(asked).take(1)))).await?,
            Self::NothingKnown => UsageDouble::start(|asked| Ok(all(answers(asked).map(unknown)))).await?,
        };
        Ok(Stand::new(server.url(), server))
    }

    /// A server of PromQL with this fault.
    pub async fn of_promql(self) -> Result<Stand> {
        let said = r#"{"status":"error","errorType":"x","error":"so says the server"}"#;
        let says = |status, body: &'static str| Double::start(move |_| Reply::Status(status, "X-Test: 1", body.into()));
        let whole = http(200, "Content-Type: application/json", said);
        let server = match self {
            Self::Unreachable | Self::WrongAuthority | Self::Garbage => return self.of_grpc().await,
            Self::BreaksOff => Double::start(move |_| Reply::Raw(whole[..whole.len() - 9].to_vec())).await,
            Self::WebPage => says(200, "<html>sign in</html>").await,
            Self::Redirect => {
                let location = "Location: http://127.0.0.1:1/elsewhere?token=x";
                Double::start(move |_| Reply::Status(302, location, String::new())).await
            }
            Self::NoSuchPath => says(404, "404 page not found").await,
            Self::NoCredentials => says(401, "so says the server").await,
            Self::NoRight => says(403, "so says the server").await,
            Self::BadQuestion => says(400, said).await,
            Self::Overloaded => says(429, "so says the server").await,
            Self::Broken => says(500, said).await,
            Self::Away => says(503, "so says the server").await,
            Self::NeverAnswers => Double::start(|_| Reply::Stalls(Vec::new())).await,
            Self::TooSlow => Double::start(move |_| Reply::Stalls(whole[..whole.len() - 9].to_vec())).await,
            Self::Huge => Double::start(|_| Reply::Endless).await,
            Self::Partial => {
                Double::start(|asked| usual(asked, &PODS, r#","isPartial":true"#).replace("app", "web")).await
            }
            Self::NothingKnown => Double::start(|asked| usual(asked, &[], "")).await,
        };
        Ok(Stand::new(server.url(), server))
    }
}

/// Good answers, each about its series.
fn answers(asked: BatchGetUsageRequest) -> impl Iterator<Item = BatchGetUsageResponse> + use<> {
    asked.series.into_iter().map(|series| BatchGetUsageResponse { series: Some(series), usage: Some(flat()) })
}

fn flat() -> Usage {
    let of =
        |value| Distribution { p50: value, p90: value, p99: value, peak: value, samples: 999, ..Default::default() };
    let moment = Some(prost_types::Timestamp::default());
    let covered = Some(prost_types::Duration::default());
    Usage { from: moment, to: moment, covered, cpu: Some(of(0.1)), memory: Some(of(1e8)), ..Default::default() }
}

fn unknown(answer: BatchGetUsageResponse) -> BatchGetUsageResponse {
    BatchGetUsageResponse { usage: None, ..answer }
}

fn huge(series: Series) -> BatchGetUsageResponse {
    BatchGetUsageResponse { series: Some(Series { workload: "x".repeat(5 << 20), ..series }), usage: None }
}

/// An answer, and the next after the deadline.
fn slowly(asked: BatchGetUsageRequest) -> Answers {
    let later = |(n, answer)| async move {
        tokio::time::sleep(SHORT * 2 * n).await;
        Ok(answer)
    };
    stream::iter((0u32..).zip(answers(asked))).then(later).boxed()
}

type Talk = std::pin::Pin<Box<dyn Future<Output = Option<()>> + Send>>;

/// A listener that talks to each connection like this.
async fn raw(talk: impl Fn(TcpStream) -> Talk + Send + 'static) -> Result<Stand> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut talking = tokio::task::JoinSet::new();
    talking.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    Ok(Stand::new(url, talking)) // which ends with it
}

/// As a server of SSH does.
async fn greet(mut stream: TcpStream) -> Option<()> {
    stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.ok()?;
    stream.read_to_end(&mut Vec::new()).await.ok().map(drop)
}

/// Good answers, of which the connection lets only the first bytes through.
async fn cut_off() -> Result<Stand> {
    let server = UsageDouble::start(|asked| Ok(all(answers(asked)))).await?;
    let address = server.address;
    let Stand { url, _kept: listening, .. } = raw(move |stream| Box::pin(cut(stream, address))).await?;
    Ok(Stand::new(url, (server, listening)))
}

async fn cut(mut client: TcpStream, server: SocketAddr) -> Option<()> {
    let mut server = TcpStream::connect(server).await.ok()?;
    let (mut from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let mut first = from_server.take(200); // settings and headers, and not the answers
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = tokio::io::copy(&mut first, &mut to_client) => {}
    }
    Some(())
}

/// HTTP/2 that answers everything alike, and knows nothing of gRPC.
async fn web(status: u16, location: Option<String>) -> Result<Stand> {
    let answer = async move || {
        let mut answer = http::Response::builder().status(status).header("content-type", "text/html");
        if let Some(location) = &location {
            answer = answer.header("location", location);
        }
        answer.body(axum::body::Body::from("<html>sign in</html>")).unwrap()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() });
    Ok(Stand::new(url, serving))
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// TLS by an authority that is not the one that is trusted.
async fn untrusted() -> Result<Stand> {
    let folder = TempDir::new()?;
    let issuer = authority("another")?;
    let (key, trusted) = (KeyPair::generate()?, folder.path().join("ca.crt"));
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(&trusted, authority("trusted")?.pem())?;
    let builder =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    let key = key.serialize_der().try_into().map_err(anyhow::Error::msg)?;
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let shake = move |stream| -> Talk {
        let acceptor = acceptor.clone();
        Box::pin(async move { acceptor.accept(stream).await.ok().map(drop) })
    };
    let Stand { url, _kept: listening, .. } = raw(shake).await?;
    let url = url.replace("http:", "https:");
    Ok(Stand { ca_file: Some(trusted), ..Stand::new(url, (folder, listening)) })
}
