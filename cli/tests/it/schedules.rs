//! A schedule on the real daemon: its jobs run, a kill makes nothing fire twice, and what was missed is told.

use crate::{Daemon, WITHIN, bad, folder, good};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

fn until<T>(what: &str, mut seen: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(began.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn show(dir: &Path, name: &str) -> Value {
    good(dir, &["schedules", "show", name])
}

/// The receipts about the schedule of a kind, each once.
fn receipts(dir: &Path, kind: &str) -> Vec<Value> {
    let out = crate::ledger(dir)
        .args(["replay", "--subject", "schedule/tick", "--kind", kind, "--json"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", crate::said(&out));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_schedule_of_seconds_fires_its_jobs_run_and_a_killed_gateway_doubles_nothing() {
    let root = folder();
    let dir = root.path();
    good(dir, &["init", "--machine", "mini"]);
    let before = std::fs::read_to_string(dir.join("config.toml")).unwrap_or_default();
    let handler = "[verify]\nenabled = false\n[[handler]]\nname = \"count\"\nargv = [\"wc\", \"-c\"]\nclass = \"light\"\n\
                   slots = 2\n";
    std::fs::write(dir.join("config.toml"), before + handler).unwrap();
    let daemon = Daemon::start(dir, "gateway");
    let set = good(
        dir,
        &[
            "schedules",
            "add",
            "tick",
            "count",
            "--cron",
            "* * * * * *",
            "--overlap",
            "allow",
            "--input",
            "{\"n\":1}",
        ],
    );
    assert_eq!(set["schedule"]["warning"], "");
    let succeeded = |wanted: usize| {
        let page = good(dir, &["jobs", "list", "--state", "succeeded"]);
        let jobs = page["jobs"].as_array().map_or(0, Vec::len);
        (jobs >= wanted).then_some(jobs)
    };
    let jobs = until("the schedule fires and its jobs run", || succeeded(2));
    daemon.kill();
    // Some of its times go by while nobody is there.
    std::thread::sleep(Duration::from_millis(2500));
    let daemon = Daemon::start(dir, "gateway");
    until("it goes on after the kill", || succeeded(jobs + 2));
    until("what was missed is told", || {
        show(dir, "tick")["missed"].as_u64().filter(|missed| *missed > 0)
    });
    let removed = good(dir, &["schedules", "remove", "tick", "--reason", "enough"]);
    assert_eq!(removed["schedule"], Value::Null);
    bad(dir, &["schedules", "show", "tick"], "schedule.unknown", 66);
    let fired = receipts(dir, "schedule.fired");
    let times: BTreeSet<String> = fired.iter().map(|r| r["detail"]["nominal"].to_string()).collect();
    assert_eq!(times.len(), fired.len(), "nothing fires twice");
    let missed = receipts(dir, "schedule.missed");
    for one in &missed {
        let span = |name: &str| one["detail"][name].as_i64().unwrap();
        let within = |at: &&String| (span("first")..=span("last")).contains(&at.parse().unwrap());
        assert_eq!(times.iter().find(within), None, "what is missed did not fire");
    }
    daemon.stop();
    good(dir, &["verify"]);
}

#[test]
fn a_schedule_that_never_fires_is_refused_and_one_of_an_unknown_handler_is_taken_with_a_word() {
    let root = folder();
    let dir = root.path();
    good(dir, &["init", "--machine", "mini"]);
    let add = |cron: &'static str, zone: &'static str| {
        [
            "schedules",
            "add",
            "odd",
            "nobody",
            "--cron",
            cron,
            "--zone",
            zone,
        ]
    };
    bad(dir, &add("0 0 30 2 *", "UTC"), "schedule.never", 65);
    bad(dir, &add("61 * * * *", "UTC"), "schedule.expression", 65);
    bad(dir, &add("0 0 * * *", "Berlin"), "schedule.zone", 65);
    bad(dir, &["schedules", "remove", "odd"], "schedule.unknown", 66);
    let set = good(dir, &add("30 3 * * *", "Europe/Berlin"));
    let warning = set["schedule"]["warning"].as_str().unwrap();
    assert!(
        warning.contains("no machine declares handler \"nobody\""),
        "{warning}"
    );
    let list = good(dir, &["schedules", "list"]);
    assert_eq!(list["schedules"][0]["next"], show(dir, "odd")["upcoming"][0]);
}
