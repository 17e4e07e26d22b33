//! The queue as people steer it, with the real binary: over the socket beside a daemon, on a resting store, and on a node.

use crate::{Daemon, WITHIN, bad, folder, founded, good, ledger};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Adds a handler that runs a shell's line to a machine's configuration.
pub(crate) fn declare(dir: &Path, name: &str, shell: &str, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let handler = format!(
        "[[handler]]\nname = \"{name}\"\nargv = [\"sh\", \"-c\", \"{shell}\"]\nclass = \"light\"\n{more}\n"
    );
    std::fs::write(path, before + &handler).unwrap();
}

/// Asks for a job; its id.
pub(crate) fn submit(dir: &Path, words: &[&str]) -> String {
    let asked = good(dir, &[&["submit"], words].concat());
    asked["job"].as_str().unwrap().to_owned()
}

/// Waits until a job stands so; it as it is then.
pub(crate) fn until(dir: &Path, job: &str, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let shown = good(dir, &["jobs", "show", job]);
        if shown["state"] == state {
            return shown;
        }
        assert!(began.elapsed() < WITHIN, "never {state}: {shown}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The directory of a machine that joined the fleet whose gateway runs in `hub`.
pub(crate) fn joined(hub: &Path, name: &str) -> tempfile::TempDir {
    let invited = good(hub, &["invite", "--machine", name]);
    let node = folder();
    good(
        node.path(),
        &["join", invited["line"].as_str().unwrap(), "--machine", name],
    );
    node
}

/// Waits until a machine knows a job.
fn listed(dir: &Path, job: &str) {
    let began = Instant::now();
    while !good(dir, &["jobs", "list"])["jobs"].to_string().contains(job) {
        assert!(began.elapsed() < WITHIN, "the order does not come");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn a_job_of_another_machine_is_told_whole_and_what_is_not_to_be_had_is_named() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let (studio, laptop) = (joined(dir.path(), "studio"), joined(dir.path(), "laptop"));
    declare(studio.path(), "say", "cat", "outputs = []");
    let working = Daemon::start(studio.path(), "node");
    let looking = Daemon::start(laptop.path(), "node");
    // Asked for on one node, run on another: what laptop lacks is in studio's logs.
    let job = submit(studio.path(), &["say", "--input", "{\"n\": 5}"]);
    listed(laptop.path(), &job);
    let told = until(laptop.path(), &job, "succeeded");
    assert_eq!(told["absent"], Value::Array(vec![]), "{told}");
    assert_eq!(told["gateway_answered"], true);
    assert!(told["fetched"].as_u64().unwrap() >= 3, "{told}");
    assert_eq!(
        (&told["input"]["json"]["n"], &told["result"]["json"]["n"]),
        (&5.into(), &5.into())
    );
    let run = &told["runs"][0];
    assert_eq!(
        (&run["machine"], &run["ended"], &run["attempt"]),
        (&"studio".into(), &"succeeded".into(), &1.into()),
        "{run}"
    );
    for time in ["claimed_at", "started_at", "ended_at"] {
        assert!(run[time].is_string(), "{run}");
    }
    let receipts = told["receipts"].as_array().unwrap();
    let kinds: Vec<&str> = receipts.iter().map(|r| r["kind"].as_str().unwrap()).collect();
    for kind in [
        "request.received",
        "job.claimed",
        "run.started",
        "run.succeeded",
        "job.succeeded",
    ] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let text = ledger(laptop.path())
        .args(["jobs", "show", &job])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("studio light attempt 1") && text.contains("succeeded"),
        "{text}"
    );
    // Whoever wants to know how it stands asks for no more than is here.
    let api = ledger_server::client::Api::unix(laptop.path().join("data/api.sock"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let here = runtime.block_on(api.job_here(&job)).unwrap().item;
    assert_eq!(
        (here.job.is_final, here.fetched, here.gateway_answered),
        (true, 0, None)
    );
    assert!(!here.absent.is_empty());
    // Nobody to ask: the order's own words stay, and what it cites is named as absent.
    working.stop();
    gateway.stop();
    let told = good(laptop.path(), &["jobs", "show", &job]);
    assert_eq!(
        (&told["state"], &told["fetched"]),
        (&"succeeded".into(), &0.into())
    );
    let absent = told["absent"].to_string();
    assert!(
        absent.contains("the request") && absent.contains("job.succeeded"),
        "{absent}"
    );
    assert_eq!(told["runs"][0]["ended"], "succeeded");
    assert_eq!(told["gateway_answered"], false);
    let text = ledger(laptop.path())
        .args(["jobs", "show", &job])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("not here, and the gateway was not reached") && !text.contains("nor at the gateway"),
        "{text}"
    );
    looking.stop();
}

#[test]
fn an_idle_node_gets_a_job_at_the_moment_its_rate_lets_it_through() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let node = joined(dir.path(), "studio");
    // It would ask again after half a minute only.
    declare(
        node.path(),
        "quick",
        "true",
        "slots = 8\n[timing]\npoll_ms = 30000",
    );
    let daemon = Daemon::start(node.path(), "node");
    good(
        dir.path(),
        &["limits", "set", "--handler", "quick", "--rate", "1/500ms"],
    );
    let first = submit(dir.path(), &["quick"]);
    until(dir.path(), &first, "succeeded");
    let began = Instant::now();
    let jobs: Vec<String> = (0..4).map(|_| submit(dir.path(), &["quick"])).collect();
    for job in &jobs {
        until(dir.path(), job, "succeeded");
    }
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    daemon.stop();
    gateway.stop();
}

#[test]
fn jobs_wait_for_others_for_a_release_and_for_a_paused_handler() {
    let dir = founded();
    let home = dir.path();
    declare(home, "say", "cat", "slots = 4");
    let gateway = Daemon::start(home, "gateway");
    good(
        home,
        &["handlers", "pause", "say", "--reason", "not yet", "--until", "1h"],
    );
    let first = submit(home, &["say", "--input", "1"]);
    // A part of an id names its job here as everywhere.
    let second = submit(home, &["say", "--input", "2", "--depends-on", &first[24..]]);
    bad(
        home,
        &["submit", "say", "--depends-on", "ffffffff"],
        "job.unknown",
        66,
    );
    let held = submit(home, &["say", "--input", "3"]);
    good(home, &["jobs", "hold", &held, "--reason", "look first"]);
    let listed = good(home, &["jobs", "list", "--handler", "say", "--state", "held"]);
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 2, "{listed}");
    let rows = good(home, &["handlers", "list"])["handlers"].clone();
    assert_eq!(
        (
            &rows[0]["ready"],
            &rows[0]["waiting"],
            &rows[0]["paused"]["reason"]
        ),
        (&1.into(), &2.into(), &"not yet".into()),
        "{rows}"
    );
    // A claim that waits is woken by each of these; nothing is polled for.
    good(home, &["handlers", "resume", "say"]);
    until(home, &second, "succeeded");
    assert_eq!(good(home, &["jobs", "show", &held])["state"], "held");
    good(home, &["jobs", "release", &held]);
    until(home, &held, "succeeded");
    // A length of time is one from now on.
    let later = submit(home, &["say", "--not-before", "1h", "--deadline", "2h"]);
    assert_eq!(good(home, &["jobs", "show", &later])["state"], "scheduled");
    bad(
        home,
        &["submit", "say", "--deadline", "yesterday"],
        "time.past",
        2,
    );
    // What is said again under one id is to be the same, also when its time has passed.
    let id = "019a0000-0000-7000-8000-000000000001";
    let once = |deadline| ["submit", "say", "--id", id, "--deadline", deadline];
    bad(home, &once("2h"), "time.malformed", 2);
    let asked = good(home, &once("2020-01-01"))["job"].clone();
    let again = good(home, &once("2020-01-01"));
    assert_eq!((&again["job"], &again["repeated"]), (&asked, &true.into()));
    gateway.stop();
}

#[test]
fn a_dead_letter_is_tried_again_and_a_backlog_is_given_up_for_a_reason() {
    let dir = founded();
    let home = dir.path();
    let flag = home.join("mended");
    declare(home, "breaks", &format!("test -e {}", flag.display()), "");
    let gateway = Daemon::start(home, "gateway");
    let job = submit(home, &["breaks", "--input", "{\"n\": 1}"]);
    until(home, &job, "parked");
    std::fs::write(&flag, "").unwrap();
    let again = good(home, &["jobs", "retry", &job])["job"]
        .as_str()
        .unwrap()
        .to_owned();
    let done = until(home, &again, "succeeded");
    assert_eq!(done["spec"]["retry_of"], job.as_str(), "{done}");
    assert_eq!(until(home, &job, "discarded")["state"], "discarded");
    bad(home, &["jobs", "retry", &job], "job.no-retry", 65);
    for _ in 0..3 {
        submit(home, &["breaks", "--not-before", "2999-01-01"]);
    }
    let refused = ledger(home).args(["jobs", "drain", "breaks"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "a reason is demanded");
    let drained = good(home, &["jobs", "drain", "breaks", "--reason", "stale"]);
    assert_eq!(drained["discarded"], 3, "{drained}");
    gateway.stop();
}

#[test]
fn a_rate_lets_jobs_through_one_by_one_without_anybody_asking_again() {
    let dir = founded();
    let home = dir.path();
    declare(home, "quick", "true", "slots = 8");
    let gateway = Daemon::start(home, "gateway");
    good(
        home,
        &[
            "limits",
            "set",
            "--handler",
            "quick",
            "--rate",
            "1/400ms",
            "--reason",
            "the service asks for it",
        ],
    );
    let listed = good(home, &["limits", "list"]);
    assert_eq!(listed["limits"][0]["rate"]["period_ms"], 400, "{listed}");
    let began = Instant::now();
    let jobs: Vec<String> = (0..4).map(|_| submit(home, &["quick"])).collect();
    for job in &jobs {
        until(home, job, "succeeded");
    }
    assert!(began.elapsed() >= Duration::from_millis(3 * 400));
    good(home, &["limits", "lift", "--handler", "quick"]);
    assert_eq!(good(home, &["limits", "list"])["limits"], Value::Array(vec![]));
    gateway.stop();
}

#[test]
fn a_resting_store_is_steered_as_one_with_a_daemon() {
    let dir = founded();
    let home = dir.path();
    bad(home, &["submit", "nobody"], "handler.unknown", 65);
    let listed = good(home, &["jobs", "list", "--state", "parked"]);
    let job = listed["jobs"][0]["id"].as_str().unwrap().to_owned();
    bad(home, &["jobs", "hold", &job], "job.state", 65);
    let gone = good(home, &["jobs", "discard", &job, "--reason", "mistake"]);
    assert_eq!(gone["job"]["state"], "discarded", "{gone}");
    bad(home, &["jobs", "discard", &job], "job.final", 65);
    bad(home, &["jobs", "tail"], "daemon.absent", 69);
    good(home, &["handlers", "pause", "x", "--reason", "none of these"]);
    good(home, &["limits", "set", "--key", "k", "--running", "3"]);
    assert_eq!(good(home, &["handlers", "list"])["handlers"][0]["handler"], "x");
}

#[test]
fn a_node_refuses_to_steer_and_says_where_to() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let job = {
        bad(dir.path(), &["submit", "nobody"], "handler.unknown", 65);
        let listed = good(dir.path(), &["jobs", "list"]);
        listed["jobs"][0]["id"].as_str().unwrap().to_owned()
    };
    let node = joined(dir.path(), "laptop");
    let daemon = Daemon::start(node.path(), "node");
    listed(node.path(), &job);
    for words in [
        vec!["jobs", "hold", job.as_str()],
        vec!["jobs", "discard", &job],
        vec!["jobs", "cancel", &job],
        vec!["jobs", "drain", "nobody", "--reason", "x"],
        vec!["handlers", "pause", "nobody", "--reason", "x"],
        vec!["limits", "set", "--key", "k", "--running", "1"],
    ] {
        let refused = bad(node.path(), &words, "queue.not-central", 78);
        assert!(
            refused["error"]["message"]
                .as_str()
                .unwrap()
                .contains(&gateway.address()),
            "{refused}"
        );
    }
    // A retry is a request, and a node may ask.
    let again = good(node.path(), &["jobs", "retry", &job])["job"]
        .as_str()
        .unwrap()
        .to_owned();
    listed(node.path(), &again);
    until(node.path(), &again, "parked");
    until(dir.path(), &job, "discarded");
    daemon.stop();
    gateway.stop();
}

#[test]
fn a_tail_tells_each_change_of_the_jobs_of_a_handler() {
    let dir = founded();
    let home = dir.path();
    declare(home, "say", "cat", "");
    let gateway = Daemon::start(home, "gateway");
    let mut tail = ledger(home);
    tail.args(["jobs", "tail", "--handler", "say", "--count", "4", "--json"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    // The tail begins when it is there; a job of another handler tells it so, for those are not shown.
    let mut told = Vec::new();
    let began = Instant::now();
    while tail.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < WITHIN, "the tail does not end");
        let _ = ledger(home).args(["submit", "nobody"]).output().unwrap();
        told.push(submit(home, &["say", "--input", "1"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    let out = tail.wait_with_output().unwrap();
    let lines: Vec<Value> = out
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    for line in &lines {
        let job = line["subject"]
            .as_str()
            .unwrap()
            .trim_start_matches("job/")
            .to_owned();
        assert!(told.contains(&job), "{line}");
    }
    gateway.stop();
}

/// A daemon whose tail brings what is no receipt.
fn speaks_otherwise(dir: &Path) {
    let socket = dir.join("data/api.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            stream.read_line(&mut first).unwrap();
            let mut line = first.clone();
            while !line.trim().is_empty() {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let (media, body) = match first.contains("/v1/events") {
                true => (
                    "text/event-stream",
                    "event: receipt\nid: a\ndata: {\"no\": 1}\n\n",
                ),
                false => ("application/json", "{\"status\": \"alive\"}"),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
}

#[test]
fn a_tail_that_brings_what_is_no_receipt_ends_with_an_error() {
    let dir = folder();
    speaks_otherwise(dir.path());
    let (ended, told) = std::sync::mpsc::channel();
    let home = dir.path().to_owned();
    std::thread::spawn(move || {
        bad(&home, &["jobs", "tail"], "client.malformed", 69);
        ended.send(()).unwrap();
    });
    told.recv_timeout(WITHIN).expect("the tail ends by itself");
}

#[test]
fn a_request_may_depend_on_one_that_is_still_kept_on_its_node() {
    let dir = founded();
    declare(dir.path(), "say", "cat", "");
    let gateway = Daemon::start(dir.path(), "gateway");
    let node = joined(dir.path(), "laptop");
    // The node's daemon rests: both requests are kept in its own log, and the order knows neither.
    let first = submit(node.path(), &["say", "--input", "1"]);
    let second = submit(node.path(), &["say", "--input", "2", "--depends-on", &first]);
    bad(node.path(), &["jobs", "show", &first], "job.on-its-way", 75);
    let nowhere = "0190a7c4-1111-8222-8333-444444444444";
    bad(
        node.path(),
        &["submit", "say", "--depends-on", nowhere],
        "request.depends-on",
        65,
    );
    let daemon = Daemon::start(node.path(), "node");
    listed(dir.path(), &second);
    let told = until(dir.path(), &second, "succeeded");
    let before = until(dir.path(), &first, "succeeded");
    assert!(
        before["changed_at"].as_str() <= told["runs"][0]["claimed_at"].as_str(),
        "{told}"
    );
    daemon.stop();
    gateway.stop();
}
