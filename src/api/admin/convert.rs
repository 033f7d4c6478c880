//! The admin protocol's messages to and from the store's types.
//!
//! Invariant: what was converted comes back as it was; what is malformed has no value.

use crate::proto::admin as wire;
use optipod_storage::{
    AnySketch, BackedUp, Examination, SeriesKey, Sketch as _, SlotExamination, SlotKind, SlotRow, Timestamp,
};
use std::path::PathBuf;

fn wire_kind(kind: SlotKind) -> i32 {
    let kind = match kind {
        SlotKind::FiveMinutes => wire::SlotKind::FiveMinutes,
        SlotKind::Hour => wire::SlotKind::Hour,
        SlotKind::Day => wire::SlotKind::Day,
    };
    kind.into()
}

fn kind(kind: i32) -> Option<SlotKind> {
    match wire::SlotKind::try_from(kind).ok()? {
        wire::SlotKind::Unspecified => None,
        wire::SlotKind::FiveMinutes => Some(SlotKind::FiveMinutes),
        wire::SlotKind::Hour => Some(SlotKind::Hour),
        wire::SlotKind::Day => Some(SlotKind::Day),
    }
}

fn encoded(sketch: &AnySketch) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

pub(super) fn row(row: SlotRow) -> wire::SlotRow {
    let SeriesKey { namespace, kind, workload, container } = row.key;
    wire::SlotRow {
        namespace,
        kind,
        workload,
        container,
        slot_kind: wire_kind(row.kind),
        start_ms: row.start.as_millis(),
        first_ms: row.first.as_millis(),
        last_ms: row.last.as_millis(),
        filled: row.filled,
        cpu: encoded(&row.cpu),
        memory: encoded(&row.memory),
    }
}

pub(super) fn stored_row(row: wire::SlotRow) -> Option<SlotRow> {
    let wire::SlotRow { namespace, kind: of, workload, container, .. } = row;
    Some(SlotRow {
        key: SeriesKey { namespace, kind: of, workload, container },
        kind: kind(row.slot_kind)?,
        start: Timestamp(row.start_ms),
        first: Timestamp(row.first_ms),
        last: Timestamp(row.last_ms),
        filled: row.filled,
        cpu: AnySketch::decode(&row.cpu).ok()?,
        memory: AnySketch::decode(&row.memory).ok()?,
    })
}

pub(super) fn examination(found: Examination) -> wire::ExamineResponse {
    let slot = |slot: SlotExamination| wire::SlotExamination {
        kind: wire_kind(slot.kind),
        start_ms: slot.start.as_millis(),
        bytes: slot.bytes,
        blocks: slot.blocks as u64,
        damage: slot.damage.unwrap_or_default(),
    };
    wire::ExamineResponse {
        series: found.series,
        last_tick_ms: found.last_tick.map(Timestamp::as_millis),
        open_slots_ms: found.open_slots.into_iter().map(Timestamp::as_millis).collect(),
        slots: found.slots.into_iter().map(slot).collect(),
        database_bytes: found.database_bytes,
        database_live_bytes: found.database_live_bytes,
        problems: found.problems,
        set_aside: found.set_aside.iter().map(|path| path.display().to_string()).collect(),
    }
}

pub(super) fn stored_examination(found: wire::ExamineResponse) -> Option<Examination> {
    let slot = |slot: wire::SlotExamination| {
        Some(SlotExamination {
            kind: kind(slot.kind)?,
            start: Timestamp(slot.start_ms),
            bytes: slot.bytes,
            blocks: usize::try_from(slot.blocks).ok()?,
            damage: Some(slot.damage).filter(|damage| !damage.is_empty()),
        })
    };
    Some(Examination {
        series: found.series,
        last_tick: found.last_tick_ms.map(Timestamp),
        open_slots: found.open_slots_ms.into_iter().map(Timestamp).collect(),
        slots: found.slots.into_iter().map(slot).collect::<Option<_>>()?,
        database_bytes: found.database_bytes,
        database_live_bytes: found.database_live_bytes,
        problems: found.problems,
        set_aside: found.set_aside.into_iter().map(PathBuf::from).collect(),
    })
}

pub(super) fn backed_up(made: BackedUp) -> wire::BackupResponse {
    wire::BackupResponse {
        target: made.target.display().to_string(),
        series: made.series,
        last_tick_ms: made.last_tick.map(Timestamp::as_millis),
        linked: made.linked,
        copied: made.copied,
        slot_bytes: made.slot_bytes,
        problems: made.problems,
    }
}

pub(super) fn stored_backed_up(made: wire::BackupResponse) -> BackedUp {
    BackedUp {
        target: made.target.into(),
        series: made.series,
        last_tick: made.last_tick_ms.map(Timestamp),
        linked: made.linked,
        copied: made.copied,
        slot_bytes: made.slot_bytes,
        problems: made.problems,
    }
}
