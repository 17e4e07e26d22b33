//! What people do every day, with the real binary: work that fails, work that is stopped, tokens, machines that go, and a
//! store whose derived data was deleted.

use crate::{Daemon, bad, folder, founded, good, json, ledger};
use ledger_server::client::Api;
use std::path::Path;

/// Adds a handler to a machine's configuration.
fn declare(dir: &Path, name: &str, class: &str, shell: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let more = format!(
        "[[handler]]\nname = \"{name}\"\nargv = [\"sh\", \"-c\", \"{shell}\"]\nclass = \"{class}\"\n"
    );
    std::fs::write(path, before + &more).unwrap();
}

#[test]
fn a_job_that_fails_ends_submit_with_status_1_and_shows_what_it_printed() {
    let dir = founded();
    declare(dir.path(), "breaks", "light", "echo it broke here >&2; exit 3");
    let gateway = Daemon::start(dir.path(), "gateway");
    let (status, envelope) = json(dir.path(), &["submit", "breaks", "--wait", "--timeout", "30s"]);
    assert_eq!((status, &envelope["ok"]), (1, &false.into()), "{envelope}");
    assert_eq!(envelope["result"]["state"], "parked", "{envelope}");
    let text = ledger(dir.path())
        .args(["jobs", "show", envelope["result"]["id"].as_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("it broke here"), "{text}");
    gateway.stop();
}

#[test]
fn a_request_made_without_a_daemon_is_done_when_one_runs() {
    let dir = founded();
    declare(dir.path(), "later", "light", "cat");
    let gateway = Daemon::start(dir.path(), "gateway");
    gateway.stop();
    let envelope = bad(
        dir.path(),
        &["submit", "later", "--input", "{\"n\": 1}", "--wait"],
        "daemon.absent",
        69,
    );
    let job = envelope["result"]["job"].as_str().unwrap().to_owned();
    let gateway = Daemon::start(dir.path(), "gateway");
    let done = good(
        dir.path(),
        &[
            "submit",
            "later",
            "--input",
            "{\"n\": 2}",
            "--wait",
            "--timeout",
            "30s",
        ],
    );
    assert_eq!(done["result"]["json"]["n"], 2, "{done}");
    assert_eq!(
        good(dir.path(), &["jobs", "show", &job[24..]])["state"],
        "succeeded"
    );
    gateway.stop();
}

#[test]
fn the_next_attempt_gets_the_last_checkpoint_and_every_run_its_trace() {
    let dir = founded();
    let shell = "[ x$LEDGER_CHECKPOINT != x ] || { printf 'checkpoint 6\\ncheckpoint frame=7\\n' >> $LEDGER_REPORT; exit 1; }; \
                 cat $LEDGER_CHECKPOINT; echo; echo $LEDGER_TRACEPARENT";
    declare(dir.path(), "long", "heavy", shell);
    let gateway = Daemon::start(dir.path(), "gateway");
    let asked = ["submit", "long", "--attempts", "2", "--wait", "--timeout", "50s"];
    let done = good(dir.path(), &asked);
    let said = done["result"]["json"]["stdout_tail"].as_str().unwrap();
    let (checkpoint, trace) = said.trim_end().split_once('\n').unwrap();
    assert_eq!(checkpoint, "frame=7", "{done}");
    // W3C: version, trace, parent, flags. The trace is the job's own, the parent the claim.
    let job = done["id"].as_str().unwrap().replace('-', "");
    let fence = done["runs"][1]["fence"]
        .as_str()
        .unwrap()
        .rsplit('-')
        .next()
        .unwrap();
    assert_eq!(trace, format!("00-{job}-{}-01", &fence[..16]), "{done}");
    gateway.stop();
}

#[test]
fn a_job_is_cancelled_while_it_runs() {
    let dir = founded();
    declare(dir.path(), "long", "light", "sleep 600");
    let gateway = Daemon::start(dir.path(), "gateway");
    let job = good(dir.path(), &["submit", "long"])["job"]
        .as_str()
        .unwrap()
        .to_owned();
    good(dir.path(), &["jobs", "cancel", &job, "--reason", "not needed"]);
    let began = std::time::Instant::now();
    loop {
        let shown = good(dir.path(), &["jobs", "show", &job]);
        if shown["state"] == "cancelled" {
            break;
        }
        assert!(began.elapsed() < crate::WITHIN, "{shown}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    gateway.stop();
}

#[test]
fn a_token_reads_until_it_is_revoked_and_never_writes() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let secret = good(dir.path(), &["token", "new", "--name", "wall"])["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let (network, stranger) = (
        Api::network(&gateway.address(), Some(secret)),
        Api::network(&gateway.address(), None),
    );
    let (network, stranger) = (network.unwrap(), stranger.unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert!(network.nodes().await.is_ok());
        assert!(stranger.nodes().await.is_err());
        let note = ledger_server::http::wire::AppendBody {
            kind: "x.note".to_owned(),
            ..Default::default()
        };
        assert!(network.append(&note).await.is_err());
    });
    good(dir.path(), &["token", "revoke", "wall", "--reason", "sold"]);
    assert!(runtime.block_on(network.nodes()).is_err());
    assert_eq!(
        good(dir.path(), &["token", "list"])["tokens"][0]["state"],
        "revoked"
    );
    bad(dir.path(), &["token", "revoke", "wall"], "input.token", 65);
    gateway.stop();
}

#[test]
fn a_machine_joins_by_one_line_and_is_retired() {
    let (dir, other) = (founded(), folder());
    let gateway = Daemon::start(dir.path(), "gateway");
    let line = good(dir.path(), &["invite", "--machine", "laptop"])["line"]
        .as_str()
        .unwrap()
        .to_owned();
    good(other.path(), &["join", &line, "--machine", "laptop"]);
    let node = Daemon::start(other.path(), "node");
    assert_eq!(
        good(dir.path(), &["nodes", "show", "laptop"])["machine"],
        "laptop"
    );
    let drained = good(dir.path(), &["nodes", "drain", "laptop", "--reason", "update"]);
    assert_eq!(drained["node"]["status"], "draining");
    // A node gives no orders: its gateway does.
    bad(
        other.path(),
        &["nodes", "drain", "laptop"],
        "queue.not-central",
        78,
    );
    bad(
        other.path(),
        &["notices", "ack", "0190b1c2-0000-7000-8000-000000000000"],
        "queue.not-central",
        78,
    );
    bad(
        other.path(),
        &["schedules", "remove", "nightly", "--reason", "none"],
        "queue.not-central",
        78,
    );
    good(dir.path(), &["nodes", "resume", "laptop"]);
    let told = good(dir.path(), &["nodes", "uptime", "laptop", "--since", "90d"]);
    assert_eq!(
        (&told["uptime"][0]["per_cent"], &told["as_of"]["standing"]),
        (&100.0.into(), &"central".into())
    );
    bad(
        dir.path(),
        &["nodes", "uptime", "--since", "@3"],
        "time.malformed",
        2,
    );
    node.stop();
    // It said so, which is no outage.
    let shown = good(dir.path(), &["nodes", "show", "laptop"]);
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&"asleep".into(), &"stop-announced".into())
    );
    let told = good(dir.path(), &["nodes", "uptime", "laptop", "--since", "90d"]);
    assert_eq!(
        (
            &told["uptime"][0]["per_cent"],
            &told["uptime"][0]["away"][0]["kind"]
        ),
        (&100.0.into(), &"asleep".into())
    );
    good(dir.path(), &["nodes", "retire", "laptop", "--reason", "sold"]);
    assert_eq!(
        good(dir.path(), &["nodes", "show", "laptop"])["status"],
        "retired"
    );
    bad(dir.path(), &["nodes", "retire", "nobody"], "machine.unknown", 66);
    gateway.stop();
}

