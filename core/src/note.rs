//! C2SP signed notes (`signed-note`), with Ed25519 signatures (type 0x01). Cosignatures (type 0x04) are [`crate::cosignature`]'s.

use crate::error::NoteError;
use crate::key::{SigningKey, VerifyKey};
use crate::signature::Signature;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// The algorithm byte of Ed25519 in a note's key id.
const ALGORITHM_ED25519: u8 = 0x01;
/// The algorithm byte of a timestamped Ed25519 cosignature (`tlog-cosignature`).
const ALGORITHM_COSIGNATURE: u8 = 0x04;

/// The four-byte key id of a named Ed25519 key: the beginning of SHA-256(name, newline, 0x01, key).
pub fn key_id(name: &str, key: &crate::PublicKey) -> [u8; 4] {
    key_id_of(name, ALGORITHM_ED25519, key)
}

fn key_id_of(name: &str, algorithm: u8, key: &crate::PublicKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update(*b"\n")
        .chain_update([algorithm])
        .chain_update(key.0);
    let hash: [u8; 32] = hash.finalize().into();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The text form of a verifier key: `name+keyid+base64`.
pub fn verifier_key(name: &str, key: &crate::PublicKey) -> String {
    verifier_key_of(name, ALGORITHM_ED25519, key)
}

fn verifier_key_of(name: &str, algorithm: u8, key: &crate::PublicKey) -> String {
    let mut typed = vec![algorithm];
    typed.extend_from_slice(&key.0);
    format!(
        "{name}+{}+{}",
        data_encoding::HEXLOWER.encode(&key_id_of(name, algorithm, key)),
        BASE64.encode(&typed)
    )
}

/// A named public key that a reader trusts: what checkpoints and proofs are held to, and nothing else. It is a log's own, or a
/// witness's, whose cosignatures count.
#[derive(Clone, Debug)]
pub struct VerifierKey {
    name: String,
    key: VerifyKey,
    algorithm: u8,
}

impl VerifierKey {
    /// A key under its name.
    pub fn new(name: impl Into<String>, key: VerifyKey) -> Self {
        Self {
            name: name.into(),
            key,
            algorithm: ALGORITHM_ED25519,
        }
    }

    /// A witness's key under its name.
    pub fn witness(name: impl Into<String>, key: VerifyKey) -> Self {
        Self {
            name: name.into(),
            key,
            algorithm: ALGORITHM_COSIGNATURE,
        }
    }

    /// Whether it is a witness's, and says nothing as a log's own.
    pub fn is_witness(&self) -> bool {
        self.algorithm == ALGORITHM_COSIGNATURE
    }

    /// The four bytes that name the key in a note's signatures.
    pub fn id(&self) -> [u8; 4] {
        key_id_of(&self.name, self.algorithm, &self.key.public())
    }

    /// Reads the text form `name+keyid+base64` as C2SP has it.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] for another form, another kind of key, or a key id that is not this key's.
    ///
    /// ```
    /// use ledger_core::{LogId, SigningKey, checkpoint, note::VerifierKey};
    /// let key = SigningKey::from_seed([7; 32]).verifier();
    /// let pin = VerifierKey::new(checkpoint::origin(&LogId([1; 32])), key);
    /// assert_eq!(VerifierKey::parse(&pin.to_text())?.name(), pin.name()); // a line of `ledger keys`
    /// # Ok::<(), ledger_core::NoteError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Malformed("a verifier key is name+keyid+base64, of Ed25519");
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong);
        };
        let typed = BASE64.decode(typed.as_bytes()).map_err(|_| wrong.clone())?;
        let Some((&algorithm @ (ALGORITHM_ED25519 | ALGORITHM_COSIGNATURE), key)) = typed.split_first()
        else {
            return Err(wrong);
        };
        let key = crate::PublicKey(key.try_into().map_err(|_| wrong.clone())?);
        if !is_name(name) {
            return Err(wrong);
        }
        if id != data_encoding::HEXLOWER.encode(&key_id_of(name, algorithm, &key)) {
            return Err(NoteError::Malformed(
                "a verifier key's id is not that of its name and key: a typing error?",
            ));
        }
        let usable = NoteError::Malformed("a verifier key is a usable Ed25519 key");
        Ok(Self {
            name: name.to_owned(),
            key: key.verifier().map_err(|_| usable)?,
            algorithm,
        })
    }

    /// The keys in a text: one a line; empty lines and lines that begin with `#` say nothing.
    ///
    /// # Errors
    /// As [`VerifierKey::parse`], for the first line that is wrong.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, NoteError> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Self::parse)
            .collect()
    }

    /// The name, which for a log's own checkpoint key is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &VerifyKey {
        &self.key
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        verifier_key_of(&self.name, self.algorithm, &self.key.public())
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// Signs a text, which must end with a newline, under a key name without spaces or `+`.
///
/// # Errors
/// [`NoteError::Malformed`] when text or name cannot stand in a note.
pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<String, NoteError> {
    if !is_name(name) {
        return Err(NoteError::Malformed("a key name has no spaces and no '+'"));
    }
    if !text.ends_with('\n') || text.chars().any(|c| c != '\n' && c.is_control()) {
        return Err(NoteError::Malformed(
            "a note's text ends with a newline and has no control characters",
        ));
    }
    let mut blob = key_id(name, &key.public()).to_vec();
    blob.extend_from_slice(&key.sign_message(text.as_bytes()).0);
    Ok(format!("{text}\n\u{2014} {name} {}\n", BASE64.encode(&blob)))
}

