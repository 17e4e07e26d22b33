//! Failover with real daemons: a machine dies in the middle of a heavy job, and the gateway, which hears nobody else, is its backup.

use crate::{Daemon, WITHIN, folder, good};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// What both machines go by. A backup may have the job that long after its machine was heard.
const FAILOVER_AFTER: Duration = Duration::from_secs(2);
const TIMING: &str = "[timing]\npulse_ms = 60000\nbeat_ms = 150\nterm_ms = 600\npoll_ms = 500\nlost_after_ms = 1000\n\
                      failover_after_ms = 2000\nheal_wait_ms = 500\n[verify]\nenabled = false\n";

fn configure(dir: &Path, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + more).unwrap();
}

/// Looks until a job stands so; it as it is then.
fn until(what: &str, look: impl Fn() -> Value, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let found = look();
        if is_so(&found) {
            return found;
        }
        assert!(began.elapsed() < WITHIN, "in vain: {what}: {found}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn a_gateway_that_hears_nobody_takes_a_dead_machines_job_over_only_when_its_outside_probe_answers() {
    let root = folder();
    let (gateway, studio) = (root.path().join("gateway"), root.path().join("studio"));
    let way_out = root.path().join("way-out");
    good(&gateway, &["init", "--machine", "gateway"]);
    configure(&gateway, TIMING);
    let probe = format!(
        "[queue]\noutside_probe = \"way out\"\n[[check]]\nname = \"way out\"\ncommand = [\"test\", \"-e\", {way_out:?}]\n\
         every_ms = 50\ntimeout_ms = 1500\nfailures = 1\n"
    );
    let backup = "[[handler]]\nname = \"render\"\nargv = [\"sh\", \"-c\", \"cat $LEDGER_CHECKPOINT\"]\nclass = \"heavy\"\n\
                  labels = [\"backup\"]\n";
    configure(&gateway, &format!("{probe}{backup}"));
    let running = Daemon::start(&gateway, "gateway");
    let invited = good(
        &gateway,
        &["invite", "--machine", "studio", "--address", &running.address()],
    );
    good(
        &studio,
        &["join", invited["line"].as_str().unwrap(), "--machine", "studio"],
    );
    let home = "[[handler]]\nname = \"render\"\nargv = [\"sh\", \"-c\", \"echo checkpoint frame=7 >> $LEDGER_REPORT; sleep 600\"]\n\
                class = \"heavy\"\n";
    configure(&studio, &format!("{TIMING}{home}"));
    let dies = Daemon::start(&studio, "node");
    until(
        "the home machine is known",
        || good(&gateway, &["nodes", "list"]),
        |nodes| {
            nodes["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|node| node["machine"] == "studio" && node.to_string().contains("render"))
        },
    );
    let asked = good(&gateway, &["submit", "render"]);
    let job = asked["job"].as_str().unwrap();
    let show = || good(&gateway, &["jobs", "show", job]);
    let shown = until("it is under way", show, |job| job["runs"][0]["checkpoints"] == 1);
    assert_eq!(shown["runs"][0]["machine"], "studio", "{shown}");
    dies.kill();

    // Nobody else is heard and nothing outside answers: Central may be the one that is cut off.
    until("nobody knows what became of it", show, |job| {
        job["state"] == "suspect"
    });
    let began = Instant::now();
    while began.elapsed() < FAILOVER_AFTER * 3 {
        let shown = show();
        assert_eq!(shown["state"], "suspect", "{shown}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let shown = show();
    let answer = shown["answer"].as_str().unwrap();
    assert!(
        answer.contains("but not yet: no other machine is heard"),
        "{shown}"
    );

    // It answers: the machine is gone, and Central is not.
    std::fs::write(&way_out, "").unwrap();
    let shown = until("the backup runs it", show, |job| job["state"] == "succeeded");
    let runs = shown["runs"].as_array().unwrap();
    let by: Vec<&str> = runs.iter().map(|run| run["machine"].as_str().unwrap()).collect();
    assert_eq!(by, ["studio", "gateway"], "{shown}");
    assert_eq!(runs[0]["ended"], "failed-over", "{shown}");
    assert!(
        shown["result"].to_string().contains("frame=7"),
        "where it had got to: {shown}"
    );

    // Home again, it is told that its claim is over.
    let back = Daemon::start(&studio, "node");
    until(
        "the home machine is heard",
        || good(&gateway, &["nodes", "list"]),
        |nodes| {
            nodes["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|node| node["machine"] == "studio" && node["status"] == "online")
        },
    );
    let shown = show();
    assert_eq!(
        (&shown["state"], shown["runs"].as_array().map(Vec::len)),
        (&"succeeded".into(), Some(2)),
        "{shown}"
    );
    back.stop();
    running.stop();
}
