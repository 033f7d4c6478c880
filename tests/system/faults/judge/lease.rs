//! Who leads, by the Lease in the double.

use optipod_sim::Entry;

/// The lease's duration.
const LASTS: u64 = 30_000;

#[derive(Debug, Default)]
pub struct Lease {
    holder: String,
    renewed_ms: u64,
}

impl Lease {
    /// Takes a write of the lease that was carried out. Says what is wrong with it.
    pub fn take(&mut self, entry: &Entry) -> Option<String> {
        let after = entry.after.as_ref()?;
        let holder = after["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let taken = !self.holder.is_empty() && !holder.is_empty() && holder != self.holder;
        let early = taken && entry.at_ms < self.renewed_ms + LASTS;
        let wrong = early.then(|| {
            format!("{holder} took it {} ms after {} had renewed it", entry.at_ms - self.renewed_ms, self.holder)
        });
        (self.holder, self.renewed_ms) = (holder, entry.at_ms);
        wrong
    }

    /// Why this user may not write now, if so.
    pub fn forbids(&self, entry: &Entry) -> Option<String> {
        if entry.user != self.holder {
            return Some(format!("{} writes while the lease is held by \"{}\"", entry.user, self.holder));
        }
        let age = entry.at_ms.saturating_sub(self.renewed_ms);
        (age > LASTS).then(|| format!("{} writes {age} ms after it last renewed the lease", entry.user))
    }
}
