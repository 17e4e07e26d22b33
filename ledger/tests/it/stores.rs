//! Builders shared by the tests of whole stores.

use ledger::core::kinds::{Detail, LogPinned, PinnedRange};
use ledger::core::{Draft, FleetId, Kind, LogId, Payload, ReceiptId, Stream, Subject};
use ledger::intake::{RawRecord, VerifiedRun};
use ledger::journal::JournalReader;
use ledger::storage::{Access, DiskStorage, Storage, StorageFile};
use ledger::verify::{Options, Report, verify_store};
use ledger::{
    Change, Changes, Fleet, Ledger, LedgerError, NewStore, OpenOptions, Paths, Position, Receipt, Row, State,
    StateContext,
};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A state that counts the receipts about each subject.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counter {
    pub(crate) counts: BTreeMap<String, u64>,
}

impl State for Counter {
    const NAME: &'static str = "counter";
    const VERSION: u32 = 1;

    fn empty(_: &StateContext) -> Self {
        Self::default()
    }

    fn fold(&mut self, receipt: &Receipt, changes: &mut Changes) {
        let subject = receipt.statement().subject.as_str().to_owned();
        let count = self.counts.entry(subject.clone()).or_default();
        let old = (*count > 0).then(|| count.to_be_bytes().to_vec());
        *count += 1;
        let new = Some(count.to_be_bytes().to_vec());
        changes.note(|| Change {
            table: 1,
            key: subject.into_bytes(),
            old,
            new,
        });
    }

    // Whoever wrote a record may say that it is erased.
    fn erases(&self, erasing: &ledger::Erasing<'_>) -> bool {
        erasing.own || erasing.receipt.log() == erasing.record.log
    }

    fn load(&mut self, row: &Row) -> Result<(), String> {
        let key = String::from_utf8(row.key.clone()).map_err(|e| e.to_string())?;
        let value = row
            .value
            .as_slice()
            .try_into()
            .map_err(|_| "eight bytes".to_owned())?;
        self.counts.insert(key, u64::from_be_bytes(value));
        Ok(())
    }
}

/// A store of its own with facts and work, as its own fleet's founder, and an order when asked for.
pub(crate) fn found(dir: &Path, machine: &str, order: bool) -> Ledger<Counter> {
    found_with(dir, machine, order, OpenOptions::default())
}

pub(crate) fn found_with(
    dir: &Path,
    machine: &str,
    order: bool,
    options: OpenOptions<Counter>,
) -> Ledger<Counter> {
    let mut streams = vec![Stream::Work, Stream::Facts];
    if order {
        streams.push(Stream::Order);
    }
    let key = ledger::core::SigningKey::from_seed([42; 32]).public();
    let recovery = ledger::core::SigningKey::from_seed([43; 32]).public();
    let fleet = if order {
        Fleet::Found {
            root_key: key,
            recovery_key: recovery,
        }
    } else {
        Fleet::Lone
    };
    let new = NewStore {
        machine: ledger::core::MachineId::new(machine).unwrap(),
        streams,
        fleet,
    };
    Ledger::create(&Paths::new(dir), &new, options).unwrap()
}

/// A store that belongs to a fleet founded elsewhere.
pub(crate) fn join(dir: &Path, machine: &str, fleet: FleetId) -> Ledger<Counter> {
    let new = NewStore {
        machine: ledger::core::MachineId::new(machine).unwrap(),
        streams: vec![Stream::Work, Stream::Facts],
        fleet: Fleet::Join(fleet),
    };
    Ledger::create(&Paths::new(dir), &new, OpenOptions::default()).unwrap()
}

pub(crate) fn open(dir: &Path) -> Ledger<Counter> {
    Ledger::open(&Paths::new(dir), OpenOptions::default()).unwrap()
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::new(text).unwrap()
}

pub(crate) fn fact(about: &str) -> Draft {
    Draft::custom(Kind::new("x.fact").unwrap(), subject(about))
}

pub(crate) fn fact_with(about: &str, content: &[u8]) -> Draft {
    fact(about).payload("text/plain", content.to_vec()).unwrap()
}

pub(crate) fn id(number: u64) -> ReceiptId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    ReceiptId::v7(1_700_000_000_000, random)
}

/// Records of one log of a store, as another store would be handed them.
pub(crate) fn raw(ledger: &Ledger<Counter>, log: &LogId, first: u64, last: u64) -> Vec<RawRecord> {
    ledger
        .range(log, first, last)
        .map(|receipt| {
            let receipt = receipt.unwrap();
            let payload = ledger.payload(&receipt).unwrap().present();
            (receipt.record.bytes().to_vec(), payload)
        })
        .collect()
}

/// Takes a run into a store.
pub(crate) fn take_in(
    ledger: &Ledger<Counter>,
    log: &LogId,
    run: Vec<RawRecord>,
) -> Result<ledger::Intake, LedgerError> {
    let known = ledger.snapshot().logs.get(log).cloned();
    let run = VerifiedRun::verify(run, known.as_deref())?.unwrap();
    let committed = ledger
        .commit(move |tx| tx.intake(&run))
        .map_err(ledger::CommitError::into_ledger)?;
    Ok(committed.value)
}

