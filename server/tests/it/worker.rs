//! The promise: a run ends with its true result, and nothing of it outlives its supervisor, its daemon or its time.
//!
//! Real processes throughout. The supervisor and the daemon are this very test binary, entered through the ignored
//! tests at the end by a small script that stands in for the product's binary.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ledger_server::worker::{
    HandlerConfig, Outcome, OutputLimits, Recovered, ReportLine, ReportReader, Run, RunRequest, RunResult,
    WorkerError, collect_outputs, prepare, recover, start, stdout_path, supervise_main,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const PATIENCE: Duration = Duration::from_secs(30);
const ENTER_SUPERVISOR: &str = "ENTER_SUPERVISOR";
const ENTER_DAEMON: &str = "ENTER_DAEMON";

/// A script that takes `supervise --run-dir DIR`, as the product's binary does.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let script = format!(
            "#!/bin/sh\n{ENTER_SUPERVISOR}=\"$3\" exec '{}' --exact worker::enter_supervisor --ignored --nocapture\n",
            std::env::current_exe().unwrap().display()
        );
        let part = folder.join(format!("supervise.{}", std::process::id()));
        let path = folder.join("supervise.sh");
        fs::write(&part, script).unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&part, &path).unwrap();
        path
    })
}

struct Bench {
    folder: tempfile::TempDir,
    handler: HandlerConfig,
}

/// A handler that runs `script` with `sh`.
fn bench(script: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut handler: HandlerConfig =
        toml::from_str("name = 'test'\nargv = ['sh', '-c']\nclass = 'heavy'\nkill_grace_ms = 200").unwrap();
    handler.argv.push(script.to_owned());
    Bench { folder, handler }
}

impl Bench {
    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn out(&self, name: &str) -> PathBuf {
        self.run_dir().join("out").join(name)
    }

    fn prepare(&self) {
        let request = RunRequest {
            handler: self.handler.clone(),
            job: "job-7".to_owned(),
            fence: "1.42.abcdef".to_owned(),
            traceparent: Some("00-aa-bb-01".to_owned()),
            input: br#"{"path": "notes.txt"}"#.to_vec(),
            checkpoint: None,
        };
        prepare(&self.run_dir(), &request).unwrap();
    }

    fn start(&self) -> Run {
        self.prepare();
        start(binary(), &self.run_dir()).unwrap()
    }

    fn run(&self) -> RunResult {
        self.start().wait().unwrap()
    }

