//! Addresses as flags write them, and the listeners behind them.

use axum::Router;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An address to listen on, or nothing: `:8080`, `127.0.0.1:8080`, `[::1]:8080`; `0` or the empty text for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// Not at all.
    Off,
    /// There.
    On(SocketAddr),
}

/// Why an HTTP server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The text is not an address.
    #[error("\"{0}\" is not an address to listen on; write :8080, 127.0.0.1:8080 or [::1]:8080, or 0 to switch it off")]
    Address(String),
    /// The system refused.
    #[error("cannot listen on {address}: {source}; choose another address, or stop what uses it")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server broke off.
    #[error("the HTTP server stopped: {0}")]
    Serve(#[from] std::io::Error),
}

impl FromStr for Listen {
    type Err = WebError;

    fn from_str(text: &str) -> Result<Self, WebError> {
        if matches!(text, "" | "0") {
            return Ok(Self::Off);
        }
        let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        full.parse().map(Self::On).map_err(|_| WebError::Address(text.to_owned()))
    }
}

/// Starts to listen; `None` where that is switched off.
pub async fn bind(listen: Listen) -> Result<Option<TcpListener>, WebError> {
    match listen {
        Listen::Off => Ok(None),
        Listen::On(address) => listener(address).await.map(Some).map_err(|source| WebError::Bind { address, source }),
    }
}

/// `[::]` takes IPv4 too; where the machine has no IPv6, every IPv4 address is meant.
async fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// Serves until `shutdown`, then finishes what is under way.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> Result<(), WebError> {
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?)
}
