//! Making a store: keys, anchor, and a journal that holds the genesis of each log.
//!
//! The anchor says `creating` and is synced, the store is built in a directory beside its place and renamed in, the anchor
//! says `live`. A crash before the rename leaves keys, which the next try uses, and nothing else that counts; after it,
//! opening finishes the rest.

use crate::Position;
use crate::anchor::{Anchor, AnchorFile, AnchorState};
use crate::clock::{Clock, Entropy, unix_ms};
use crate::error::LedgerError;
use crate::housekeeper::anchor_of;
use crate::journal::{EntryDraft, Journal, StoreId};
use crate::keyring::{Keyring, create_private_dir};
use crate::open::{AnchorSeed, boot_id, journal_options};
use crate::options::Paths;
use crate::storage::Storage;
use ledger_core::kind::MachineId;
use ledger_core::kinds::{Founding, LogGenesis};
use ledger_core::record::Seal;
use ledger_core::{
    Chain, Draft, FleetId, Hlc, PublicKey, ReceiptId, Record, SealDigest, Stream, digest, signature,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which fleet a new store belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fleet {
    /// A fleet that exists.
    Join(FleetId),
    /// A new fleet with these keys, founded by the order log of this store.
    Found {
        /// The root key.
        root_key: PublicKey,
        /// The recovery key.
        recovery_key: PublicKey,
    },
    /// A fleet of its own: the machine key is root and recovery key. For logs that are embedded and stand alone.
    Lone,
}

/// What a new store is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewStore {
    /// The stable name of the machine.
    pub machine: MachineId,
    /// The logs that it writes.
    pub streams: Vec<Stream>,
    /// The fleet.
    pub fleet: Fleet,
}

impl NewStore {
    /// A log of facts that stands alone: a fleet of its own, what [`crate::Ledger::lone`] founds.
    ///
    /// # Errors
    /// [`LedgerError::Statement`] for a name that is no [`MachineId`].
    pub fn lone(machine: &str) -> Result<Self, LedgerError> {
        Self::of(machine, Fleet::Lone)
    }

    /// A store in a fleet that exists, with facts of its own: what keeps copies of another store's logs.
    ///
    /// # Errors
    /// [`LedgerError::Statement`] for a name that is no [`MachineId`].
    ///
    /// ```
    /// use ledger::{Ledger, NewStore, OpenOptions, Paths};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let agent = Ledger::lone(dir.path().join("agent"), "my-agent")?;
    /// let new = NewStore::join("mirror", agent.context().fleet)?;
    /// let mirror: Ledger = Ledger::create(&Paths::new(dir.path().join("mirror")), &new, OpenOptions::default())?;
    /// assert_eq!(mirror.context().fleet, agent.context().fleet);
    /// # Ok(()) }
    /// ```
    pub fn join(machine: &str, fleet: FleetId) -> Result<Self, LedgerError> {
        Self::of(machine, Fleet::Join(fleet))
    }

    fn of(machine: &str, fleet: Fleet) -> Result<Self, LedgerError> {
        Ok(Self {
            machine: MachineId::new(machine)?,
            streams: vec![Stream::Facts],
            fleet,
        })
    }

    /// The same with these logs to write.
    #[must_use]
    pub fn streams(mut self, streams: impl Into<Vec<Stream>>) -> Self {
        self.streams = streams.into();
        self
    }
}

fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { what, path, source }
}

pub(crate) fn seed<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

