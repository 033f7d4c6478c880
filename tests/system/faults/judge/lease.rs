//! Who leads, by the Lease in the double.

use optipod_sim::Entry;

/// The lease's duration.
const LASTS: u64 = 30_000;

/// Every write of the lease: when, and who held it then.
#[derive(Debug, Default)]
pub struct Lease(Vec<(u64, String)>);

impl Lease {
    /// Takes a write of the lease that was carried out. Says what is wrong with it.
    pub fn take(&mut self, entry: &Entry) -> Option<String> {
        let after = entry.after.as_ref()?;
        let holder = after["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let (renewed_ms, before) = self.0.last().cloned().unwrap_or_default();
        let taken = !before.is_empty() && !holder.is_empty() && holder != before;
        let early = taken && entry.at_ms < renewed_ms + LASTS;
        let wrong =
            early.then(|| format!("{holder} took it {} ms after {before} had renewed it", entry.at_ms - renewed_ms));
        self.0.push((entry.at_ms, holder));
        wrong
    }

    /// Why this user may not write as it sent this, which may have taken a while to be carried out.
    pub fn forbids(&self, entry: &Entry) -> Option<String> {
        let last = self.0.iter().rfind(|(at_ms, _)| *at_ms <= entry.at_ms);
        let (renewed_ms, holder) = last.cloned().unwrap_or_default();
        if entry.user != holder {
            return Some(format!("{} writes while the lease is held by \"{holder}\"", entry.user));
        }
        let age = entry.at_ms.saturating_sub(renewed_ms);
        (age > LASTS).then(|| format!("{} writes {age} ms after it last renewed the lease", entry.user))
    }
}
