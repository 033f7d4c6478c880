//! The house rules that a compiler does not check: who may import whom, and what stands in one place only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and what it may import of this crate. Downward only.
const LAYERS: &[(&str, &[&str])] = &[
    ("hash", &[]),
    ("pem", &[]),
    ("plant", &[]),
    ("quantity", &[]),
    ("clock", &[]),
    ("blocking", &[]),
    ("proto", &[]),
    ("workload", &["quantity"]),
    ("usage", &["workload"]),
    ("policy", &["plant", "quantity", "workload"]),
    ("recommend", &["plant", "policy", "quantity", "usage", "workload"]),
    ("decide", &["plant", "policy", "quantity", "recommend", "usage", "workload"]),
    ("provider", &["clock", "pem", "proto", "usage", "workload"]),
    ("telemetry", &["clock", "hash", "policy", "workload"]),
    ("collector", &["blocking", "clock", "hash", "plant", "quantity", "telemetry", "workload"]),
    ("backfill", &["blocking", "clock", "hash", "provider", "telemetry", "workload"]),
    (
        "api",
        &[
            "blocking",
            "clock",
            "hash",
            "pem",
            "plant",
            "policy",
            "proto",
            "quantity",
            "recommend",
            "telemetry",
            "usage",
            "workload",
        ],
    ),
    ("web", &["telemetry"]),
    (
        "controller",
        &[
            "clock",
            "decide",
            "hash",
            "plant",
            "policy",
            "provider",
            "quantity",
            "recommend",
            "telemetry",
            "usage",
            "workload",
        ],
    ),
    ("config", &["policy", "provider", "telemetry", "web"]),
    (
        "run",
        &["api", "backfill", "clock", "collector", "config", "controller", "policy", "provider", "telemetry", "web"],
    ),
    ("cli", &["api", "config", "controller", "policy", "run", "telemetry", "workload"]),
];

/// Modules that do no I/O and read no clock.
const PURE: &[&str] = &["hash", "quantity", "workload", "usage", "policy", "recommend", "decide"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A file's code without comments, and without an inline test module, which stands last.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The sources below a folder that are built into the product: those behind `#[cfg(test)] mod name;` are not.
fn product(folder: &Path) -> Vec<PathBuf> {
    let all = sources(folder);
    let mut test_only = Vec::new();
    for file in &all {
        let text = fs::read_to_string(file).unwrap();
        for after in text.split("#[cfg(test)]\n").skip(1) {
            let declared = after.lines().find(|line| !line.starts_with("#["));
            if let Some(name) = declared.and_then(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
                let beside = file.parent().unwrap().join(name);
                test_only.extend([beside.with_extension("rs"), beside]);
            }
        }
    }
    all.into_iter().filter(|file| !test_only.iter().any(|path| file.starts_with(path))).collect()
}

/// The code of each top-level module of `src/`.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for file in product(&root) {
        let first = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let name = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
        modules.entry(name).or_insert_with(String::new).push_str(&code(&file));
    }
    modules
}

#[test]
fn imports_go_downward_only() {
    let names: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for (module, code) in modules() {
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| {
            panic!("src/{module} is not in the list of layers: add it there and to ARCHITECTURE.md")
        });
        for other in names.iter().filter(|other| **other != module) {
            let imports = code.contains(&format!("crate::{other}::")) || code.contains(&format!("use crate::{other};"));
            assert!(!imports || allowed.contains(other), "src/{module} imports {other}, which is not below it");
        }
    }
}

#[test]
fn pure_modules_know_neither_client_nor_runtime_nor_clock() {
    let modules = modules();
    for name in PURE {
        for word in [
            "tokio::",
            "kube::Client",
            "kube::Api",
            "kube::api::",
            "Timestamp::now",
            "SystemTime",
            "Instant",
            "std::fs",
            "std::env",
        ] {
            assert!(!modules[*name].contains(word), "src/{name} is pure and must not use {word}");
        }
    }
}

#[test]
fn one_file_touches_sled_and_storage_knows_no_kubernetes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/src");
    let all: Vec<_> = product(&root).into_iter().map(|f| (code(&f), f)).collect();
    let sled: Vec<_> = all.iter().filter(|(code, _)| code.contains("sled::")).map(|(_, file)| file).collect();
    assert_eq!(sled.len(), 1, "{sled:?}");
    for (code, file) in &all {
        for word in ["kube::", "tonic::", "tokio::", "k8s_openapi"] {
            assert!(!code.contains(word), "{} uses {word}", file.display());
        }
    }
}

#[test]
fn one_file_writes_to_the_cluster() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let writes =
        [".patch(", ".patch_resize(", ".patch_status(", ".patch_subresource(", ".replace(", ".replace_status("];
    for file in product(&root) {
        let code = code(&file);
        let allowed = file.ends_with("controller/writer.rs");
        for word in writes {
            let found = code.contains(word) && code.contains("Api<");
            assert!(
                !found || allowed,
                "{} writes to the cluster ({word}); only controller/writer.rs may",
                file.display()
            );
        }
    }
}
