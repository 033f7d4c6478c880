//! What the API server's audit log says that ServiceAccounts asked for.

use serde_json::Value;

use super::{Cluster, Result};

/// Who asked for what, without what was sent. Kubernetes' own controllers ask a hundred times as much as all tests, and
/// are left out. A review of somebody's rights is nothing without what was sent: which right it was about.
pub const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: Request
  userGroups: ["system:serviceaccounts"]
  resources: [{group: authorization.k8s.io, resources: [subjectaccessreviews]}]
- level: Metadata
  userGroups: ["system:serviceaccounts"]
"#;

/// The file in the cluster's folder.
pub const LOG: &str = "audit.log";

impl Cluster {
    /// The events (`audit.k8s.io/v1`) so far, in order. The API server writes one before it answers.
    pub fn audit_log(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.dir().join(LOG))?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
