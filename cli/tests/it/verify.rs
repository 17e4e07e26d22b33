//! `ledger verify` of a part, and of a store in several goes.

use crate::{WITHIN, bad, good, json, ledger};
use ::ledger::Ledger;
use ::ledger::core::{Draft, Kind, Stream, Subject};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

// A directory as keys want it.
fn private() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

// Facts with payloads; their log.
fn store(dir: &Path, receipts: u32, payload_bytes: usize) -> String {
    let ledger = Ledger::lone(dir, "studio").unwrap();
    let draft = |number: u32| {
        let subject = Subject::new("verify").unwrap();
        let mut content = vec![7; payload_bytes];
        content[..4].copy_from_slice(&number.to_be_bytes());
        Draft::custom(Kind::new("x.fact").unwrap(), subject)
            .payload("text/plain", content)
            .unwrap()
    };
    let numbers: Vec<u32> = (0..receipts).collect();
    for some in numbers.chunks(64) {
        let drafts = some.iter().map(|number| draft(*number)).collect();
        ledger.append_batch(Stream::Facts, drafts).unwrap();
    }
    let log = ledger.own_log(Stream::Facts).unwrap().to_hex();
    ledger.close().unwrap();
    log
}

#[test]
fn a_range_is_told_with_what_is_left_out_and_wrong_ones_are_refused() {
    let dir = private();
    let log = store(dir.path(), 30, 100);
    let log = log.as_str();
    let part = good(
        dir.path(),
        &["verify", "--log", log, "--from", "10", "--to", "19"],
    );
    assert_eq!(part["range"]["receipts"], 10);
    assert_eq!(part["counts"]["log_signatures"], 10);
    assert_eq!(part["counts"]["receipts"], 31);
    assert_eq!(part["not_checked"][0]["aspect"], "signatures");
    let all = good(dir.path(), &["verify", "--since", "1h"]);
    assert_eq!(all["range"]["receipts"], 31);
    let none = good(dir.path(), &["verify", "--until", "2020-01-01"]);
    assert_eq!(none["range"]["receipts"], 0);
    let (status, envelope) = json(
        dir.path(),
        &["verify", "--log", log, "--from", "10", "--to", "99"],
    );
    assert_eq!((status, &envelope["ok"]), (1, &Value::Bool(false)));
    assert_eq!(envelope["result"]["findings"][0]["code"], "range.missing");
    bad(
        dir.path(),
        &["verify", "--log", log, "--from", "9", "--to", "3"],
        "usage.range",
        2,
    );
    bad(dir.path(), &["verify", "--since", "@12"], "usage.since", 2);
    bad(dir.path(), &["verify", "--since", "2999-01-01"], "time.future", 2);
    let file = dir.path().join("how-far");
    std::fs::write(&file, "something else").unwrap();
    let words = ["verify", "--resume", file.to_str().unwrap()];
    bad(dir.path(), &words, "verify.resume-damaged", 65);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(good(dir.path(), &words)["resumed"], Value::Null);
    assert!(!file.exists());
}

// Starts one and waits until it has written how far it is; `None` when it was quicker than that.
fn begun(dir: &Path, file: &Path) -> Option<Child> {
    let mut child = ledger(dir)
        .args(["verify", "--json", "--resume"])
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let written = || std::fs::metadata(file).and_then(|found| found.modified()).ok();
    let before = written();
    while written() == before {
        assert!(began.elapsed() < WITHIN);
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::yield_now();
    }
    Some(child)
}

#[test]
fn a_run_that_is_killed_or_interrupted_goes_on_behind_what_was_checked() {
    let dir = private();
    store(dir.path(), 4000, 60_000);
    let whole = good(dir.path(), &["verify"]);
    let file = dir.path().join("how-far");
    let word = file.to_str().unwrap();
    let (mut killed, mut interrupted) = (0, 0);
    // Each is stopped somewhere behind the first 64 MiB, unless it ends before the signal comes.
    for round in 0..8 {
        let Some(mut child) = begun(dir.path(), &file) else {
            continue;
        };
        if round % 2 == 0 {
            child.kill().unwrap();
            child.wait().unwrap();
            killed += usize::from(file.exists());
        } else {
            let pid = child.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-INT", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
            let out = child.wait_with_output().unwrap();
            if out.status.success() {
                continue;
            }
            let envelope: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!(envelope["error"]["code"], "verify.interrupted", "{envelope}");
            assert_eq!(out.status.code(), Some(75));
            interrupted += 1;
        }
        if file.exists() {
            let resumed = good(dir.path(), &["verify", "--resume", word]);
            assert!(
                resumed["resumed"]["log_signatures"].as_u64().unwrap() > 0,
                "{resumed}"
            );
            assert_eq!(resumed["counts"], whole["counts"]);
            assert!(!file.exists());
        }
        if killed > 0 && interrupted > 0 {
            break;
        }
    }
    assert!(killed > 0 && interrupted > 0, "{killed} {interrupted}");
}
