//! Beginning a copy of a pruned log where it goes on: what shows that it may, made by who pruned it and held by who begins.
//!
//! Contract: nothing that the source says is taken on its word. The genesis names the log and its keys; the first record that is
//! left names the seal before it, under the log's own signature; and the tree over what went is shown to be the beginning of one
//! whose root the log's own checkpoint key signed. This store then says `log.pruned` itself, durably, before the record is taken in, so
//! that opening, verification and readers know the gap as if it had pruned the log. What a crash leaves: that receipt without the
//! record, and the same is asked for again. What lay between an older part that is here and the gap is compared with nothing:
//! it goes, too.

use super::book::Floor;
use crate::commit::CommitError;
use crate::error::LedgerError;
use crate::intake::{RawRecord, VerifiedRun};
use crate::ledger::Ledger;
use crate::read::PayloadState;
use crate::state::State;
use ledger_core::checkpoint::Checkpoint;
use ledger_core::kinds::LogPruned;
use ledger_core::tree::{self, Hash};
use ledger_core::{Chain, LogId, Record, Stream};
use serde::{Deserialize, Serialize};

/// What a reason says of a log that was begun behind what had been pruned elsewhere.
const REASON: &str = "pruned where this copy comes from";
/// Hashes in a proof of consistency at most: two for each level.
const HASHES_MAX: usize = 128;

/// Shows that a copy of a pruned log may begin at the first record that is left of it. See [`Ledger::pruned_start`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PrunedStart {
    /// The exact bytes of the log's genesis.
    pub genesis: Vec<u8>,
    /// The exact bytes of a `log.pruned` about it, of whoever pruned it.
    pub pruned: Vec<u8>,
    /// The first record that is left, with its payload when it is there.
    pub first: RawRecord,
    /// A checkpoint that the log's own key signed over at least what went.
    pub checkpoint: String,
    /// That the tree over what went is the beginning of that checkpoint's (RFC 9162, section 2.1.4).
    pub consistency: Vec<[u8; 32]>,
}

// A start that was checked.
struct Checked {
    floor: Floor,
    chain: Chain,
    checkpoint: Checkpoint,
    run: VerifiedRun,
}

impl PrunedStart {
    /// The log that it is about, as its genesis says.
    ///
    /// # Errors
    /// [`LedgerError::Record`], [`LedgerError::Chain`] when that is none.
    pub fn log(&self) -> Result<LogId, LedgerError> {
        Ok(Chain::start(&Record::parse(&self.genesis)?)?.log())
    }

    fn check(&self) -> Result<Checked, LedgerError> {
        let chain = Chain::start(&Record::parse(&self.genesis)?)?;
        let log = chain.log();
        let refuse = |why: &'static str| LedgerError::NotBegun { log, why };
        if chain.genesis().stream != Stream::Pulse {
            return Err(refuse("only logs of the stream pulse are pruned"));
        }
        let floor = Floor::of(Record::parse(&self.pruned)?).filter(|floor| floor.said.log == log);
        let floor = floor.ok_or(refuse(
            "the receipt about what was pruned is no sound one about this log",
        ))?;
        let key = chain.genesis().checkpoint_key.verifier()?;
        let checkpoint = Checkpoint::open(&self.checkpoint, &log, &key)
            .map_err(|_| refuse("the checkpoint is not signed by the log's own key"))?;
        let (size, root) = (floor.tree().size(), floor.tree().root());
        let consistent = self.consistency.len() <= HASHES_MAX
            && tree::verify_consistency(
                size,
                root,
                checkpoint.tree_size,
                checkpoint.root,
                &self.consistency,
            );
        if !consistent {
            return Err(refuse(
                "what was pruned is not the beginning of the log that its own key signed",
            ));
        }
        let run = VerifiedRun::verify(vec![self.first.clone()], Some(&chain))?;
        let run = run.ok_or(refuse("the first record that is left is missing"))?;
        let mut behind = chain.clone();
        behind.advance_to(&floor.snapshot())?;
        for (record, _) in run.records() {
            behind.follow(record)?;
        }
        Ok(Checked {
            floor,
            chain: behind,
            checkpoint,
            run,
        })
    }
}

