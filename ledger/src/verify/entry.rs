//! One entry checked by itself: its record taken apart, its leaf hash, its payload against the commitment.

use super::payloads::PayloadFound;
use super::report::{Aspect, Finding};
use super::suspect::Suspect;
use crate::Position;
use crate::journal::StoredEntry;
use ledger_core::error::RecordError;
use ledger_core::{Payload, Record, tree};

/// One entry, checked by itself.
pub(super) struct Prepared {
    pub(super) position: Position,
    // What could not be parsed is kept, to be given a name.
    pub(super) record: Result<Record, (RecordError, Suspect)>,
    pub(super) leaf: tree::Hash,
    pub(super) payload: PayloadFound,
}

/// Checks an entry.
pub(super) fn prepare(entry: StoredEntry) -> Prepared {
    let erased = entry.is_erased();
    let leaf = tree::leaf_hash(&entry.record);
    let record = Record::parse_owned(entry.record).map_err(|(error, bytes)| (error, Suspect::of(bytes)));
    let payload = match &record {
        Ok(record) => match (&record.statement().payload, &entry.payload, entry.place) {
            (None, None, None) => PayloadFound::None,
            (None, ..) => PayloadFound::Unexpected,
            (Some(wanted), Some(payload), _) if payload.matches(wanted) => PayloadFound::Fits,
            (Some(wanted), Some(payload), _) if erased && has_length(payload, wanted.bytes) => {
                PayloadFound::Erased
            }
            (Some(_), None, None) => PayloadFound::Absent,
            (Some(_), ..) => PayloadFound::Differs,
        },
        Err(_) => PayloadFound::None,
    };
    Prepared {
        position: entry.position,
        record,
        leaf,
        payload,
    }
}

fn has_length(payload: &Payload, bytes: u32) -> bool {
    u32::try_from(payload.bytes.len()) == Ok(bytes)
}

/// A finding about a record.
pub(super) fn finding(
    code: &'static str,
    aspect: Aspect,
    position: Position,
    record: &Record,
    text: String,
) -> Finding {
    Finding {
        code,
        aspect,
        log: Some(record.seal().log),
        seq: Some(record.seal().seq),
        id: Some(record.statement().id),
        position: Some(position),
        text,
    }
}
