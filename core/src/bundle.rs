//! Bundles: one whole log, or a range of one, in one file, readable in one pass with flat memory (`docs/FORMAT.md`, "Bundle").
//!
//! Owns the layout (a magic line, then frames), the encoder of each frame and the incremental [`FrameParser`];
//! [`BundleCheck`] beside it is the incremental verifier, [`Start`] what a range carries of the records before it. It does
//! no I/O: the caller reads and writes files. Every byte of a bundle is covered by the chain, a signature, a commitment,
//! the genesis, the tree or the checkpoint at its end, so a cut or changed bundle is always found. It proves a log against
//! itself; which LogId or FleetId to trust the reader must know from elsewhere.

mod check;
mod range;
mod report;

pub use check::BundleCheck;
pub use range::Start;
pub use report::{BundleReport, FINDINGS_MAX, Finding};

use crate::canonical;
use crate::chain::Chain;
use crate::digest::{FleetId, LogId};
use crate::key::PublicKey;
use crate::limits::{PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX};
use crate::record::{Payload, Salt};
use crate::tree::Hash;
use serde::{Deserialize, Serialize};

/// The first line of a bundle of a whole log: version 1.
pub const MAGIC: &[u8] = b"ledger bundle v1\n";
/// The first line of a bundle of a range: version 2.
pub const MAGIC_RANGE: &[u8] = b"ledger bundle v2\n";
/// Bytes before each frame's content: its kind, and its length as u32 be.
pub const FRAME_HEADER_BYTES: usize = 5;
/// Bytes of the header's content.
const HEADER_BYTES_MAX: usize = 256;
/// Bytes of the checkpoint at the end; one with one signature has about 300.
const END_BYTES_MAX: usize = 4096;
/// Hashes in the proof behind a range: those of a tree of 2^64 records and one more.
const REST_HASHES_MAX: usize = 65;
// Both first lines are read with one length.
const _: () = assert!(MAGIC.len() == MAGIC_RANGE.len());

/// What a bundle holds; its first line says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 1: a whole log, from its genesis to what its checkpoint covers.
    Whole,
    /// 2: a range of a log, with the hashes that connect it with a checkpoint.
    Range,
}

impl Version {
    fn magic(self) -> &'static [u8] {
        match self {
            Self::Whole => MAGIC,
            Self::Range => MAGIC_RANGE,
        }
    }
}

/// What a frame holds; its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// 1: the [`Header`]; first and once.
    Header,
    /// 2: the exact bytes of a record.
    Record,
    /// 3: 32 bytes of salt and the payload of the record before it.
    Payload,
    /// 4: one byte, why the payload of the record before it is absent.
    Absent,
    /// 5: the signed checkpoint over exactly the records before it, in a range over these and more; last and once.
    End,
    /// 6, in a range that does not begin at seq 0: see [`Start`]; after the header and once.
    Start,
    /// 7, in a range: the proof that the tree up to its last record is a prefix of the checkpoint's; before the end and
    /// once.
    Rest,
}

impl FrameKind {
    /// Its byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Record => 2,
            Self::Payload => 3,
            Self::Absent => 4,
            Self::End => 5,
            Self::Start => 6,
            Self::Rest => 7,
        }
    }

    fn of_byte(byte: u8, version: Version) -> Option<Self> {
        let whole = [Self::Header, Self::Record, Self::Payload, Self::Absent, Self::End];
        let range = [Self::Start, Self::Rest];
        let mut known = whole
            .into_iter()
            .chain(range.into_iter().filter(|_| version == Version::Range));
        known.find(|kind| kind.byte() == byte)
    }

    fn length_permitted(self, length: usize) -> bool {
        match self {
            Self::Header => length <= HEADER_BYTES_MAX,
            Self::Record => length <= RECORD_BYTES_MAX,
            Self::Payload => (32..=32 + PAYLOAD_BYTES_MAX).contains(&length),
            Self::Absent => length == 1,
            Self::End => length <= END_BYTES_MAX,
            Self::Start => length <= range::START_BYTES_MAX,
            Self::Rest => {
                length <= REST_HASHES_MAX * size_of::<Hash>() && length.is_multiple_of(size_of::<Hash>())
            }
        }
    }
}

