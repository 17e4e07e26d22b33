//! Whatever the order of appends, transfers, pins and reopenings: logs stay dense and linked, a replica is a byte-exact
//! prefix, ids stay taken, state equals folding, and verification finds nothing.
//!
//! `PROPTEST_CASES` sets the number of cases; each works with real files.

use crate::stores::{
    Counter, assert_clean, fact, fact_with, found, found_with, id, join, open, pin, raw, take_in, temp,
    verify,
};
use ledger::core::{LogId, Stream};
use ledger::{Changes, Ledger, LedgerError, OpenOptions, Paths, Position, State as _};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const CASES: u32 = 12;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(CASES),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One command that appends so many receipts; every other to work, some with a payload.
    Append {
        gateway: bool,
        receipts: u8,
        payload_bytes: u16,
    },
    /// Says something under one of a few ids, with one of two contents.
    Said { gateway: bool, id: u8, content: bool },
    /// A command that appends and then refuses.
    Refused { gateway: bool },
    /// Hands a run of a node's log to the gateway, some of it again.
    Push { work: bool, overlap: u8, most: u8 },
    /// The order pins what the gateway has; the node mirrors the order.
    Pin { work: bool, mirror: bool },
    /// Closes and opens, perhaps without the derived data.
    Reopen { gateway: bool, forget: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 1..6_u8, 0..2000_u16)
            .prop_map(|(gateway, receipts, payload_bytes)| Step::Append { gateway, receipts, payload_bytes }),
        2 => (any::<bool>(), 0..4_u8, any::<bool>()).prop_map(|(gateway, id, content)| Step::Said { gateway, id, content }),
        1 => any::<bool>().prop_map(|gateway| Step::Refused { gateway }),
        3 => (any::<bool>(), 0..5_u8, 1..20_u8).prop_map(|(work, overlap, most)| Step::Push { work, overlap, most }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(work, mirror)| Step::Pin { work, mirror }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(gateway, forget)| Step::Reopen { gateway, forget }),
    ]
}

// One store and what it must hold.
struct Side<'a> {
    dir: &'a Path,
    ledger: Option<Ledger<Counter>>,
    // What was said under an id first.
    said: BTreeMap<u8, (bool, LogId, u64)>,
    // Every record, as it was acknowledged.
    logs: BTreeMap<LogId, Vec<Vec<u8>>>,
}

impl<'a> Side<'a> {
    fn new(dir: &'a Path, ledger: Ledger<Counter>) -> Self {
        let mut side = Self {
            dir,
            ledger: Some(ledger),
            said: BTreeMap::new(),
            logs: BTreeMap::new(),
        };
        for receipt in side.ledger().scan(Position::START).collect::<Vec<_>>() {
            side.acknowledged(&receipt.unwrap());
        }
        side
    }

    fn ledger(&self) -> &Ledger<Counter> {
        self.ledger.as_ref().unwrap()
    }

    fn acknowledged(&mut self, receipt: &ledger::Receipt) {
        let log = self.logs.entry(receipt.log()).or_default();
        assert_eq!(receipt.seq(), log.len() as u64, "dense");
        log.push(receipt.record.bytes().to_vec());
    }

    fn append(&mut self, receipts: u8, payload_bytes: u16) {
        let committed = self.ledger().commit(move |tx| {
            for number in 0..receipts {
                let stream = if number % 2 == 0 {
                    Stream::Facts
                } else {
                    Stream::Work
                };
                let subject = format!("s/{}", number % 3);
                let draft = match number % 3 {
                    0 => fact(&subject),
                    _ => fact_with(&subject, &vec![number; usize::from(payload_bytes)]),
                };
                tx.append(stream, draft)?;
            }
            Ok::<_, LedgerError>(())
        });
        let committed = committed.unwrap();
        assert_eq!(committed.receipts.len(), usize::from(receipts));
        committed
            .receipts
            .iter()
            .for_each(|receipt| self.acknowledged(receipt));
    }

    fn say(&mut self, number: u8, content: bool) {
        let draft = fact_with("said", &[u8::from(content)]).id(id(u64::from(number)));
        match (self.ledger().append(draft), self.said.get(&number).copied()) {
            (Ok(receipt), None) => {
                self.acknowledged(&receipt);
                self.said.insert(number, (content, receipt.log(), receipt.seq()));
            }
            (Ok(receipt), Some((first, log, seq))) => {
                assert_eq!((content, receipt.log(), receipt.seq()), (first, log, seq));
            }
            (Err(error), Some((first, ..))) => {
                assert_eq!(error.code(), "ledger.id-taken");
                assert_ne!(content, first);
            }
            (Err(error), None) => panic!("{error}"),
        }
    }

