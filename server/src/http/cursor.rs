//! Cursors of pages and of the live tail: opaque to callers, stable over restarts.
//!
//! Owns: their bytes. Contract: base64url of a tag and canonical postcard; a cursor of another list is refused; none names
//! a place in the journal, because recovery may move the unconfirmed tail there, and a log's seq never moves. Does not:
//! hide anything, and is not signed: whoever alters one reads what they may read anyway.

use super::problem::Problem;
use data_encoding::BASE64URL_NOPAD;
use ledger::core::canonical;
use ledger::core::{Hlc, LogId, MachineId, ReceiptId, Stream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest cursor that is read, in characters.
const CURSOR_CHARS_MAX: usize = 2048;

/// What a list's cursor holds.
pub(crate) trait Cursor: Serialize + DeserializeOwned {
    /// Tells lists apart.
    const TAG: u8;

    fn to_text(&self) -> String {
        let mut bytes = vec![Self::TAG];
        bytes.extend(canonical::encode(self));
        BASE64URL_NOPAD.encode(&bytes)
    }

    fn read(text: &str) -> Result<Self, Problem> {
        let malformed = || Problem::query("expected a cursor that this list gave, found another text");
        if text.len() > CURSOR_CHARS_MAX {
            return Err(malformed());
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
        match bytes.split_first() {
            Some((tag, rest)) if *tag == Self::TAG => {
                canonical::decode("cursor", rest).map_err(|_| malformed())
            }
            _ => Err(malformed()),
        }
    }
}

/// Behind a receipt in the order (HLC, machine, stream, log, seq).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptKey {
    pub(crate) time: Hlc,
    pub(crate) machine: MachineId,
    pub(crate) stream: Stream,
    pub(crate) log: LogId,
    pub(crate) seq: u64,
}

impl Cursor for ReceiptKey {
    const TAG: u8 = 1;
}

/// Behind a job, by its place in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct JobKey {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

impl Cursor for JobKey {
    const TAG: u8 = 2;
}

/// Behind a file, by its path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FileKey {
    pub(crate) path: String,
}

impl Cursor for FileKey {
    const TAG: u8 = 3;
}

/// Behind a receipt, in the order in which this store learned them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EventKey {
    pub(crate) log: LogId,
    pub(crate) seq: u64,
}

impl Cursor for EventKey {
    const TAG: u8 = 4;
}

/// Behind a notice, the newest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct NoticeKey {
    pub(crate) raised_at: i64,
    pub(crate) id: ReceiptId,
}

impl Cursor for NoticeKey {
    const TAG: u8 = 5;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cursor_of_another_list_or_an_altered_length_is_refused() {
        let event = EventKey {
            log: LogId([7; 32]),
            seq: 300,
        };
        let text = event.to_text();
        assert_eq!(EventKey::read(&text).unwrap(), event);
        assert!(JobKey::read(&text).is_err());
        assert!(EventKey::read(&text[..text.len() - 2]).is_err());
        assert!(EventKey::read("").is_err() && EventKey::read("!").is_err());
    }
}
