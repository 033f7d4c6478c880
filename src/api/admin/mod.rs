//! `StoreAdminService`: what `optipod store` asks of a recommender that has the folder open.
//!
//! It may not know who asks: the socket's mode says that. Each call has a thread of its own, one at a time, because it
//! may read the whole store. Invariants: no message above the limit of all services; a caller that goes away, or takes
//! nothing for [`STALL`], ends the work for it.

mod client;
mod convert;
mod socket;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use client::{LiveError, LiveStore};
pub use socket::serve_admin;

use super::{Api, errors};
use crate::proto::admin as wire;
use crate::proto::admin::store_admin_service_server::StoreAdminService;
use optipod_storage::{SlotRow, Store, StoreError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Rows in one message: sketches take up to 16 KB each, mostly a hundred bytes.
const ROWS: usize = 64;
/// Messages that the reading may be ahead of the caller.
const AHEAD: usize = 4;
/// How long a caller may take nothing.
const STALL: Duration = Duration::from_mins(5);

/// The service; one piece of work at a time.
struct Admin {
    api: Api,
    turn: Arc<Semaphore>,
}

type Sent = Result<wire::ExportResponse, Status>;

#[tonic::async_trait]
impl StoreAdminService for Admin {
    type ExportStream = ReceiverStream<Sent>;

    async fn examine(&self, _: Request<wire::ExamineRequest>) -> Result<Response<wire::ExamineResponse>, Status> {
        let found = self.apart(Store::examine_open).await?;
        found.map(|found| Response::new(convert::examination(found))).map_err(|error| errors::store(&error))
    }

    async fn export(&self, request: Request<wire::ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let namespace = request.into_inner().namespace;
        let turn = self.turn()?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (store, now, runtime) = (self.api.store.clone(), self.api.now(), Handle::current());
        spawn("store-export", move || {
            let caller = Caller { sender, runtime };
            match store.export() {
                Ok(rows) => {
                    let problems = || store.status(now).problems;
                    send_rows(rows, &namespace, problems, &caller);
                }
                Err(error) => {
                    caller.send(Err(errors::store(&error)));
                }
            }
            drop(turn); // before the stream ends: whoever sees that may call again
        })?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn backup(&self, request: Request<wire::BackupRequest>) -> Result<Response<wire::BackupResponse>, Status> {
        let target = PathBuf::from(request.into_inner().target);
        if !target.is_absolute() {
            return Err(Status::invalid_argument("target: must be an absolute path on the recommender's machine"));
        }
        let now = self.api.now();
        let made = self.apart(move |store| store.backup(&target, now)).await?;
        made.map(|made| Response::new(convert::backed_up(made))).map_err(|error| errors::backup(&error))
    }
}

impl Admin {
    fn new(api: Api) -> Self {
        Self { api, turn: Arc::new(Semaphore::new(1)) }
    }

    fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let busy = "another `optipod store` command is at work on this store; try again when it is done";
        self.turn.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted(busy))
    }

    /// Runs `work` on a thread of its own.
    async fn apart<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> T + Send + 'static) -> Result<T, Status> {
        let turn = self.turn()?;
        let (sender, receiver) = oneshot::channel();
        let store = self.api.store.clone();
        spawn("store-admin", move || {
            let done = work(&store);
            drop(turn);
            drop(sender.send(done)); // nobody waits any more when the caller went away
        })?;
        receiver.await.map_err(|_| Status::internal("the work on the store broke off; see the recommender's log"))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Status> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Status::unavailable(format!("cannot start a thread: {error}; try again later")))
}

/// Whoever takes an export.
struct Caller {
    sender: mpsc::Sender<Sent>,
    runtime: Handle,
}

impl Caller {
    /// Waits until there is room for a message; whether it was taken.
    fn send(&self, message: Sent) -> bool {
        let sending = async { tokio::time::timeout(STALL, self.sender.send(message)).await };
        matches!(self.runtime.block_on(sending), Ok(Ok(())))
    }

    fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Sends all rows, then what is damaged, until nobody takes them: also where no row is wanted for long.
fn send_rows(
    export: impl Iterator<Item = Result<Vec<SlotRow>, StoreError>>,
    namespace: &str,
    problems: impl Fn() -> Vec<String>,
    caller: &Caller,
) {
    for part in export {
        if caller.is_gone() {
            return;
        }
        let rows = match part {
            Ok(rows) => rows,
            Err(error) => {
                caller.send(Err(errors::store(&error)));
                return;
            }
        };
        let wanted = rows.into_iter().filter(|row| namespace.is_empty() || row.key.namespace == namespace);
        let rows: Vec<wire::SlotRow> = wanted.map(convert::row).collect();
        for rows in rows.chunks(ROWS) {
            if !caller.send(Ok(wire::ExportResponse { rows: rows.to_vec(), ..Default::default() })) {
                return;
            }
        }
    }
    caller.send(Ok(wire::ExportResponse { rows: Vec::new(), complete: true, problems: problems() }));
}