/// Opens a note: returns its text when the pinned key signed it. Unknown signatures are ignored, as the specification
/// demands.
///
/// # Errors
/// [`NoteError`] when the form is wrong, or the key's signature is missing or not valid.
pub fn open<'a>(note: &'a str, name: &str, key: &VerifyKey) -> Result<&'a str, NoteError> {
    let (text, lines) = split(note)?;
    let wanted = key_id(name, &key.public());
    for line in lines {
        let line = line?;
        if line.name == name && line.id == wanted {
            let valid = Signature::from_slice(&line.signature)
                .is_some_and(|s| key.verify_strict(text.as_bytes(), &s));
            return if valid {
                Ok(text)
            } else {
                Err(NoteError::Signature(name.to_owned()))
            };
        }
    }
    Err(NoteError::Unsigned(name.to_owned()))
}

/// One signature of a note, by whomever.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: [u8; 4],
    pub(crate) signature: Vec<u8>,
    /// As it stands, without its newline.
    pub(crate) text: &'a str,
}

/// A note's text, and its signatures one after another.
pub(crate) fn split<'a>(
    note: &'a str,
) -> Result<(&'a str, impl Iterator<Item = Result<Line<'a>, NoteError>>), NoteError> {
    let split = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("no empty line between text and signatures"))?;
    let (text, signatures) = (&note[..=split], &note[split + 2..]);
    if !signatures.ends_with('\n') || text.chars().any(|c| c != '\n' && c.is_control()) {
        return Err(NoteError::Malformed(
            "a note ends with a newline and has no control characters",
        ));
    }
    let line = |text: &'a str| {
        let line = text
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Malformed("a signature line begins with an em dash"))?;
        let (name, blob) = line
            .split_once(' ')
            .ok_or(NoteError::Malformed("a signature line has name and blob"))?;
        let blob = BASE64
            .decode(blob.as_bytes())
            .map_err(|_| NoteError::Malformed("a signature is base64"))?;
        let (id, signature) = blob
            .split_first_chunk::<4>()
            .ok_or(NoteError::Malformed("a signature begins with a key id"))?;
        Ok(Line {
            name,
            id: *id,
            signature: signature.to_vec(),
            text,
        })
    };
    Ok((text, signatures.trim_end_matches('\n').split('\n').map(line)))
}
