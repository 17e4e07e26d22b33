//! Replication between real daemons: what is told of where a receipt is holds, and a backlog survives kills of either side.

use crate::{Daemon, WITHIN, folder, good};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TIMING: &str = "[timing]\npulse_ms = 60000\nbeat_ms = 150\nterm_ms = 1000\npoll_ms = 2000\nlost_after_ms = 5000\n\
                      heal_wait_ms = 500\n[verify]\nenabled = false\n";

/// A gateway and a node that has joined it, neither of them running but the gateway.
fn pair(root: &Path) -> (PathBuf, PathBuf, Daemon) {
    let gateway = root.join("gateway");
    good(&gateway, &["init", "--machine", "gateway"]);
    configure(&gateway, TIMING);
    let running = Daemon::start(&gateway, "gateway");
    let studio = joined(&gateway, &running, "studio");
    (gateway, studio, running)
}

/// A node that joins the fleet of a gateway, beside it.
fn joined(gateway: &Path, running: &Daemon, name: &str) -> PathBuf {
    let asked = ["invite", "--machine", name, "--address", &running.address()];
    let invited = good(gateway, &asked);
    let node = gateway.with_file_name(name);
    good(
        &node,
        &["join", invited["line"].as_str().unwrap(), "--machine", name],
    );
    configure(&node, TIMING);
    node
}

fn configure(dir: &Path, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + more).unwrap();
}

/// Looks until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WITHIN, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn append(dir: &Path, id: &str) -> Value {
    good(
        dir,
        &["append", "--kind", "x.note", "--subject", "note", "--id", id],
    )
}

#[test]
fn an_answer_says_local_until_another_machine_has_the_receipt_and_replicated_from_then_on() {
    let root = folder();
    let (gateway, studio, running) = pair(root.path());
    let [first, second, third] = [1, 2, 3].map(|n| format!("0192f0c1-0000-7000-8000-00000000000{n}"));
    // Nobody else is there.
    assert_eq!(append(&gateway, &first)["standing"], "local");
    assert_eq!(append(&gateway, &first)["standing"], "local");
    assert_eq!(
        append(&studio, &second)["standing"],
        "local",
        "said without a daemon"
    );
    let alone = |dir: &Path| good(dir, &["status"])["alone"].as_u64().unwrap();
    assert!(alone(&gateway) > 0 && alone(&studio) > 0);

    let node = Daemon::start(&studio, "node");
    until("both have everything", || {
        alone(&gateway) == 0 && alone(&studio) == 0
    });
    assert_eq!(append(&gateway, &first)["standing"], "replicated");
    assert_eq!(append(&studio, &second)["standing"], "replicated");
    let outbox = good(&studio, &["status"])["outbox"].clone();
    assert_eq!(
        (&outbox["receipts"], &outbox["bytes"]),
        (&Value::from(0), &Value::from(0))
    );

    // The mark was kept before the answer: a kill takes nothing of it back.
    running.kill();
    node.stop();
    let running = Daemon::start(&gateway, "gateway");
    assert_eq!(append(&gateway, &first)["standing"], "replicated");
    assert_eq!(append(&studio, &second)["standing"], "replicated");
    // Without its node, what the gateway says stays its own; and what a node says while it is cut off is counted.
    assert_eq!(append(&gateway, &third)["standing"], "local");
    assert_eq!(append(&gateway, &third)["standing"], "local");
    append(&studio, &third);
    let status = good(&studio, &["status"]);
    assert!(status["outbox"]["receipts"].as_u64() > Some(0), "{status}");
    assert!(status["outbox"]["bytes"].as_u64() > Some(100), "{status}");
    running.stop();
}

/// How long a job may take from its request to its end on a busy test machine, far below the time between two polls.
const BY_LONG_POLL: Duration = Duration::from_secs(8);

