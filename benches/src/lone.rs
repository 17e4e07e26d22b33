//! A lone append beside what it cannot do without: one write and one `fdatasync` to a file that is already full of zeros,
//! and one signature. The three take turns, so that a busy disk is busy for all.

use crate::append::draft;
use crate::measure::{median, wall_us};
use crate::{Failed, RECORD_BYTES};
use ledger::Ledger;
use ledger::core::{SealDigest, SigningKey, signature};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Medians in microseconds of wall time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lone {
    /// One write and one sync of a preallocated file.
    pub sync_us: f64,
    /// One signature.
    pub sign_us: f64,
    /// One append, until its answer.
    pub append_us: f64,
}

impl Lone {
    /// An append over a sync and a signature.
    pub fn ratio(&self) -> f64 {
        self.append_us / (self.sync_us + self.sign_us)
    }
}

/// Measures each so many times, in turns. `at` tells them from the appends of other rounds.
///
/// # Errors
/// What the disk or the ledger says.
pub fn measure(
    ledger: &Ledger,
    dir: &Path,
    key: &SigningKey,
    at: usize,
    count: usize,
) -> Result<Lone, Failed> {
    let path = dir.join("plain");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; RECORD_BYTES * count], 0)?;
    file.sync_all()?;
    let record = [7; RECORD_BYTES];
    let (mut syncs, mut signs, mut appends) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let offset = u64::try_from(n * RECORD_BYTES)?;
        let (sync_us, written) =
            wall_us(|| file.write_all_at(&record, offset).and_then(|()| file.sync_data()));
        written?;
        syncs.push(sync_us);
        let digest = SealDigest(ledger::core::digest::content_digest(&offset.to_be_bytes()).0);
        let (sign_us, signed) = wall_us(|| signature::sign_seal(key, &digest));
        std::hint::black_box(signed);
        signs.push(sign_us);
        let draft = draft(at + n)?;
        let (append_us, appended) = wall_us(|| ledger.append(draft));
        appended?;
        appends.push(append_us);
    }
    drop(file);
    std::fs::remove_file(&path)?;
    Ok(Lone {
        sync_us: median(syncs),
        sign_us: median(signs),
        append_us: median(appends),
    })
}
