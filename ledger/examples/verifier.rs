//! A verifier: says of a store, a bundle or published tiles whether every receipt is still there and unaltered.
//!
//! Run it with `cargo run -p ledger --example verifier -- PATH [KEY...]`, where each KEY is a checkpoint key that the log
//! must have, as `ledger keys` prints it. It needs neither the store's keys nor a running process, and writes
//! nothing. Exit status: 0 clean, 1 something is wrong, 2 it could not be read.
//!
//! Without a path it makes a log in a temporary directory, verifies it in all three forms, then damages a copy by one bit
//! and sees that it is found.

use ledger::core::note::VerifierKey;
use ledger::core::{Draft, Kind, Stream, Subject};
use ledger::verify::{Options, Report, verify_bundle, verify_store, verify_tiles};
use ledger::{Ledger, LedgerError, Paths};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let outcome = match arguments.next() {
        Some(path) => judge(&PathBuf::from(path), arguments),
        None => show(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

fn judge(path: &Path, keys: impl Iterator<Item = std::ffi::OsString>) -> Result<bool, Box<dyn Error>> {
    // What is not there at all is no finding about a log.
    std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut options = Options::default();
    for key in keys {
        let key = key.into_string().map_err(|_| "a key is text")?;
        options.keys.push(VerifierKey::parse(&key)?);
    }
    let report = verify(path, &options)?;
    println!("{report}");
    Ok(report.is_clean())
}

// What a path is, is told by what lies there.
fn verify(path: &Path, options: &Options) -> Result<Report, LedgerError> {
    let quiet = &mut |_| {};
    if path.is_file() {
        verify_bundle(path, options, quiet)
    } else if Paths::new(path).journal().exists() {
        verify_store(path, options, quiet)
    } else {
        verify_tiles(path, options, quiet)
    }
}

fn show() -> Result<bool, Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let at = |name: &str| temporary.path().join(name);
    let (store, bundle, tiles) = (at("store"), at("log.bundle"), at("tiles"));
    let ledger = Ledger::lone(&store, "my-agent")?;
    for number in 0..20 {
        let draft = Draft::custom(Kind::new("x.note")?, Subject::new("demo/1")?);
        ledger.append(draft.payload("text/plain", format!("note {number}").into_bytes())?)?;
    }
    let log = ledger.own_log(Stream::Facts).ok_or("a lone log has facts")?;
    ledger.export(&log, &mut std::fs::File::create(&bundle)?)?;
    ledger.publish(&log, &tiles)?;
    ledger.close()?;

    let mut as_expected = true;
    for path in [&store, &bundle, &tiles] {
        let report = verify(path, &Options::default())?;
        println!("{report}");
        as_expected &= report.is_clean();
    }
    let mut bytes = std::fs::read(&bundle)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = at("damaged.bundle");
    std::fs::write(&damaged, bytes)?;
    let report = verify(&damaged, &Options::default())?;
    println!("one bit is changed:\n{report}");
    Ok(as_expected && !report.is_clean())
}
