//! Every reason has a name that stays, a text that tells what to do, and a row in `docs/decisions.md`.

use super::order::ORDER;
use super::*;
use crate::decide::testing::every_reason;
use std::collections::BTreeSet;

const DOCUMENTATION: &str = include_str!("../../../docs/decisions.md");

/// The rows of the documentation: name, when, what to do, where its event stands.
fn rows() -> Vec<[&'static str; 4]> {
    let cells = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.trim_end_matches('|').split('|').map(str::trim);
        Some([cells.next()?.trim_end_matches('`'), cells.next()?, cells.next()?, cells.next()?])
    };
    DOCUMENTATION.lines().filter_map(cells).collect()
}

/// What a person or time has to do: an imperative, or that OptiPod does it by itself.
const INSTRUCTIONS: [&str; 22] = [
    "delete it",
    "remove ",
    "set ",
    "there is nothing to do",
    "resume it",
    "look at ",
    "waits until",
    "change ",
    "goes on by itself",
    "check ",
    "is possible from",
    "not lowered before",
    "give ",
    "raise the ",
    "free some of it",
    "lower the ",
    "follows",
    "grant ",
    "tries again",
    "correct ",
    "start the",
    "somebody deletes them",
];

#[test]
fn each_reason_has_a_name_of_its_own_and_a_text_that_tells_what_to_do() {
    let all = every_reason();
    let names: BTreeSet<&str> = all.iter().map(Reason::code).collect();
    assert_eq!(names.len(), all.len());
    for reason in &all {
        let (name, text) = (reason.code(), reason.to_string());
        assert!(
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric()),
            "{name}"
        );
        assert!(format!("{reason:?}").starts_with(name), "{name} is the variant's name");
        assert!(INSTRUCTIONS.iter().any(|word| text.contains(word)), "{name}: {text}");
    }
}

#[test]
fn the_documentation_lists_each_reason_once_with_what_to_do_and_where_its_event_stands() {
    let rows = rows();
    let documented: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    for reason in every_reason() {
        let found: Vec<_> = rows.iter().filter(|row| row[0] == reason.code()).collect();
        let [[name, when, what_to_do, event]] = found[..] else { panic!("{} has {} rows", reason.code(), found.len()) };
        assert!(!when.is_empty() && !what_to_do.is_empty(), "{name}");
        let place = match reason.event_on() {
            EventOn::Workload => "on the workload",
            EventOn::Policy => "on the policy",
        };
        assert_eq!(*event, place, "{name}");
        assert!(reason.needs_attention() || reason.event_on() == EventOn::Policy, "{name} passes by itself");
    }
    assert_eq!(documented.len(), every_reason().len(), "{documented:?}");
}

#[test]
fn the_documentation_has_the_order_of_the_decisions() {
    let place = |name: &str| rows().iter().position(|row| row[0] == name);
    let places: Vec<usize> = ORDER.iter().filter_map(|(name, _)| place(name)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(places.len() >= ORDER.len() - 3, "all but what is done");
}
