//! The private keys of one machine, in files of their own: one purpose each, 0600 in a directory of 0700.
//!
//! A file holds a line naming format and purpose, a line with the seed in hex, and a line with the public key in hex, so that a
//! damaged seed is no other key (older files lack the last one). A directory or file that others may read, that is a
//! symbolic link, or that belongs to somebody else is refused, as ssh does.

use crate::clock::Entropy;
use crate::error::LedgerError;
use ledger_core::{SigningKey, Stream};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

const HEADER: &str = "ledger key v1";
const PUBLIC: &str = "public";

/// All private keys that a machine needs.
///
/// A store makes its keys by itself. Making them first lets somebody else know the public halves before there is a store:
///
/// ```
/// use ledger::clock::SystemEntropy;
/// use ledger::{Keyring, Ledger, Paths};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let paths = Paths::new(dir.path().join("log"));
/// let keys = Keyring::create(&paths.keys(), &SystemEntropy)?;
/// let ledger = Ledger::lone(paths.dir(), "my-agent")?;
/// assert_eq!(ledger.context().machine_key, keys.machine.public());
/// # Ok(()) }
/// ```
pub struct Keyring {
    /// Signs seals, the machine's own statements, and its requests and answers.
    pub machine: SigningKey,
    /// Signs what shells and agents on this machine say.
    pub actor: SigningKey,
    /// Cosigns others' checkpoints.
    pub witness: SigningKey,
    checkpoints: [SigningKey; 4],
}

const NAMES: [&str; 3] = ["machine", "actor", "witness"];

fn checkpoint_name(stream: Stream) -> String {
    format!("checkpoint-{stream}")
}

impl Keyring {
    /// Makes the keys that are not there yet: a crash may have left some of them.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when they cannot be written; [`LedgerError::KeyFile`] as [`Keyring::open`].
    pub fn create(dir: &Path, entropy: &dyn Entropy) -> Result<Self, LedgerError> {
        create_private_dir(dir)?;
        for name in NAMES
            .iter()
            .map(|n| (*n).to_owned())
            .chain(Stream::ALL.map(checkpoint_name))
        {
            let path = dir.join(format!("{name}.key"));
            if !path.exists() {
                create_key(&path, &name, entropy)?;
            }
        }
        Self::open(dir)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// [`LedgerError::KeyFile`] when a file is readable for others, a link, foreign, or not a key; [`LedgerError::Io`]
    /// when it is not there.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        check_private(dir, true)?;
        let key = |name: &str| read_key(&dir.join(format!("{name}.key")), name);
        let [machine, actor, witness] = NAMES;
        let checkpoint = |stream| key(&checkpoint_name(stream));
        let [work, facts, pulse, order] = Stream::ALL;
        Ok(Self {
            machine: key(machine)?,
            actor: key(actor)?,
            witness: key(witness)?,
            checkpoints: [
                checkpoint(work)?,
                checkpoint(facts)?,
                checkpoint(pulse)?,
                checkpoint(order)?,
            ],
        })
    }

    /// The key that signs the checkpoints of a stream.
    pub fn checkpoint(&self, stream: Stream) -> &SigningKey {
        let at = Stream::ALL
            .iter()
            .position(|s| *s == stream)
            .expect("ALL names every stream");
        &self.checkpoints[at]
    }
}

/// Makes a directory that only its owner may enter; one that is there already must be so.
///
/// # Errors
/// [`LedgerError::Io`] or [`LedgerError::KeyFile`].
pub fn create_private_dir(dir: &Path) -> Result<(), LedgerError> {
    let io = |source| LedgerError::Io {
        what: "creating",
        path: dir.into(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io)?;
    check_private(dir, true)
}

/// Draws a new key and writes it to a new file of mode 0600, synced; the file is there whole or not at all.
///
/// # Errors
/// [`LedgerError::Io`], also when the file exists.
pub fn create_key(path: &Path, purpose: &str, entropy: &dyn Entropy) -> Result<SigningKey, LedgerError> {
    let mut seed = Zeroizing::new([0; 32]);
    entropy.fill(&mut seed[..]);
    let io = |source| LedgerError::Io {
        what: "writing the key",
        path: path.into(),
        source,
    };
    if fs::symlink_metadata(path).is_ok() {
        return Err(io(std::io::ErrorKind::AlreadyExists.into()));
    }
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io)?;
    let key = SigningKey::from_seed(*seed);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let text = Zeroizing::new(format!(
        "{HEADER} {purpose}\n{}\n{PUBLIC} {}\n",
        Zeroizing::new(hex(&seed[..])).as_str(),
        hex(&key.public().0)
    ));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(io)?;
    Ok(key)
}

