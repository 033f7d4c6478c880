//! Tests against a real Kubernetes control plane.
//!
//! `just control-plane` builds it once (it needs Go). Without it every test here
//! but those of the double (`sim::…`, see `contract`) shows as *ignored*; with `OPTIPOD_REQUIRE_CLUSTER=1`, which CI sets, that is
//! a failure. `cargo test --test cluster -- NAME` runs some of them, and
//! `cargo test --test cluster -- --serve` keeps a cluster for you to look at.
//!
//! # To add a test
//!
//! 1. Write `pub async fn what_it_shows(cluster: &'static Cluster) -> Result` in
//!    a module beside this file; with `server: &Server` it runs on the double too.
//! 2. Name it in the list below.
//!
//! One control plane serves the whole run, and tests run side by side, so a test
//! works in a namespace of its own (`cluster.namespace("prefix")`) and never
//! sleeps: it says what it waits for (`wait_for`). A test of something
//! cluster-wide starts a control plane of its own with `Cluster::start_private`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the failure"
)]

mod contract;
mod harness;
mod optipod;
#[path = "../providers/usage_double.rs"]
mod usage_double;

fn main() -> std::process::ExitCode {
    let mut tests = contract_tests();
    tests.extend(cluster_tests());
    tests.extend(version_tests());
    harness::run(tests)
}

/// On the real API server and on the double of `sim/`.
fn contract_tests() -> Vec<harness::Test> {
    harness::contracts![
        contract::lists::a_watch_tells_every_change_after_its_version_once_and_in_order,
        contract::lists::a_watch_with_a_selector_sees_objects_come_and_go,
        contract::lists::a_watch_can_begin_with_what_there_is,
        contract::lists::a_bookmark_says_how_far_the_watch_has_come,
        contract::lists::without_asking_for_bookmarks_there_are_none,
        contract::lists::a_watch_from_an_expired_version_gets_410_inside_its_answer,
        contract::lists::the_pages_of_a_list_show_one_moment,
        contract::lists::a_page_of_an_expired_list_is_refused_with_410,
        contract::lists::a_list_at_a_version_to_come_is_refused,
        contract::workloads::nodes_are_ready,
        contract::workloads::a_deployments_pods_become_ready,
        contract::workloads::a_stateful_set_and_a_daemon_set_become_ready,
        contract::workloads::a_pod_starts_as_late_as_it_is_annotated,
        contract::workloads::an_apply_of_the_template_rolls_the_pods,
        contract::usage::metrics_list_the_usage_that_pods_are_annotated_with,
        contract::usage::changed_usage_is_listed,
        contract::metrics::the_list_says_the_same_as_json_and_as_protobuf,
        contract::metrics::the_list_is_selected_and_never_in_pages,
        contract::resize::a_resize_is_actuated_and_leaves_the_template_alone,
        contract::resize::a_resize_restarts_a_container_whose_policy_says_so,
        contract::resize::a_held_resize_is_pending_until_released,
        contract::resize::a_slow_resize_is_in_progress_meanwhile,
        contract::resize::another_change_of_the_spec_is_no_resize,
        contract::resize_rules::requests_and_limits_of_a_burstable_pod_move_within_rules,
        contract::resize_rules::a_guaranteed_pod_stays_guaranteed,
        contract::resize_rules::a_best_effort_pod_can_be_given_nothing,
        contract::resize_rules::init_containers_and_sidecars_are_resized_by_the_same_rules,
        contract::resize_rules::the_resources_of_a_pod_itself_bound_its_containers,
        contract::resize_rules::a_resize_changes_nothing_but_resources,
        contract::resize_rules::a_resize_builds_upon_one_pod_and_one_version,
        contract::resize_rules::a_resize_comes_as_any_kind_of_patch,
        contract::bounds::a_limit_range_bounds_containers,
        contract::bounds::a_limit_range_bounds_the_whole_pod,
        contract::bounds::a_limit_range_bounds_the_ratio_of_limit_to_request,
        contract::bounds::a_limit_range_without_a_limit_refuses,
        contract::bounds::a_resize_of_a_pod_older_than_a_limit_range_gains_its_defaults,
        contract::bounds::a_quota_bounds_a_resize_and_counts_it,
        contract::bounds::what_takes_nothing_more_passes_a_quota_that_is_exceeded,
        contract::bounds::what_a_resize_gives_back_is_free_when_the_kubelet_has_taken_it,
        contract::bounds::a_quota_refuses_pods_that_do_not_say_what_it_counts,
        contract::bounds::a_resize_above_what_the_node_can_ever_give_is_refused,
        contract::applies::a_field_belongs_to_who_wrote_it,
        contract::applies::an_apply_of_another_managers_field_conflicts_and_names_it,
        contract::applies::conflicts_are_told_by_manager,
        contract::applies::by_force_an_apply_takes_the_field_and_leaves_the_rest,
        contract::applies::an_apply_of_the_same_keeps_the_version,
        contract::applies::a_conflict_with_an_applier_names_it_alone,
        contract::applies::a_field_that_an_apply_leaves_out_goes_unless_somebody_shares_it,
        contract::applies::an_empty_apply_removes_what_was_taken_by_force,
        contract::applies::requests_put_back_by_another_manager_outlive_the_empty_apply,
        contract::applies::an_apply_honours_version_and_uid_even_by_force,
        contract::applies::an_apply_that_makes_no_valid_object_is_refused,
        contract::writes::the_status_is_written_through_its_subresource_only,
        contract::writes::the_generation_follows_the_spec_and_a_write_of_the_same_is_none,
        contract::writes::the_status_of_a_pod_is_its_own_too,
        contract::writes::a_write_upon_an_older_version_conflicts,
        contract::writes::a_custom_resource_is_replaced_upon_a_version_only,
        contract::writes::a_write_to_a_successor_of_the_same_name_is_refused,
        contract::writes::a_dry_run_answers_and_writes_nothing,
        contract::writes::an_object_stays_until_its_last_finalizer_goes,
        contract::access::a_review_tells_what_a_request_would_meet,
        contract::access::a_review_tells_who_asks,
        contract::access::a_refusal_names_user_verb_resource_and_place,
        contract::access::a_rules_review_lists_what_is_granted,
    ]
}

