//! A cluster's folder and its ports.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use anyhow::{Context, bail};

use super::Result;

/// Where a cluster keeps its data, certificates and logs: a folder of this run
/// under Cargo's folder for tests, so that logs of a failed run stay readable.
pub struct StateDir(PathBuf);

impl StateDir {
    /// A new empty folder. Removes the folders of runs that are over.
    pub fn create() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clusters");
        fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        remove_abandoned(&root);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("{}-{count}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The full path of a file in here, as a flag's value.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub fn write(&self, name: &str, content: &str) -> Result {
        let path = self.0.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))
    }

    /// Removes everything; for a run whose logs nobody will ask for.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Best effort: what cannot be read or removed now is tried by the next run.
fn remove_abandoned(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_string_lossy();
        let owner = owner.split('-').next().unwrap_or_default();
        // Where there is no /proc nothing is removed.
        if Path::new("/proc/self").exists() && !Path::new("/proc").join(owner).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The loopback ports of one cluster.
#[derive(Clone, Copy)]
pub struct Ports {
    pub etcd: u16,
    pub etcd_peer: u16,
    pub api_server: u16,
    pub kubelet: u16,
    pub metrics_server: u16,
}

impl Ports {
    pub fn choose() -> Result<Self> {
        let [etcd, etcd_peer, api_server, kubelet, metrics_server] = free_ports()?;
        Ok(Self { etcd, etcd_peer, api_server, kubelet, metrics_server })
    }
}

/// Loopback ports that are free now. They lie below 32768, where the kernel
/// takes no port for an outgoing connection between now and their use.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // Other runs begin their search elsewhere; later calls of this one go on from the last.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST - FIRST;
    let begin = u16::try_from(std::process::id() * 61 % u32::from(span)).unwrap_or(0);
    let mut held = Vec::new();
    for _ in 0..span {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = FIRST + (begin + offset) % span;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == N {
            return Ok(std::array::from_fn(|index| held[index].0));
        }
    }
    bail!("no {N} free loopback ports between {FIRST} and {LAST}")
}

const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
