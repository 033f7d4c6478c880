//! Comparing what was found with what must be there: slot files, manifest, names, the last tick.
//!
//! Invariant: what is missing or damaged is told, once; a file is moved aside, never deleted.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;

use super::keys::Head;
use super::maintain::{absent_is_fine, quarantine};
use super::open::{Opening, check_slot_file, failed, table_of};
use super::records::Records;
use crate::OpenError;
use crate::catalog::Catalog;
use crate::slot::{Slot, SlotKind};
use crate::slot_file::{ReadError, SlotFile, file_name};
use crate::snapshot;
use crate::table::{self, SeriesRecord, SeriesTable};
use crate::witness::Witness;

impl Opening {
    /// A file that the manifest does not know was completed just before a crash: it counts when
    /// all of it is right, else what it was made of does. A damaged roll-up that the manifest knows
    /// counts all the same where its inputs are gone in part; one that the device failed to read may
    /// turn out whole. What a longer slot covers is removed.
    pub(super) fn compare(&mut self, catalog: &Catalog, records: &Records) -> Result<Catalog, OpenError> {
        let is_known = |file: &SlotFile| records.manifest.contains_key(&file.slot());
        let mut catalog = catalog.clone();
        let mut covered = self.superseded.clone();
        for file in self.doubtful.clone() {
            let is_whole = matches!(self.read(file.path(), check_slot_file(&file))?, Some(Ok(())));
            let inputs = catalog.within(file.slot());
            if is_whole || is_known(&file) && !self.has_all_inputs(&file, &inputs) {
                let slots: Vec<Slot> = inputs.iter().map(|input| input.slot()).collect();
                covered.extend(inputs);
                if !is_whole {
                    let path = file.path().display();
                    self.problems.push(format!("{path}: a block of it is damaged; its samples are lost"));
                }
                catalog = catalog.changed(Some(file), &slots);
            } else {
                self.quarantine(file.path(), "damaged, and its inputs are still there")?;
            }
        }
        let mut damaged = Vec::new();
        for file in catalog.files().filter(|file| !is_known(file)) {
            if let Some(Err(error)) = self.read(file.path(), check_slot_file(file))? {
                self.quarantine(file.path(), &error)?;
                damaged.push(file.slot());
            }
        }
        catalog = catalog.changed(None, &damaged);
        for file in covered {
            if catalog.covers(file.slot()) {
                let path = file.path();
                fs::remove_file(path).or_else(absent_is_fine).map_err(|e| failed("remove", path, e))?;
            } else {
                catalog = catalog.changed(Some(file), &[]);
            }
        }
        self.superseded.clear();
        self.doubtful.clear();
        Ok(catalog)
    }

    /// Whether the inputs of a roll-up are still there: they are removed from the first on. It may be among `inputs`, or
    /// have been set aside just now.
    fn has_all_inputs(&self, file: &SlotFile, inputs: &[Arc<SlotFile>]) -> bool {
        let Slot { kind, start } = file.slot();
        let shorter = SlotKind::ALL.into_iter().filter(|shorter| *shorter < kind);
        let is_first = |slot: Slot| slot.kind < kind && slot.start == start;
        inputs.iter().chain(&self.superseded).any(|input| is_first(input.slot()))
            || shorter.into_iter().any(|kind| self.told.contains(OsStr::new(&file_name(Slot { kind, start }))))
    }

    /// Damage can make sled fall back to an older state; the witness beside it then knows of later
    /// ticks.
    pub(super) fn open_witness(&mut self, head: &Head) -> Result<(Witness, Option<u64>), OpenError> {
        let path = self.paths.witness();
        let witness = Witness::open(&path).map_err(|e| failed("open", &path, e))?;
        let last = self.check_witness(&witness, head)?;
        Ok((witness, last))
    }

    /// The last tick that the witness knows of, if any.
    pub(super) fn check_witness(&mut self, witness: &Witness, head: &Head) -> Result<Option<u64>, OpenError> {
        let path = self.paths.witness();
        let last = self.read(&path, witness.last_tick().map_err(ReadError::Io))?;
        let last = last.and_then(Result::ok).flatten();
        if witness.is_damaged(last, head.next_seq) {
            self.problems
                .push(format!("{} cannot be read; if the database lost its last ticks, nothing tells", path.display()));
        }
        let known = head.next_seq;
        if let Some(last) = last.filter(|last| *last >= known) {
            self.damaged(format!(
                "the database knows of {known} ticks, but {} were stored: samples of the ticks between are lost, as far as their slots were open",
                last.saturating_add(1)
            ));
        }
        Ok(last)
    }

