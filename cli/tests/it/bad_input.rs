//! Every bad input has its own clear message with a stable code, exits non-zero, and loses nothing.

use crate::{Daemon, bad, folder, founded, good, json, ledger};
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

#[test]
fn since_tomorrow_is_a_usage_error_with_its_own_code() {
    let dir = founded();
    bad(dir.path(), &["replay", "--since", "tomorrow"], "time.future", 2);
    bad(dir.path(), &["replay", "--since", "soonish"], "time.malformed", 2);
}

#[test]
fn an_unknown_config_key_is_named() {
    let dir = founded();
    std::fs::write(dir.path().join("config.toml"), "[timing]\npulse = 15\n").unwrap();
    let said = bad(dir.path(), &["config", "show"], "config.unknown-key", 78);
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("timing.pulse"),
        "{said}"
    );
    bad(dir.path(), &["gateway"], "config.unknown-key", 78);
    bad(
        dir.path(),
        &["status", "--set", "nonsense=1"],
        "config.unknown-key",
        78,
    );
}

#[test]
fn a_payload_over_the_limit_is_refused_whole() {
    let dir = founded();
    let file = dir.path().join("large");
    std::fs::write(&file, vec![b'a'; 65_537]).unwrap();
    let from_file = format!("@{}", file.display());
    bad(
        dir.path(),
        &["append", "--kind", "x.large", "--payload", &from_file],
        "input.too-large",
        65,
    );
    std::fs::write(&file, vec![b'a'; 65_536]).unwrap();
    good(
        dir.path(),
        &["append", "--kind", "x.large", "--payload", &from_file],
    );
    let (_, seen) = json(dir.path(), &["replay", "--kind", "x.large"]);
    assert_eq!(seen["kind"], "x.large", "exactly one such receipt is there");
}

#[test]
fn a_malformed_receipt_is_refused_and_a_malformed_bundle_is_found() {
    let dir = founded();
    bad(
        dir.path(),
        &["append", "--kind", "Not A Kind"],
        "statement.kind",
        65,
    );
    bad(
        dir.path(),
        &["append", "--kind", "job.succeeded"],
        "request.body",
        65,
    );
    bad(
        dir.path(),
        &["append", "--kind", "x.a", "--cause", "nonsense"],
        "request.body",
        65,
    );
    let bundle = dir.path().join("order.bundle");
    let out = bundle.to_str().unwrap();
    good(dir.path(), &["export", "--log", "order", "--out", out]);
    good(dir.path(), &["verify", out]);
    let mut bytes = std::fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (status, envelope) = json(dir.path(), &["verify", out]);
    assert_eq!(status, 1, "{envelope}");
    assert!(
        !envelope["result"]["findings"].as_array().unwrap().is_empty(),
        "{envelope}"
    );
    bad(dir.path(), &["verify", "no-such.bundle"], "input.not-found", 66);
}

#[test]
fn a_wrong_root_key_invites_nobody() {
    let (dir, other) = (founded(), founded());
    let wrong = other.path().join("root/root.key");
    let words = [
        "invite",
        "--address",
        "http://127.0.0.1:1",
        "--root-key",
        wrong.to_str().unwrap(),
    ];
    let (status, envelope) = json(dir.path(), &words);
    assert_eq!(
        (status, &envelope["error"]["code"]),
        (77, &"auth.forbidden".into()),
        "{envelope}"
    );
    let (_, seen) = json(dir.path(), &["jobs", "list"]);
    assert_eq!(seen["ok"], true, "the store is as it was");
}

#[test]
fn a_foreign_store_is_refused_and_works_again_when_it_is_back() {
    let (dir, other) = (founded(), founded());
    let swap = |from: &std::path::Path, to: &std::path::Path| std::fs::rename(from, to).unwrap();
    swap(&dir.path().join("data"), &dir.path().join("aside"));
    swap(&other.path().join("data"), &dir.path().join("data"));
    bad(dir.path(), &["status"], "journal.other-store", 78);
    swap(&dir.path().join("data"), &other.path().join("data"));
    swap(&dir.path().join("aside"), &dir.path().join("data"));
    good(dir.path(), &["status"]);
}

#[test]
fn a_directory_without_a_ledger_is_told_as_such() {
    let dir = folder();
    bad(dir.path(), &["status"], "store.absent", 78);
    bad(dir.path(), &["verify"], "ledger.no-store", 78);
}

#[test]
fn a_port_in_use_is_told_and_nothing_else_happens() {
    let dir = founded();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen={}", taken.local_addr().unwrap());
    bad(dir.path(), &["gateway", "--set", &listen], "server.listen", 69);
    good(dir.path(), &["verify"]);
}

#[test]
fn a_second_daemon_on_one_store_is_refused_and_the_first_goes_on() {
    let dir = founded();
    let first = Daemon::start(dir.path(), "gateway");
    bad(
        dir.path(),
        &["gateway", "--set", "listen=127.0.0.1:0"],
        "store.locked",
        75,
    );
    good(dir.path(), &["append", "--kind", "x.still.here"]);
    first.stop();
}

#[test]
fn a_handler_that_does_not_exist_is_told_and_the_request_is_kept() {
    let dir = founded();
    let envelope = bad(
        dir.path(),
        &["submit", "no-such-handler", "--input", "{}"],
        "handler.unknown",
        65,
    );
    let job = envelope["result"]["job"].as_str().unwrap();
    assert_eq!(good(dir.path(), &["jobs", "show", job])["state"], "parked");
}

#[test]
fn a_node_is_not_run_as_a_gateway_nor_the_other_way_round() {
    let dir = founded();
    bad(dir.path(), &["node"], "server.wrong-role", 78);
}

#[test]
fn an_invitation_that_is_none_or_was_used_lets_nobody_in() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let (one, two) = (folder(), folder());
    bad(
        one.path(),
        &["join", "nonsense", "--machine", "one"],
        "join.invitation",
        77,
    );
    let line = good(dir.path(), &["invite"])["line"].as_str().unwrap().to_owned();
    good(one.path(), &["join", &line, "--machine", "one"]);
    let said = bad(
        two.path(),
        &["join", &line, "--machine", "two"],
        "join.invitation",
        77,
    );
    assert!(
        said["error"]["message"].as_str().unwrap().contains("used"),
        "{said}"
    );
    gateway.stop();
}

#[test]
fn wrong_usage_has_status_2_and_input_that_is_no_json_its_own_code() {
    let dir = founded();
    let (status, envelope) = json(dir.path(), &["submit"]);
    assert_eq!((status, &envelope["error"]["code"]), (2, &"usage.wrong".into()));
    bad(
        dir.path(),
        &["submit", "a", "--input", "{not json"],
        "input.json",
        65,
    );
    bad(
        dir.path(),
        &["submit", "a", "--input", "@/no/such/file"],
        "input.not-found",
        66,
    );
}

#[test]
fn a_reader_who_closes_the_pipe_ends_the_program_quietly() {
    let dir = founded();
    let mut child = ledger(dir.path())
        .args(["replay", "--all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_custom_receipt_comes_from_a_shell_through_standard_input() {
    let dir = founded();
    let mut child = ledger(dir.path())
        .args(["append", "--kind", "x.from.pipe", "--payload", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"n\": 1}").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let (_, seen) = json(dir.path(), &["replay", "--kind", "x.from.pipe"]);
    assert_eq!(seen["payload"]["media"], "application/json", "{seen}");
}