// The genesis records of a new store.
fn genesis(
    new: &NewStore,
    keyring: &Keyring,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Vec<Record>, LedgerError> {
    let machine_key = keyring.machine.public();
    let founding = match &new.fleet {
        Fleet::Join(_) => None,
        Fleet::Found {
            root_key,
            recovery_key,
        } => Some(Founding {
            root_key: *root_key,
            recovery_key: *recovery_key,
            nonce: seed(entropy),
        }),
        Fleet::Lone => Some(Founding {
            root_key: machine_key,
            recovery_key: machine_key,
            nonce: seed(entropy),
        }),
    };
    let fleet = match (&new.fleet, &founding) {
        (Fleet::Join(fleet), _) => *fleet,
        (_, Some(f)) => digest::fleet_id(&f.root_key.0, &f.recovery_key.0, &f.nonce),
        (_, None) => unreachable!("a fleet is joined or founded"),
    };
    let now_us = clock.now_us();
    let mut time = Hlc::default();
    let mut records = Vec::new();
    for stream in &new.streams {
        // The founding stands in the order's genesis; a lone log has no order and carries it itself.
        let founds = *stream == Stream::Order || new.fleet == Fleet::Lone;
        let detail = LogGenesis {
            machine: new.machine.clone(),
            stream: *stream,
            incarnation: 1,
            machine_key,
            checkpoint_key: keyring.checkpoint(*stream).public(),
            predecessor: None,
            founding: founding.clone().filter(|_| founds),
            nonce: seed(entropy),
        };
        let subject = ledger_core::Subject::new(&format!("node/{}", new.machine))?;
        let id = ReceiptId::v7(unix_ms(now_us), seed(entropy));
        let said = Draft::of(&detail, subject).into_statement(fleet, machine_key, id, now_us, [0; 32])?;
        time = time.tick(unix_ms(now_us));
        let log = digest::log_id(&said.bytes);
        let seal = Seal {
            version: 1,
            log,
            seq: 0,
            prev: SealDigest::ZERO,
            time,
            statement: said.digest,
        };
        let signed = signature::sign_seal(&keyring.machine, &seal.digest());
        records.push(Record::assemble(said.statement, &said.bytes, None, seal, signed));
    }
    Ok(records)
}

pub(crate) fn build(
    paths: &Paths,
    new: &NewStore,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    storage: &Arc<dyn Storage>,
    segment_bytes: Option<u32>,
) -> Result<(), LedgerError> {
    if paths.journal().exists() {
        return Err(LedgerError::StoreExists(paths.dir.clone()));
    }
    create_private_dir(&paths.dir)?;
    let keyring = if paths.anchor().exists() {
        Keyring::open(&paths.keys())?
    } else {
        Keyring::create(&paths.keys(), entropy)?
    };
    let store = StoreId(seed(entropy));
    let boot = boot_id();
    let mut anchor = Anchor {
        store,
        state: AnchorState::Creating,
        epoch: 1,
        boot,
        clean: true,
        durable: Position::START,
        logs: Vec::new(),
    };
    let mut file = match AnchorFile::open(Arc::clone(storage), &paths.anchor())? {
        Some((_, known)) if known.state == AnchorState::Live => {
            return Err(LedgerError::StoreLost(paths.dir.clone()));
        }
        Some((mut file, _)) => {
            file.write(&anchor)?;
            file
        }
        None => AnchorFile::create(Arc::clone(storage), &paths.anchor(), &anchor)?,
    };
    let making = paths.dir.join("data.creating");
    if making.exists() {
        std::fs::remove_dir_all(&making).map_err(io("clearing", &making))?;
    }
    create_private_dir(&making)?;
    let records = genesis(new, &keyring, clock, entropy)?;
    let options = journal_options(entropy, segment_bytes);
    let (mut journal, _) = Journal::create(Arc::clone(storage), &making.join("journal"), store, options)?;
    let drafts: Vec<_> = records
        .iter()
        .map(|r| EntryDraft {
            record: r.bytes(),
            payload: None,
        })
        .collect();
    journal.append(&drafts)?;
    anchor.durable = journal.durable_end();
    journal.close()?;
    storage.sync_dir(&making).map_err(io("syncing", &making))?;
    storage
        .rename(&making, &paths.data())
        .map_err(io("putting the store in its place", &paths.data()))?;
    storage.sync_dir(&paths.dir).map_err(io("syncing", &paths.dir))?;
    let mut logs = BTreeMap::new();
    let mut own = BTreeMap::new();
    for record in &records {
        let chain = Chain::start(record)?;
        own.insert(chain.genesis().stream, chain.log());
        logs.insert(chain.log(), Arc::new(chain));
    }
    let seed = AnchorSeed {
        store,
        epoch: anchor.epoch,
        boot: anchor.boot.clone(),
        same_boot: true,
    };
    let none = BTreeMap::new();
    file.write(&anchor_of(&seed, &own, &logs, &none, anchor.durable, true))?;
    Ok(())
}