#[test]
fn a_store_whose_derived_data_was_deleted_answers_as_before() {
    let dir = founded();
    declare(dir.path(), "count", "light", "wc -c");
    let vault = folder();
    std::fs::write(vault.path().join("a.txt"), "alpha").unwrap();
    std::fs::write(vault.path().join("b.txt"), "beta").unwrap();
    let gateway = Daemon::start(dir.path(), "gateway");
    good(
        dir.path(),
        &[
            "submit",
            "count",
            "--input",
            "[1, 2, 3]",
            "--wait",
            "--timeout",
            "30s",
        ],
    );
    good(dir.path(), &["vault", "scan", vault.path().to_str().unwrap()]);
    good(dir.path(), &["append", "--kind", "x.note", "--payload", "{}"]);
    good(dir.path(), &["token", "new", "--name", "wall"]);
    gateway.stop();
    let answers = || -> Vec<String> {
        let queries: [&[&str]; 5] = [
            &["replay", "--all"],
            &["jobs", "list"],
            &["vault", "ls"],
            &["token", "list"],
            &["replay", "--kind", "job.*"],
        ];
        let ask = |words: &&[&str]| {
            let out = ledger(dir.path()).args(*words).arg("--json").output().unwrap();
            assert!(out.status.success(), "{words:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        queries.iter().map(ask).collect()
    };
    let before = answers();
    assert!(
        before[0].lines().count() > 15 && before[1].contains("succeeded") && before[2].contains("b.txt"),
        "{before:?}"
    );
    let derived = dir.path().join("data/derived");
    assert!(derived.is_dir(), "there is derived data to delete");
    std::fs::remove_dir_all(derived).unwrap();
    assert_eq!(answers(), before);
    good(dir.path(), &["verify"]);
}

#[test]
fn a_verification_by_hand_leaves_a_receipt_and_a_line_in_the_status() {
    let dir = founded();
    assert!(good(dir.path(), &["status"])["verification"].is_null());
    let gateway = Daemon::start(dir.path(), "gateway");
    assert_eq!(good(dir.path(), &["verify", "--record"])["findings_total"], 0);
    assert_eq!(good(dir.path(), &["status"])["verification"]["clean"], true);
    gateway.stop();
    assert_eq!(good(dir.path(), &["verify", "--record"])["findings_total"], 0);
    let out = ledger(dir.path())
        .args(["replay", "--kind", "verify.completed", "--json"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), 2);
}
