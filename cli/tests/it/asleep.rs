//! A machine that stands still with a claim's answer on its way to it: when it goes on, the claim is over, and nothing of it is begun.

use crate::{Daemon, WITHIN, folder, good};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A wait for work is longer than a term, so that it does not matter how fast this machine is.
const TIMING: &str = "[timing]\npulse_ms = 60000\nbeat_ms = 150\nterm_ms = 1500\npoll_ms = 3000\nlost_after_ms = 60000\n\
                      heal_wait_ms = 500\n[verify]\nenabled = false\n";
/// The poll and the term, and a little more.
const STANDS_STILL: Duration = Duration::from_millis(5000);
/// How often a machine is stopped until it is stopped at the right moment, at most.
const TRIES: u32 = 10;

fn configure(dir: &Path, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + more).unwrap();
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < WITHIN, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A machine whose handler writes down that it ran.
fn join(gateway: &Path, address: &str, name: &str, ran: &Path) -> PathBuf {
    let invited = good(gateway, &["invite", "--machine", name, "--address", address]);
    let dir = gateway.with_file_name(name);
    let line = invited["line"].as_str().unwrap();
    good(&dir, &["join", line, "--machine", name]);
    let shell = format!("echo $LEDGER_JOB {name} >> {}", ran.display());
    let handler =
        format!("[[handler]]\nname = \"note\"\nargv = [\"sh\", \"-c\", \"{shell}\"]\nclass = \"light\"\n");
    configure(&dir, &format!("{TIMING}{handler}"));
    dir
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").arg(name).arg(process.to_string()).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_machine_that_stood_still_over_the_answer_to_its_claim_begins_nothing_of_it() {
    let root = folder();
    let (gateway, ran) = (root.path().join("gateway"), root.path().join("ran"));
    good(&gateway, &["init", "--machine", "gateway"]);
    configure(&gateway, TIMING);
    let running = Daemon::start(&gateway, "gateway");
    let [studio, mini] = ["studio", "mini"].map(|name| join(&gateway, &running.address(), name, &ran));
    let stands_still = Daemon::start(&studio, "node");
    let show = |job: &str| good(&gateway, &["jobs", "show", job]);
    let submit = || {
        let asked = good(&gateway, &["submit", "note"]);
        asked["job"].as_str().unwrap().to_owned()
    };
    let first = submit();
    until("studio works", || show(&first)["state"] == "succeeded");

    // It is stopped while it waits for work, and is given some.
    let given = |job: &Value| job["runs"][0]["machine"] == "studio";
    let job = (0..TRIES).find_map(|_| {
        signal("-STOP", stands_still.child.id());
        let (job, began) = (submit(), Instant::now());
        while began.elapsed() < Duration::from_secs(1) {
            if given(&show(&job)) {
                return Some(job);
            }
        }
        // Its wait was over just then.
        signal("-CONT", stands_still.child.id());
        until("studio works", || show(&job)["state"] == "succeeded");
        None
    });
    let (job, began) = (job.expect("it waits for work most of the time"), Instant::now());
    let others = Daemon::start(&mini, "node");
    until("the other one runs it", || show(&job)["state"] == "succeeded");
    std::thread::sleep(STANDS_STILL.saturating_sub(began.elapsed()));
    signal("-CONT", stands_still.child.id());

    // It is back, and does what is its to do.
    let next = good(&gateway, &["submit", "note", "--machine", "studio", "--wait"]);
    assert_eq!(next["state"], "succeeded", "{next}");
    let ran = std::fs::read_to_string(&ran).unwrap();
    let by: Vec<&str> = ran
        .lines()
        .filter_map(|line| line.strip_prefix(job.as_str()))
        .collect();
    assert_eq!(by, [" mini"], "{ran}");
    let shown = show(&job);
    let runs = shown["runs"].as_array().unwrap();
    assert_eq!(
        (runs.len(), &runs[0]["started"]),
        (2, &Value::Bool(false)),
        "{shown}"
    );
    others.stop();
    stands_still.stop();
    running.stop();
}
