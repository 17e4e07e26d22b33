//! A log exported by this engine is verified by the program in Python that was written from `docs/FORMAT.md` alone.
//!
//! Runs where `CI=true`, on [`RECEIPTS`]; on another number by `LEDGER_PYTHON_RECEIPTS`; elsewhere it is skipped. Needs
//! Python (`PYTHON`, else `python3`) with the packages `blake3` and `cryptography`.

use crate::stores::{Counter, fact, fact_with, found, temp};
use ledger::clock::SystemEntropy;
use ledger::core::Stream;
use ledger::{CommitError, Ledger, LedgerError, Tx};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// As many as CI has time for: about ten seconds.
const RECEIPTS: u64 = 10_000;
/// What the verifier may take, in bytes, however long the log is: the interpreter and its packages have 40 MiB of it.
const RESIDENT_MAX: u64 = 96 << 20;
/// Receipts of one commit.
const AT_ONCE: u64 = 1000;

/// Runs the verifier and prints what it took at most, in KiB, on standard error: by Linux's own count for this image, since
/// what a process inherits by its fork counts elsewhere.
const MEASURED: &str = "\
import re, resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    if sys.platform == 'linux':
        taken = re.search('VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]
    else:
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(taken, file=sys.stderr)
";

fn receipts() -> Option<u64> {
    match std::env::var("LEDGER_PYTHON_RECEIPTS") {
        Ok(count) => Some(count.parse().unwrap()),
        Err(_) => (std::env::var("CI").as_deref() == Ok("true")).then_some(RECEIPTS),
    }
}

/// Every third one signed by an actor, every second one with a payload.
fn fill(ledger: &Ledger<Counter>, count: u64) {
    for first in (1..count).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let numbers = first..count.min(first + AT_ONCE);
        let draft = |number: u64| match number % 2 {
            0 => fact_with("python", format!("{{\"n\": {number}}}").repeat(20).as_bytes()),
            _ => fact("python"),
        };
        let signed: Vec<_> = numbers
            .clone()
            .filter(|number| number % 3 == 0)
            .map(|number| ledger.sign_as_actor(draft(number), &SystemEntropy).unwrap())
            .collect();
        let call = move |tx: &mut Tx<'_, Counter>| -> Result<(), LedgerError> {
            for said in &signed {
                tx.append_signed(Stream::Facts, said)?;
            }
            for number in numbers.filter(|number| number % 3 != 0) {
                tx.append(Stream::Facts, draft(number))?;
            }
            Ok(())
        };
        ledger.commit(call).map_err(CommitError::into_ledger).unwrap();
    }
}

struct Verified {
    report: serde_json::Value,
    seconds: f64,
    resident: u64,
}

fn verify(bundle: &Path) -> Verified {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/verify_log.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let began = Instant::now();
    let run = Command::new(&python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-c", MEASURED])
        .arg(script)
        .arg(bundle)
        .arg("--json")
        .output()
        .unwrap_or_else(|error| panic!("{python}: {error}"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() || !run.stdout.is_empty(), "{said}");
    let taken: u64 = said.lines().last().unwrap().trim().parse().unwrap();
    // macOS counts in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Verified {
        report: serde_json::from_slice(&run.stdout).unwrap(),
        seconds: began.elapsed().as_secs_f64(),
        resident: taken * unit,
    }
}

#[test]
fn an_exported_log_and_a_range_of_it_verify_with_the_python_verifier_in_flat_memory() {
    let Some(count) = receipts() else {
        println!("skipped: neither CI=true nor LEDGER_PYTHON_RECEIPTS");
        return;
    };
    let dir = temp();
    let ledger = found(dir.path(), "studio", false);
    let log = ledger.own_log(Stream::Facts).unwrap();
    fill(&ledger, count);
    let whole = dir.path().join("facts.bundle");
    let mut out = BufWriter::new(File::create(&whole).unwrap());
    let exported = ledger.export(&log, &mut out).unwrap();
    assert_eq!(exported.receipts, count);
    let range = dir.path().join("range.bundle");
    let mut out = BufWriter::new(File::create(&range).unwrap());
    ledger
        .export_range(&log, count / 2, count * 3 / 4, &mut out)
        .unwrap();

    let found = verify(&whole);
    let signatures = exported.receipts + (count - 1) / 3;
    println!(
        "{count} receipts, {signatures} signatures, {} MB: {:.1} s, {} MiB",
        exported.bytes / 1_000_000,
        found.seconds,
        found.resident >> 20
    );
    assert_eq!(found.report["findings_total"], 0, "{}", found.report);
    assert_eq!(found.report["records"], count);
    assert_eq!(found.report["signatures"], signatures);
    assert_eq!(found.report["payloads"], exported.payloads);
    assert_eq!(found.report["root"], exported.root.to_hex());
    assert!(found.resident < RESIDENT_MAX, "{} bytes", found.resident);

    let part = verify(&range);
    println!(
        "{} of them as a range: {:.1} s, {} MiB",
        part.report["records"],
        part.seconds,
        part.resident >> 20
    );
    assert_eq!(part.report["findings_total"], 0, "{}", part.report);
    assert_eq!(part.report["first"], count / 2);
    assert_eq!(part.report["log"], log.to_hex());

    // One bit in the middle, and it is named.
    let mut bytes = std::fs::read(&whole).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&whole, &bytes).unwrap();
    let bad = verify(&whole);
    assert!(bad.report["findings_total"].as_u64().unwrap() > 0);
}