#[test]
fn a_job_reaches_an_idle_node_by_long_poll_and_not_when_it_next_asks() {
    let root = folder();
    let (gateway, studio, running) = pair(root.path());
    let handler = "[[handler]]\nname = \"noop\"\nargv = [\"true\"]\nclass = \"light\"\n";
    let config = std::fs::read_to_string(studio.join("config.toml")).unwrap();
    let config = config.replace("poll_ms = 2000", "poll_ms = 20000");
    std::fs::write(studio.join("config.toml"), config + handler).unwrap();
    let node = Daemon::start(&studio, "node");
    // The first one waits until the node is known; the next ones only for the node to hear of them.
    good(&gateway, &["submit", "noop", "--wait"]);
    for _ in 0..3 {
        let asked = Instant::now();
        good(&gateway, &["submit", "noop", "--wait"]);
        let took = asked.elapsed();
        assert!(took < BY_LONG_POLL, "{took:?}");
    }
    node.stop();
    running.stop();
}

#[test]
fn a_cancellation_reaches_a_live_node_with_the_order_and_not_with_its_next_beat() {
    let root = folder();
    let (gateway, studio, running) = pair(root.path());
    // The next beat would come after minutes.
    let address = running.address();
    running.stop();
    for dir in [&gateway, &studio] {
        let config = std::fs::read_to_string(dir.join("config.toml")).unwrap();
        let slow = config.replace(
            "beat_ms = 150\nterm_ms = 1000",
            "beat_ms = 200000\nterm_ms = 600000",
        );
        assert_ne!(slow, config);
        std::fs::write(dir.join("config.toml"), slow).unwrap();
    }
    let handler = "[[handler]]\nname = \"long\"\nargv = [\"sleep\", \"600\"]\nclass = \"heavy\"\n";
    configure(&studio, handler);
    let running = Daemon::start_at(&gateway, "gateway", address.trim_start_matches("http://"));
    let node = Daemon::start(&studio, "node");
    until("the handler is known", || {
        good(&gateway, &["handlers", "list"]).to_string().contains("long")
    });
    let asked = good(&gateway, &["submit", "long"]);
    let job = asked["job"].as_str().unwrap();
    let show = || good(&gateway, &["jobs", "show", job]);
    until("it runs", || show()["runs"][0]["started_at"].is_string());
    let cancelled = Instant::now();
    good(&gateway, &["jobs", "cancel", job, "--reason", "not needed"]);
    until("it is stopped", || show()["state"] == "cancelled");
    let took = cancelled.elapsed();
    assert!(took < BY_LONG_POLL, "{took:?}");
    node.stop();
    running.stop();
}

#[test]
fn a_node_copies_the_order_alone_or_the_gateways_logs_too_or_all_that_there_are() {
    let root = folder();
    let (gateway, studio, running) = pair(root.path());
    let working = Daemon::start(&studio, "node");
    let copies = ["order", "gateway", "all"].map(|logs| {
        let dir = joined(&gateway, &running, &format!("copy-{logs}"));
        configure(&dir, &format!("[mirror]\nlogs = \"{logs}\"\n"));
        let daemon = Daemon::start(&dir, "node");
        (dir, daemon)
    });
    let head = |dir: &Path, stream: &str| {
        let status = good(dir, &["status"]);
        let mut logs = status["logs"].as_array().unwrap().clone().into_iter();
        let found = logs.find(|log| log["own"] == true && log["stream"] == stream);
        found.unwrap_or_else(|| panic!("{stream}: {status}"))
    };
    // Said on the node, said at the gateway; whoever has this head of the order knows of both.
    for (dir, n) in [(&studio, 1), (&gateway, 2)] {
        append(dir, &format!("0190a7c4-0000-7000-8000-00000000000{n}"));
    }
    let facts = [&studio, &gateway].map(|dir| head(dir, "facts"));
    let has = |dir: &Path, log: &Value| {
        let status = good(dir, &["status"]);
        let mut logs = status["logs"].as_array().unwrap().iter();
        let found = logs.find(|found| found["log"] == log["log"]);
        found.and_then(|found| found["seq"].as_u64()) >= log["seq"].as_u64()
    };
    until("the gateway has it all", || {
        facts.iter().all(|log| has(&gateway, log))
    });
    let order = head(&gateway, "order");
    for (dir, _) in &copies {
        until("the order is everywhere", || has(dir, &order));
    }
    let [(none, _), (own, _), (all, _)] = &copies;
    let [said, asked] = &facts;
    until("all has both", || has(all, said) && has(all, asked));
    until("gateway has the gateway's", || has(own, asked));
    assert!(!has(own, said) && !has(none, said) && !has(none, asked));
    for (_, daemon) in copies {
        daemon.stop();
    }
    working.stop();
    running.stop();
}