/// Which log a bundle holds. Everything here is repeated from the genesis, with which it must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The fleet.
    pub fleet: FleetId,
    /// The log.
    pub log: LogId,
    /// The key that signs its seals.
    pub machine_key: PublicKey,
    /// The key that signs its checkpoints.
    pub checkpoint_key: PublicKey,
    /// The first seq in the bundle: 0 in version 1, any in version 2.
    pub first: u64,
}

impl Header {
    /// The header of a log whose genesis the chain has taken in.
    pub fn of(chain: &Chain) -> Self {
        Self {
            fleet: chain.fleet(),
            log: chain.log(),
            machine_key: chain.machine_key(),
            checkpoint_key: chain.genesis().checkpoint_key,
            first: 0,
        }
    }
}

/// Why a payload is not in the bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// 1: erased, as a receipt says.
    Erased,
    /// 2: not present at the exporter for another reason.
    NotPresent,
}

/// One frame. The content is at most [`RECORD_BYTES_MAX`] or 32 + [`PAYLOAD_BYTES_MAX`] bytes long.
///
/// # Panics
/// When the content is longer than its kind permits: its parts come from this crate, which bounds them.
pub fn frame(kind: FrameKind, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    assert!(kind.length_permitted(length), "frames hold bounded parts");
    let length_be = u32::try_from(length).expect("bounded above").to_be_bytes();
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + length);
    bytes.push(kind.byte());
    bytes.extend_from_slice(&length_be);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// What a bundle of a whole log begins with: the magic line and the header's frame.
pub fn encode_begin(header: &Header) -> Vec<u8> {
    begin(Version::Whole, header)
}

/// What a bundle of a range begins with: the magic line and the header's frame, whose `first` is the range's first seq.
/// [`encode_start`] follows unless that is 0.
pub fn encode_begin_range(header: &Header) -> Vec<u8> {
    begin(Version::Range, header)
}

fn begin(version: Version, header: &Header) -> Vec<u8> {
    let mut bytes = version.magic().to_vec();
    bytes.extend(frame(FrameKind::Header, &[&canonical::encode(header)]));
    bytes
}

/// The frame that connects a range with the log's beginning.
pub fn encode_start(start: &Start) -> Vec<u8> {
    frame(FrameKind::Start, &[&start.encode()])
}

/// The frame before the end of a range: the consistency proof (RFC 9162, 2.1.4) from the tree up to the range's last
/// record to the checkpoint's; empty when that is its last one, too.
pub fn encode_rest(proof: &[Hash]) -> Vec<u8> {
    frame(FrameKind::Rest, &[proof.as_flattened()])
}

/// The frame of a record's exact bytes.
pub fn encode_record(record: &[u8]) -> Vec<u8> {
    frame(FrameKind::Record, &[record])
}

/// The frame of a payload; it follows its record's.
pub fn encode_payload(payload: &Payload) -> Vec<u8> {
    frame(FrameKind::Payload, &[&payload.salt.0, &payload.bytes])
}

/// The frame that stands for a payload which is not there; it follows its record's.
pub fn encode_absent(why: Absent) -> Vec<u8> {
    let reason = match why {
        Absent::Erased => 1,
        Absent::NotPresent => 2,
    };
    frame(FrameKind::Absent, &[&[reason]])
}

/// The last frame: the signed checkpoint ([`crate::checkpoint::Checkpoint::sign`]) over exactly the records before it.
pub fn encode_end(signed_checkpoint: &str) -> Vec<u8> {
    frame(FrameKind::End, &[signed_checkpoint.as_bytes()])
}