    /// A daemon process of its own, so that it can be killed.
    fn start_daemon(&self) -> std::process::Child {
        self.prepare();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker::enter_daemon", "--ignored", "--nocapture"])
            .env(ENTER_DAEMON, self.run_dir())
            .env("DAEMON_BINARY", binary())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the handler has written a whole line into that output; returns it as a pid.
    fn pid(&self, name: &str) -> i32 {
        let path = self.out(name);
        wait_for(&format!("{name} to appear"), || {
            fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
        });
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A zombie is dead: whoever inherited it may take its time to reap it.
fn is_alive(pid: i32) -> bool {
    if !cfg!(target_os = "linux") {
        return test_kill_process(Pid::from_raw(pid).unwrap()).is_ok();
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn assert_dead(pids: &[i32]) {
    for &pid in pids {
        assert!(!is_alive(pid), "process {pid} is still alive");
    }
}

/// Three ways to hide from one's parent: a session of its own, an emptied environment, all files closed.
const HIDING_CHILDREN: &str = r#"
    echo $$ > "$LEDGER_OUT/leader"
    setsid sh -c 'echo $$ > "$LEDGER_OUT/session"; exec sleep 600' &
    OUT="$LEDGER_OUT"
    setsid env -i PATH="$PATH" OUT="$OUT" sh -c 'echo $$ > "$OUT/emptied"; exec sleep 600' &
    setsid sh -c 'exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
                  echo $$ > "$LEDGER_OUT/closed"; exec sleep 600' &
    trap '' TERM
    while :; do sleep 1; done
"#;

fn hiding_pids(bench: &Bench) -> Vec<i32> {
    ["leader", "session", "emptied", "closed"]
        .map(|name| bench.pid(name))
        .to_vec()
}

#[test]
fn a_successful_run_hands_over_its_result_outputs_report_and_costs() {
    let mut bench = bench(
        r#"
        cat > "$LEDGER_OUT/stdin.json"
        cmp "$LEDGER_INPUT" "$LEDGER_OUT/stdin.json" || exit 9
        env | cut -d= -f1 | grep -v -e '^_$' -e PWD -e SHLVL -e OLDPWD | sort > "$LEDGER_OUT/names.txt"
        echo "progress 50 half" >> "$LEDGER_REPORT"
        echo "cost tokens 12" >> "$LEDGER_REPORT"
        echo "something to say" >&2
        i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
        echo "working"
        echo "{\"job\":\"$LEDGER_JOB\",\"fence\":\"$LEDGER_FENCE\",\"trace\":\"$LEDGER_TRACEPARENT\"}"
        "#,
    );
    bench.handler.env = vec!["CARGO_MANIFEST_DIR".to_owned()];
    let mut run = bench.start();
    let mut report = ReportReader::open(&bench.run_dir()).unwrap();
    let result = run.wait().unwrap();
    assert_eq!(result.outcome, Outcome::Exited { code: 0 }, "{result:?}");
    assert!(result.outcome.is_success());
    assert_eq!(
        result.result,
        r#"{"job":"job-7","fence":"1.42.abcdef","trace":"00-aa-bb-01"}"#
    );
    assert_eq!(result.stderr.tail, "something to say\n");
    assert_eq!(
        fs::read_to_string(stdout_path(&bench.run_dir())).unwrap(),
        result.stdout.tail
    );
    assert!(
        result.cpu_ms > 0 && result.peak_memory_bytes > 100_000,
        "{result:?}"
    );
    assert!(result.started_at_ms > 1_500_000_000_000 && result.ended_at_ms >= result.started_at_ms);

    let progress = ReportLine::Progress {
        per_cent: 50,
        note: "half".to_owned(),
    };
    let cost = ReportLine::Cost {
        name: "tokens".to_owned(),
        amount: 12,
    };
    assert_eq!(report.finish().unwrap(), [progress, cost]);

    let collected =
        collect_outputs(&bench.run_dir(), &bench.handler.outputs, &OutputLimits::default()).unwrap();
    let outputs: Vec<_> = collected
        .outputs
        .iter()
        .map(|o| (o.path.as_str(), o.digest))
        .collect();
    let digest = |name: &str| *blake3::hash(&fs::read(bench.out(name)).unwrap()).as_bytes();
    assert_eq!(
        outputs,
        [
            ("names.txt", digest("names.txt")),
            ("stdin.json", digest("stdin.json"))
        ]
    );
    assert_eq!(
        fs::read(bench.out("stdin.json")).unwrap(),
        br#"{"path": "notes.txt"}"#
    );

    let names = fs::read_to_string(bench.out("names.txt")).unwrap();
    let always_or_set = |name: &str| {
        name.starts_with("LEDGER_") || ["PATH", "HOME", "LANG", "TZ", "CARGO_MANIFEST_DIR"].contains(&name)
    };
    assert!(names.lines().all(always_or_set), "{names}");
    assert!(
        names.contains("CARGO_MANIFEST_DIR") && names.contains("PATH"),
        "{names}"
    );
}

#[test]
fn a_run_that_fails_says_how() {
    assert_eq!(
        bench("echo broken >&2; exit 3").run().outcome,
        Outcome::Exited { code: 3 }
    );
    assert_eq!(bench("kill -9 $$").run().outcome, Outcome::Signaled { signal: 9 });

    let mut missing = bench("");
    missing.handler.argv = vec!["no-such-program-anywhere".to_owned()];
    assert!(matches!(
        missing.run().outcome,
        Outcome::SpawnFailed { error } if error.contains("no-such-program-anywhere")
    ));
    let mut homeless = bench("");
    homeless.handler.cwd = Some(PathBuf::from("/does/not/exist"));
    assert!(matches!(
        homeless.run().outcome,
        Outcome::SpawnFailed { error } if error.contains("/does/not/exist")
    ));
}

#[test]
fn a_timeout_kills_a_process_that_ignores_being_asked() {
    let mut bench = bench(r#"trap '' TERM; echo $$ > "$LEDGER_OUT/pid"; while :; do sleep 1; done"#);
    bench.handler.timeout_s = 1;
    let result = bench.run();
    assert_eq!(result.outcome, Outcome::TimedOut);
    assert!(result.wall_ms >= 1000, "{result:?}");
    assert_dead(&[bench.pid("pid")]);
}

#[test]
fn a_cancelled_handler_may_clean_up_within_the_grace() {
    let mut bench = bench(
        r#"trap 'echo cleaned > "$LEDGER_OUT/cleaned"; exit 0' TERM
           echo $$ > "$LEDGER_OUT/pid"; while :; do sleep 0.05; done"#,
    );
    bench.handler.kill_grace_ms = 20_000;
    let mut run = bench.start();
    let pid = bench.pid("pid");
    assert!(run.try_wait().unwrap().is_none());
    let canceller = run.canceller();
    let cancelled = std::thread::spawn(move || canceller.cancel());
    assert_eq!(run.wait().unwrap().outcome, Outcome::Cancelled);
    assert!(cancelled.join().unwrap());
    assert!(bench.out("cleaned").exists());
    assert_dead(&[pid]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs setsid and adoption of orphans")]
fn what_a_handler_leaves_running_is_killed_when_it_ends() {
    let bench = bench(
        r#"sleep 600 & echo $! > "$LEDGER_OUT/background"
           setsid sleep 600 & echo $! > "$LEDGER_OUT/session"
           echo '{"done": true}'"#,
    );
    let result = bench.run();
    assert_eq!(
        (result.outcome, result.result.as_str()),
        (Outcome::Exited { code: 0 }, r#"{"done": true}"#)
    );
    assert_dead(&[bench.pid("background"), bench.pid("session")]);
}

#[test]
fn a_flood_of_output_is_bounded_and_the_result_after_it_still_counts() {
    let mut bench = bench("head -c 3000000 /dev/zero; echo; echo '{\"ok\":true}'");
    bench.handler.output_bytes_max = 1000;
    let result = bench.run();
    assert_eq!((result.stdout.bytes, result.stdout.kept_bytes), (3_000_013, 1000));
    assert_eq!(fs::metadata(stdout_path(&bench.run_dir())).unwrap().len(), 1000);
    assert!(result.stdout.tail.len() <= 16 * 1024);
    assert_eq!(result.result, r#"{"ok":true}"#);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs setsid and adoption of orphans")]
fn dropping_a_run_ends_it_and_waits_for_that() {
    let bench = bench(HIDING_CHILDREN);
    let run = bench.start();
    let canceller = run.canceller();
    let pids = hiding_pids(&bench);
    drop(run);
    assert_dead(&pids);
    assert!(!canceller.cancel());
    let Recovered::Lost {
        started: true,
        result: Some(result),
    } = recover(&bench.run_dir()).unwrap()
    else {
        panic!("a dropped run is lost");
    };
    assert_eq!(result.outcome, Outcome::DaemonGone);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs setsid and adoption of orphans")]
fn killing_the_daemon_leaves_no_orphan_and_the_next_daemon_knows_the_run_lost() {
    let bench = bench(HIDING_CHILDREN);
    let mut daemon = bench.start_daemon();
    let pids = hiding_pids(&bench);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let recovered = recover(&bench.run_dir()).unwrap();
    assert_dead(&pids);
    assert!(matches!(
        &recovered,
        Recovered::Lost { started: true, result: Some(result) } if result.outcome == Outcome::DaemonGone
    ));
    assert_eq!(
        recover(&bench.run_dir()).unwrap(),
        recovered,
        "asking again gives the same answer"
    );
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs setsid and adoption of orphans")]
fn killing_the_supervisor_is_noticed_by_the_daemon_and_leaves_no_orphan() {
    let bench = bench(HIDING_CHILDREN);
    let mut run = bench.start();
    let pids = hiding_pids(&bench);
    kill(i32::try_from(run.supervisor_pid()).unwrap());
    let error = run.wait().unwrap_err();
    assert_dead(&pids);
    assert!(
        matches!(&error, WorkerError::SupervisorLost { reason } if reason.contains("signal 9")),
        "{error}"
    );
}

#[test]
fn a_process_that_gave_the_lock_away_is_found_when_the_supervisor_is_killed() {
    let bench = bench(
        r#"exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
           echo $$ > "$LEDGER_OUT/closed"; exec sleep 600"#,
    );
    let mut run = bench.start();
    let pid = bench.pid("closed");
    kill(i32::try_from(run.supervisor_pid()).unwrap());
    assert_eq!(run.wait().unwrap_err().code(), "worker.supervisor-lost");
    assert_dead(&[pid]);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs setsid and adoption of orphans")]
fn killing_daemon_and_supervisor_together_leaves_no_orphan_once_recovered() {
    let bench = bench(HIDING_CHILDREN);
    let mut daemon = bench.start_daemon();
    let pids = hiding_pids(&bench);
    let supervisor = fs::read_to_string(bench.run_dir().join("alive.lock")).unwrap();
    kill(supervisor.parse().unwrap());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(
        recover(&bench.run_dir()).unwrap(),
        Recovered::Lost {
            started: true,
            result: None
        }
    );
    assert_dead(&pids);
}

#[test]
fn a_run_that_finished_before_its_daemon_died_keeps_its_true_result() {
    let bench = bench("echo '{\"answer\": 42}'; exit 4");
    let result = bench.run();
    assert_eq!(result.outcome, Outcome::Exited { code: 4 });
    assert_eq!(recover(&bench.run_dir()).unwrap(), Recovered::Finished(result));
}

#[test]
fn a_run_that_never_started_is_known_as_such_and_can_never_start() {
    let bench = bench("echo never");
    bench.prepare();
    assert_eq!(
        recover(&bench.run_dir()).unwrap(),
        Recovered::Lost {
            started: false,
            result: None
        }
    );
    assert_eq!(
        start(binary(), &bench.run_dir()).unwrap_err().code(),
        "worker.run-dir-used"
    );
    // Nor by a supervisor that had been on its way.
    let args = ["--run-dir".into(), bench.run_dir().into_os_string()];
    assert_eq!(supervise_main(args), 1);
    assert!(!stdout_path(&bench.run_dir()).exists());
}

#[test]
fn a_run_directory_serves_one_run_and_a_broken_binary_is_told() {
    let bench = bench("echo once");
    bench.run();
    assert_eq!(
        start(binary(), &bench.run_dir()).unwrap_err().code(),
        "worker.run-dir-used"
    );
    let again = RunRequest {
        handler: bench.handler.clone(),
        job: "job-8".to_owned(),
        fence: "f".to_owned(),
        traceparent: None,
        input: Vec::new(),
        checkpoint: None,
    };
    assert_eq!(
        prepare(&bench.run_dir(), &again).unwrap_err().code(),
        "worker.run-dir-used"
    );

    let fresh = bench.folder.path().join("fresh");
    prepare(&fresh, &again).unwrap();
    let error = start(Path::new("/does/not/exist"), &fresh).unwrap_err();
    assert_eq!(error.code(), "worker.supervisor-spawn");
    assert_eq!(
        recover(&fresh).unwrap(),
        Recovered::Lost {
            started: false,
            result: None
        }
    );

    let useless = bench.folder.path().join("useless");
    prepare(&useless, &again).unwrap();
    let error = start(Path::new("/bin/false"), &useless)
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(error.code(), "worker.supervisor-lost");
    assert_eq!(supervise_main([OsString::from("--help")]), 2);
}

#[test]
#[ignore = "the supervisor's process, entered by other tests"]
fn enter_supervisor() {
    if let Some(run_dir) = std::env::var_os(ENTER_SUPERVISOR) {
        std::process::exit(supervise_main(["--run-dir".into(), run_dir]));
    }
}

#[test]
#[ignore = "a daemon's process, entered by other tests"]
fn enter_daemon() {
    if let (Some(run_dir), Some(binary)) = (std::env::var_os(ENTER_DAEMON), std::env::var_os("DAEMON_BINARY"))
    {
        let result = start(Path::new(&binary), Path::new(&run_dir)).unwrap().wait();
        panic!("the run was to outlast this process: {result:?}");
    }
}
