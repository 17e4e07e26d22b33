//! What becomes of each kind of damage to a small store, case by case, as a table: `docs/DAMAGE.md` is printed by this test
//! and held by it. No case is silent: it is a finding, a note, a refusal, or what it hit is read from its other copy.
//!
//! `LEDGER_BLESS=1` writes the table anew; a change of it is a decision.

use crate::disk::Disk;
use crate::stores::{Numbers, fact, fact_with, temp};
use ledger::anchor::{Anchor, SLOT_BYTES};
use ledger::clock::{Clock, Entropy};
use ledger::core::{MachineId, Stream};
use ledger::journal::format::{BATCHES_START, SEGMENT_HEADER_BYTES};
use ledger::journal::{Journal, JournalOptions, OpenContext};
use ledger::storage::Storage;
use ledger::verify::{Options, verify_store};
use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const BLOCK_BYTES: usize = 4096;
/// Segments so small that the store has several, and so large that each has several blocks.
const SEGMENT_BYTES: u32 = 24 * 1024;
/// Bytes between two truncations inside of batches; header, footer and the last batch are cut at every byte.
const CUT_STEP: usize = 61;

/// Time that passes by itself, a millisecond each time somebody looks.
struct Steps(AtomicI64);

impl Clock for Steps {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(1000, Ordering::Relaxed)
    }
}

/// The same keys, ids and salts in every run, so that the table is the same.
struct Seeded(Mutex<Numbers>);

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        let mut numbers = self.0.lock().unwrap();
        buffer.fill_with(|| numbers.below(256) as u8);
    }
}

fn options() -> OpenOptions {
    OpenOptions::default()
        .segment_bytes(SEGMENT_BYTES)
        .clock(Steps(AtomicI64::new(1_700_000_000_000_000)))
        .entropy(Seeded(Mutex::new(Numbers(0x5eed_0003))))
}

/// The files of a store that damage is done to, by what they are called in the table.
#[derive(Clone, PartialEq, Eq)]
struct Files(BTreeMap<&'static str, Vec<u8>>);

const SEALED: &str = "a sealed segment";
const NEXT: &str = "the sealed segment after it";
const NEWEST: &str = "the newest segment";
const ANCHOR: &str = "the anchor";

fn path(name: &str) -> PathBuf {
    let paths = Paths::new("/store");
    match name {
        SEALED => paths.journal().join("00000001.seg"),
        NEXT => paths.journal().join("00000002.seg"),
        NEWEST => paths.journal().join("00000003.seg"),
        _ => paths.anchor(),
    }
}

impl Files {
    fn read(dir: &Path) -> Self {
        let read = |name| {
            let there = dir.join(path(name).strip_prefix("/store").unwrap());
            (name, std::fs::read(there).unwrap())
        };
        Self([SEALED, NEXT, NEWEST, ANCHOR].map(read).into())
    }

    fn with(&self, name: &'static str, bytes: Vec<u8>) -> Self {
        let mut files = self.0.clone();
        files.insert(name, bytes);
        Self(files)
    }

    fn disk(&self) -> Disk {
        let disk = Disk::default();
        for (name, bytes) in &self.0 {
            disk.put(&path(name), bytes);
        }
        disk
    }
}

/// A closed store, and what it was some receipts before.
struct Sample {
    closed: Files,
    older: Files,
    dir: tempfile::TempDir,
}

// A pause of the machine can bring a batch that proves the last one too early; then it is made again.
fn sample() -> Sample {
    let mut before: Option<Files> = None;
    for _ in 0..10 {
        let made = make();
        if before.as_ref() == Some(&made.closed) {
            return made;
        }
        before = Some(made.closed);
    }
    panic!("the same steps do not make the same store");
}

fn make() -> Sample {
    let dir = temp();
    let paths = Paths::new(dir.path());
    let new = NewStore {
        machine: MachineId::new("studio").unwrap(),
        streams: vec![Stream::Facts],
        fleet: Fleet::Lone,
    };
    let ledger = Ledger::<()>::create(&paths, &new, options()).unwrap();
    let mut older = None;
    for number in 0..44_u32 {
        ledger.append(fact("without")).unwrap();
        let content = number.to_be_bytes().repeat(100);
        ledger.append(fact_with("with", &content)).unwrap();
        if number == 40 {
            older = Some(Files::read(dir.path()));
        }
    }
    ledger.close().unwrap();
    Sample {
        closed: Files::read(dir.path()),
        older: older.expect("the store was read on the way"),
        dir,
    }
}

/// What `ledger verify` says, and what opening the journal does.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    verify: String,
    open: String,
    silent: bool,
}

