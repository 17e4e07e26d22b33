//! What is erased on one machine is gone from all that had it: from the files of the store, with and without daemons.

use crate::{Daemon, WITHIN, bad, folder, founded, good, json};
use std::path::Path;
use std::time::{Duration, Instant};

const SECRET: &str = "the customer is called Xanthippe Quackenbush-Zylberstein";

fn append(dir: &Path, text: &str) -> String {
    let said = good(dir, &["append", "--kind", "x.note", "--payload", text]);
    said["receipt"]["id"].as_str().unwrap().to_owned()
}

// Whether some file of the machine holds a text.
fn holds(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), text);
        }
        let bytes = kind
            .is_file()
            .then(|| std::fs::read(entry.path()).unwrap_or_default());
        bytes.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    })
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WITHIN, "not within time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

// Links that look often, so that nothing here waits for the default period.
fn impatient(dir: &Path) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + "\n[timing]\npoll_ms = 200\n").unwrap();
}

#[test]
fn one_machine_erases_with_and_without_a_daemon() {
    let dir = founded();
    let id = append(dir.path(), SECRET);
    assert!(holds(dir.path(), SECRET));
    let done = good(dir.path(), &["erase", &id, "--reason", "asked"]);
    assert_eq!(
        (&done["id"], &done["repeated"]),
        (&id.as_str().into(), &false.into())
    );
    assert!(!holds(dir.path(), SECRET));
    let again = good(dir.path(), &["erase", &id, "--reason", "asked"]);
    assert_eq!(again["repeated"], true);
    let gateway = Daemon::start(dir.path(), "gateway");
    let id = append(dir.path(), SECRET);
    assert!(holds(dir.path(), SECRET));
    good(dir.path(), &["erase", &id, "--reason", "asked"]);
    assert!(!holds(dir.path(), SECRET));
    let unknown = "019b8d2b-8c06-7a54-8b6e-263bc4f5e70a";
    bad(
        dir.path(),
        &["erase", unknown, "--reason", "asked"],
        "server.not-found",
        66,
    );
    let long = "r".repeat(201);
    bad(
        dir.path(),
        &["erase", &id, "--reason", &long],
        "ledger.erasure-reason",
        65,
    );
    gateway.stop();
    let report = good(dir.path(), &["verify"]);
    assert_eq!(report["counts"]["erased"], 2, "{report}");
}

#[test]
fn what_a_machine_erases_is_gone_from_every_machine_that_mirrors_it() {
    let (central, other) = (founded(), folder());
    impatient(central.path());
    let gateway = Daemon::start(central.path(), "gateway");
    let line = good(central.path(), &["invite", "--machine", "laptop"])["line"]
        .as_str()
        .unwrap()
        .to_owned();
    good(other.path(), &["join", &line, "--machine", "laptop"]);
    impatient(other.path());
    let node = Daemon::start(other.path(), "node");
    // Said on the node, pushed to the gateway, erased on the node.
    let id = append(other.path(), SECRET);
    wait_until("the gateway has the note", || holds(central.path(), SECRET));
    good(other.path(), &["erase", &id, "--reason", "asked"]);
    assert!(!holds(other.path(), SECRET));
    wait_until("the gateway has erased it", || !holds(central.path(), SECRET));
    // The order repeats it, and so every mirror learns of it.
    let repeated = |dir: &Path, stream: &str| {
        let (status, lines) = json(dir, &["status"]);
        assert_eq!(status, 0, "{lines}");
        let words = ["replay", "--kind", "erased"];
        let out = crate::ledger(dir).args(words).arg("--json").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines()
            .filter(|line| line.contains(&format!("\"stream\":\"{stream}\"")))
            .count()
    };
    wait_until("the order says so", || repeated(other.path(), "order") == 1);
    // Said on the gateway, mirrored by the node, erased on the gateway.
    let other_secret = "another thing that nobody may know, in facts of the gateway";
    let id = append(central.path(), other_secret);
    wait_until("the node mirrors the note", || holds(other.path(), other_secret));
    good(central.path(), &["erase", &id, "--reason", "asked"]);
    assert!(!holds(central.path(), other_secret));
    wait_until("the node has erased it", || !holds(other.path(), other_secret));
    // A node's people may not erase what others said.
    let third = append(central.path(), "a third thing that stays where it is");
    wait_until("the node mirrors it", || {
        holds(other.path(), "a third thing that stays")
    });
    bad(
        other.path(),
        &["erase", &third, "--reason", "asked"],
        "ledger.may-not-erase",
        77,
    );
    // While the gateway's daemon rests, a command beside it erases here at once; the order says so when it wakes.
    let address = gateway.address().trim_start_matches("http://").to_owned();
    node.stop();
    gateway.stop();
    let said = repeated(central.path(), "order");
    let id = append(central.path(), SECRET);
    good(central.path(), &["erase", &id, "--reason", "asked"]);
    assert!(!holds(central.path(), SECRET));
    assert_eq!(
        (
            repeated(central.path(), "order"),
            repeated(central.path(), "facts")
        ),
        (said, 2)
    );
    let gateway = Daemon::start_at(central.path(), "gateway", &address);
    let node = Daemon::start(other.path(), "node");
    wait_until("the order says what was kept", || {
        repeated(central.path(), "order") == said + 1
    });
    node.stop();
    gateway.stop();
    for dir in [central.path(), other.path()] {
        good(dir, &["verify"]);
        assert!(!holds(dir, SECRET) && !holds(dir, other_secret));
    }
}
