//! What people would use instead, given the same records: a hash chain in SQLite, redb, fjall or a plain file, with and
//! without an Ed25519 signature of each record.
//!
//! Each store is used in the two ways that people use it: a transaction for each append, and one thread that puts up to 64
//! appends that wait into one transaction. Both are durable before anybody is answered. The thread signs on all cores,
//! as the ledger does. Nothing else that the ledger does is asked of them: no tree, no salted payloads, no strict format.

mod fjall;
mod plain;
mod redb;
mod sqlite;

use crate::measure::{Cost, Counted, counted, median, median_cost, wall_us};
use crate::{CALLERS, Failed, PAYLOAD_BYTES};
use ed25519_dalek::{Signer, SigningKey};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The kind of the bench record.
const KIND: &str = "x.bench.record";
/// Seed of the key that signs on the peers' side.
const SEED: [u8; 32] = [9; 32];

/// What a caller brings: as much as the bench record says.
#[derive(Clone, Debug)]
struct Entry {
    id: [u8; 16],
    time_us: u64,
    subject: String,
    payload: Vec<u8>,
}

/// The same with its place in the chain.
struct Link {
    entry: Entry,
    seq: u64,
    prev: [u8; 32],
    hash: [u8; 32],
    signature: Option<[u8; 64]>,
}

impl Link {
    // The row as bytes, for the stores that keep bytes.
    fn encode(&self, out: &mut Vec<u8>) {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.prev);
        out.extend_from_slice(&self.hash);
        for part in [
            self.signature.as_ref().map_or(&[][..], |s| &s[..]),
            &self.entry.id,
            &self.entry.time_us.to_be_bytes(),
            KIND.as_bytes(),
            self.entry.subject.as_bytes(),
            &self.entry.payload,
        ] {
            out.extend_from_slice(&length(part));
            out.extend_from_slice(part);
        }
    }
}

/// A store that makes some links durable in one transaction.
trait Peer: Send {
    fn commit(&mut self, links: &[Link]) -> Result<(), Failed>;
}

/// The end of the chain and the store behind it.
struct Writer {
    peer: Box<dyn Peer>,
    next: u64,
    last: [u8; 32],
    key: Option<SigningKey>,
}

impl Writer {
    fn append(&mut self, entries: Vec<Entry>) -> Result<(), Failed> {
        let mut links: Vec<Link> = entries.into_iter().map(|entry| self.link(entry)).collect();
        if let Some(key) = &self.key {
            let sign = |link: &mut Link| link.signature = Some(key.sign(&link.hash).to_bytes());
            if links.len() == 1 {
                links.iter_mut().for_each(sign);
            } else {
                links.par_iter_mut().for_each(sign);
            }
        }
        self.peer.commit(&links)
    }

    fn link(&mut self, entry: Entry) -> Link {
        let mut hash = Sha256::new();
        hash.update(self.last);
        hash.update(entry.id);
        hash.update(entry.time_us.to_be_bytes());
        hash.update(KIND);
        hash.update(&entry.subject);
        hash.update(&entry.payload);
        let (seq, prev) = (self.next, self.last);
        self.next += 1;
        self.last = hash.finalize().into();
        let hash = self.last;
        Link {
            entry,
            seq,
            prev,
            hash,
            signature: None,
        }
    }
}

/// Which store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    /// SQLite: write-ahead log, `synchronous = FULL`.
    Sqlite,
    /// redb: durable commits.
    Redb,
    /// fjall: a table and four indexes, `PersistMode::SyncAll`.
    Fjall,
    /// A file: `write`, `fdatasync`.
    Plain,
}

impl Store {
    /// All of them.
    pub const ALL: [Store; 4] = [Store::Sqlite, Store::Redb, Store::Fjall, Store::Plain];

    /// How it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Redb => "redb",
            Self::Fjall => "fjall, four indexes",
            Self::Plain => "plain file",
        }
    }

    fn open(self, dir: &Path) -> Result<Box<dyn Peer>, Failed> {
        Ok(match self {
            Self::Sqlite => Box::new(sqlite::Sqlite::open(&dir.join("log.sqlite"))?),
            Self::Redb => Box::new(redb::Redb::open(&dir.join("log.redb"))?),
            Self::Fjall => Box::new(fjall::Fjall::open(&dir.join("fjall"))?),
            Self::Plain => Box::new(plain::Plain::open(&dir.join("log.bin"))?),
        })
    }
}

/// How long and how often a peer is asked in each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effort {
    /// Appends at most when callers share transactions.
    pub grouped: usize,
    /// Appends at most when each has its own.
    pub each: usize,
    /// Lone appends at most.
    pub lone: usize,
    /// Each of the three ends after this time, too.
    pub within: Duration,
}

/// What one store came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Appends {
    /// 64 appends wait at a time, one thread puts them into one transaction.
    pub grouped: Cost,
    /// 64 threads, a transaction for each append.
    pub each: Cost,
    /// One caller alone, microseconds of wall time, the middle.
    pub lone_us: f64,
}

impl Appends {
    /// The medians of some rounds.
    pub fn median(rounds: &[Appends]) -> Self {
        let costs = |of: fn(&Appends) -> Cost| rounds.iter().map(of).collect::<Vec<Cost>>();
        Self {
            grouped: median_cost(&costs(|round| round.grouped)),
            each: median_cost(&costs(|round| round.each)),
            lone_us: median(rounds.iter().map(|round| round.lone_us).collect()),
        }
    }
}

