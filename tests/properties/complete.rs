//! Every property has a test, a planted bug and a line in the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PROPERTIES: std::ops::RangeInclusive<u32> = 1..=32;
const TAG: &str = "Feature: k8s-workload-rightsizing, Property ";

/// The texts of the files below a folder that end so.
fn texts(folder: &Path, ending: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(self::texts(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
    texts
}

/// The number at the beginning of a text.
fn number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

/// The properties whose tag stands above a test of that number which runs over random cases.
fn tested(text: &str) -> BTreeSet<u32> {
    let one = |after: &str| {
        let property = number(after)?;
        let function = after.split("\n}\n").next()?;
        let named = function.contains(&format!("\n#[test]\nfn property_{property}_"));
        let runs = function.contains("for_all(") || function.contains("simulate_all(");
        (named && runs).then_some(property)
    };
    text.split(&format!("// {TAG}")).skip(1).filter_map(one).collect()
}

fn assert_complete(found: &BTreeSet<u32>, lack: &str) {
    let missing: Vec<u32> = PROPERTIES.filter(|property| !found.contains(property)).collect();
    assert!(missing.is_empty(), "properties {missing:?} {lack}");
}

#[test]
fn every_property_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = texts(&root.join("tests/properties"), ".rs");
    let found: BTreeSet<u32> = tests.iter().flat_map(|text| tested(text)).collect();
    assert_complete(&found, "have no test under tests/properties/ with their tag");
    const { assert!(crate::cases::CASES >= 256) };
}

#[test]
fn every_property_has_a_planted_bug_and_a_line_in_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = texts(&root.join("src"), ".rs");
    let plants: BTreeSet<u32> =
        sources.iter().flat_map(|text| text.split("planted(").skip(1).filter_map(number)).collect();
    assert_complete(&plants, "have no planted bug in src/");
    let documentation = fs::read_to_string(root.join("docs/properties.md")).unwrap();
    let told: BTreeSet<u32> = documentation.lines().filter_map(|line| number(line.strip_prefix("| ")?)).collect();
    assert_complete(&told, "are not in docs/properties.md");
}

#[test]
fn every_test_that_the_documentation_names_on_a_real_control_plane_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documentation = fs::read_to_string(root.join("docs/properties.md")).unwrap();
    let (_, table) = documentation.split_once("## On a real control plane").unwrap();
    let named: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).flat_map(code).collect();
    assert!(named.len() > 20, "{named:?}");
    let tests = texts(&root.join("tests/cluster"), ".rs").concat();
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(&format!("pub async fn {name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let told: BTreeSet<u32> = table.lines().filter_map(|line| number(line.strip_prefix("| ")?)).collect();
    assert_complete(&told, "have no test on a real control plane in docs/properties.md");
}

/// What stands between backticks and is a test's name.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|text| text.contains('_'))
}
