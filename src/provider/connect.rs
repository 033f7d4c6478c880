//! How a server of usage is reached: plain HTTP/2, or TLS with a bearer token or a client certificate.
//!
//! Invariants: a token is sent over TLS only. Certificates are read with each connection, so that renewed ones need no
//! restart.

use super::bearer::Bearer;
use super::only_grpc::OnlyGrpc;
use crate::pem::{self, PemError};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Uri};
use tower::Service as _;

/// Quiet connections are probed this often by the system: HTTP/2 pings would offend servers that limit them.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// How long a connection may take to be set up, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server has to refuse a client certificate; most speak at once.
const FIRST_BYTES: Duration = Duration::from_secs(1);

/// The deadline of a call by somebody who sets none.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a pod finds the recommender's authority when nothing else is set.
const CA: &str = "/var/run/secrets/optipod/ca.crt";

/// A connection that is made when needed, and adds what the server wants to know of its caller.
pub type Line = InterceptedService<OnlyGrpc, Bearer>;

/// A server and how it is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Such as `https://recommender.optipod-system.svc:9090`.
    pub address: String,
    /// The authorities of its certificate, PEM; else [`CA`].
    pub ca_file: Option<PathBuf>,
    /// A bearer token; else that of the pod's projected volume, where there is one.
    pub token_file: Option<PathBuf>,
    /// A client certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate must have, where that is not the address's.
    pub server_name: Option<String>,
    /// It is not the recommender: it is shown no token of the pod's, and without `ca_file` the system's authorities count.
    pub is_foreign: bool,
}

/// Why an address cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is no URL of a server.
    #[error("\"{address}\" is not an address ({cause}); write for example http://127.0.0.1:9090")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        cause: String,
    },
    /// Somebody on the way would see who calls, or could answer in the server's place.
    #[error(
        "a token, an authority or a client certificate is for TLS, and \"{0}\" has none; write https:// in \
         --recommender-addr, or leave those settings out"
    )]
    InTheClear(String),
}

impl Target {
    /// `address`, with the files at their places in a pod.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }

    /// Connects with the first call, and again whenever a connection breaks. Must be called within a runtime.
    pub fn lazy(self) -> Result<Line, TargetError> {
        let (endpoint, bearer) = (self.endpoint()?, self.bearer());
        let dial = self.dial();
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(dial));
        Ok(InterceptedService::new(OnlyGrpc(channel), bearer))
    }

    /// Connects at once, and again whenever the connection breaks; each call has [`CALL_TIMEOUT`].
    ///
    /// # Errors
    /// The address cannot be used, or nobody answers there who is trusted.
    pub async fn connect(self) -> anyhow::Result<Line> {
        let (endpoint, bearer) = (self.endpoint()?, self.bearer());
        let endpoint = endpoint.timeout(CALL_TIMEOUT);
        let dial = self.dial();
        let channel = endpoint.connect_with_connector(tower::service_fn(dial)).await?;
        Ok(InterceptedService::new(OnlyGrpc(channel), bearer))
    }

    /// Whether this can be an address; nobody is asked.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<(), TargetError> {
        self.endpoint().map(drop)
    }

    fn endpoint(&self) -> Result<Endpoint, TargetError> {
        let wrong = |cause: &dyn std::fmt::Display| TargetError::Address {
            address: self.address.clone(),
            cause: cause.to_string(),
        };
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(|error| wrong(&error))?;
        let scheme = endpoint.uri().scheme_str();
        if !matches!(scheme, Some("http" | "https")) {
            return Err(wrong(&"it begins with neither http:// nor https://"));
        }
        let (host, path) = (endpoint.uri().host().unwrap_or_default(), endpoint.uri().path());
        if host.is_empty() || !matches!(path, "" | "/") || endpoint.uri().query().is_some() {
            return Err(wrong(&"it must be a host and a port, without a path"));
        }
        let for_tls = self.ca_file.is_some() || self.token_file.is_some() || self.identity.is_some();
        if scheme == Some("http") && for_tls {
            return Err(TargetError::InTheClear(self.address.clone()));
        }
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT))
    }

    fn is_secure(&self) -> bool {
        self.address.starts_with("https:")
    }

    fn bearer(&self) -> Bearer {
        let is_told = self.is_secure() && !self.is_foreign;
        if is_told { Bearer::from_file(self.token_file.clone()) } else { Bearer::none() }
    }

    /// Makes connections; each reads the certificates' files anew.
    fn dial(self) -> impl FnMut(Uri) -> Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>> + Send {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        let target = Arc::new(self);
        move |uri: Uri| {
            let (mut tcp, target) = (tcp.clone(), target.clone());
            Box::pin(async move {
                let secure = uri.scheme_str() == Some("https");
                let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                std::future::poll_fn(|context| tcp.poll_ready(context)).await.map_err(io::Error::other)?;
                let plain = tcp.call(uri).await.map_err(io::Error::other)?.into_inner();
                let stream: Stream = if secure { Box::pin(target.secure(plain, name).await?) } else { Box::pin(plain) };
                Ok(TokioIo::new(stream))
            })
        }
    }

    async fn secure(&self, plain: tokio::net::TcpStream, host: String) -> io::Result<impl Duplex + use<>> {
        let name = self.server_name.clone().unwrap_or(host);
        let server = ServerName::try_from(name.clone())
            .map_err(|error| io::Error::other(format!("\"{name}\" is no server's name: {error}")))?;
        let config = self.config().map_err(io::Error::other)?;
        let failed = |error: io::Error| io::Error::other(self.advice(&name, &error));
        let mut stream = TlsConnector::from(Arc::new(config)).connect(server, plain).await.map_err(failed)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(format!("{} speaks TLS but not HTTP/2, which gRPC needs", self.address)));
        }
        let ahead = if self.identity.is_some() { first_bytes(&mut stream).await.map_err(failed)? } else { Vec::new() };
        let (read, write) = tokio::io::split(stream);
        Ok(tokio::io::join(io::Cursor::new(ahead).chain(read), write))
    }

    fn ca_file(&self) -> &Path {
        self.ca_file.as_deref().unwrap_or(Path::new(CA))
    }

    fn authorities(&self) -> Result<RootCertStore, ConfigureError> {
        let path = self.ca_file();
        if self.ca_file.is_none() && self.is_foreign {
            return Ok(pem::system_authorities());
        }
        if self.ca_file.is_none() && !path.exists() {
            return Err(ConfigureError::NoAuthority);
        }
        Ok(pem::authorities(path, &pem::read(path)?)?)
    }

    fn config(&self) -> Result<ClientConfig, ConfigureError> {
        let roots = self.authorities()?;
        let builder = ClientConfig::builder_with_provider(pem::provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match &self.identity {
            Some((cert, key)) => {
                let chain = pem::certificates(cert, &pem::read(cert)?)?;
                builder.with_client_auth_cert(chain, pem::private_key(key, &pem::read(key)?)?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// A failed handshake in words, with what to do.
    fn advice(&self, name: &str, error: &io::Error) -> String {
        let (ca, setting, name_setting) = match (&self.ca_file, self.is_foreign) {
            (None, true) => ("the system's files".into(), "its caFile", "the address to one of them"),
            (Some(file), true) => (file.to_string_lossy(), "its caFile", "the address to one of them"),
            (_, false) => (self.ca_file().to_string_lossy(), "--recommender-ca-file", "--recommender-server-name"),
        };
        let known = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
        let what_to_do = match known {
            Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                format!("no authority in {ca} signed its certificate; set {setting} to the right one")
            }
            Some(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => format!("its certificate is not made for {name}; call it by one of its names, or set {name_setting}"),
            Some(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                "its certificate has expired; renew it, which needs no restart".to_owned()
            }
            Some(TlsError::AlertReceived(_)) => {
                "it did not take what it was shown; is the client certificate by an authority that it knows?".to_owned()
            }
            Some(TlsError::InvalidMessage(_)) => {
                "it does not speak TLS there; check the port, or that it has --tls-cert-file".to_owned()
            }
            _ => "check its certificate and the port".to_owned(),
        };
        format!("TLS with {} failed ({error}): {what_to_do}", self.address)
    }
}

/// What a server says first. In TLS 1.3 it refuses a client certificate after the handshake, and whoever writes then may
/// see no more than a broken connection. A server that waits for us to begin says nothing, which is well too.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let Ok(read) = tokio::time::timeout(FIRST_BYTES, stream.read(&mut bytes)).await else { return Ok(Vec::new()) };
    match read? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up after the handshake")),
        count => {
            bytes.truncate(count);
            Ok(bytes)
        }
    }
}

/// Why the client's side of TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
enum ConfigureError {
    #[error("TLS needs the authority that signed the server's certificate; set --recommender-ca-file, or mount {CA}")]
    NoAuthority,
    #[error("TLS: {0}")]
    Pem(#[from] PemError),
    #[error("TLS: {0}; check that the client certificate and its key belong together")]
    Tls(#[from] TlsError),
}

/// A connection, with or without TLS.
trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}
type Stream = Pin<Box<dyn Duplex>>;