/// Measures one store in an empty folder.
///
/// # Errors
/// What the store says.
pub fn measure(store: Store, signed: bool, dir: &Path, effort: Effort) -> Result<Appends, Failed> {
    std::fs::create_dir_all(dir)?;
    let mut writer = Writer {
        peer: store.open(dir)?,
        next: 0,
        last: [0; 32],
        key: signed.then(|| SigningKey::from_bytes(&SEED)),
    };
    let (lone, rest) = (entries(0, effort.lone), effort.lone);
    let lone_us = alone(&mut writer, lone, effort.within)?;
    let writer = Mutex::new(writer);
    let each = each(&writer, entries(rest, effort.each), effort.within)?;
    let writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
    let grouped = grouped(writer, entries(rest + effort.each, effort.grouped), effort.within)?;
    std::fs::remove_dir_all(dir)?;
    Ok(Appends {
        grouped,
        each,
        lone_us,
    })
}

fn entries(from: usize, count: usize) -> Vec<Entry> {
    let entry = |n: usize| {
        let time_us = 1_750_000_000_000_000 + u64::try_from(n).unwrap_or(u64::MAX);
        // As a UUIDv7: milliseconds in front, then bytes that look random.
        let mut id: [u8; 16] = Sha256::digest(n.to_be_bytes())[..16]
            .try_into()
            .unwrap_or_default();
        id[..6].copy_from_slice(&(time_us / 1000).to_be_bytes()[2..]);
        Entry {
            id,
            time_us,
            subject: format!("bench/{n}"),
            payload: vec![u8::try_from(n % 251).unwrap_or(0); PAYLOAD_BYTES],
        }
    };
    (from..from + count).map(entry).collect()
}

fn alone(writer: &mut Writer, entries: Vec<Entry>, within: Duration) -> Result<f64, Failed> {
    let (began, mut took) = (Instant::now(), Vec::new());
    for entry in entries {
        if began.elapsed() > within {
            break;
        }
        let (us, done) = wall_us(|| writer.append(vec![entry]));
        done?;
        took.push(us);
    }
    Ok(median(took))
}

// 64 threads take turns with the store.
fn each(writer: &Mutex<Writer>, entries: Vec<Entry>, within: Duration) -> Result<Cost, Failed> {
    let mut shares: Vec<Vec<Entry>> = (0..CALLERS).map(|_| Vec::new()).collect();
    for (n, entry) in entries.into_iter().enumerate() {
        shares[n % CALLERS].push(entry);
    }
    let caller = |share: Vec<Entry>, until: Instant| -> Result<usize, Failed> {
        let mut done = 0;
        for entry in share {
            if Instant::now() > until {
                break;
            }
            writer
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(vec![entry])?;
            done += 1;
        }
        Ok(done)
    };
    counted(|| {
        let until = Instant::now() + within;
        std::thread::scope(|scope| {
            let callers: Vec<_> = shares
                .into_iter()
                .map(|share| scope.spawn(move || caller(share, until)))
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().expect("a caller does not panic"))
                .sum()
        })
    })
}

/// How far the thread that writes is, or why it stopped.
#[derive(Default)]
struct Durable {
    state: Mutex<(u64, Option<String>)>,
    moved: Condvar,
}

impl Durable {
    fn wait_for(&self, count: u64) -> Result<(), Failed> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(why) = &state.1 {
                return Err(why.clone().into());
            }
            if state.0 >= count {
                return Ok(());
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn advance(&self, by: Result<u64, Failed>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match by {
            Ok(count) => state.0 += count,
            Err(why) => state.1 = Some(why.to_string()),
        }
        self.moved.notify_all();
        state.1.is_none()
    }
}

fn write_groups(mut writer: Writer, queue: &Receiver<Entry>, durable: &Durable) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter().take(CALLERS - 1));
        let count = u64::try_from(group.len()).unwrap_or(u64::MAX);
        if !durable.advance(writer.append(group).map(|()| count)) {
            break;
        }
    }
}

// One caller that keeps 64 appends open, one thread that writes what waits in one transaction.
fn grouped(writer: Writer, entries: Vec<Entry>, within: Duration) -> Result<Cost, Failed> {
    let durable = Durable::default();
    let (sender, queue) = sync_channel::<Entry>(CALLERS);
    let callers = u64::try_from(CALLERS)?;
    let durable = &durable;
    counted(move || {
        std::thread::scope(|scope| {
            scope.spawn(move || write_groups(writer, &queue, durable));
            let until = Instant::now() + within;
            let mut said: u64 = 0;
            for entry in entries {
                if Instant::now() > until {
                    break;
                }
                durable.wait_for((said + 1).saturating_sub(callers))?;
                sender.send(entry)?;
                said += 1;
            }
            durable.wait_for(said)?;
            drop(sender);
            Counted::try_from(said).map_err(Failed::from)
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_store_takes_appends_in_every_way() {
        let dir = tempfile::tempdir().unwrap();
        let effort = Effort {
            grouped: 200,
            each: 64,
            lone: 3,
            within: Duration::from_secs(60),
        };
        for store in Store::ALL {
            for signed in [false, true] {
                let appends = measure(store, signed, &dir.path().join("peer"), effort).unwrap();
                assert!(appends.grouped.per_second > 0.0, "{store:?} {appends:?}");
            }
        }
    }
}
