//! Serving: behind a door on any address, without one on loopback, or in memory for a process that asks itself.

use super::Api;
use super::door::{Door, DoorLayer, accept};
use super::limits::{
    CONNECTION_AGE, MAX_CONCURRENT, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, PING_EVERY, REQUEST_TIMEOUT,
};
use crate::proto::DESCRIPTORS;
use crate::proto::recommender_service_server::RecommenderServiceServer;
use crate::proto::usage_service_server::UsageServiceServer;
use futures::Stream;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::service_fn;

/// Why the services could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anyone on the network could read there.
    #[error(
        "refusing to serve gRPC on {0}: outside loopback only with TLS and authentication; set --tls-cert-file and \
         --tls-key-file (callers then need a bearer token, or with --client-ca-file and --client-names a certificate), or \
         listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("cannot listen on {address}: {source}; choose another address, or stop what uses it")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A unix socket's path is limited.
    #[error(
        "{} is longer than the {max} bytes that a unix socket's path may have; `optipod store` cannot ask the recommender \
         about a folder in use there: give it a shorter --data-dir, or a symbolic link to it", .path.display()
    )]
    SocketPath {
        /// The socket.
        path: std::path::PathBuf,
        /// The most bytes.
        max: usize,
    },
    /// The system refused a unix socket.
    #[error("cannot listen on {}: {source}; check that the folder is writable", .path.display())]
    Socket {
        /// The socket.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The reflection service could not be built from the compiled definitions.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server broke off.
    #[error("the gRPC server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Listens on a loopback address; any other is refused before a socket is opened.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    loopback(address)?;
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// Serves until `shutdown`, then finishes what is under way. A listener outside loopback is refused.
pub async fn serve(listener: TcpListener, api: Api, shutdown: CancellationToken) -> Result<(), ServeError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    loopback(listener.local_addr().unwrap_or(unknown))?;
    serve_on(TcpIncoming::from(listener).with_nodelay(Some(true)), api, shutdown).await
}

/// Serves whom `door` lets in until `shutdown`, then finishes what is under way.
pub async fn serve_guarded(
    listener: TcpListener,
    api: Api,
    door: Door,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let routes = routes(api).await?;
    let connections = accept(listener, door.clone(), shutdown.clone());
    // So that a certificate that is no longer good ends with its connections, and dead ones give up their room. No grace:
    // with one, tonic 0.14 breaks off what is under way and tells the client nothing before.
    let server = server().max_connection_age(CONNECTION_AGE);
    let mut server = server.http2_keepalive_interval(Some(PING_EVERY)).layer(DoorLayer(door));
    let serving = server.add_routes(routes).serve_with_incoming_shutdown(connections, shutdown.cancelled_owned());
    Ok(serving.await?)
}

/// The same services without a network: a channel, and the server to run beside it. The channel connects when it is
/// first used and again when a connection breaks.
///
/// Must be called within a runtime.
pub fn serve_in_memory(
    api: Api,
    shutdown: CancellationToken,
) -> (Channel, impl Future<Output = Result<(), ServeError>> + Send) {
    let (connections, incoming) = tokio::sync::mpsc::channel::<std::io::Result<DuplexStream>>(8);
    let connector = service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (client, server) = tokio::io::duplex(PIPE_BYTES);
            let gone = |_| std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the recommender has stopped");
            connections.send(Ok(server)).await.map_err(gone)?;
            Ok::<_, std::io::Error>(TokioIo::new(client))
        }
    });
    let channel = Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector);
    (channel, serve_on(ReceiverStream::new(incoming), api, shutdown))
}

/// Bytes that one side of an in-memory connection may be ahead of the other.
const PIPE_BYTES: usize = 256 * 1024;

fn loopback(address: SocketAddr) -> Result<(), ServeError> {
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ServeError::NotLoopback(address)) }
}

async fn serve_on<S, IO>(incoming: S, api: Api, shutdown: CancellationToken) -> Result<(), ServeError>
where
    S: Stream<Item = std::io::Result<IO>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    IO::ConnectInfo: Clone + Send + Sync + 'static,
{
    let router = server().add_routes(routes(api).await?);
    Ok(router.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await?)
}

fn server() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .max_concurrent_streams(u32::try_from(MAX_CONCURRENT).ok())
        .timeout(REQUEST_TIMEOUT)
}

async fn routes(api: Api) -> Result<Routes, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<UsageServiceServer<Api>>().await;
    health.set_serving::<RecommenderServiceServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let usage = UsageServiceServer::new(api.clone())
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let recommender = RecommenderServiceServer::new(api)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    Ok(Routes::new(health_service).add_service(reflection).add_service(usage).add_service(recommender))
}