/// Reads a key file of a purpose.
///
/// # Errors
/// [`LedgerError::KeyFile`] or [`LedgerError::Io`].
pub fn read_key(path: &Path, purpose: &str) -> Result<SigningKey, LedgerError> {
    check_private(path, false)?;
    let io = |source| LedgerError::Io {
        what: "reading the key",
        path: path.into(),
        source,
    };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    let bad = |why: &str| LedgerError::KeyFile {
        path: path.into(),
        why: why.into(),
    };
    let (header, rest) = text.split_once('\n').ok_or_else(|| bad("not a key file"))?;
    if header != format!("{HEADER} {purpose}") {
        return Err(bad(&format!(
            "not a key for the purpose {purpose:?}; each key has one purpose"
        )));
    }
    let (seed, public) = rest.trim_end().split_once('\n').unwrap_or((rest.trim_end(), ""));
    let seed = Zeroizing::new(
        data_encoding::HEXLOWER
            .decode(seed.as_bytes())
            .map_err(|_| bad("the seed is not hex"))?,
    );
    let seed: [u8; 32] = seed
        .as_slice()
        .try_into()
        .map_err(|_| bad("the seed has not 32 bytes"))?;
    let key = SigningKey::from_seed(seed);
    let named = format!("{PUBLIC} {}", data_encoding::HEXLOWER.encode(&key.public().0));
    if !public.is_empty() && public != named {
        return Err(bad(
            "the seed is not that of the public key beside it; restore the file from a backup",
        ));
    }
    Ok(key)
}

fn check_private(path: &Path, dir: bool) -> Result<(), LedgerError> {
    let meta = fs::symlink_metadata(path).map_err(|source| LedgerError::Io {
        what: "looking at",
        path: path.into(),
        source,
    })?;
    let bad = |why: String| {
        Err(LedgerError::KeyFile {
            path: path.into(),
            why,
        })
    };
    if meta.file_type().is_symlink() {
        return bad("is a symbolic link; keys are kept in plain files".into());
    }
    if meta.is_dir() != dir {
        return bad(format!("is not a {}", if dir { "directory" } else { "file" }));
    }
    if meta.mode() & 0o077 != 0 {
        let wanted = if dir { "700" } else { "600" };
        return bad(format!(
            "others may use it (mode {:o}); run chmod {wanted} on it",
            meta.mode() & 0o777
        ));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return bad("belongs to another user; run as its owner".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_that_is_damaged_or_cut_anywhere_is_refused_and_never_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("actor.key");
        let made = create_key(&path, "actor", &SystemEntropy).unwrap().public();
        let whole = fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_key(&path, "actor").map(|key| key.public())
        };
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The newline at the end is no part of the key.
            match read(&damaged) {
                Ok(key) => assert!(key == made && bit / 8 + 1 == whole.len(), "bit {bit} is silent"),
                Err(e) => assert!(
                    matches!(e.code(), "ledger.key-file" | "ledger.io"),
                    "bit {bit}: {e}"
                ),
            }
        }
        for length in 0..whole.len() {
            assert!(
                read(&whole[..length]).map_or(true, |key| key == made),
                "length {length}"
            );
        }
        // As older programs wrote it.
        let seed_end = whole
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(1)
            .unwrap()
            .0;
        assert_eq!(read(&whole[..=seed_end]).unwrap(), made);
    }

    #[test]
    fn keys_read_back_and_a_loose_mode_a_link_and_a_wrong_purpose_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let made = Keyring::create(&keys, &SystemEntropy).unwrap();
        assert_eq!(
            Keyring::open(&keys).unwrap().machine.public(),
            made.machine.public()
        );
        let file = keys.join("machine.key");
        assert!(matches!(
            read_key(&file, "actor"),
            Err(LedgerError::KeyFile { .. })
        ));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keyring::open(&keys), Err(LedgerError::KeyFile { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&file, keys.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(keys.join("elsewhere"), &file).unwrap();
        assert!(matches!(Keyring::open(&keys), Err(LedgerError::KeyFile { .. })));
    }
}
