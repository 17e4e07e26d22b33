//! A process that is killed while it appends loses nothing that it was told to be durable.
//!
//! How often, and to repeat a run (a run prints its seed):
//!
//! ```text
//! LEDGER_ENGINE_KILLS=20000 LEDGER_KILL_SEED=1 cargo test --release -p ledger --test it kills -- --nocapture
//! ```

use crate::stores::{Counter, Numbers, assert_clean, entries, fact, fact_with, found, open, temp};
use ledger::core::{LogId, Stream};
use ledger::{Ledger, OpenOptions, Paths, Position, State as _};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const CHILD_DIR: &str = "LEDGER_TEST_KILLED_CHILD";
/// Kills in one run when nobody says how many; with those of the fleet (cli/tests/it/kill.rs) 200 in continuous integration.
const KILLS: u64 = 150;
/// Kills of one store, one after the other.
const KILLS_A_STORE: u64 = 15;

// Not a test of its own: the process that the next one kills. It prints what was acknowledged to it.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let options = OpenOptions::default().segment_bytes(64 * 1024);
    let ledger: Ledger<Counter> = Ledger::open(&Paths::new(dir), options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = ledger.clone();
            scope.spawn(move || {
                // Bounded, so that an orphan ends by itself.
                for number in 0..20_000_u32 {
                    let stream = if thread % 2 == 0 {
                        Stream::Facts
                    } else {
                        Stream::Work
                    };
                    let draft = fact_with(&format!("t/{thread}"), &number.to_be_bytes());
                    let receipt = ledger.append_to(stream, draft).unwrap();
                    println!(
                        "acknowledged {} {} {}",
                        receipt.id(),
                        receipt.log(),
                        receipt.seq()
                    );
                }
            });
        }
    });
}

fn appended_until_killed(dir: &Path, acknowledgements: u64) -> Vec<(String, LogId, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kills::child_that_appends_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let parse = |line: &str| {
        let mut words = line.split("acknowledged ").nth(1)?.split(' ');
        let (id, log, seq) = (words.next()?, words.next()?, words.next()?);
        Some((id.to_owned(), LogId::from_hex(log)?, seq.parse().ok()?))
    };
    for line in lines.by_ref() {
        seen.extend(parse(&line.unwrap()));
        if seen.len() as u64 >= acknowledgements {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What was in the pipe was acknowledged as well; a last line may be cut.
    seen.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    seen
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_acknowledged_receipt_is_lost_by_kills_and_the_logs_go_on() {
    let kills = number("LEDGER_ENGINE_KILLS").unwrap_or(KILLS);
    let seed = number("LEDGER_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("to repeat: LEDGER_ENGINE_KILLS={kills} LEDGER_KILL_SEED={seed}");
    // Stores of a bounded length, or the time would grow with the square of the number of kills. Two at a time.
    let stores = kills.div_ceil(KILLS_A_STORE);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let store = next.fetch_add(1, Ordering::Relaxed);
                    if store >= stores {
                        break;
                    }
                    let cycles = KILLS_A_STORE.min(kills - store * KILLS_A_STORE);
                    one_store_is_killed(
                        seed.wrapping_add(store).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                        cycles,
                    );
                }
            });
        }
    });
}

fn one_store_is_killed(seed: u64, cycles: u64) {
    let dir = temp();
    found(dir.path(), "studio", false).close().unwrap();
    let mut numbers = Numbers(seed);
    let mut acknowledged = Vec::new();
    for cycle in 0..cycles {
        let wanted = 1 + numbers.below(150);
        let seen = appended_until_killed(dir.path(), wanted);
        assert!(
            seen.len() as u64 >= wanted,
            "the child of cycle {cycle} ended by itself"
        );
        acknowledged.extend(seen);
        // From disk, before recovery: at most a torn tail, which is a note.
        assert_clean(dir.path());
        let ledger = open(dir.path());
        for (id, log, seq) in &acknowledged {
            let receipt = ledger
                .get(log, *seq)
                .unwrap()
                .unwrap_or_else(|| panic!("seq {seq} is lost"));
            assert_eq!(receipt.id().to_string(), *id, "cycle {cycle}");
        }
        let count = ledger.snapshot().receipts;
        assert_eq!(
            ledger.append(fact("between")).unwrap().position,
            ledger.snapshot().newest.as_ref().unwrap().position
        );
        assert_eq!(ledger.snapshot().receipts, count + 1);
        let mut folded = Counter::empty(ledger.context());
        for receipt in ledger.scan(Position::START) {
            folded.fold(&receipt.unwrap(), &mut ledger::Changes::discarding());
        }
        assert_eq!(ledger.snapshot().state, folded, "cycle {cycle}");
        if cycle % 2 == 0 {
            ledger.close().unwrap();
        } else {
            drop(ledger);
        }
        assert_clean(dir.path());
    }
    assert_eq!(
        entries(dir.path()).len() as u64,
        assert_clean(dir.path()).counts.receipts
    );
}