/// A pin of a log as far as a store knows it.
pub(crate) fn pin(ledger: &Ledger<Counter>, log: &LogId) -> Draft {
    let head = ledger.head(log).unwrap();
    let range = PinnedRange {
        log: *log,
        first: 0,
        last: head.seq,
        seal: head.seal,
        root: Some(head.root),
    };
    pin_of(range)
}

pub(crate) fn pin_of(range: PinnedRange) -> Draft {
    let pinned = LogPinned { ranges: vec![range] };
    assert_eq!(LogPinned::KIND, "log.pinned");
    Draft::of(&pinned, subject("pin"))
}

pub(crate) fn verify(dir: &Path) -> Report {
    verify_store(dir, &Options::default(), &mut |_| {}).unwrap()
}

pub(crate) fn assert_clean(dir: &Path) -> Report {
    let report = verify(dir);
    assert!(report.is_clean(), "{report}");
    report
}

/// Copies a store's directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
}

/// Everything in a journal folder: position, record and payload of each entry.
pub(crate) fn entries(dir: &Path) -> Vec<(Position, Vec<u8>, Option<Payload>)> {
    let journal = Paths::new(dir).journal();
    let reader = JournalReader::open(Arc::new(DiskStorage), &journal).unwrap();
    reader
        .scan(Position::START)
        .with_payloads()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.position, entry.record, entry.payload)
        })
        .collect()
}

/// A small generator of numbers, so that a seed reproduces a run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// How long a sync is held up at most, and waited for.
const HELD_MAX: Duration = Duration::from_secs(60);

/// What the next write meets, to a segment if nothing else is said.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    now: Mutex<u8>,
    // What the last write that succeeds carries.
    last: Mutex<Option<Vec<u8>>>,
    // Syncs that are held up.
    held: Mutex<u32>,
    changed: Condvar,
}

impl Faults {
    pub(crate) const NONE: u8 = 0;
    /// The write fails, and nothing was written.
    pub(crate) const WRITE: u8 = 1;
    /// A write to any file of the store fails, and nothing was written.
    pub(crate) const ANY_WRITE: u8 = 5;
    /// The write succeeds, and the sync behind it fails.
    pub(crate) const SYNC: u8 = 2;

    /// No byte can be read.
    pub(crate) const READ: u8 = 4;
    /// A sync does not return until another fault is set, which it then meets, or for a minute.
    pub(crate) const HELD: u8 = 3;

    pub(crate) fn set(&self, fault: u8) {
        *self.now.lock().unwrap() = fault;
        self.changed.notify_all();
    }

    /// No write to any file of the store succeeds after the one that carries `bytes`.
    pub(crate) fn set_behind(&self, bytes: &[u8]) {
        *self.last.lock().unwrap() = Some(bytes.to_vec());
    }

    fn wrote(&self, bytes: &[u8]) {
        let mut last = self.last.lock().unwrap();
        if last
            .as_ref()
            .is_some_and(|last| bytes.windows(last.len()).any(|w| w == last))
        {
            *last = None;
            self.set(Self::ANY_WRITE);
        }
    }

    /// Waits until a sync is held up.
    pub(crate) fn wait_for_a_held_sync(&self) {
        let held = self.held.lock().unwrap();
        let waited = self.changed.wait_timeout_while(held, HELD_MAX, |held| *held == 0);
        assert!(!waited.unwrap().1.timed_out(), "no sync is asked for");
    }

    fn is(&self, fault: u8) -> bool {
        *self.now.lock().unwrap() == fault
    }

    fn pass(&self) {
        if !self.is(Self::HELD) {
            return;
        }
        *self.held.lock().unwrap() += 1;
        self.changed.notify_all();
        let now = self.now.lock().unwrap();
        // Not for ever: a test that fails meanwhile closes its store, which waits for this.
        let let_go = self
            .changed
            .wait_timeout_while(now, HELD_MAX, |now| *now == Self::HELD);
        drop(let_go.unwrap());
        *self.held.lock().unwrap() -= 1;
    }
}

/// The real disk, which can be made to fail.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    disk: DiskStorage,
    pub(crate) faults: Arc<Faults>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn StorageFile>,
    faults: Arc<Faults>,
    is_segment: bool,
}

impl Failing {
    fn wrap(&self, path: &Path, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        let extension = path.extension();
        Arc::new(FailingFile {
            file,
            faults: Arc::clone(&self.faults),
            is_segment: extension.is_some_and(|extension| extension == "seg" || extension == "new"),
        })
    }
}

impl StorageFile for FailingFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.is_segment && self.faults.is(Faults::READ) {
            return Err(io::Error::other("injected"));
        }
        self.file.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.faults.is(Faults::ANY_WRITE) || self.is_segment && self.faults.is(Faults::WRITE) {
            return Err(io::Error::other("injected"));
        }
        self.file.write_at(offset, bytes)?;
        self.faults.wrote(bytes);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.is_segment {
            self.faults.pass();
            if self.faults.is(Faults::SYNC) {
                return Err(io::Error::other("injected"));
            }
        }
        self.file.sync_data()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Storage for Failing {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(path, self.disk.open(path, access)?))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(path, self.disk.create_new(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

/// A folder for one machine, for its owner alone.
pub(crate) fn temp() -> tempfile::TempDir {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().unwrap()
}
