//! Witnessing: a machine cosigns checkpoints of logs of which it has a copy, and keeps what others cosigned of its own.
//!
//! Contract: a checkpoint is cosigned only when the records that this store reads back from its own disk give exactly its root,
//! beginning with the tree that was compared the last time; how far that is now is durable before the cosignature leaves. So
//! whatever crashes, or is restored from an older copy, no two cosignatures of one witness contradict each other. What a crash
//! leaves: a comparison without its cosignature, which is asked for again. Does not decide whom to ask, and when.

mod files;

use crate::clock;
use crate::error::LedgerError;
use crate::evidence::{ForkEvidence, ForkKind};
use crate::ledger::Ledger;
use crate::state::State;
use files::{Kept, Places};
use ledger_core::checkpoint::{self, Checkpoint};
use ledger_core::cosignature::{self, Cosignature};
use ledger_core::note::VerifierKey;
use ledger_core::tree::{self, Tree};
use ledger_core::{Chain, LogId};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One comparison at a time, so that reading and keeping how far it went is one step.
static TURN: Mutex<()> = Mutex::new(());

/// Bytes of a signed checkpoint that is taken from outside: the text, and signatures of its log's key and of some witnesses.
const SIGNED_NOTE_BYTES_MAX: usize = 16 * 1024;
const TOO_LONG: &str = "the signed note is longer than 16 KiB";

fn turn() -> MutexGuard<'static, ()> {
    // Whoever panicked left what a crash leaves.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A checkpoint that others cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// The signed note, with all signatures.
    pub note: String,
}

impl Cosigned {
    // How many names stand under it, the log's own included.
    fn signers(&self) -> usize {
        let names: BTreeSet<&str> = self.note.lines().filter_map(signer).collect();
        names.len()
    }

    /// Which of the pinned witnesses cosigned it; lines that do not verify count as none.
    pub fn by(&self, pins: &[VerifierKey]) -> Vec<Cosignature> {
        let sound = |pin: &VerifierKey| cosignature::verify(&self.note, pin).is_ok();
        let sound: Vec<VerifierKey> = pins.iter().filter(|pin| sound(pin)).cloned().collect();
        cosignature::witnesses(&self.note, &sound).unwrap_or_default()
    }
}

impl<S: State> Ledger<S> {
    /// The key to pin for this machine as a witness.
    pub fn witness_pin(&self) -> VerifierKey {
        let name = cosignature::witness_name(&self.context().machine);
        VerifierKey::witness(name, self.keyring().witness.verifier())
    }

    /// A signed checkpoint over every durable receipt of an own log, for witnesses: what is new since the last one is read back
    /// from disk.
    ///
    /// # Errors
    /// As [`Ledger::checkpoint`]; [`LedgerError::KeyFile`] when what was kept of the last one is damaged.
    pub fn checkpoint_for_witnesses(&self, log: &LogId) -> Result<String, LedgerError> {
        let _turn = turn();
        let chain = self.chain_of(log)?;
        self.checkpoint_key(&chain)?;
        let tree = self.compare(&chain, chain.tree().size())?;
        self.release_checkpoint(&chain, (tree.size(), tree.root()))
    }

