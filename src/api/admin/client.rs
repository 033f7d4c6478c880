//! Asking a recommender for the store that it has open.

use super::{convert, socket};
use crate::api::{MAX_RESPONSE_BYTES, ServeError};
use crate::proto::admin as wire;
use crate::proto::admin::store_admin_service_client::StoreAdminServiceClient;
use hyper_util::rt::TokioIo;
use optipod_storage::{BackedUp, Examination, SlotRow};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Longer than reading the largest store takes.
const DEADLINE: Duration = Duration::from_hours(1);

/// Why a recommender could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Its socket cannot have such a path.
    #[error(transparent)]
    Path(#[from] ServeError),
    /// Nobody answers.
    #[error(
        "the store is in use, but no recommender answers on {path}: {source}; run this as the user that runs the \
         recommender, see its log, or stop it"
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: tonic::transport::Error,
    },
    /// It refused, or broke off.
    #[error("the recommender answers: {}", .0.message())]
    Refused(#[from] Status),
    /// It said no more in the middle.
    #[error("the recommender broke off before the end of the export; what came before is incomplete, see its log")]
    BrokenOff,
    /// Its answer makes no sense to this program.
    #[error("the recommender's answer is malformed; use the `optipod` of the recommender's version")]
    Malformed,
}

/// A store that a recommender has open.
#[derive(Clone, Debug)]
pub struct LiveStore {
    client: StoreAdminServiceClient<Channel>,
}

impl LiveStore {
    /// Connects to the recommender that has `dir` open.
    pub async fn connect(dir: &Path) -> Result<Self, LiveError> {
        let path = socket::path(dir)?;
        let socket = path.clone();
        let connector = service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://store").timeout(DEADLINE).connect_with_connector(connector).await;
        let channel = channel.map_err(|source| LiveError::Connect { path, source })?;
        Ok(Self { client: StoreAdminServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES) })
    }

    /// As [`optipod_storage::Store::examine_open`].
    pub async fn examine(&mut self) -> Result<Examination, LiveError> {
        let found = self.client.examine(wire::ExamineRequest {}).await?.into_inner();
        convert::stored_examination(found).ok_or(LiveError::Malformed)
    }

    /// As [`optipod_storage::Store::export`]: gives the rows to `take`, which ends it by an error; the damage that is known.
    pub async fn export<E: From<LiveError>>(
        &mut self,
        namespace: Option<&str>,
        mut take: impl FnMut(Vec<SlotRow>) -> Result<(), E>,
    ) -> Result<Vec<String>, E> {
        let request = wire::ExportRequest { namespace: namespace.unwrap_or_default().to_owned() };
        let mut messages = self.client.export(request).await.map_err(LiveError::from)?.into_inner();
        while let Some(message) = messages.message().await.map_err(LiveError::from)? {
            let rows: Option<Vec<SlotRow>> = message.rows.into_iter().map(convert::stored_row).collect();
            take(rows.ok_or(LiveError::Malformed)?)?;
            if message.complete {
                return Ok(message.problems);
            }
        }
        Err(LiveError::BrokenOff.into())
    }

    /// As [`optipod_storage::Store::backup`]; `target` is an absolute path.
    pub async fn backup(&mut self, target: &Path) -> Result<BackedUp, LiveError> {
        let request = wire::BackupRequest { target: target.display().to_string() };
        Ok(convert::stored_backed_up(self.client.backup(request).await?.into_inner()))
    }
}
