//! The contract of a state that is folded inside the committer.
//!
//! The engine does not understand what it folds. It hands every receipt to the state in the order of the journal, keeps
//! the rows that changed in the derived store together with the cursor, and after a restart gives the rows back and folds
//! the rest. Cloning must be cheap (persistent maps): the committer works on a clone, and drops it when a batch fails.

use crate::Receipt;
use ledger_core::kind::MachineId;
use ledger_core::kinds::Evidence;
use ledger_core::{FleetId, PublicKey};

/// What a state may know about the store that it lives in. Constant for the life of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateContext {
    /// The fleet.
    pub fleet: FleetId,
    /// The machine that owns the store.
    pub machine: MachineId,
    /// Its machine key.
    pub machine_key: PublicKey,
}

/// One row of a state's tables, as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The table's number, fixed by the state.
    pub table: u16,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value's bytes.
    pub value: Vec<u8>,
}

/// What a fold did to one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The table's number.
    pub table: u16,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value before; `None` when there was none.
    pub old: Option<Vec<u8>>,
    /// The value after; `None` when it is gone.
    pub new: Option<Vec<u8>>,
}

/// Collects what folds do, or nothing when nobody asks.
#[derive(Debug, Default)]
pub struct Changes {
    list: Option<Vec<Change>>,
}

impl Changes {
    /// Collects.
    pub fn recording() -> Self {
        Self {
            list: Some(Vec::new()),
        }
    }

    /// Does not collect; values are then not even encoded.
    pub fn discarding() -> Self {
        Self { list: None }
    }

    /// Whether somebody collects.
    pub fn collects(&self) -> bool {
        self.list.is_some()
    }

    /// Notes a change. The closure is called only when somebody collects.
    pub fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(list) = &mut self.list {
            list.push(change());
        }
    }

    /// How many were collected.
    pub(crate) fn len(&self) -> usize {
        self.list.as_ref().map_or(0, Vec::len)
    }

    /// Forgets all but the first so many.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(list) = &mut self.list {
            list.truncate(len);
        }
    }

    /// Takes what was collected so far.
    pub fn take(&mut self) -> Vec<Change> {
        self.list.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// An `erased` receipt that was just folded, and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Erasing<'a> {
    /// The `erased` receipt. In another machine's log its author signature may be a forgery: check it
    /// ([`ledger_core::chain::verify_author`]) before its author counts.
    pub receipt: &'a Receipt,
    /// Whether it stands in a log of this store's own machine.
    pub own: bool,
    /// The record whose payload it destroys.
    pub record: Evidence,
    /// That record, when this store has it.
    pub target: Option<&'a Receipt>,
}

/// A pure fold over receipts with rows that can be kept.
///
/// Folding is deterministic: no clock, no randomness, no I/O, and never a payload. A receipt that the state does not
/// understand or that has no authority is skipped, never an error: a log must not be wedged by one record.
///
/// ```
/// use ledger::core::{Draft, Kind, Stream, Subject};
/// use ledger::{Change, Changes, Ledger, LedgerError, NewStore, OpenOptions, Paths, Receipt, Row, State, StateContext};
/// use std::{collections::BTreeMap, sync::Arc};
///
/// /// Who holds which name: the first one to say so.
/// #[derive(Clone, Default)]
/// struct Names(Arc<BTreeMap<String, u64>>); // a clone must be cheap
///
/// impl State for Names {
///     const NAME: &'static str = "names";
///     const VERSION: u32 = 1;
///
///     fn empty(_: &StateContext) -> Self {
///         Self::default()
///     }
///
///     fn fold(&mut self, receipt: &Receipt, changes: &mut Changes) {
///         let (name, seq) = (receipt.statement().subject.as_str(), receipt.seq());
///         if receipt.kind() != "x.name.taken" || self.0.contains_key(name) {
///             return;
///         }
///         Arc::make_mut(&mut self.0).insert(name.to_owned(), seq);
///         let key = name.as_bytes().to_vec();
///         changes.note(|| Change { table: 0, key, old: None, new: Some(seq.to_be_bytes().to_vec()) });
///     }
///
///     fn load(&mut self, row: &Row) -> Result<(), String> {
///         let name = String::from_utf8(row.key.clone()).map_err(|e| e.to_string())?;
///         let seq = row.value[..].try_into().map_err(|_| "a seq has 8 bytes")?;
///         Arc::make_mut(&mut self.0).insert(name, u64::from_be_bytes(seq));
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let paths = Paths::new(dir.path().join("log"));
/// let new = NewStore::lone("my-agent")?;
/// let ledger: Ledger<Names> = Ledger::open_or_create(&paths, &new, OpenOptions::default())?;
///
/// // Whether it is free and taking it are one step: no other command comes in between.
/// let take = |name: &str| {
///     let draft = Draft::custom(Kind::new("x.name.taken")?, Subject::new(name)?);
///     Ok::<_, LedgerError>(ledger.commit(move |tx| {
///         if tx.state().0.contains_key(draft.subject.as_str()) {
///             return Err("taken".to_owned());
///         }
///         tx.append(Stream::Facts, draft).map_err(|e| e.to_string())
///     }))
/// };
/// assert!(take("ada")?.is_ok());
/// assert!(take("ada")?.is_err()); // nothing was appended
/// assert_eq!(ledger.snapshot().state.0.len(), 1);
/// # Ok(()) }
/// ```
pub trait State: Clone + Send + Sync + 'static {
    /// Names its tables in the derived store.
    const NAME: &'static str;
    /// A changed version makes the engine fold everything again.
    const VERSION: u32;

    /// The state before any receipt.
    fn empty(context: &StateContext) -> Self;

    /// Takes in one receipt.
    fn fold(&mut self, receipt: &Receipt, changes: &mut Changes);

    /// Whether an `erased` receipt binds this store: the payload it names is then destroyed here, and never taken in again.
    /// Asked once, right after the receipt was folded. Unless a state knows better, a store heeds its own logs alone.
    fn erases(&self, erasing: &Erasing<'_>) -> bool {
        erasing.own
    }

    /// An empty state that knows better, when a later receipt told that some of what was folded does not count. Asked at every
    /// opening; everything is then folded again into what is returned, which may leave out what does not count. To end, each must
    /// know more than the one before.
    fn begin_again(&self) -> Option<Self> {
        None
    }

    /// Takes back one row that an earlier process kept.
    ///
    /// # Errors
    /// A sentence when the row does not decode; the engine then folds everything again.
    fn load(&mut self, row: &Row) -> Result<(), String>;
}

/// For stores that fold nothing in the committer.
impl State for () {
    const NAME: &'static str = "none";
    const VERSION: u32 = 1;

    fn empty(_: &StateContext) -> Self {}

    fn fold(&mut self, _: &Receipt, _: &mut Changes) {}

    fn load(&mut self, _: &Row) -> Result<(), String> {
        Ok(())
    }
}
