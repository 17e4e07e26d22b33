//! Opening a store: the lock, keys and anchor, the journal with its recovery, then everything that is derived.
//!
//! What a crash leaves at any point of an opening: a store that the next opening treats the same way.

use crate::anchor::{Anchor, AnchorFile, AnchorState};
use crate::behind::{self, Behind};
use crate::clock::{Entropy, unix_ms};
use crate::create::{Fleet, NewStore, build, seed};
use crate::derived::Derived;
use crate::erase;
use crate::error::LedgerError;
use crate::housekeeper::{Step, anchor_of};
use crate::journal::{Journal, JournalOptions, JournalReader, OpenContext, StoreId};
use crate::keyring::Keyring;
use crate::ledger::Ledger;
use crate::lock::StoreLock;
use crate::options::{OpenOptions, Paths};
use crate::prune::{Pruned, is_pruned, kept};
use crate::read::{get, receipt_of};
use crate::restore::{Restored, restore};
use crate::shared::{Parts, Published};
use crate::state::State;
use crate::{Position, Receipt};
use ledger_core::error::ChainError;
use ledger_core::kind::MachineId;
use ledger_core::{Chain, LogId, PublicKey, ReceiptId, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The constant part of the anchor.
#[derive(Clone, Debug)]
pub(crate) struct AnchorSeed {
    pub(crate) store: StoreId,
    pub(crate) epoch: u64,
    pub(crate) boot: String,
    /// Whether the operating system still runs since the anchor was written.
    pub(crate) same_boot: bool,
}

/// The operating system's boot id, where it has one.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

pub(crate) fn journal_options(entropy: &dyn Entropy, segment_bytes: Option<u32>) -> JournalOptions {
    let mut options = JournalOptions::new(seed(entropy));
    if let Some(bytes) = segment_bytes {
        options.segment_bytes = bytes;
    }
    options
}

impl<S: State> Ledger<S> {
    /// Makes a store and opens it. Keys that lie there already are used, so that a machine can make its keys first.
    ///
    /// # Errors
    /// [`LedgerError::StoreExists`] when there is one; [`LedgerError::StoreLost`] when the keys belong to one that is gone.
    pub fn create(paths: &Paths, new: &NewStore, options: OpenOptions<S>) -> Result<Self, LedgerError> {
        build(
            paths,
            new,
            &*options.clock,
            &*options.entropy,
            &options.storage,
            options.segment_bytes,
        )?;
        Self::open(paths, options)
    }

    /// Opens a store: takes the lock, recovers the journal, folds what the derived store lacks.
    ///
    /// # Errors
    /// [`LedgerError`]: no store, another process has it, keys and data do not belong together, damage below what was
    /// acknowledged.
    pub fn open(paths: &Paths, options: OpenOptions<S>) -> Result<Self, LedgerError> {
        open(paths, options, Opening::Ordinary)
    }

    /// Opens the store, or makes it when there is none.
    ///
    /// # Errors
    /// As [`Ledger::open`] and [`Ledger::create`].
    pub fn open_or_create(
        paths: &Paths,
        new: &NewStore,
        options: OpenOptions<S>,
    ) -> Result<Self, LedgerError> {
        if paths.journal().exists() {
            Self::open(paths, options)
        } else {
            Self::create(paths, new, options)
        }
    }
}

impl Ledger<()> {
    /// Opens the embedded log in a directory, or founds one of its own there: one log of facts, no fleet, no order.
    ///
    /// # Errors
    /// As [`Ledger::open`] and [`Ledger::create`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = ledger::Ledger::lone(dir.path().join("log"), "my-agent")?;
    /// # Ok(()) }
    /// ```
    pub fn lone(dir: impl Into<std::path::PathBuf>, machine: &str) -> Result<Self, LedgerError> {
        let machine = MachineId::new(machine)?;
        let new = NewStore {
            machine,
            streams: vec![Stream::Facts],
            fleet: Fleet::Lone,
        };
        Self::open_or_create(&Paths::new(dir), &new, OpenOptions::default())
    }
}

/// As what a store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// It goes on where it stood.
    Ordinary,
    /// It lost the end of what it wrote, and takes it back.
    Behind,
}