fn judge(files: &Files, sound: &Files) -> Verdict {
    let disk = files.disk();
    let storage: Arc<dyn Storage> = Arc::new(disk.fork());
    let options = Options {
        full: false,
        threads: 1,
        storage,
        ..Options::default()
    };
    let (verify, clean) = match verify_store(Path::new("/store"), &options, &mut |_| {}) {
        Err(e) => (format!("refuses: `{}`", e.code()), false),
        Ok(report) => {
            let codes: BTreeSet<_> = report.findings.iter().map(|f| format!("`{}`", f.code)).collect();
            let codes: Vec<_> = codes.into_iter().collect();
            let said = match (report.is_clean(), report.notes.is_empty()) {
                (false, _) => codes.join(", "),
                (true, false) => "a note".to_owned(),
                (true, true) => "clean".to_owned(),
            };
            (said, report.is_clean() && report.notes.is_empty())
        }
    };
    let anchor = Anchor::load(&disk, &path(ANCHOR));
    let (open, opens) = match anchor {
        Err(e) => (format!("refuses: `{}`", e.code()), false),
        Ok(None) => ("refuses: no anchor".to_owned(), false),
        Ok(Some(anchor)) => {
            let context = OpenContext {
                store: Some(anchor.store),
                durable: Some(anchor.durable),
                options: JournalOptions::new([3; 32]),
            };
            match Journal::open(Arc::new(disk.clone()), &Paths::new("/store").journal(), context) {
                Err(e) => (format!("refuses: `{}`", e.code()), false),
                Ok(opened) => {
                    let mut said = vec!["opens"];
                    said.extend((!opened.report.torn.is_empty()).then_some("sets a torn end aside"));
                    said.extend(
                        (!opened.report.header_copies_damaged.is_empty())
                            .then_some("tells of a header's copy"),
                    );
                    (said.join(", "), said.len() == 1)
                }
            }
        }
    };
    Verdict {
        verify,
        open,
        silent: clean && opens && files != sound,
    }
}

