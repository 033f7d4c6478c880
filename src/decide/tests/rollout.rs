//! What holds and what is said where the template is changed.

use super::*;

/// A rollout of ours is complete: the template has the size that was decided.
fn rolled_out<'a>(update: &'a UpdatePlan, plan: &'a ContainerPlan) -> Facts<'a> {
    let mut facts = facts(update, plan);
    facts.template[0].requests = resources(Some(250), Some(384));
    facts.target = vec![size("web", 250, 384)];
    facts.last_change = Some(facts.now);
    facts.aftermath.by_rollout = true;
    facts.rollout = Rollout::OnDelete { outdated: 2 };
    facts
}

#[test]
fn pods_that_wait_to_be_deleted_are_what_there_is_to_say() {
    let (update, plan) = (UpdatePlan { in_place: false, recreate: true, ..update() }, plan());
    let rows: [Step; 8] = [
        ("PodsAwaitDeletion", |_| {}),
        ("PodsAwaitDeletion", |f| f.wanted[0].outcome = Ok(recommendation(251, 384))),
        ("Cooldown", |f| f.rollout = Rollout::OnDelete { outdated: 0 }),
        ("Cooldown", |f| f.rollout = Rollout::Stable),
        ("AlreadySized", |f| {
            // Somebody else's change waits.
            (f.aftermath.by_rollout, f.target) = (false, Vec::new());
            f.wanted[0].outcome = Ok(recommendation(250, 384));
        }),
        ("Rollout", |f| {
            // What is deleted later should get the newest size.
            f.last_change = Some(at(-60));
            f.wanted[0].outcome = Ok(recommendation(400, 384));
        }),
        ("StaleData", |f| f.now = at(11)),
        ("RevertedByOther", |f| f.reverted_by = Some("helm".to_owned())),
    ];
    for (number, (expected, change)) in rows.into_iter().enumerate() {
        let mut facts = rolled_out(&update, &plan);
        change(&mut facts);
        assert_eq!(code(&decide(&facts)), expected, "row {number}");
    }
    let Decision::Hold(reason) = decide(&rolled_out(&update, &plan)) else { panic!("a hold") };
    let text = reason.to_string();
    assert!(text.contains("2 of its pods get them when somebody deletes them, which OptiPod does not do"), "{text}");
}

#[test]
fn a_rollout_of_on_delete_is_not_held_by_pods_that_wait() {
    let (update, plan) = (UpdatePlan { in_place: false, recreate: true, ..update() }, plan());
    let mut facts = facts(&update, &plan);
    facts.rollout = Rollout::OnDelete { outdated: 1 };
    assert_eq!(code(&decide(&facts)), "Rollout");
}

#[test]
fn pods_with_resources_of_their_own_are_not_rolled_either() {
    let (update, plan) = (UpdatePlan { recreate: true, ..update() }, plan());
    let mut facts = facts(&update, &plan);
    facts.pods[1].pod_level_resources = true;
    assert_eq!(code(&decide(&facts)), "UnsupportedPodResources");
}