impl<S: State> Ledger<S> {
    /// What lets another store begin a copy of a log that is pruned here; `None` when nothing of it is pruned. For an own log
    /// a checkpoint is signed now; of another machine's log the newest is needed that was cosigned here.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NotBegun`] without such a checkpoint; [`LedgerError::RootDiffers`] when the
    /// records on disk are not those that were acknowledged; what the disk says.
    pub fn pruned_start(&self, log: &LogId) -> Result<Option<PrunedStart>, LedgerError> {
        let chain = self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))?;
        let Some(floor) = self.shared().pruned.floor(log) else {
            return Ok(None);
        };
        let refuse = |why: &'static str| LedgerError::NotBegun { log: *log, why };
        let Some((before, leaves)) = self.remaining(&chain)? else {
            return Ok(None);
        };
        // The floor may have risen since.
        let sizes_fit = before.size() == floor.first_kept();
        let (Some(genesis), Some(first), true) =
            (self.get(log, 0)?, self.get(log, floor.first_kept())?, sizes_fit)
        else {
            return Err(refuse("it was pruned just now; ask again"));
        };
        let (checkpoint, size) = if self.checkpoint_key(&chain).is_ok() {
            let whole = chain.tree();
            (
                self.release_checkpoint(&chain, (whole.size(), whole.root()))?,
                whole.size(),
            )
        } else {
            let cosigned = self.cosigned(log)?;
            let cosigned = cosigned.filter(|cosigned| cosigned.checkpoint.tree_size >= before.size());
            let why =
                "no checkpoint over what was pruned was cosigned here; ask the machine that writes the log";
            let cosigned = cosigned.ok_or(refuse(why))?;
            (cosigned.note, cosigned.checkpoint.tree_size)
        };
        let covered = usize::try_from(size.saturating_sub(before.size())).ok();
        let covered: Option<&[Hash]> = covered.and_then(|covered| leaves.get(..covered));
        let consistency = covered.and_then(|leaves| tree::consistency_proof_behind(&before, leaves));
        let payload = match self.payload(&first)? {
            PayloadState::Present(payload) => Some(payload),
            _ => None,
        };
        Ok(Some(PrunedStart {
            genesis: genesis.record.bytes().to_vec(),
            pruned: floor.record.bytes().to_vec(),
            first: (first.record.bytes().to_vec(), payload),
            checkpoint,
            consistency: consistency.ok_or(refuse("the checkpoint covers more than is here"))?,
        }))
    }

    /// Begins, or goes on with, a copy of another machine's log behind what its source has pruned: says `log.pruned` here, and takes in
    /// the first record that is left. Whether anything changed. An older part of the copy that lies before the gap goes, too.
    /// Blocks until it is durable.
    ///
    /// # Errors
    /// [`LedgerError::NotBegun`] when it does not show what it must, for an own log, and for a log of another fleet;
    /// [`LedgerError::Record`] and [`LedgerError::Chain`] when a record does not verify; what the disk says.
    pub fn begin_behind(&self, start: &PrunedStart) -> Result<bool, LedgerError> {
        let Checked {
            floor,
            chain,
            checkpoint,
            run,
        } = start.check()?;
        let (shared, log) = (self.shared(), chain.log());
        let refuse = |why: &'static str| LedgerError::NotBegun { log, why };
        if shared.is_own(&log) {
            return Err(refuse("it is this store's own log, which is never a copy"));
        }
        if chain.fleet() != shared.context.fleet {
            return Err(refuse("it is a log of another fleet"));
        }
        let mut book = shared.pruned.book();
        let here = shared.chain(&log).map(|chain| chain.tip().0);
        if here.is_some_and(|here| here >= floor.said.last) {
            return Ok(false);
        }
        let take_in = |raw: Vec<RawRecord>| -> Result<(), LedgerError> {
            let known = shared.chain(&log);
            let Some(run) = VerifiedRun::verify(raw, known.as_deref())? else {
                return Ok(());
            };
            let taken = self.commit(move |tx| tx.intake(&run));
            taken.map(drop).map_err(CommitError::into_ledger)
        };
        if here.is_none() {
            take_in(vec![(start.genesis.clone(), None)])?;
        }
        let said_before = shared.pruned.floor(&log).map_or(0, |before| before.said.last);
        if said_before < floor.said.last {
            let said = LogPruned {
                log,
                first: said_before.max(here.unwrap_or(0)) + 1,
                head: chain.head(),
                checkpoint: checkpoint.tree_size,
                reason: REASON.to_owned(),
                ..floor.said.clone()
            };
            self.say_pruned(&mut book, said)?;
        }
        drop((book, run));
        take_in(vec![start.first.clone()])?;
        // An older part of the copy has places in the journal that are free now.
        shared.pruned.finish(&shared.reader)?;
        Ok(true)
    }
}