/// On the real control plane only.
fn cluster_tests() -> Vec<harness::Test> {
    harness::tests![
        // These take longest.
        optipod::chart::golden::the_main_job_uses_every_right_that_the_chart_grants_and_no_other,
        optipod::chart::modes::recommendations_alone_need_no_right_to_change_a_workload,
        optipod::chart::modes::with_usage_from_elsewhere_the_controller_alone_does_the_main_job,
        optipod::chart::limits::where_limits_are_not_allowed_a_policy_that_moves_them_holds,
        optipod::chart::tenants::a_tenant_writes_policies_for_their_own_namespace_and_affects_no_other,
        optipod::election::one_controller_acts_and_another_takes_over,
        optipod::door::a_controller_asks_over_tls_with_its_own_token,
        optipod::door::everybody_may_call_what_they_have_a_right_to_and_nothing_else,
        optipod::upgrade::every_release_is_upgraded_and_loses_no_status_and_back_again,
        optipod::hands_off::a_dry_run_publishes_what_it_would_do_and_does_nothing,
        optipod::proxied::at_rest_nothing_is_listed_and_next_to_nothing_is_asked,
        optipod::proxied::where_pods_resize_is_not_served_it_says_so_and_where_it_is_it_resizes,
        contract::workloads::a_jobs_pod_completes,
        contract::workloads::an_oom_kill_and_a_crash_loop_are_reported,
        contract::usage::usage_swings_when_annotated_with_a_wave,
        contract::usage::an_outage_of_metrics_server_is_seen_and_ends,
        contract::resize::a_sidecar_and_a_whole_pod_are_resized,
        contract::custom::a_custom_resource_is_served_after_its_definition,
        contract::lifetime::a_wait_that_fails_tells_what_it_saw,
        contract::lifetime::a_cluster_ends_with_the_process_that_started_it,
        optipod::schema::the_crd_that_optipod_prints_is_established,
        optipod::schema::good_policies_are_accepted,
        optipod::schema::bad_policies_are_refused_with_the_field_and_the_reason,
        optipod::scrape::metrics_server_answers_protobuf_and_both_forms_say_the_same,
        optipod::scrape::a_refusal_to_list_metrics_is_told_in_the_servers_words,
        optipod::learning::steady_usage_is_every_percentile,
        optipod::learning::changed_usage_shows_in_the_peak_and_not_in_the_median,
        optipod::in_place::pods_are_resized_and_nothing_else_is_touched,
        optipod::in_place::the_status_says_what_was_done_and_why,
        optipod::in_place::an_event_on_the_workload_tells_of_the_resize,
        optipod::in_place::all_eight_metrics_speak_of_the_policy,
        optipod::in_place::a_pod_that_comes_later_gets_the_size_too,
        optipod::in_place::a_request_is_lowered_by_at_most_half_when_the_window_is_covered,
        optipod::in_place::a_request_is_not_lowered_before_the_window_is_covered,
        optipod::in_place::stateful_sets_and_daemon_sets_are_resized_too,
        optipod::rollout::a_template_is_changed_in_one_complete_apply_and_never_again,
        optipod::rollout::requests_that_somebody_takes_back_are_left_to_them,
        optipod::outcome::a_crash_loop_after_a_resize_brings_the_requests_back,
        optipod::outcome::an_oom_kill_after_a_rollout_brings_the_template_back,
        optipod::oom::a_kill_raises_the_request_above_the_limit_that_was_hit,
        optipod::undo::a_template_is_put_back_with_its_field_owners,
        optipod::undo::resized_pods_are_put_back_and_left_alone,
        optipod::undo::a_deleted_policy_puts_a_template_back_and_goes,
        optipod::undo::a_deleted_policy_puts_resized_pods_back_with_the_namespace_it_lies_in,
        optipod::guards::a_full_quota_holds_until_there_is_room,
        optipod::guards::a_recommendation_keeps_to_a_limit_range,
        optipod::guards::a_limit_range_younger_than_the_pods_holds_them,
        optipod::guards::a_pod_is_not_resized_beyond_its_node,
        optipod::guards::a_vpa_on_the_workload_holds_it,
        optipod::containers::an_injected_container_is_resized_and_never_applied,
        optipod::containers::init_containers_and_native_sidecars_stay_as_they_are,
        optipod::containers::pods_with_resources_of_their_own_are_held,
        optipod::on_delete::pods_get_the_new_requests_when_somebody_deletes_them,
        optipod::refused::an_admission_policy_that_denies_a_change_is_quoted,
        optipod::refused::a_quota_that_only_the_api_server_can_judge_is_quoted,
        optipod::hands_off::mode_recommend_publishes_and_writes_nothing_else,
        optipod::sizing::mode_recommend_follows_changed_usage,
        optipod::sizing::a_request_is_the_percentile_times_the_factor_within_bounds,
        optipod::providers::a_provider_that_is_not_there_is_named_and_holds_its_policy_only,
        optipod::reach::a_policy_reaches_its_own_namespace_only_and_deny_wins,
        optipod::reach::a_disabled_policy_changes_nothing_and_keeps_its_status,
        optipod::restart::a_recommender_that_is_killed_again_and_again_loses_no_sample,
        optipod::restart::killed_in_the_middle_of_a_change_it_goes_on_and_decides_nothing_anew,
        optipod::backup::an_export_of_a_running_recommender_answers_the_same_where_it_is_imported,
        optipod::brakes::the_config_map_stops_a_change_that_is_under_way_and_deleting_it_lets_it_go_on,
        optipod::brakes::a_hold_on_the_namespace_stops_a_change_that_is_under_way,
        optipod::rights::without_the_right_to_resize_it_says_so_and_serves_other_namespaces,
        optipod::explain::explain_tells_why_a_workload_was_resized,
        optipod::explain::explain_tells_why_a_workload_was_left_alone,
        optipod::explain::top_lists_what_containers_use,
        optipod::explain::recommend_says_what_to_request_and_why,
        optipod::outage::without_metrics_server_the_recommender_answers_says_so_and_recovers,
        optipod::outage::without_the_api_server_both_roles_stay_live_and_go_on_by_themselves,
    ]
}

/// With another version beside this one, and what makes a release's folder.
fn version_tests() -> Vec<harness::Test> {
    let skew = harness::tests![
        optipod::skew::an_older_controller_asks_a_newer_recommender,
        optipod::skew::a_newer_controller_asks_an_older_recommender,
        optipod::skew::controllers_of_two_versions_take_over_from_one_another,
        optipod::skew::a_recommender_is_rolled_forward_and_back_and_loses_no_sample,
    ];
    let record = harness::tests![optipod::upgrade::record::the_folder_of_a_release];
    let skew = skew.into_iter().map(|test| test.needing("OPTIPOD_OLD_BINARY", "run: just soak skew"));
    let record = record.into_iter().map(|test| test.needing("OPTIPOD_RELEASE_FIXTURE", "run: .ci/release_fixture"));
    skew.chain(record).collect()
}
