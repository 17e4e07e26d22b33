//! C2SP cosignatures (`tlog-cosignature`, Ed25519): that a witness saw a checkpoint, found it consistent with all that it had
//! seen before of that log, and when.
//!
//! Owns: the signed message and the signature line. Does not decide what is consistent: whoever signs must have checked that.

use crate::error::NoteError;
use crate::key::SigningKey;
use crate::kind::MachineId;
use crate::note::{self, VerifierKey};
use crate::signature::Signature;
use data_encoding::BASE64;

/// What the name of every machine's witness key begins with; the machine's name follows.
pub const WITNESS_PREFIX: &str = "ledger.log/v1/witness/";
/// The last second that a cosignature may name.
const TIME_S_MAX: u64 = i64::MAX.unsigned_abs();

/// The name of a machine's witness key.
pub fn witness_name(machine: &MachineId) -> String {
    format!("{WITNESS_PREFIX}{machine}")
}

/// Who saw a checkpoint, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    /// The witness's name.
    pub witness: String,
    /// When it signed, seconds since 1970.
    pub unix_s: u64,
}

fn message(text: &str, unix_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_s}\n{text}").into_bytes()
}

/// The line with which a witness cosigns a signed checkpoint at a time in seconds since 1970.
///
/// # Errors
/// [`NoteError::Malformed`] when the note has another form, the name cannot stand in one, or the time is out of range.
///
/// ```
/// use ledger_core::note::VerifierKey;
/// use ledger_core::{LogId, SigningKey, TreeRoot, checkpoint::Checkpoint, cosignature};
/// let (log, witness) = (LogId([1; 32]), SigningKey::from_seed([8; 32]));
/// let head = Checkpoint { log, tree_size: 12, root: TreeRoot([2; 32]) };
/// let signed = head.sign(&SigningKey::from_seed([7; 32]));
/// let line = cosignature::line(&signed, "witness.example/w", &witness, 1_700_000_000)?;
/// let cosigned = cosignature::add(&signed, &line)?;
/// let pin = VerifierKey::witness("witness.example/w", witness.verifier());
/// assert_eq!(cosignature::verify(&cosigned, &pin)?.unix_s, 1_700_000_000);
/// # Ok::<(), ledger_core::NoteError>(())
/// ```
pub fn line(note: &str, name: &str, key: &SigningKey, unix_s: u64) -> Result<String, NoteError> {
    let (text, _) = note::split(note)?;
    if !note::is_name(name) {
        return Err(NoteError::Malformed("a key name has no spaces and no '+'"));
    }
    if unix_s > TIME_S_MAX {
        return Err(NoteError::Malformed("a cosignature's time has at most 63 bits"));
    }
    let mut blob = VerifierKey::witness(name, key.verifier()).id().to_vec();
    blob.extend_from_slice(&unix_s.to_be_bytes());
    blob.extend_from_slice(&key.sign_message(&message(text, unix_s)).0);
    Ok(format!("\u{2014} {name} {}\n", BASE64.encode(&blob)))
}

/// The note with one more signature line; an older one of the same key goes.
///
/// # Errors
/// [`NoteError::Malformed`] when note or line have another form.
pub fn add(note: &str, line: &str) -> Result<String, NoteError> {
    let whole = format!("\n\n{line}");
    let (_, mut lines) = note::split(&whole)?;
    let new = lines.next().ok_or(NoteError::Malformed("no signature line"))??;
    if lines.next().is_some() {
        return Err(NoteError::Malformed("one signature line is added at a time"));
    }
    let (text, before) = note::split(note)?;
    let mut added = format!("{text}\n");
    for line in before {
        let line = line?;
        if (line.name, line.id) != (new.name, new.id) {
            added.push_str(line.text);
            added.push('\n');
        }
    }
    added.push_str(new.text);
    added.push('\n');
    Ok(added)
}

/// A note with the signature lines of another note of the same text; where both have a line of one key, the other's counts.
///
/// # Errors
/// [`NoteError::Malformed`] when either has another form, or the texts differ.
pub fn merge(note: &str, other: &str) -> Result<String, NoteError> {
    let (text, lines) = note::split(other)?;
    if note::split(note)?.0 != text {
        return Err(NoteError::Malformed(
            "only signatures of one and the same text are put together",
        ));
    }
    let mut merged = note.to_owned();
    for line in lines {
        merged = add(&merged, &format!("{}\n", line?.text))?;
    }
    Ok(merged)
}

/// Who a pinned witness says it is and when it saw the checkpoint. The checkpoint's own signature is another question.
///
/// # Errors
/// [`NoteError::Unsigned`] when the witness's line is not there (or the key is no witness's), [`NoteError::Signature`] when it
/// does not verify, [`NoteError::Malformed`] when the note has another form.
pub fn verify(note: &str, pin: &VerifierKey) -> Result<Cosignature, NoteError> {
    let unsigned = || NoteError::Unsigned(pin.name().to_owned());
    if !pin.is_witness() {
        return Err(unsigned());
    }
    let (text, lines) = note::split(note)?;
    let mut newest: Option<u64> = None;
    for line in lines {
        let line = line?;
        if line.name != pin.name() || line.id != pin.id() {
            continue;
        }
        let wrong = || NoteError::Signature(pin.name().to_owned());
        let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(wrong)?;
        let unix_s = u64::from_be_bytes(*time);
        let valid = unix_s <= TIME_S_MAX
            && Signature::from_slice(signature)
                .is_some_and(|s| pin.key().verify_strict(&message(text, unix_s), &s));
        if !valid {
            return Err(wrong());
        }
        newest = newest.max(Some(unix_s));
    }
    let witness = pin.name().to_owned();
    newest
        .map(|unix_s| Cosignature { witness, unix_s })
        .ok_or_else(unsigned)
}

/// What the pinned witnesses say of a checkpoint: each key counts once, whatever names it is pinned under.
///
/// # Errors
/// [`NoteError::Malformed`] when the note has another form, [`NoteError::Signature`] when the line of a pinned witness does not
/// verify.
pub fn witnesses(note: &str, pins: &[VerifierKey]) -> Result<Vec<Cosignature>, NoteError> {
    let (mut found, mut counted) = (Vec::new(), Vec::new());
    for pin in pins.iter().filter(|pin| pin.is_witness()) {
        match verify(note, pin) {
            Ok(seen) if !counted.contains(&pin.key().public()) => {
                counted.push(pin.key().public());
                found.push(seen);
            }
            Ok(_) | Err(NoteError::Unsigned(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
