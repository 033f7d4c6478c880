//! Connections: TCP, then TLS, each within bounds.

use super::certificate::Certificate;
use super::{Door, Place};
use crate::telemetry::RefusedCall;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Connections at once, those that are not done with TLS included.
const MOST_CONNECTIONS: usize = 512;
/// The longest that TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A pause after the system refused a connection, as when it has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(in crate::api) struct Peer {
    /// One client, as far as addresses tell: an IPv4 address, or the /64 of an IPv6 address.
    pub(super) address: String,
    /// The client certificate, if it showed one.
    pub(super) certificate: Option<Arc<Certificate>>,
}

/// A connection after TLS.
pub(in crate::api) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _room: (OwnedSemaphorePermit, Place),
}

/// The connections of `listener`, until `shutdown`. Must be called within a runtime.
pub(in crate::api) fn accept(
    listener: TcpListener,
    door: Door,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = door.0.tls.keep_looking() => {}
            () = accept_all(&listener, &door, &sender) => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept_all(listener: &TcpListener, door: &Door, connections: &mpsc::Sender<io::Result<Connection>>) {
    let rooms = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(room) = rooms.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (door, connections) = (door.clone(), connections.clone());
                tokio::spawn(async move {
                    match secure(stream, from.ip(), &door, room).await {
                        // Nobody takes it: the server is stopping.
                        Ok(connection) => drop(connections.send(Ok(connection)).await),
                        Err(error) => tracing::debug!(%from, %error, "a connection is refused"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn secure(stream: TcpStream, from: IpAddr, door: &Door, room: OwnedSemaphorePermit) -> io::Result<Connection> {
    let address = client_of(from);
    let place = door.0.connections.enter(&address);
    let place = place.map_err(|refusal| {
        door.0.metrics.refuse(RefusedCall::Connections);
        io::Error::other(refusal.status.message().to_owned())
    })?;
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, door.0.tls.acceptor().accept(stream)).await??;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.map(|leaf| Arc::new(Certificate::read(leaf)));
    Ok(Connection { peer: Peer { address, certificate }, stream, _room: (room, place) })
}

/// An IPv6 client has a whole /64 to choose addresses from.
pub(super) fn client_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
