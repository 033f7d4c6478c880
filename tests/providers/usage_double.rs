//! A server of `UsageService` on loopback that answers what it is told to.

use super::harness::Result;
use futures::stream::{self, BoxStream, StreamExt as _};
use optipod::proto::usage_service_server::{UsageService, UsageServiceServer};
use optipod::proto::{BatchGetUsageRequest, BatchGetUsageResponse, GetUsageRequest, GetUsageResponse};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What is sent for a question, until it ends.
pub type Answers = BoxStream<'static, std::result::Result<BatchGetUsageResponse, Status>>;

type Answer = dyn Fn(BatchGetUsageRequest) -> std::result::Result<Answers, Status> + Send + Sync;

#[derive(Clone)]
struct Service(Arc<Answer>);

/// The server; it ends with this value.
pub struct UsageDouble {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl UsageDouble {
    pub async fn start(
        answer: impl Fn(BatchGetUsageRequest) -> std::result::Result<Answers, Status> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = UsageServiceServer::new(Service(Arc::new(answer))).max_encoding_message_size(usize::MAX);
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        Ok(Self { address, serving: tokio::spawn(async move { serving.await.unwrap() }) })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for UsageDouble {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// All of these, and then the end.
pub fn all(answers: impl IntoIterator<Item = BatchGetUsageResponse>) -> Answers {
    stream::iter(answers.into_iter().map(Ok).collect::<Vec<_>>()).boxed()
}

#[tonic::async_trait]
impl UsageService for Service {
    type BatchGetUsageStream = Answers;

    async fn batch_get_usage(
        &self,
        request: Request<BatchGetUsageRequest>,
    ) -> std::result::Result<Response<Answers>, Status> {
        Ok(Response::new((self.0)(request.into_inner())?))
    }

    async fn get_usage(&self, _: Request<GetUsageRequest>) -> std::result::Result<Response<GetUsageResponse>, Status> {
        Err(Status::unimplemented("batches only"))
    }
}
