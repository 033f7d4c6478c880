//! Every reason is told alike in status, event and metric.

use super::entry::entry;
use super::notices::{held, of_the_workload};
use crate::controller::apply::{Applied, Outcome};
use crate::controller::history::Memory;
use crate::controller::ingest;
use crate::controller::plan::{Planned, Verdict};
use crate::decide::Reason;
use crate::decide::testing::every_reason;
use crate::policy::PolicyId;
use crate::telemetry::Metrics;
use crate::telemetry::events::Severity;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use std::collections::BTreeMap;

fn held_for(reason: Reason) -> Applied {
    let workload = ingest::deployment(Deployment::default()).into();
    let verdict = Verdict::Hold(reason);
    let planned = Planned { workload, verdict, outcomes: Vec::new(), current: Vec::new(), watch: None };
    Applied { planned, outcome: Outcome::Nothing }
}

#[test]
fn each_reason_stands_in_the_status_in_its_event_and_as_label_of_the_metric() {
    let metrics = Metrics::new().unwrap();
    let id = PolicyId { namespace: "shop".to_owned(), name: "all".to_owned() };
    for reason in every_reason() {
        let applied = held_for(reason.clone());
        let entry = entry(&applied, &Memory::default(), None, Timestamp::UNIX_EPOCH);
        assert_eq!(entry.status.reason.as_deref(), Some(reason.code()));
        assert_eq!(entry.status.message, Some(reason.to_string()));
        assert_eq!(entry.attention, reason.needs_attention());
        let under_way = matches!(reason, Reason::ResizeInProgress { .. } | Reason::ResizeDeferred { .. });
        assert_eq!(entry.status.status, if under_way { "Applying" } else { "Skipped" }, "{}", reason.code());

        let notice = held(&applied.planned.workload, &reason);
        assert_eq!((notice.reason, notice.note), (reason.code(), reason.to_string()));
        assert_eq!(notice.severity, Severity::Warning);
        assert!(reason.needs_attention() || !of_the_workload(&reason), "what passes by itself has no event");

        metrics.policy(&id).set_skipped(BTreeMap::from([(reason.code(), 1)]));
        let label =
            format!("optipod_workloads_skipped{{namespace=\"shop\",policy=\"all\",reason=\"{}\"}} 1", reason.code());
        assert!(metrics.encode().unwrap().contains(&label), "{label}");
    }
}