/// Facts that are written while nobody listens.
const BACKLOG: u64 = 10_000;

#[test]
fn a_backlog_goes_on_where_it_was_after_a_kill_of_either_side() {
    let root = folder();
    let (gateway, studio, mut running) = pair(root.path());
    let log = backlog(&studio);
    let address = running.address();
    let listen = address.trim_start_matches("http://");
    let there = || {
        let status = good(&gateway, &["status"]);
        let logs = status["logs"].as_array().cloned().unwrap_or_default();
        let head = logs.iter().find(|head| head["log"] == log.as_str());
        head.map_or(0, |head| head["seq"].as_u64().unwrap_or_default())
    };
    let mut node = Daemon::start(&studio, "node");
    for part in [BACKLOG / 10, BACKLOG / 3] {
        until("some of it is there", || there() >= part);
        running.kill();
        running = Daemon::start_at(&gateway, "gateway", listen);
        let before = there();
        until("it goes on", || there() > before || before >= BACKLOG);
        node.kill();
        node = Daemon::start(&studio, "node");
    }
    until("all of it is there", || there() >= BACKLOG);
    until("nothing is waiting", || {
        good(&studio, &["status"])["outbox"]["receipts"] == 0
    });
    node.stop();
    running.stop();
    for dir in [&gateway, &studio] {
        good(dir, &["verify"]);
    }
}

#[test]
fn of_a_log_that_its_gateway_does_not_know_the_first_run_is_answered_before_the_second_is_sent() {
    let root = folder();
    let (gateway, studio, running) = pair(root.path());
    // As after a restore: the machine goes on in logs of another incarnation, of which nobody was told.
    let paths = ledger::Paths::new(&studio);
    let store: ledger::Ledger = ledger::Ledger::open_behind(&paths, ledger::OpenOptions::default()).unwrap();
    let open: Vec<_> = store.written_logs().into_values().collect();
    let begin = move |tx: &mut ledger::Tx<'_, _>| -> Result<(), ledger::LedgerError> {
        open.iter().try_for_each(|log| tx.succeed(log).map(drop))
    };
    store.submit(begin).wait().unwrap();
    store.close_restored().unwrap();
    let log = backlog(&studio);
    let node = Daemon::start_in(&studio, "node", "127.0.0.1:0", &[("LEDGER_LOG", "debug")]);
    until("all of it is there", || {
        let status = good(&gateway, &["status"]);
        let logs = status["logs"].as_array().cloned().unwrap_or_default();
        let head = logs.iter().find(|head| head["log"] == log.as_str());
        head.is_some_and(|head| head["seq"].as_u64() >= Some(BACKLOG))
    });
    node.stop();
    running.stop();
    let told = std::fs::read_to_string(studio.join("daemon.log")).unwrap();
    let failed = |line: &&str| line.contains("loop_of=\"push\"") || line.contains("loop_of=push");
    let failed: Vec<&str> = told.lines().filter(failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    for dir in [&gateway, &studio] {
        good(dir, &["verify"]);
    }
}

/// Writes facts without a daemon, many to a batch, and tells their log.
fn backlog(dir: &Path) -> String {
    use ledger::core::{Draft, Kind, Stream, Subject};
    let machine = ledger_server::Machine::open(dir, ledger_server::Config::default()).unwrap();
    let tickets: Vec<_> = (0..BACKLOG)
        .map(|n| {
            let subject = Subject::new(&format!("backlog/{n}")).unwrap();
            let draft = Draft::custom(Kind::new("x.note").unwrap(), subject);
            let draft = draft.payload("text/plain", vec![b'x'; 200]).unwrap();
            machine.ledger.submit(move |tx| tx.append(Stream::Facts, draft))
        })
        .collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let log = machine.ledger.own_log(Stream::Facts).unwrap();
    machine.ledger.clone().close().unwrap();
    log.to_hex()
}