/// The table: for each file, damage and verdict the number of cases.
#[derive(Default)]
struct Table(BTreeMap<(&'static str, String, Verdict), u64>);

impl Table {
    fn judge(&mut self, sound: &Files, name: &'static str, damage: &str, cases: Vec<Vec<u8>>) {
        // Threads of its own: verification itself works on rayon's, and would take up one case within another.
        let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(bytes) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                if *bytes != sound.0[name] {
                    let verdict = judge(&sound.with(name, bytes.clone()), sound);
                    verdicts.lock().unwrap().push(verdict);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
        let verdicts = verdicts.into_inner().unwrap();
        assert!(
            !verdicts.is_empty(),
            "{name}, {damage}: no case differs from the sound file"
        );
        for verdict in verdicts {
            *self.0.entry((name, damage.to_owned(), verdict)).or_default() += 1;
        }
    }

    fn print(&self) -> String {
        let mut text = String::from(
            "# What becomes of damage\n\nPrinted and held by `every_damage_is_told_or_harmless_as_the_table_says` \
             (ledger/tests/it/damage.rs), from a small\nstore of three segments that was closed. *Verify* is what \
             `ledger verify` says (the hash tier alone), *open* what opening\nthe journal does. A row is one kind of \
             damage with one outcome, and how many cases of it there are. None is silent,\nbut \
             for two that lose nothing and cannot be told from a crash: an anchor from before closing, and a newest \
             segment\nwithout the empty batch at its very end.\n\n| file | damage | cases | verify | open |\n\
             |---|---|---|---|---|\n",
        );
        for ((name, damage, verdict), count) in &self.0 {
            writeln!(
                text,
                "| {name} | {damage} | {count} | {} | {} |",
                verdict.verify, verdict.open
            )
            .unwrap();
        }
        text
    }
}

fn flips(bytes: &[u8], range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let flipped = |bit: usize| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    (range.start * 8..range.end * 8).map(flipped).collect()
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let end = bytes.len();
    (0..end)
        .step_by(BLOCK_BYTES)
        .map(move |at| at..(at + BLOCK_BYTES).min(end))
}

fn zeroed(bytes: &[u8]) -> Vec<Vec<u8>> {
    let zero = |block: std::ops::Range<usize>| {
        let mut bytes = bytes.to_vec();
        bytes[block].fill(0);
        bytes
    };
    blocks(bytes).map(zero).collect()
}

// Each pair of whole blocks of a file: exchanged, or the first also where the second was.
fn pairs(bytes: &[u8], exchange: bool) -> Vec<Vec<u8>> {
    let whole: Vec<_> = blocks(bytes).filter(|block| block.len() == BLOCK_BYTES).collect();
    let mut cases = Vec::new();
    for a in &whole {
        for b in whole
            .iter()
            .filter(|b| if exchange { b.start > a.start } else { *b != a })
        {
            let mut bytes = bytes.to_vec();
            let (first, second) = (bytes[a.clone()].to_vec(), bytes[b.clone()].to_vec());
            bytes[b.clone()].copy_from_slice(&first);
            if exchange {
                bytes[a.clone()].copy_from_slice(&second);
            }
            cases.push(bytes);
        }
    }
    cases
}

// Each block as it was in the older copy.
fn stale(bytes: &[u8], older: &[u8]) -> Vec<Vec<u8>> {
    let as_it_was = |block: std::ops::Range<usize>| {
        let mut bytes = bytes.to_vec();
        for at in block {
            bytes[at] = older.get(at).copied().unwrap_or(0);
        }
        bytes
    };
    blocks(bytes).map(as_it_was).collect()
}

fn cut(bytes: &[u8], lengths: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    lengths.map(|length| bytes[..length].to_vec()).collect()
}

// Where the footer of a sealed segment begins.
fn footer(bytes: &[u8]) -> usize {
    let magic = |at: &usize| bytes[*at..].starts_with(b"LFOO");
    (0..bytes.len())
        .rev()
        .find(magic)
        .expect("a sealed segment has a footer")
}

#[test]
fn every_damage_is_told_or_harmless_as_the_table_says() {
    let Sample { closed, older, dir } = sample();
    let files = std::fs::read_dir(Paths::new(dir.path()).journal())
        .unwrap()
        .count();
    assert_eq!(files, 3, "three segments");
    let untouched = judge(&closed, &closed);
    assert_eq!(
        (untouched.verify.as_str(), untouched.open.as_str()),
        ("clean", "opens")
    );
    let mut table = Table::default();
    let header = SEGMENT_HEADER_BYTES as usize;
    for name in [SEALED, NEXT, NEWEST] {
        let bytes = &closed.0[name];
        table.judge(
            &closed,
            name,
            "a bit of the header's first copy",
            flips(bytes, 0..header),
        );
        table.judge(
            &closed,
            name,
            "a bit of the header's second copy",
            flips(bytes, header..2 * header),
        );
        table.judge(&closed, name, "a block zeroed", zeroed(bytes));
        table.judge(&closed, name, "two blocks swapped", pairs(bytes, true));
        table.judge(&closed, name, "a block copied over another", pairs(bytes, false));
        let (start, end) = (BATCHES_START as usize, bytes.len());
        table.judge(&closed, name, "cut inside the header", cut(bytes, 0..start));
        if name == NEWEST {
            table.judge(
                &closed,
                name,
                "a block as it was before",
                stale(bytes, &older.0[name]),
            );
            table.judge(
                &closed,
                name,
                "cut inside the batches",
                cut(bytes, (start..end - 600).step_by(CUT_STEP)),
            );
            table.judge(&closed, name, "cut near its end", cut(bytes, end - 600..end));
            table.judge(
                &closed,
                name,
                "all of it as it was before",
                vec![older.0[name].clone()],
            );
        } else {
            let footer = footer(bytes);
            table.judge(&closed, name, "a bit of the footer", flips(bytes, footer..end));
            table.judge(
                &closed,
                name,
                "cut inside the batches",
                cut(bytes, (start..footer).step_by(CUT_STEP)),
            );
            table.judge(&closed, name, "cut inside the footer", cut(bytes, footer..end));
        }
    }
    table.judge(
        &closed,
        SEALED,
        "another segment in its place",
        vec![closed.0[NEXT].clone(), closed.0[NEWEST].clone()],
    );
    table.judge(
        &closed,
        NEWEST,
        "another segment in its place",
        vec![closed.0[SEALED].clone(), closed.0[NEXT].clone()],
    );
    let anchor = &closed.0[ANCHOR];
    let generation =
        |slot: usize| u64::from_be_bytes(anchor[slot * SLOT_BYTES + 12..][..8].try_into().unwrap());
    let newest = usize::from(generation(1) > generation(0));
    for (slot, damage) in [
        (newest, "a bit of the newest slot"),
        (1 - newest, "a bit of the other slot"),
    ] {
        let range = slot * SLOT_BYTES..(slot + 1) * SLOT_BYTES;
        // All of the head and the checksum, and every seventeenth byte of what is between.
        let mut cases = flips(anchor, range.start..range.start + 512);
        cases.extend(
            (range.start + 512..range.end - 32)
                .step_by(17)
                .flat_map(|at| flips(anchor, at..at + 1)),
        );
        cases.extend(flips(anchor, range.end - 32..range.end));
        table.judge(&closed, ANCHOR, damage, cases);
    }
    table.judge(&closed, ANCHOR, "a slot zeroed", zeroed(anchor));
    table.judge(&closed, ANCHOR, "both slots zeroed", vec![vec![0; anchor.len()]]);
    table.judge(&closed, ANCHOR, "its slots swapped", pairs(anchor, true));
    table.judge(
        &closed,
        ANCHOR,
        "a slot copied over the other",
        pairs(anchor, false),
    );
    table.judge(
        &closed,
        ANCHOR,
        "all of it as it was before",
        vec![older.0[ANCHOR].clone()],
    );
    table.judge(&closed, ANCHOR, "cut", cut(anchor, (0..anchor.len()).step_by(7)));
    let silent: Vec<_> = table
        .0
        .iter()
        .filter(|((.., verdict), _)| verdict.silent)
        .map(|((name, damage, _), count)| (*name, damage.as_str(), *count))
        .collect();
    // Neither loses anything, and neither can be told from a crash: before the anchor was written at closing, and before
    // the last batch was proven.
    let of_a_crash = [
        (ANCHOR, "all of it as it was before", 1),
        (NEWEST, "cut near its end", 1),
    ];
    assert_eq!(silent, of_a_crash);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/DAMAGE.md");
    let printed = table.print();
    if std::env::var_os("LEDGER_BLESS").is_some() {
        std::fs::write(&golden, &printed).unwrap();
    }
    let kept = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        kept == printed,
        "docs/DAMAGE.md differs; LEDGER_BLESS=1 writes it anew:\n{printed}"
    );
}
