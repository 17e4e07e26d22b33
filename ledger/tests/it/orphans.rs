//! What an order holds behind the head at which its successor ended it, and what was folded that turned out not to count.

use crate::stores::{copy, fact, found, open, raw};
use ledger::core::{Draft, Stream};
use ledger::intake::VerifiedRun;
use ledger::{
    Change, Changes, Fleet, Ledger, LedgerError, NewStore, OpenOptions, Paths, Receipt, Row, State,
    StateContext,
};
use std::collections::BTreeSet;

#[test]
fn what_an_order_holds_behind_its_end_is_kept_and_may_be_said_again_under_the_same_id() {
    let root = tempfile::tempdir().unwrap();
    let (dir, old) = (root.path().join("gateway"), root.path().join("old"));
    let said = |text: &str, id: u64| Draft {
        id: Some(crate::stores::id(id)),
        ..fact(text)
    };
    let ledger = found(&dir, "gateway", true);
    let order = ledger.own_log(Stream::Order).unwrap();
    ledger.append_to(Stream::Order, said("kept", 1)).unwrap();
    ledger.close().unwrap();
    copy(&dir, &old);
    let ledger = open(&dir);
    let lost = ledger.append_to(Stream::Order, said("lost", 2)).unwrap();
    let tail = raw(&ledger, &order, lost.seq(), lost.seq());
    ledger.close().unwrap();

    let behind: Ledger<()> = Ledger::open_behind(&Paths::new(&old), OpenOptions::default()).unwrap();
    let logs = behind.written_logs().into_values();
    let begun = behind.commit(move |tx| -> Result<(), LedgerError> {
        for log in logs {
            tx.succeed(&log)?;
        }
        Ok(())
    });
    begun.unwrap();
    behind.close_restored().unwrap();
    let ledger = open(&old);
    let chain = ledger.snapshot().logs[&order].clone();
    let run = VerifiedRun::verify(tail, Some(&chain)).unwrap().unwrap();
    let again = said("lost", 2);
    // Taken in and said again in one commit, and once more.
    let committed = ledger.commit(move |tx| -> Result<_, LedgerError> {
        assert_eq!(tx.intake(&run)?.new.len(), 1);
        Ok((
            tx.append(Stream::Order, again.clone())?.receipt().log(),
            tx.append(Stream::Order, again)?.is_repetition(),
        ))
    });
    let (log, repeats) = committed.unwrap().value;
    assert!(
        log != order && repeats,
        "it is said in the order that goes on, once"
    );
    assert_eq!(ledger.get(&order, lost.seq()).unwrap().unwrap().id(), lost.id());
    // What stands before the end stays said.
    let kept = ledger.append_to(Stream::Order, said("kept", 1)).unwrap();
    let later = ledger.append_to(Stream::Order, said("lost", 2)).unwrap();
    assert_eq!((kept.log(), later.log()), (order, log));
    ledger.close().unwrap();
}

/// Subjects that were named, without those that a later receipt leaves out.
#[derive(Clone, Default, Debug)]
struct Named {
    names: BTreeSet<String>,
    left_out: BTreeSet<String>,
    undo: Option<String>,
}

impl State for Named {
    const NAME: &'static str = "named";
    const VERSION: u32 = 1;

    fn empty(_: &StateContext) -> Self {
        Self::default()
    }

    fn fold(&mut self, receipt: &Receipt, changes: &mut Changes) {
        let name = receipt.statement().subject.as_str().to_owned();
        let table = match receipt.kind() {
            "x.named" if !self.left_out.contains(&name) => 1,
            "x.left-out" if self.names.contains(&name) => 2,
            _ => return,
        };
        let key = name.clone().into_bytes();
        match table {
            1 => drop(self.names.insert(name)),
            _ => self.undo = Some(name),
        }
        changes.note(|| Change {
            table,
            key,
            old: None,
            new: Some(Vec::new()),
        });
    }

    fn begin_again(&self) -> Option<Self> {
        let mut again = Self::default();
        again
            .left_out
            .extend(self.left_out.iter().chain(&self.undo).cloned());
        self.undo.is_some().then_some(again)
    }

    fn load(&mut self, row: &Row) -> Result<(), String> {
        let name = String::from_utf8(row.key.clone()).map_err(|e| e.to_string())?;
        match row.table {
            1 => drop(self.names.insert(name)),
            _ => self.undo = Some(name),
        }
        Ok(())
    }
}

#[test]
fn a_state_that_learns_that_something_does_not_count_is_folded_again_at_the_next_opening() {
    let root = tempfile::tempdir().unwrap();
    let paths = Paths::new(root.path().join("log"));
    let new = NewStore {
        machine: ledger::core::MachineId::new("studio").unwrap(),
        streams: vec![Stream::Facts],
        fleet: Fleet::Lone,
    };
    let say = |ledger: &Ledger<Named>, kind: &str, name: &str| {
        let kind = ledger::core::Kind::new(kind).unwrap();
        let draft = Draft::custom(kind, ledger::core::Subject::new(name).unwrap());
        ledger.append_to(Stream::Facts, draft).unwrap();
    };
    let ledger: Ledger<Named> = Ledger::create(&paths, &new, OpenOptions::default()).unwrap();
    for name in ["ada", "bob", "eve"] {
        say(&ledger, "x.named", name);
    }
    say(&ledger, "x.left-out", "bob");
    assert_eq!(ledger.snapshot().state.names.len(), 3, "until it is opened again");
    ledger.close().unwrap();
    for _ in 0..2 {
        let ledger: Ledger<Named> = Ledger::open(&paths, OpenOptions::default()).unwrap();
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.state.names, ["ada", "eve"].map(str::to_owned).into());
        assert_eq!((snapshot.state.undo.clone(), snapshot.receipts), (None, 5));
        ledger.close().unwrap();
    }
}