    /// Cosigns a checkpoint of a log of which this store has a copy: its records, read back from disk, give exactly this root, and
    /// no other checkpoint that was cosigned here contradicts it. The answer is the signature line; the cosigned checkpoint
    /// is kept here as well ([`Ledger::cosigned`]).
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::NotCosigned`] when the copy is not that long, a later checkpoint was cosigned,
    /// or the note is no checkpoint signed by the log's own key; [`LedgerError::RootDiffers`] when the log's key signed another
    /// history than the one that is here: a fork.
    pub fn cosign(&self, log: &LogId, signed: &str) -> Result<String, LedgerError> {
        let _turn = turn();
        let chain = self.chain_of(log)?;
        let refuse = |why: &str| self.refuse(log, why);
        let own = chain.genesis().checkpoint_key.verifier()?;
        if signed.len() > SIGNED_NOTE_BYTES_MAX {
            return Err(refuse(TOO_LONG));
        }
        let checkpoint = Checkpoint::open(signed, log, &own).map_err(|error| {
            refuse(&format!(
                "the log's own key did not sign the checkpoint ({error})"
            ))
        })?;
        if checkpoint.tree_size > chain.tree().size() {
            return Err(refuse(&format!(
                "the checkpoint covers {} receipts, the copy here has {}; ask again when they are here",
                checkpoint.tree_size,
                chain.tree().size()
            )));
        }
        let tree = self.compare(&chain, checkpoint.tree_size)?;
        if tree.root() != checkpoint.root {
            let (expected, found) = (tree.root(), checkpoint.root);
            let log = *log;
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        let unix_s = clock::unix_ms(self.clock().now_us()) / 1000;
        let pin = self.witness_pin();
        let malformed = |error| refuse(&format!("{error}"));
        let line =
            cosignature::line(signed, pin.name(), &self.keyring().witness, unix_s).map_err(malformed)?;
        let note = cosignature::add(signed, &line).map_err(malformed)?;
        self.keep(log, checkpoint, &note, pin.name())?;
        Ok(line)
    }

    /// Keeps a checkpoint of an own log that a witness cosigned. Cosignatures of one and the same checkpoint are kept together; a
    /// later one takes the place of an earlier one, which is kept beside it while more witnesses had cosigned that.
    ///
    /// # Errors
    /// [`LedgerError::NotCosigned`] when the witness's signature is missing or not valid, or the checkpoint is none of this
    /// log's; [`LedgerError::RootDiffers`] when the one that is kept gives as many records another root: a fork;
    /// [`LedgerError::NoCheckpointKey`] for another machine's log; [`LedgerError::Io`].
    pub fn keep_cosignature(&self, note: &str, witness: &VerifierKey) -> Result<Cosignature, LedgerError> {
        let _turn = turn();
        let unverified = Checkpoint::read_unverified(note);
        let log = unverified.map_or(LogId([0; 32]), |checkpoint| checkpoint.log);
        let chain = self.chain_of(&log)?;
        let refuse = |why: &str| self.refuse(&log, why);
        let own = self.checkpoint_key(&chain)?.verifier();
        if note.len() > SIGNED_NOTE_BYTES_MAX {
            return Err(refuse(TOO_LONG));
        }
        let checkpoint = Checkpoint::open(note, &log, &own)
            .map_err(|error| refuse(&format!("it is no checkpoint of this log ({error})")))?;
        let seen = cosignature::verify(note, witness)
            .map_err(|error| refuse(&format!("the witness did not sign it ({error})")))?;
        self.keep(&log, checkpoint, note, witness.name())?;
        Ok(seen)
    }

    /// The newest checkpoint of a log that somebody cosigned, as it is kept here. Whose word it is follows from the pins that
    /// [`Cosigned::by`] is asked with.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::Io`].
    pub fn cosigned(&self, log: &LogId) -> Result<Option<Cosigned>, LedgerError> {
        self.kept(log, Kept::Newest)
    }

    /// Of the cosigned checkpoints over a seq that are kept here the one that most witnesses cosigned, else the newest.
    pub(crate) fn cosigned_over(&self, log: &LogId, seq: u64) -> Result<Option<Cosigned>, LedgerError> {
        let kept = [self.kept(log, Kept::Most)?, self.kept(log, Kept::Newest)?];
        let over = kept
            .into_iter()
            .flatten()
            .filter(|kept| kept.checkpoint.tree_size > seq);
        Ok(over.max_by_key(|kept| (kept.signers(), kept.checkpoint.tree_size)))
    }

    fn kept(&self, log: &LogId, which: Kept) -> Result<Option<Cosigned>, LedgerError> {
        let chain = self.chain_of(log)?;
        let Some(note) = self.places(*log).cosigned(which)? else {
            return Ok(None);
        };
        let own = chain.genesis().checkpoint_key.verifier()?;
        // A damaged file is none: the next cosignature mends it.
        let checkpoint = Checkpoint::open(&note, log, &own).ok();
        let checkpoint = checkpoint.filter(|checkpoint| checkpoint.tree_size <= chain.tree().size());
        Ok(checkpoint.map(|checkpoint| Cosigned { checkpoint, note }))
    }

    /// What proves that the machine of a log signed two roots over equally many records: the cosigned checkpoint that is kept
    /// here, and this one. `None` when both can be, or nothing is kept.
    ///
    /// # Errors
    /// [`LedgerError::UnknownLog`]; [`LedgerError::Io`], [`LedgerError::Journal`] when the disk fails.
    pub fn two_roots(&self, log: &LogId, signed: &str) -> Result<Option<ForkEvidence>, LedgerError> {
        let Some(genesis) = self.get(log, 0)? else {
            return Ok(None);
        };
        for kept in [self.kept(log, Kept::Newest)?, self.kept(log, Kept::Most)?] {
            // Nobody else's signature belongs to the proof.
            let own = |note: &str| signed_by(note, &[&checkpoint::origin(log)]).into_bytes();
            let evidence = kept.map(|kept| ForkEvidence {
                kind: ForkKind::Roots,
                genesis: genesis.record.bytes().to_vec(),
                one: own(&kept.note),
                other: own(signed),
            });
            if let Some(evidence) = evidence.filter(|evidence| evidence.check().is_ok()) {
                return Ok(Some(evidence));
            }
        }
        Ok(None)
    }

    /// Compares a copy with what was cosigned of it, as far as it reaches, before its oldest records go.
    pub(crate) fn compare_before_pruning(&self, chain: &Chain) -> Result<(), LedgerError> {
        let _turn = turn();
        if self.places(chain.log()).seen()?.is_some() {
            self.compare(chain, chain.tree().size())?;
        }
        Ok(())
    }

    fn places(&self, log: LogId) -> Places {
        Places::new(self.shared().reader.storage(), self.paths(), log)
    }

    fn chain_of(&self, log: &LogId) -> Result<std::sync::Arc<Chain>, LedgerError> {
        self.shared().chain(log).ok_or(LedgerError::UnknownLog(*log))
    }

    fn refuse(&self, log: &LogId, why: &str) -> LedgerError {
        LedgerError::NotCosigned {
            log: *log,
            why: why.to_owned(),
        }
    }

    // Reads on from where it was compared before, and keeps how far it is now. Under the turn.
    fn compare(&self, chain: &Chain, size: u64) -> Result<Tree, LedgerError> {
        let log = chain.log();
        let places = self.places(log);
        let seen = places.seen()?;
        let floor = self.shared().pruned.floor(&log).map(|floor| floor.tree());
        let mut tree = match (seen, floor) {
            (Some(seen), Some(floor)) if seen.size() < floor.size() => {
                return Err(self.refuse(&log, "it was pruned before it was compared"));
            }
            (Some(seen), _) => seen,
            (None, floor) => floor.unwrap_or_default(),
        };
        let before = tree.size();
        if before > size {
            return Err(self.refuse(&log, "a later checkpoint of it was seen here"));
        }
        if before < size {
            for receipt in self.range(&log, before, size - 1) {
                tree.push(tree::leaf_hash(receipt?.record.bytes()));
            }
        }
        if tree.size() != size {
            return Err(self.refuse(&log, "its records are not all here"));
        }
        if size == chain.tree().size() && tree != *chain.tree() {
            let (expected, found) = (chain.tree().root(), tree.root());
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        // Also when nothing is new: what is read may be what a write left that was interrupted before its name was durable.
        places.keep_seen(&tree)?;
        Ok(tree)
    }

    // Under the turn. What the witness itself did not sign stays out.
    fn keep(
        &self,
        log: &LogId,
        checkpoint: Checkpoint,
        note: &str,
        witness: &str,
    ) -> Result<(), LedgerError> {
        let origin = checkpoint::origin(log);
        let note = signed_by(note, &[&origin, witness]);
        let places = self.places(*log);
        let (newest, most) = (self.kept(log, Kept::Newest)?, self.kept(log, Kept::Most)?);
        let mut kept = newest.iter().chain(&most);
        let other = |kept: &&Cosigned| {
            kept.checkpoint.tree_size == checkpoint.tree_size && kept.checkpoint.root != checkpoint.root
        };
        if let Some(before) = kept.find(other) {
            let (expected, found) = (before.checkpoint.root, checkpoint.root);
            let log = *log;
            return Err(LedgerError::RootDiffers { log, expected, found });
        }
        let with = |before: &Cosigned| {
            cosignature::merge(&before.note, &note).map_err(|error| self.refuse(log, &format!("{error}")))
        };
        match (newest, most) {
            (Some(newest), _) if newest.checkpoint == checkpoint => {
                places.keep_cosigned(Kept::Newest, &with(&newest)?)
            }
            (_, Some(most)) if most.checkpoint == checkpoint => {
                places.keep_cosigned(Kept::Most, &with(&most)?)
            }
            (Some(newest), _) if newest.checkpoint.tree_size > checkpoint.tree_size => Ok(()),
            (newest, most) => {
                let most = most.map_or(0, |most| most.signers());
                if let Some(before) = newest.filter(|newest| newest.signers() >= most) {
                    places.keep_cosigned(Kept::Most, &before.note)?;
                }
                places.keep_cosigned(Kept::Newest, &note)
            }
        }
    }
}

// What the lines of signatures begin with; the name follows.
const SIGNATURE_MARK: &str = "\u{2014} ";

fn signer(line: &str) -> Option<&str> {
    line.strip_prefix(SIGNATURE_MARK)?.split(' ').next()
}

// A note with the signatures of these names alone.
fn signed_by(note: &str, names: &[&str]) -> String {
    let (text, lines) = note.rsplit_once("\n\n").unwrap_or((note, ""));
    let lines = lines
        .lines()
        .filter(|line| signer(line).is_some_and(|name| names.contains(&name)));
    let mut only = format!("{text}\n\n");
    for line in lines {
        only.push_str(line);
        only.push('\n');
    }
    only
}
