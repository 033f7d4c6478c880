//! Says who calls, by a bearer token.
//!
//! Invariants: the token is read with each call, so that a renewed one needs no restart; it is never logged.

use crate::pem;
use std::path::PathBuf;
use std::sync::Arc;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Where a pod finds its token when nothing else is set, as a projected volume.
const TOKEN: &str = "/var/run/secrets/optipod/token";

/// Adds the bearer token, read from its file for each call.
#[derive(Clone, Debug)]
pub struct Bearer(Option<Arc<TokenFile>>);

#[derive(Debug)]
enum TokenFile {
    /// It must be there.
    Given(PathBuf),
    /// It may be there.
    IfThere(PathBuf),
}

impl Bearer {
    /// Adds nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// Adds the token in `file`, or in [`TOKEN`] where there is one.
    pub(super) fn from_file(file: Option<PathBuf>) -> Self {
        let file = file.map_or_else(|| TokenFile::IfThere(PathBuf::from(TOKEN)), TokenFile::Given);
        Self(Some(Arc::new(file)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let path = match self.0.as_deref() {
            None => return Ok(request),
            Some(TokenFile::IfThere(path)) if !path.exists() => return Ok(request),
            Some(TokenFile::Given(path) | TokenFile::IfThere(path)) => path,
        };
        let bytes = pem::read(path).map_err(|error| Status::unauthenticated(format!("no bearer token: {error}")))?;
        let text = String::from_utf8_lossy(&bytes);
        let header = MetadataValue::try_from(format!("Bearer {}", text.trim()));
        let mut header = header.map_err(|_| {
            Status::unauthenticated(format!("{} holds no token; it has characters that none has", path.display()))
        })?;
        header.set_sensitive(true);
        request.metadata_mut().insert("authorization", header);
        Ok(request)
    }
}
