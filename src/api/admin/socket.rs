//! The socket in the store's folder.
//!
//! Invariant: only the user that runs the recommender can connect.

use super::Admin;
use crate::api::limits::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES};
use crate::api::{Api, ServeError};
use crate::proto::admin::store_admin_service_server::StoreAdminServiceServer;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Bytes of a unix socket's path, without the NUL: Linux takes 107.
const MAX_PATH: usize = 107;
/// Calls of one connection that are worked on at once; a second one is told to wait.
const MAX_CALLS: usize = 4;

/// Where a recommender answers for the store in `dir`, if a path may be that long.
pub(super) fn path(dir: &Path) -> Result<PathBuf, ServeError> {
    let path = dir.join("admin.sock");
    if path.as_os_str().len() > MAX_PATH { Err(ServeError::SocketPath { path, max: MAX_PATH }) } else { Ok(path) }
}

/// Serves `StoreAdminService` on `admin.sock` in the store's folder until `shutdown`; calls under way break off then.
pub async fn serve_admin(api: Api, shutdown: CancellationToken) -> Result<(), ServeError> {
    let path = path(api.store.dir())?;
    let listener = listen(&path, |new| UnixListener::bind(new))
        .map_err(|source| ServeError::Socket { path: path.clone(), source })?;
    let service = StoreAdminServiceServer::new(Admin::new(api))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let serving = Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS)
        .max_concurrent_streams(u32::try_from(MAX_CALLS).ok())
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener));
    let ended = tokio::select! {
        ended = serving => ended.map_err(ServeError::from),
        () = shutdown.cancelled() => Ok(()),
    };
    drop(fs::remove_file(&path)); // the next start replaces it otherwise
    ended
}

/// Whoever calls this has the store open: a socket that is there already was left behind by a killed process. It is
/// made by `bind` in a folder that nobody else may enter and gets its mode before its name, so that nobody connects in
/// between. The path in that folder is no longer than the last one.
pub(super) fn listen(path: &Path, bind: impl Fn(&Path) -> io::Result<UnixListener>) -> io::Result<UnixListener> {
    let folder = path.with_file_name("sock.tmp");
    let new = folder.join("s");
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&folder)?;
    let listener = bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    fs::remove_dir(&folder)?;
    Ok(listener)
}