/// A frame of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it holds.
    pub kind: FrameKind,
    /// Where its first byte stands in the file.
    pub offset: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Salt and payload of a [`FrameKind::Payload`]; `None` for other kinds.
    pub fn payload(&self) -> Option<Payload> {
        let (salt, bytes) = self.bytes.split_first_chunk::<32>()?;
        (self.kind == FrameKind::Payload).then(|| Payload {
            salt: Salt(*salt),
            bytes: bytes.to_vec(),
        })
    }

    /// The hashes of a [`FrameKind::Rest`]; `None` for other kinds.
    pub fn rest(&self) -> Option<&[Hash]> {
        let (hashes, []) = self.bytes.as_chunks::<32>() else {
            return None;
        };
        (self.kind == FrameKind::Rest).then_some(hashes)
    }

    /// The reason in a [`FrameKind::Absent`]; `None` for other kinds and unknown reasons.
    pub fn absent(&self) -> Option<Absent> {
        match (self.kind, self.bytes.as_slice()) {
            (FrameKind::Absent, [1]) => Some(Absent::Erased),
            (FrameKind::Absent, [2]) => Some(Absent::NotPresent),
            _ => None,
        }
    }
}

/// A file that is no bundle, or stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The first line is another.
    #[error(
        "bundle: the file does not begin with the line \"ledger bundle v1\" or \"ledger bundle v2\"; it is no bundle or of \
         a newer version"
    )]
    Magic,
    /// An unknown kind of frame, or one that is too long.
    #[error(
        "bundle: at byte {offset} no frame begins (kind {kind}, {length} bytes); the file is damaged there"
    )]
    Frame {
        /// Where.
        offset: u64,
        /// The kind's byte.
        kind: u8,
        /// The length.
        length: u32,
    },
}

impl BundleError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Magic => "bundle.magic",
            Self::Frame { .. } => "bundle.frame",
        }
    }
}

/// Cuts a stream of bytes into frames; holds at most one frame beside what was pushed last.
#[derive(Debug, Default)]
pub struct FrameParser {
    buffer: Vec<u8>,
    // How much of `buffer` was handed out, and how many bytes of the file lie before `buffer`.
    used: usize,
    before: u64,
    version: Option<Version>,
}

impl FrameParser {
    /// A parser at the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the file's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.before += u64::try_from(self.used).expect("a buffer fits 64 bits");
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`BundleError`]; nothing can be read after it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, BundleError> {
        let Some(version) = self.version else {
            return if self.read_magic()? {
                self.next_frame()
            } else {
                Ok(None)
            };
        };
        let rest = &self.buffer[self.used..];
        let Some(([kind_byte, length @ ..], content)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let offset = self.before + u64::try_from(self.used).expect("a buffer fits 64 bits");
        let length = u32::from_be_bytes(*length);
        let length_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let kind = FrameKind::of_byte(*kind_byte, version)
            .filter(|kind| kind.length_permitted(length_bytes))
            .ok_or(BundleError::Frame {
                offset,
                kind: *kind_byte,
                length,
            })?;
        let Some(content) = content.get(..length_bytes) else {
            return Ok(None);
        };
        let frame = Frame {
            kind,
            offset,
            bytes: content.to_vec(),
        };
        self.used += FRAME_HEADER_BYTES + length_bytes;
        Ok(Some(frame))
    }

    // Whether the first line was there to be read.
    fn read_magic(&mut self) -> Result<bool, BundleError> {
        let seen = &self.buffer[..self.buffer.len().min(MAGIC.len())];
        let mut known = [Version::Whole, Version::Range].into_iter();
        let version = known.find(|version| version.magic().starts_with(seen));
        let version = version.ok_or(BundleError::Magic)?;
        if seen.len() < MAGIC.len() {
            return Ok(false);
        }
        self.used = MAGIC.len();
        self.version = Some(version);
        Ok(true)
    }

    /// What the first line says; `None` before it was read.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether everything pushed so far was handed out as whole frames.
    pub fn is_at_boundary(&self) -> bool {
        self.version.is_some() && self.used == self.buffer.len()
    }
}