    fn check(&self) {
        let snapshot = self.ledger().snapshot();
        assert_eq!(
            snapshot.receipts,
            self.logs.values().map(|log| log.len() as u64).sum::<u64>()
        );
        let mut folded = Counter::empty(self.ledger().context());
        for receipt in self.ledger().scan(Position::START) {
            folded.fold(&receipt.unwrap(), &mut Changes::discarding());
        }
        assert_eq!(snapshot.state, folded);
        for (log, records) in &self.logs {
            let head = snapshot.logs[log].tip().0;
            assert_eq!(head + 1, records.len() as u64);
            let range: Vec<_> = raw(self.ledger(), log, 0, head);
            assert!(range.iter().map(|(bytes, _)| bytes).eq(records), "byte-exact");
            let some = records.len() / 2;
            let receipt = self.ledger().get(log, some as u64).unwrap().unwrap();
            assert_eq!(receipt.record.bytes(), records[some]);
            assert!(self.ledger().find(&receipt.id()).unwrap().contains(&receipt));
            assert!(
                self.ledger()
                    .by_subject(&receipt.statement().subject)
                    .unwrap()
                    .contains(&receipt)
            );
        }
    }

    fn reopen(&mut self, forget: bool) {
        self.ledger.take().unwrap().close().unwrap();
        assert_clean(self.dir);
        if forget {
            std::fs::remove_dir_all(Paths::new(self.dir).derived()).unwrap();
        }
        self.ledger = Some(open(self.dir));
        assert!(!self.ledger().recovery().unclean);
        self.check();
    }

    // Takes in a run of another store's log; the first `overlap` records again.
    fn take(&mut self, from: &Side<'_>, log: &LogId, overlap: u8, most: u8) {
        let have = self.logs.get(log).map_or(0, |log| log.len() as u64);
        let first = have.saturating_sub(u64::from(overlap));
        let run = raw(from.ledger(), log, first, have + u64::from(most) - 1);
        if run.is_empty() {
            return;
        }
        let (count, again) = (run.len() as u64, have - first);
        let taken = take_in(self.ledger(), log, run).unwrap();
        assert_eq!((taken.known, taken.new.len() as u64), (again, count - again));
        for receipt in &taken.new {
            self.acknowledged(receipt);
        }
    }
}

fn run(steps: Vec<Step>) {
    let dirs = [temp(), temp()];
    let options = OpenOptions::default().segment_bytes(12 * 1024);
    let ledger = found_with(dirs[0].path(), "gateway", true, options);
    let order = ledger.own_log(Stream::Order).unwrap();
    let node = join(dirs[1].path(), "node", ledger.context().fleet);
    let node_log = |work: bool| if work { Stream::Work } else { Stream::Facts };
    let logs = [false, true].map(|work| node.own_log(node_log(work)).unwrap());
    let mut gateway = Side::new(dirs[0].path(), ledger);
    let mut node = Side::new(dirs[1].path(), node);
    for step in steps {
        match step {
            Step::Append {
                gateway: true,
                receipts,
                payload_bytes,
            } => gateway.append(receipts, payload_bytes),
            Step::Append {
                gateway: false,
                receipts,
                payload_bytes,
            } => node.append(receipts, payload_bytes),
            Step::Said {
                gateway: true,
                id,
                content,
            } => gateway.say(id, content),
            Step::Said {
                gateway: false,
                id,
                content,
            } => node.say(id, content),
            Step::Refused { gateway: at } => {
                let side = if at { &gateway } else { &node };
                let refused = side.ledger().commit(|tx| {
                    tx.append(Stream::Facts, fact("refused"))?;
                    Err::<(), _>(LedgerError::Busy(0))
                });
                assert!(refused.is_err());
            }
            Step::Push { work, overlap, most } => {
                gateway.take(&node, &logs[usize::from(work)], overlap, most);
            }
            Step::Pin { work, mirror } => {
                let log = logs[usize::from(work)];
                if gateway.logs.contains_key(&log) {
                    let receipt = gateway
                        .ledger()
                        .append_to(Stream::Order, pin(gateway.ledger(), &log))
                        .unwrap();
                    gateway.acknowledged(&receipt);
                }
                if mirror {
                    node.take(&gateway, &order, 1, 10);
                }
            }
            Step::Reopen {
                gateway: true,
                forget,
            } => gateway.reopen(forget),
            Step::Reopen {
                gateway: false,
                forget,
            } => node.reopen(forget),
        }
    }
    // While they are open, too.
    for side in [&mut gateway, &mut node] {
        side.check();
        let report = verify(side.dir);
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.counts.receipts, side.ledger().snapshot().receipts);
        side.reopen(true);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_history_keeps_the_invariants(steps in prop::collection::vec(step(), 1..40)) {
        run(steps);
    }
}

#[test]
fn a_store_that_only_was_founded_keeps_them_too() {
    let dir = temp();
    let mut side = Side::new(dir.path(), found(dir.path(), "studio", true));
    side.reopen(false);
    side.reopen(true);
}
