//! The provider `prometheus` against Prometheus, VictoriaMetrics, and a server that does whatever it is told to.

mod agree;
mod condition;
pub mod data;
pub mod double;
mod faults;
mod latency;
mod locked;
pub mod programs;
mod questions;

use super::harness::{Result, test, test_with};
use libtest_mimic::Trial;
use optipod::provider::{PrometheusOptions, PrometheusProvider, UsageQuery};
use optipod::usage::SeriesKey;
use optipod::workload::WorkloadId;
use programs::Kind;
use std::time::Duration;

/// Tests that run on the double of [`double`].
macro_rules! on_double {
    ($($test:path),* $(,)?) => {
        vec![$(test(concat!("prometheus::", stringify!($test)), || Box::pin($test()))),*]
    };
}

/// Tests that run on each real program.
macro_rules! on_each {
    ($($test:path),* $(,)?) => {
        Kind::ALL.into_iter().flat_map(|kind| vec![$(
            test_with(&format!("prometheus::{}::{}", kind.name(), stringify!($test)), kind.programs(), INSTALL, move || {
                Box::pin($test(kind))
            })
        ),*]).collect::<Vec<_>>()
    };
}

pub const INSTALL: &str = "apt-get install prometheus victoria-metrics";

pub fn tests() -> Vec<Trial> {
    let mut tests = on_each![
        agree::percentiles_agree_with_what_was_written,
        agree::percentiles_agree_where_scrapes_are_a_minute_apart,
        agree::pods_that_are_gone_count_and_the_answer_says_how_they_were_told,
        agree::a_gap_is_not_covered_and_what_was_never_written_is_not_known,
        agree::a_matcher_chooses_the_cluster_and_two_scrapers_count_once,
        agree::the_history_is_what_was_written,
        agree::a_month_is_asked_in_slices,
        latency::of_one_and_of_five_thousand_containers,
        locked::a_password_opens_and_without_it_the_error_says_what_to_check,
    ];
    tests.push(test_with(
        "prometheus::locked::a_client_certificate_opens",
        Kind::Prometheus.programs(),
        INSTALL,
        || Box::pin(locked::a_client_certificate_opens()),
    ));
    tests.extend(on_double![
        condition::a_policy_says_what_is_wrong_with_its_provider_and_others_go_on,
        condition::a_provider_that_cannot_start_says_why_and_others_go_on,
        condition::the_explanation_says_how_pods_were_told,
        faults::each_fault_is_the_right_error_and_says_what_to_do,
        faults::a_server_that_is_not_there_is_unavailable,
        faults::a_redirect_is_not_followed,
        faults::a_slow_answer_ends_at_the_deadline,
        faults::a_huge_answer_is_not_read_to_its_end,
        faults::an_answer_that_breaks_off_is_none,
        faults::a_credential_that_a_server_sends_back_is_not_shown,
        faults::no_credential_is_logged_even_where_everything_is,
        faults::a_file_that_cannot_be_read_is_named_and_mending_it_is_enough,
        faults::options_that_cannot_be_used_are_refused_at_the_start,
        questions::a_namespace_is_asked_as_a_whole,
        questions::no_question_has_too_many_points_or_too_small_a_step,
        questions::credentials_are_read_anew_and_headers_are_always_there,
        questions::no_more_requests_are_under_way_than_allowed,
        questions::what_loads_too_much_is_asked_in_smaller_slices,
        questions::a_partial_answer_is_said_and_lowers_nothing,
        questions::numbers_that_are_none_and_what_is_said_twice_do_not_count,
    ]);
    tests
}

/// Ends what tests shared.
pub fn stop() {
    programs::stop();
}

fn series(namespace: &str, workload: &str, container: &str) -> SeriesKey {
    let (kind, name) = workload.split_once('/').unwrap();
    let workload = WorkloadId { namespace: namespace.into(), kind: kind.parse().unwrap(), name: name.into() };
    SeriesKey { workload, container: container.into() }
}

fn query(namespace: &str, workload: &str, container: &str, window: Duration) -> UsageQuery {
    UsageQuery { series: series(namespace, workload, container), window }
}

/// Asks a server at the end of the written day.
fn provider(options: PrometheusOptions) -> Result<PrometheusProvider> {
    Ok(PrometheusProvider::new(options, optipod::clock::Clock::starting_at(data::end()))?)
}
