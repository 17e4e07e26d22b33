//! `status` tells in one screen how a machine is, whether its daemon runs or rests.

use crate::{Daemon, WITHIN, bad, folder, founded, good, ledger, said};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A screen.
const LINES: usize = 24;
const COLUMNS: usize = 130;

fn screen(dir: &Path) -> String {
    let out = ledger(dir).arg("status").output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(text.lines().count() <= LINES, "{text}");
    assert!(longest.is_some_and(|longest| longest <= COLUMNS), "{text}");
    text
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_all(status: &Value) {
    for name in [
        "machine",
        "role",
        "fleet",
        "version",
        "central",
        "epoch",
        "logs",
        "outbox",
        "jobs_here",
        "projections",
        "disk",
        "counts",
        "undelivered",
        "verification",
        "warnings",
        "ready",
        "link",
        "as_of",
        "daemon",
    ] {
        assert!(status.get(name).is_some(), "{name} is missing: {status}");
    }
    for name in ["receipts", "bytes", "oldest_age_ms"] {
        assert!(status["outbox"].get(name).is_some(), "outbox.{name}: {status}");
    }
    assert!(status["disk"]["free_bytes"].as_u64().unwrap() > 0, "{status}");
    let names: Vec<_> = status["projections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["fleet", "vault"]);
}

fn own(status: &Value, stream: &str) -> Value {
    let logs = status["logs"].as_array().unwrap();
    let found = logs
        .iter()
        .find(|log| log["own"] == true && log["stream"] == stream);
    found.unwrap_or_else(|| panic!("{stream}: {status}")).clone()
}

#[test]
fn a_gateway_tells_its_standing_with_and_without_its_daemon() {
    let dir = founded();
    let dir = dir.path();
    let resting = good(dir, &["status"]);
    has_all(&resting);
    assert_eq!(
        (&resting["daemon"], &resting["role"]),
        (&false.into(), &"gateway".into())
    );
    let text = screen(dir);
    for part in [
        "mini  gateway",
        "own logs",
        "outbox",
        "jobs",
        "folded",
        "verified",
        "disk",
        "root.on-machine",
        " 1 machine,",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    std::fs::write(
        dir.join("config.toml"),
        "[timing]\nheal_wait_ms = 0\n[disk]\nreserve = \"50%\"\n",
    )
    .unwrap();
    let daemon = Daemon::start(dir, "gateway");
    let running = good(dir, &["status"]);
    has_all(&running);
    assert_eq!(running["daemon"], true);
    let disk = &running["disk"];
    let below = disk["free_bytes"].as_u64().unwrap() < disk["reserve_bytes"].as_u64().unwrap();
    assert_eq!(disk["below_reserve"], below);
    screen(dir);
    daemon.stop();
}

#[test]
fn a_node_tells_what_of_its_logs_the_gateway_has_and_that_it_sleeps() {
    let root = folder();
    let (gateway, node) = (root.path().join("gateway"), root.path().join("node"));
    good(&gateway, &["init", "--machine", "mini"]);
    let settings = "[timing]\nheal_wait_ms = 0\npulse_ms = 300\nbeat_ms = 200\nterm_ms = 2000\npoll_ms = 300\n[verify]\nenabled = false\n";
    std::fs::write(gateway.join("config.toml"), settings).unwrap();
    let central = Daemon::start(&gateway, "gateway");
    let address = central.address();
    let line = good(
        &gateway,
        &["invite", "--machine", "studio", "--address", &address],
    )["line"]
        .clone();
    good(&node, &["join", line.as_str().unwrap(), "--machine", "studio"]);
    let file = node.join("config.toml");
    let joined = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{joined}\n{settings}")).unwrap();
    let worker = Daemon::start(&node, "node");
    until("the gateway has the node's facts", || {
        let status = good(&node, &["status"]);
        let facts = own(&status, "facts");
        status["link"]["connected"] == true && facts["acknowledged_seq"] == facts["seq"]
    });
    let status = good(&node, &["status"]);
    has_all(&status);
    assert!(
        status["link"]["last_contact_age_ms"].as_u64().is_some(),
        "{status}"
    );
    assert!(screen(&node).contains("(all there)"));
    // The sleep hook: told before it goes, and told when it is back.
    let slept = good(&node, &["sleeping"]);
    assert_eq!((&slept["said"], &slept["heard"]), (&true.into(), &true.into()));
    let state = |name: &str| {
        let nodes = good(&gateway, &["nodes", "list"]);
        let nodes = nodes["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["machine"] == name).unwrap()["status"].clone()
    };
    assert_eq!(state("studio"), "asleep");
    assert_eq!(good(&node, &["waking"])["said"], true);
    until("the gateway knows that it woke", || state("studio") == "online");
    assert_eq!(good(&node, &["waking"])["said"], false, "told already");
    worker.stop();
    // At rest, and the gateway away: what the order tells.
    central.stop();
    let resting = good(&node, &["status"]);
    has_all(&resting);
    assert_eq!(
        (&resting["daemon"], &resting["link"]["connected"]),
        (&false.into(), &false.into())
    );
    assert_eq!(
        own(&resting, "facts")["acknowledged_seq"],
        own(&resting, "facts")["seq"],
        "its stop was heard"
    );
    assert_eq!(good(&node, &["sleeping"])["said"], false, "no daemon runs");
    screen(&node);
}

#[test]
fn a_disk_down_to_its_reserve_takes_no_new_work_and_is_told() {
    let dir = founded();
    let dir = dir.path();
    let settings = |reserve: &str| {
        let text = format!("[timing]\nheal_wait_ms = 0\npulse_ms = 100\n[disk]\nreserve = \"{reserve}\"\n");
        std::fs::write(dir.join("config.toml"), text).unwrap();
    };
    settings("9000TiB");
    let daemon = Daemon::start(dir, "gateway");
    until("the daemon has looked at its disk", || {
        good(dir, &["status"])["ready"] == false
    });
    bad(dir, &["submit", "anything"], "server.disk-reserve", 74);
    bad(dir, &["append", "--kind", "x.note"], "server.disk-reserve", 74);
    let warnings = good(dir, &["status"])["warnings"].clone();
    assert!(warnings.to_string().contains("disk.reserve"), "{warnings}");
    // Results and notices go on: a notice is one, and the log has it.
    until("a notice tells it", || {
        let listed = good(dir, &["notices", "list"]);
        let told = listed["notices"].as_array().unwrap();
        told.iter()
            .any(|notice| notice["topic"] == "disk-reserve" && notice["open"] == false)
    });
    daemon.stop();
    settings("0");
    let daemon = Daemon::start(dir, "gateway");
    good(dir, &["append", "--kind", "x.note"]);
    assert_eq!(good(dir, &["status"])["ready"], true);
    daemon.stop();
}
