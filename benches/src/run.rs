//! One run of everything: what is compared takes turns, so that a busy minute is busy for all.

use crate::child::{self, Task, Told};
use crate::lone::{self, Lone};
use crate::measure::Cost;
use crate::peers::{self, Appends, Store};
use crate::read::{self, Lookups};
use crate::{CALLERS, CROWD, Failed, Size, append, fold, sign, verify};
use ledger::Ledger;
use ledger::core::SigningKey;
use std::path::Path;
use std::time::{Duration, Instant};

// Time for the rounds of appending, and for those of verifying: on a busy machine there are fewer of them.
const APPENDING_WITHIN: Duration = Duration::from_secs(28);
const VERIFYING_WITHIN: Duration = Duration::from_secs(16);

/// Rounds of the ledger and other stores in turns.
const COMPARED_ROUNDS: usize = 3;

/// A small log that is killed, beside the big one.
const KILLED_SMALL: usize = 20_000;

/// A store of so many receipts in processes of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct Big {
    /// Receipts of the bench.
    pub receipts: usize,
    /// Appending them.
    pub append: Told,
    /// What each takes beside its payload: in the journal, and beside the journal.
    pub bytes: (f64, f64),
    /// Opening the store after it was closed cleanly.
    pub open: Told,
    /// Verifying by hashes alone.
    pub fast: Told,
    /// Verifying in full.
    pub full: Told,
    /// Opening after a kill.
    pub killed: Killed,
}

/// An opening after a kill.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Killed {
    /// Milliseconds until the store was open.
    pub open_ms: f64,
    /// Bytes of the whole journal on disk.
    pub journal_bytes: u64,
    /// Bytes of its newest segment.
    pub segment_bytes: u64,
}

/// What all rounds came to.
#[derive(Default)]
pub struct Measured {
    /// `SigningKey::sign` alone.
    pub sign: Vec<Cost>,
    /// The ledger's own batches of signatures alone.
    pub sign_batches: Vec<Cost>,
    /// Appends of 64 threads.
    pub threads: Vec<Cost>,
    /// Appends with 64 tickets.
    pub tickets: Vec<Cost>,
    /// Appends with 512 tickets.
    pub crowd: Vec<Cost>,
    /// Lone appends.
    pub lone: Vec<Lone>,
    /// Appends of statements that actors signed.
    pub actor: Vec<Cost>,
    /// A signature and a strict check alone.
    pub actor_floor: Vec<Cost>,
    /// Single receipts.
    pub lookups: Vec<Lookups>,
    /// All receipts, read and decoded.
    pub scans: Vec<Cost>,
    /// Openings after a clean stop.
    pub opens_ms: Vec<f64>,
    /// dalek's batches alone.
    pub batch: Vec<Cost>,
    /// Batches of one key alone.
    pub one_key: Vec<Cost>,
    /// Full verification.
    pub full: Vec<Cost>,
    /// Hash tier.
    pub hashes: Vec<Cost>,
    /// Folds of an order, requests in machines' logs.
    pub folds: Vec<Cost>,
    /// Receipts and jobs of that order.
    pub folded: (usize, usize),
    /// Folds of an order with the requests in it.
    pub folds_proving: Vec<Cost>,
    /// Receipts of the bench record's store.
    pub receipts: usize,
    /// What a job's record takes beside its payload: in the journal, and beside the journal.
    pub job_bytes: (f64, f64),
    /// The ledger in turns with other stores.
    pub own: Vec<Appends>,
    /// Other stores: which, whether signed, what they came to in each round.
    pub peers: Vec<(Store, bool, Vec<Appends>)>,
    /// An opening of a small store after a kill.
    pub killed: Option<Killed>,
    /// Stores in processes of their own.
    pub big: Vec<Big>,
}

/// Measures everything in a folder. `large` adds the store of millions.
///
/// # Errors
/// What any part says.
pub fn run(dir: &Path, size: Size, large: Option<usize>) -> Result<Measured, Failed> {
    let mut m = Measured::default();
    let key = SigningKey::from_seed(sign::SEED);
    appending(&mut m, dir, size, &key)?;
    comparing(&mut m, dir, size, &key)?;
    actors(&mut m, dir, size)?;
    verifying(&mut m, &dir.join("store"), size, &key)?;
    std::fs::remove_dir_all(dir.join("store"))?;
    folding(&mut m, size)?;
    m.killed = Some(killed(&dir.join("small"), KILLED_SMALL.min(size.memory))?);
    for receipts in [Some(size.memory), large].into_iter().flatten() {
        m.big.push(big(&dir.join("big"), receipts)?);
    }
    Ok(m)
}

fn appending(m: &mut Measured, dir: &Path, size: Size, key: &SigningKey) -> Result<(), Failed> {
    let store = dir.join("store");
    let ledger = Ledger::lone(&store, "bench")?;
    append::threads(&ledger, size.appends / 4)?;
    let mut said = size.appends / 4;
    let began = Instant::now();
    while m.sign.len() < size.rounds && began.elapsed() < APPENDING_WITHIN {
        m.sign.push(sign::dalek_alone(size.signatures));
        m.threads.push(append::threads(&ledger, size.appends)?);
        m.sign_batches.push(sign::batches_alone(key, size.signatures));
        m.tickets.push(append::tickets(&ledger, size.appends, CALLERS)?);
        m.crowd.push(append::tickets(&ledger, size.appends, CROWD)?);
        said += 3 * size.appends;
        m.lone.push(lone::measure(&ledger, dir, key, said, size.lone)?);
        said += size.lone;
    }
    m.receipts = said + 1; // with the genesis
    for _ in 0..size.rounds {
        m.lookups.push(read::lookups(&ledger, size.lone)?);
        m.scans.push(read::scan(&ledger, m.receipts)?);
    }
    ledger.close()?;
    for _ in 0..size.rounds {
        m.opens_ms.push(read::open(&store)?);
    }
    Ok(())
}

