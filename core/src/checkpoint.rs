//! C2SP checkpoints (`tlog-checkpoint`): origin, size and root of a log's tree in a signed note.

use crate::digest::{LogId, TreeRoot};
use crate::error::NoteError;
use crate::key::{SigningKey, VerifyKey};
use crate::note;
use data_encoding::BASE64;

/// What every origin begins with; the hex LogId follows.
pub const ORIGIN_PREFIX: &str = "ledger.log/v1/";

/// The head of a log's tree.
///
/// ```
/// use ledger_core::{LogId, SigningKey, TreeRoot, checkpoint::Checkpoint};
/// let (log, key) = (LogId([1; 32]), SigningKey::from_seed([7; 32]));
/// let head = Checkpoint { log, tree_size: 12, root: TreeRoot([2; 32]) };
/// let signed = head.sign(&key); // a C2SP signed note, for whoever has the key pinned
/// assert_eq!(Checkpoint::open(&signed, &log, &key.verifier()), Ok(head));
/// assert!(Checkpoint::open(&signed.replace("12", "13"), &log, &key.verifier()).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The log.
    pub log: LogId,
    /// How many records the tree covers.
    pub tree_size: u64,
    /// Its root.
    pub root: TreeRoot,
}

/// The origin line of a log, which is also the name of its checkpoint key.
pub fn origin(log: &LogId) -> String {
    format!("{ORIGIN_PREFIX}{log}")
}

/// The log that an origin names; `None` for any other text.
pub fn log_of_origin(text: &str) -> Option<LogId> {
    let log = LogId::from_hex(text.strip_prefix(ORIGIN_PREFIX)?)?;
    // Hex in capitals would be a second name of the same log.
    (origin(&log) == text).then_some(log)
}

impl Checkpoint {
    /// The note's text.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            origin(&self.log),
            self.tree_size,
            BASE64.encode(&self.root.0)
        )
    }

    /// The signed note. The key is the log's checkpoint key, distinct from the machine key.
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), &origin(&self.log), key)
            .expect("the text and the origin are valid by construction")
    }

    /// Opens a signed checkpoint of this log with its pinned checkpoint key.
    ///
    /// # Errors
    /// [`NoteError`] when the form is wrong, another log is named, or the signature is missing or not valid.
    pub fn open(signed: &str, log: &LogId, key: &VerifyKey) -> Result<Self, NoteError> {
        let origin = origin(log);
        let text = note::open(signed, &origin, key)?;
        Self::of_text(text, log)
    }

    /// What a signed checkpoint says of itself, before any key is known to hold it to. Nothing of it may be relied upon.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] when the form is wrong.
    pub fn read_unverified(signed: &str) -> Result<Self, NoteError> {
        let malformed =
            NoteError::Malformed("a checkpoint of a log begins with its origin and ends with signatures");
        let end = signed.rfind("\n\n").ok_or(malformed.clone())?;
        let log = log_of_origin(signed.lines().next().unwrap_or_default()).ok_or(malformed)?;
        Self::of_text(&signed[..=end], &log)
    }

    fn of_text(text: &str, log: &LogId) -> Result<Self, NoteError> {
        let origin = origin(log);
        let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
        let [first, size, root] = lines[..] else {
            return Err(NoteError::Malformed(
                "a checkpoint has the lines origin, size and root, and no extension",
            ));
        };
        if first != origin {
            return Err(NoteError::Malformed("the checkpoint is of another log"));
        }
        if size.is_empty()
            || (size.len() > 1 && size.starts_with('0'))
            || !size.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(NoteError::Malformed(
                "the size is a decimal number without leading zeros",
            ));
        }
        let tree_size = size
            .parse()
            .map_err(|_| NoteError::Malformed("the size does not fit 64 bits"))?;
        let root = BASE64
            .decode(root.as_bytes())
            .ok()
            .and_then(|r| r.try_into().ok());
        let root = root.ok_or(NoteError::Malformed("the root is 32 bytes in base64"))?;
        let checkpoint = Self {
            log: *log,
            tree_size,
            root: TreeRoot(root),
        };
        if checkpoint.text() != text {
            return Err(NoteError::Malformed(
                "the text is not the one spelling of its checkpoint",
            ));
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_checkpoint_opens_as_signed_and_no_flipped_byte_passes(size in any::<u64>(), root in any::<[u8; 32]>(), at in any::<prop::sample::Index>()) {
            let key = SigningKey::from_seed([5; 32]);
            let checkpoint = Checkpoint { log: LogId([9; 32]), tree_size: size, root: TreeRoot(root) };
            let signed = checkpoint.sign(&key);
            prop_assert_eq!(Checkpoint::open(&signed, &checkpoint.log, &key.verifier()), Ok(checkpoint));
            let mut bytes = signed.into_bytes();
            let i = at.index(bytes.len());
            bytes[i] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                prop_assert!(Checkpoint::open(&text, &checkpoint.log, &key.verifier()) != Ok(checkpoint));
            }
        }
    }
}
