//! What the Helm chart gives the binary is what the binary takes: flags, the config file, and its keys.

use super::Cli;
use crate::config::{Flags, Settings};
use clap::Parser;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

const SCHEMA: &str = include_str!("../../deploy/chart/values.schema.json");
/// Rendered from the chart; `.ci/deploy` fails when they are stale.
const RENDERED: [&str; 3] = [
    include_str!("../../deploy/kustomize/overlays/full/optipod.yaml"),
    include_str!("../../deploy/kustomize/overlays/recommend-only/optipod.yaml"),
    include_str!("../../deploy/kustomize/overlays/external-prometheus/optipod.yaml"),
];
/// What the chart sets itself.
const NOT_IN_CONFIG: [&str; 10] = [
    "allowLimitChanges",
    "dataDir",
    "grpcAddr",
    "grpcTls",
    "healthProbeBindAddress",
    "leaderElection",
    "metricsAddr",
    "namespace",
    "recommenderAddr",
    "recommenderTls",
];

fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|object| !object.is_null()).collect()
}

#[test]
fn the_arguments_of_each_pod_are_flags_that_there_are_and_its_config_file_loads() {
    for text in RENDERED {
        let objects = objects(text);
        let config = objects.iter().find_map(|object| object["data"]["config.yaml"].as_str()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, config).unwrap();
        let pods = objects.iter().filter_map(|object| object["spec"]["template"]["spec"]["containers"][0].as_object());
        for pod in pods {
            let words = pod["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
            let cli = Cli::try_parse_from(["optipod"].into_iter().chain(words)).unwrap();
            assert_eq!(cli.flags.config.as_deref(), Some("/etc/optipod/config.yaml".as_ref()));
            let flags = Flags { config: Some(path.clone()), ..cli.flags };
            Settings::load(&Settings::default(), &flags).unwrap();
        }
    }
}

#[test]
fn the_chart_knows_every_key_of_the_config_file_but_those_that_it_sets_itself() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let known = |object: &Value| keys(&object["properties"]);
    let (settings, chart) = (serde_json::to_value(Settings::default()).unwrap(), &schema["properties"]["config"]);
    let own = NOT_IN_CONFIG.map(str::to_owned).into();
    assert_eq!(known(chart), &keys(&settings) - &own);
    for provider in ["prometheus", "custom"] {
        assert_eq!(known(&chart["properties"][provider]), keys(&settings[provider]), "{provider}");
    }
}