    /// Compares what was found with what must be there.
    pub(super) fn check(&mut self, records: &Records, catalog: &Catalog) {
        if records.damaged > 0 {
            self.damaged(format!("{} records of the database are damaged and were left out", records.damaged));
        }
        let untouched = records.is_empty && catalog.slots().next().is_none();
        if !records.has_head && !untouched && self.broken.is_none() {
            self.damaged("the database lost its head record; ticks of the open slots may be lost".to_owned());
        }
        let values = 0..records.head.table_values;
        if values.into_iter().any(|n| !records.table.contains_key(&n)) {
            self.damaged("the database lost a part of the series table; it is filled from the slot files".to_owned());
        }
        let entries = records.manifest.len() as u64;
        if records.head.slots.is_some_and(|slots| u64::from(slots) != entries) {
            self.damaged("the database lost a part of the manifest; it is filled from the slot files".to_owned());
        }
        for name in self.missing(records, catalog) {
            self.problems.push(format!("slots/{name} is missing; its samples are lost"));
        }
    }

    /// Files of the manifest that are gone, but for those just found damaged. One that an
    /// earlier opening moved, and was cut short, is told again.
    fn missing(&self, records: &Records, catalog: &Catalog) -> Vec<String> {
        let gone = records.manifest.keys().filter(|slot| !catalog.covers(**slot));
        let names = gone.map(|slot| file_name(*slot));
        names.filter(|name| !self.told.contains(OsStr::new(name))).collect()
    }

    /// The manifest will not tell of missing files any more: notes beside the damaged ones do.
    pub(super) fn note_missing(&self, records: &Records, catalog: &Catalog) -> Result<(), OpenError> {
        for name in self.missing(records, catalog) {
            let path = self.paths.quarantine().join(format!("{name}.missing"));
            fs::write(&path, b"").map_err(|e| failed("note a missing file in", &path, e))?;
        }
        Ok(())
    }

    /// A damaged snapshot is moved aside; the next one tells all names again.
    pub(super) fn check_snapshots(&mut self) -> Result<(), OpenError> {
        let dir = self.paths.snapshots();
        for path in snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?.values() {
            if let Some(Err(error)) = self.read(path, snapshot::check(path))? {
                let aside = self.paths.quarantine();
                quarantine(path, &aside).map_err(|e| failed("move aside", path, e))?;
                let (path, aside) = (path.display(), aside.display());
                self.problems.push(format!("{path}: {error}; it was moved to {aside}, the database tells its names"));
            }
        }
        Ok(())
    }

    /// The series table; the slot files and snapshots help where the sled part is not to be
    /// believed.
    pub(super) fn read_table(&mut self, records: &Records, catalog: &Catalog) -> Result<SeriesTable, OpenError> {
        let mut all: Vec<SeriesRecord> = records.table.values().flatten().cloned().collect();
        if self.broken.is_some() {
            all.extend(self.names_beside_sled(catalog)?);
        }
        let mut table = table_of(all);
        table.skip_to(records.head.next_id.min(table::MAX_ID));
        table.skip_to(catalog.files().map(|file| file.end_id()).max().unwrap_or(0));
        Ok(table)
    }

    fn names_beside_sled(&mut self, catalog: &Catalog) -> Result<Vec<SeriesRecord>, OpenError> {
        let dir = self.paths.snapshots();
        let mut all = Vec::new();
        for path in snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?.values() {
            match self.read(path, snapshot::read(path))? {
                Some(Ok((records, damage))) => {
                    all.extend(records);
                    let problem = |e| format!("{}: {e}; names after it may be lost", path.display());
                    self.problems.extend(damage.map(problem));
                }
                Some(Err(e)) => self.problems.push(format!("{}: {e}; its names may be lost", path.display())),
                None => {}
            }
        }
        all.extend(self.names_in_slots(catalog)?);
        Ok(all)
    }

    /// The names that slot files told first.
    pub(super) fn names_in_slots(&mut self, catalog: &Catalog) -> Result<Vec<SeriesRecord>, OpenError> {
        let mut all = Vec::new();
        for file in catalog.files() {
            match self.read(file.path(), file.names())? {
                Some(Ok(records)) => all.extend(records),
                Some(Err(e)) => {
                    self.problems.push(format!("{}: {e}; the names in it may be lost", file.path().display()));
                }
                None => {}
            }
        }
        Ok(all)
    }
}