pub(crate) fn open<S: State>(
    paths: &Paths,
    options: OpenOptions<S>,
    opening: Opening,
) -> Result<Ledger<S>, LedgerError> {
    let storage = Arc::clone(&options.storage);
    // Before its anchor a store is keys at most, and those perhaps not all.
    let begun = paths.journal().exists() || paths.anchor().exists();
    if !paths.keys().exists() || !begun {
        return Err(LedgerError::NoStore(paths.dir.clone()));
    }
    let keyring = Keyring::open(&paths.keys())?;
    // The anchor is read under the lock: whoever had the store until now may just have written it.
    let there = paths.journal().exists();
    let lock = there.then(|| StoreLock::acquire(&paths.lock())).transpose()?;
    let known = AnchorFile::open(Arc::clone(&storage), &paths.anchor())?;
    let Some((mut anchor_file, anchor)) = known else {
        // Data without the anchor is a copy: it may be read and verified, but it cannot go on.
        return Err(if there {
            LedgerError::ForeignKeys(paths.dir.clone())
        } else {
            LedgerError::NoStore(paths.dir.clone())
        });
    };
    let Some(lock) = lock else {
        let lost = anchor.state == AnchorState::Live;
        return Err(if lost {
            LedgerError::StoreLost(paths.dir.clone())
        } else {
            LedgerError::NoStore(paths.dir.clone())
        });
    };
    let is_behind = opening == Opening::Behind;
    if is_behind {
        behind::put_mark(storage.as_ref(), paths)?;
    } else if behind::is_marked(storage.as_ref(), paths)? {
        return Err(LedgerError::Behind(paths.dir.clone()));
    }
    let durable = (anchor.durable > Position::START && !is_behind).then_some(anchor.durable);
    let context = OpenContext {
        store: Some(anchor.store),
        durable,
        options: journal_options(&*options.entropy, options.segment_bytes),
    };
    let mut opened = Journal::open(Arc::clone(&storage), &paths.journal(), context)?;
    let pruned = Pruned::open(&opened.reader, &keyring.machine.public())?;
    let derived = Derived::open(&paths.derived())?;
    let restored = || -> Result<Restored<S>, LedgerError> {
        restore(
            &derived,
            &opened.reader,
            &opened.report,
            &pruned,
            anchor.store,
            &keyring,
            paths,
            unix_ms(options.clock.now_us()),
        )
    };
    let machine = keyring.machine.public();
    let restored = match restored() {
        Err(LedgerError::Corrupt {
            source: ChainError::Seq { .. },
            ..
        }) if pruned.recover(&opened.reader, &machine)? => restored()?,
        restored => restored?,
    };
    let find = |log: &LogId, seq| kept(get(&restored.index, &opened.reader, log, seq));
    let by_id = |id: &ReceiptId| {
        let found = restored.index.by_id(id)?.into_iter();
        let mut found: Vec<Receipt> = found
            .map(|at| receipt_of(&opened.reader.read_record(at)?))
            .filter(|receipt| !receipt.as_ref().is_err_and(is_pruned))
            .collect::<Result<_, _>>()?;
        found.retain(|receipt| receipt.id() == *id);
        Ok(found)
    };
    let is_own = |log: &LogId| {
        let chain = restored.published.logs.get(log);
        chain.is_some_and(|chain| chain.machine_key() == machine)
    };
    pruned.settle(by_id, find, is_own)?;
    check_anchor(&anchor, &restored, &opened.reader, &pruned, is_behind)?;
    for outcome in erase::overwrite(&mut opened.journal, &restored.erasures, find) {
        match outcome {
            Err(e) if erase::is_in_vain(&e) => {
                tracing::error!(code = e.code(), error = %e, "a payload that is to be erased cannot be read");
            }
            finished => finished?,
        }
    }
    let own = if is_behind {
        BTreeMap::new()
    } else {
        own_logs(&restored.published.logs, &keyring.machine.public())
    };
    let boot = boot_id();
    let same_boot = !boot.is_empty() && boot == anchor.boot;
    let seed = AnchorSeed {
        store: anchor.store,
        epoch: anchor.epoch,
        boot,
        same_boot,
    };
    let end = opened.journal.durable_end();
    let checkpoints: BTreeMap<LogId, u64> = anchor
        .logs
        .iter()
        .map(|anchored| (anchored.log, anchored.checkpoint_size))
        .collect();
    let logs = &restored.published.logs;
    if !is_behind {
        anchor_file.write(&anchor_of(&seed, &own, logs, &checkpoints, end, false))?;
    }
    pruned.finish(&opened.reader)?;
    let parts = Parts {
        paths: paths.clone(),
        context: restored.context,
        keyring,
        own,
        behind: is_behind.then(|| Behind {
            anchor,
            settled: false.into(),
            storage: Arc::clone(&storage),
        }),
        checkpoints,
        index: restored.index,
        reader: opened.reader,
        pruned,
        derived,
        published: Published {
            end,
            ..restored.published
        },
        step: Step { end, ..restored.step },
    };
    Ok(Ledger::start(
        parts,
        opened.journal,
        anchor_file,
        lock,
        seed,
        opened.report,
        options,
    ))
}

// The newest set of logs that this machine key writes.
pub(crate) fn own_logs(logs: &BTreeMap<LogId, Arc<Chain>>, machine: &PublicKey) -> BTreeMap<Stream, LogId> {
    let mut own: BTreeMap<Stream, (u32, LogId)> = BTreeMap::new();
    for (log, chain) in logs {
        let genesis = chain.genesis();
        if chain.machine_key() == *machine
            && own
                .get(&genesis.stream)
                .is_none_or(|(incarnation, _)| *incarnation < genesis.incarnation)
        {
            own.insert(genesis.stream, (genesis.incarnation, *log));
        }
    }
    own.into_iter().map(|(stream, (_, log))| (stream, log)).collect()
}

fn check_anchor<S: State>(
    anchor: &Anchor,
    restored: &Restored<S>,
    reader: &JournalReader,
    pruned: &Pruned,
    is_behind: bool,
) -> Result<(), LedgerError> {
    for anchored in &anchor.logs {
        let behind = |found: String| LedgerError::BehindAnchor {
            log: anchored.log,
            anchored: anchored.head.seq,
            found,
        };
        let Some(chain) = restored.published.logs.get(&anchored.log) else {
            if is_behind {
                continue;
            }
            return Err(behind("none".into()));
        };
        let (seq, seal) = chain.tip();
        if seq < anchored.head.seq {
            if is_behind {
                continue;
            }
            return Err(behind(format!("seq {seq}")));
        }
        let floor = pruned.floor(&anchored.log);
        let floor = floor.filter(|floor| floor.covers(anchored.head.seq));
        let stands = if seq == anchored.head.seq {
            Some(seal)
        } else if let Some(floor) = floor {
            // The older of two slots may name a record that went since.
            let is_last = floor.said.last == anchored.head.seq;
            Some(if is_last {
                floor.said.seal
            } else {
                anchored.head.seal
            })
        } else {
            get(&restored.index, reader, &anchored.log, anchored.head.seq)?.map(|r| r.seal_digest())
        };
        if stands != Some(anchored.head.seal) {
            return Err(LedgerError::Fork {
                log: anchored.log,
                seq: anchored.head.seq,
            });
        }
    }
    Ok(())
}