// The ledger and other stores in turns, each in an empty folder of its own.
fn comparing(m: &mut Measured, dir: &Path, size: Size, key: &SigningKey) -> Result<(), Failed> {
    let stores = || [true, false].map(|signed| Store::ALL.map(|store| (store, signed, Vec::new())));
    m.peers = stores().into_iter().flatten().collect();
    for _ in 0..size.rounds.min(COMPARED_ROUNDS) {
        let own = dir.join("own");
        let ledger = Ledger::lone(&own, "bench")?;
        m.own.push(Appends {
            grouped: append::tickets(&ledger, size.appends, CALLERS)?,
            each: append::threads(&ledger, size.appends)?,
            lone_us: lone::measure(&ledger, dir, key, 2 * size.appends, size.lone)?.append_us,
        });
        ledger.close()?;
        std::fs::remove_dir_all(own)?;
        for (store, signed, appends) in &mut m.peers {
            appends.push(peers::measure(*store, *signed, &dir.join("peer"), size.peers)?);
        }
    }
    Ok(())
}

// Stores of their own: the bytes of each are those of one record alone.
fn actors(m: &mut Measured, dir: &Path, size: Size) -> Result<(), Failed> {
    let actor = SigningKey::from_seed([8; 32]);
    let ledger = Ledger::lone(dir.join("actor"), "bench")?;
    for round in 0..2 {
        let from = round * size.appends;
        let said = append::said(&ledger, &actor, from, size.appends, false)?;
        m.actor_floor.push(sign::signed_and_checked(size.appends)?);
        m.actor.push(append::signed_tickets(&ledger, said)?);
    }
    ledger.close()?;
    std::fs::remove_dir_all(dir.join("actor"))?;
    let job = dir.join("job");
    let ledger = Ledger::lone(&job, "bench")?;
    let said = append::said(&ledger, &actor, 0, size.appends, true)?;
    append::signed_tickets(&ledger, said)?;
    ledger.close()?;
    m.job_bytes = beside_payload(&job, size.appends)?;
    Ok(std::fs::remove_dir_all(job)?)
}

fn verifying(m: &mut Measured, store: &Path, size: Size, key: &SigningKey) -> Result<(), Failed> {
    let signed = sign::signed(key, m.receipts);
    let began = Instant::now();
    while m.batch.len() < size.rounds && began.elapsed() < VERIFYING_WITHIN {
        m.batch.push(verify::dalek_alone(&key.verifier(), &signed)?);
        m.one_key.push(verify::one_key_alone(&key.verifier(), &signed)?);
        m.full.push(verify::store(store, true, m.receipts)?);
        m.hashes.push(verify::store(store, false, m.receipts)?);
    }
    Ok(())
}

fn folding(m: &mut Measured, size: Size) -> Result<(), Failed> {
    let [relayed, in_order] = fold::orders(size.jobs)?;
    m.folded = (relayed.receipts.len(), relayed.jobs);
    for _ in 0..size.rounds {
        m.folds.push(fold::replay(&relayed)?);
        m.folds_proving.push(fold::replay(&in_order)?);
    }
    Ok(())
}

fn killed(dir: &Path, after: usize) -> Result<Killed, Failed> {
    child::kill(dir, after)?;
    let journal = dir.join("data").join("journal");
    let killed = Killed {
        journal_bytes: bytes_in(&journal)?,
        segment_bytes: newest_segment(&journal)?,
        open_ms: child::run(Task::Open, dir, 0)?.open_ms,
    };
    std::fs::remove_dir_all(dir)?;
    Ok(killed)
}

fn big(dir: &Path, receipts: usize) -> Result<Big, Failed> {
    Ok(Big {
        receipts,
        append: child::run(Task::Append, dir, receipts)?,
        bytes: beside_payload(dir, receipts)?,
        open: child::run(Task::Open, dir, receipts)?,
        fast: child::run(Task::VerifyFast, dir, receipts)?,
        full: child::run(Task::VerifyFull, dir, receipts)?,
        killed: killed(dir, KILLED_SMALL.min(receipts))?,
    })
}

// Bytes on disk for each receipt, those of the journal beside the payload, and those of derived rows.
fn beside_payload(store: &Path, receipts: usize) -> Result<(f64, f64), Failed> {
    let each = |bytes: u64| bytes_f(bytes) / crate::measure::number(receipts);
    let journal = each(bytes_in(&store.join("data").join("journal"))?);
    let derived = each(bytes_in(&store.join("data").join("derived"))?);
    Ok((journal - crate::measure::number(crate::PAYLOAD_BYTES), derived))
}

// Space that the files of a folder take on disk.
fn bytes_in(dir: &Path) -> Result<u64, Failed> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            bytes_in(&entry.path())?
        } else {
            bytes_of(&entry)?
        };
    }
    Ok(sum)
}

fn bytes_of(file: &std::fs::DirEntry) -> Result<u64, Failed> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.blocks() * 512)
}

fn newest_segment(journal: &Path) -> Result<u64, Failed> {
    let segments = std::fs::read_dir(journal)?.collect::<Result<Vec<_>, _>>()?;
    let newest = segments
        .iter()
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "seg"))
        .max_by_key(|file| file.file_name());
    bytes_of(newest.ok_or("a journal has a segment")?)
}

/// Bytes as a number to divide.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of a benchmark are far below 2^52"
)]
pub fn bytes_f(bytes: u64) -> f64 {
    bytes as f64
}
