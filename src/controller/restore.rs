//! What is known of a policy when it is first evaluated, and what is forgotten when it is gone.
//!
//! Invariant: a policy is not evaluated before its status, and with it what an earlier process did, was read.

use super::Controller;
use super::aftermath;
use super::cluster::PolicyObject;
use super::report::{Conditions, Entry, PolicyState};
use crate::plant::planted;
use crate::policy::types::OptimizationPolicyStatus;
use crate::policy::{OptimizationPolicy, PolicyId};
use crate::workload::WorkloadId;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use tokio::time::timeout;

impl Controller {
    /// The policy is gone: so are its figures, and what it wanted of workloads that no other policy covers.
    pub(super) fn forget(&mut self, id: &PolicyId) {
        self.schedule.remove(id);
        self.metrics.policy(id).remove();
        let Some(state) = self.policies.remove(id) else { return };
        self.shared.with(|cluster| self.selection.refresh(cluster, &self.options.scope));
        let covered = self.selection.all();
        self.history.retain(|workload| covered.contains(workload) || !state.entries.contains_key(workload));
    }

    /// Reads a policy's status once, for what an earlier process did. False when it could not be read.
    pub(super) async fn restore(&mut self, object: &PolicyObject) -> bool {
        if self.policies.get(&object.id).is_some_and(|state| state.uid == object.uid) {
            return true;
        }
        let found = match timeout(self.options.call_timeout, read(&self.client, &object.id)).await {
            Ok(Ok(Some(found))) => found,
            Ok(Err(error)) => {
                tracing::warn!(policy = %object.id, %error, "the policy's status could not be read; it is tried again");
                return false;
            }
            // Deleted meanwhile, or no answer in time.
            Ok(Ok(None)) | Err(_) => return false,
        };
        let status = found.data.get("status").cloned().unwrap_or_default();
        let status: Option<OptimizationPolicyStatus> = serde_json::from_value(status).ok();
        self.adopt(object, status.filter(|_| !planted(31)).unwrap_or_default());
        true
    }

    fn adopt(&mut self, object: &PolicyObject, status: OptimizationPolicyStatus) {
        let mut state = PolicyState {
            uid: object.uid.clone(),
            conditions: Conditions::restored(status.conditions.clone()),
            circuit: status.circuit.as_ref().map(aftermath::circuit),
            ..PolicyState::default()
        };
        let now = self.clock.now();
        for entry in &status.workloads {
            if let Some(reason) = &entry.reason {
                state.standing.told(reason, now);
            }
            if entry.reason.as_deref() == Some("OverriddenBy") {
                continue;
            }
            self.history.restore(entry, now);
            if let Ok(kind) = entry.kind.parse() {
                let id = WorkloadId { namespace: entry.namespace.clone(), kind, name: entry.name.clone() };
                state.entries.insert(id, Entry::restored(entry.clone()));
            }
        }
        state.written = Some(status);
        self.policies.insert(object.id.clone(), state);
    }
}

/// By a list of one, for which the right to list that the watch needs is enough.
async fn read(client: &kube::Client, id: &PolicyId) -> Result<Option<DynamicObject>, kube::Error> {
    let resource = ApiResource::erase::<OptimizationPolicy>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.namespace, &resource);
    let found = api.list(&ListParams::default().fields(&format!("metadata.name={}", id.name))).await?;
    Ok(found.items.into_iter().next())
}
