//! Every bound of the format in one place, each with its unit and its reason.

/// Bytes of one statement's detail. Folds keep details in memory; what may grow is a payload or several receipts.
pub const DETAIL_BYTES_MAX: usize = 4096;
/// Bytes of one payload. One receipt must fit into one push and one batch with room to spare.
pub const PAYLOAD_BYTES_MAX: usize = 65_536;
/// Bytes of a whole record (statement, seal, signatures). The C2SP entry bundle gives an entry a 16-bit length.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// Bytes of a kind's name.
pub const KIND_BYTES_MAX: usize = 64;
/// Bytes of a subject.
pub const SUBJECT_BYTES_MAX: usize = 256;
/// Bytes of a payload's media type.
pub const MEDIA_BYTES_MAX: usize = 64;
/// Bytes of a `machine_id`.
pub const MACHINE_ID_BYTES_MAX: usize = 64;
/// Bytes of a Vault path. Longer ones are skipped, and a receipt says so.
pub const PATH_BYTES_MAX: usize = 1024;
/// Ranges in one `log.pinned`: 32 ranges of at most 117 bytes stay below [`DETAIL_BYTES_MAX`].
pub const PINNED_RANGES_MAX: usize = 32;
/// Patterns in one grant.
pub const GRANT_PATTERNS_MAX: usize = 32;
/// Bytes of one pattern in a grant, of a name, a label or a handler.
pub const NAME_BYTES_MAX: usize = 64;
/// Labels on a handler or a request.
pub const LABELS_MAX: usize = 16;
/// Jobs that a request may depend on.
pub const DEPENDS_ON_MAX: usize = 16;
/// Bytes of a schedule's name: with `schedule/` before it, it is a concurrency key.
pub const SCHEDULE_BYTES_MAX: usize = 48;
/// Bytes of a cron expression: lists in every field fit.
pub const CRON_BYTES_MAX: usize = 128;
/// Currencies that one run reports at most.
pub const CURRENCIES_MAX: usize = 16;
/// Bytes of a progress note or of a short reason in a detail.
pub const NOTE_BYTES_MAX: usize = 200;
/// The greatest seq of a record: the size of the tree that ends with it is one more, and has 64 bits.
pub(crate) const SEQ_MAX: u64 = u64::MAX - 1;
/// Milliseconds that a foreign clock may pull our hybrid clock past our own wall clock.
pub const DRIFT_MS_MAX: u64 = 60_000;

// A pinned range is log (32), two varint seqs (10 each), seal (32) and an optional root (33).
const _: () = assert!(PINNED_RANGES_MAX * (32 + 10 + 10 + 32 + 33) + 10 <= DETAIL_BYTES_MAX);
const _: () = assert!(GRANT_PATTERNS_MAX * (NAME_BYTES_MAX + 1) + 512 <= DETAIL_BYTES_MAX);
const _: () = assert!(DETAIL_BYTES_MAX + 2048 <= RECORD_BYTES_MAX);
