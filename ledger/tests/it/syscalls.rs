//! A real process on real files, stopped at its Nth system call for N = 1, 2, 3 ... until a run ends untouched; and the
//! same with the call failing with EIO and with ENOSPC.
//!
//! The test runs its own binary again as the process that is hurt. That names the thread to be traced and waits until
//! `strace` has it, so calls are counted exactly, per thread and per call, and none of the test harness's own are among
//! them. What was acknowledged is written to a file outside of the store. Afterwards the store must open (or, where it
//! never came to be, be made), hold all that was acknowledged, verify, and go on.
//!
//! Needs `strace`. `LEDGER_SYSCALLS_STEP` says how much: with `k`, every `k`th call of each kind fails, and every `k / 8`th
//! is the process's last, beginning at another one for each kind, and of those that are few at least [`PLACES`]. Without it
//! `k` is [`STEP`], half a minute; continuous integration takes 8, so that the process dies at every single call; and
//! everything, which takes some minutes, is
//!
//! ```text
//! LEDGER_SYSCALLS_STEP=1 cargo test -p ledger --test it syscalls -- --nocapture
//! ```
//!
//! Nothing here may depend on how fast it is: a slow run has what a fast one does not, such as a background write that meets
//! the fault before the caller does ([`Script::Idle`] has that on purpose).

mod aftermath;
mod victim;

use crate::stores::{Counter, assert_clean, copy, fact, fact_with, found, temp};
use aftermath::check;
use ledger::core::{MachineId, Stream};
use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths};
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use victim::told;

const CHILD: &str = "LEDGER_TEST_SYSCALLS_CHILD";
const STEP_VARIABLE: &str = "LEDGER_SYSCALLS_STEP";
/// Every so manieth call fails when nobody says how many.
const STEP: usize = 32;
/// Kills are so many times as dense as errors.
const KILLS_A_STEP: usize = 8;
/// Runs at a time; most of the time they wait for the disk or for each other's end.
const WORKERS: usize = 6;
/// In how many places each kind of call is hurt at least, or in as many as there are.
const PLACES: usize = 3;
/// Runs of one sweep; more calls than that of one kind on one thread would be another program than this one.
const RUNS_MAX: usize = 2_000;
/// Broken runs after which a sweep gives up.
const BROKEN_MAX: usize = 40;
const PATIENCE: Duration = Duration::from_secs(300);
/// Segments so small that the script fills several.
const SEGMENT_BYTES: u32 = 16 * 1024;

/// Each call under every name that it has on one machine or another.
const CALLS: [&str; 9] = [
    "?open,?openat",
    "?mkdir,?mkdirat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "?rename,?renameat,?renameat2",
    "ftruncate",
    "?unlink,?unlinkat",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Script {
    /// Makes a store, appends to it, and closes it.
    Create,
    /// Opens a store that was closed, and uses it.
    Use,
    /// The same with one whose process was killed while it appended.
    Recover,
    /// Uses one so slowly that what happens by itself happens in between: the last batch is proven, the anchor is written.
    Idle,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thread {
    /// The one that calls: it creates, opens, recovers, appends, rotates, erases, exports.
    Caller,
    /// The one that appends and rotates for callers with tickets, and proves the last batch.
    Committer,
    /// The one that does so when they are many.
    Writer,
    /// The one that keeps the anchor and the derived rows.
    Housekeeper,
}

const SWEEPS: [(Script, Thread); 8] = [
    (Script::Create, Thread::Caller),
    (Script::Use, Thread::Caller),
    (Script::Recover, Thread::Caller),
    (Script::Use, Thread::Committer),
    (Script::Use, Thread::Writer),
    (Script::Use, Thread::Housekeeper),
    (Script::Idle, Thread::Committer),
    (Script::Idle, Thread::Housekeeper),
];

const HURTS: [&str; 3] = ["signal=SIGKILL", "error=EIO", "error=ENOSPC"];

fn options() -> OpenOptions<Counter> {
    OpenOptions::default().segment_bytes(SEGMENT_BYTES)
}

fn lone() -> NewStore {
    NewStore {
        machine: MachineId::new("studio").unwrap(),
        streams: vec![Stream::Work, Stream::Facts],
        fleet: Fleet::Lone,
    }
}

fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One run that was hurt, or was to be.
struct Run {
    what: String,
    hurt: bool,
    killed: bool,
    /// The names of the calls that were traced.
    calls: Vec<String>,
    acknowledged: Vec<String>,
}

fn run(work: &Path, (script, thread): (Script, Thread), calls: &str, hurt: &str) -> Run {
    let what = format!("{script:?} {thread:?} {calls} {hurt}");
    let stderr = std::fs::File::create(work.join("stderr")).unwrap();
    // By this name it is the same program even when it was built anew meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", "syscalls::victim::child_that_is_hurt_at_a_system_call"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{script:?} {thread:?} {}", work.display()))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("trace ").map(str::to_owned));
    let id = id.unwrap_or_else(|| panic!("{what}: the process ended before it could be traced"));
    let log = work.join("strace");
    let mut strace = Command::new("strace")
        .args(["-qq", "-p", &id, "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={calls}")])
        .args((!hurt.is_empty()).then(|| format!("-einject={calls}:{hurt}")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let status = format!("/proc/{}/task/{id}/status", child.id());
    while std::fs::read_to_string(&status)
        .unwrap()
        .lines()
        .any(|line| line == "TracerPid:\t0")
    {
        let gone = strace.try_wait().unwrap().is_some();
        if gone || Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            let mut said = String::new();
            strace.kill().unwrap();
            strace.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            strace.wait().unwrap();
            panic!("{what}: strace cannot trace here: {said}");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let ended = wait(&mut child, &what);
    wait(&mut strace, &what);
    let traced = std::fs::read_to_string(&log).unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9);
    let hurt = killed || traced.contains("INJECTED");
    let stderr = std::fs::read_to_string(work.join("stderr")).unwrap();
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    let text = std::fs::read_to_string(work.join("acknowledged")).unwrap_or_default();
    let acknowledged: Vec<_> = text.lines().map(str::to_owned).collect();
    let known = killed || matches!(ended.code(), Some(0 | 2));
    assert!(known, "{what}: ended with {ended}: {stderr}");
    assert!(
        hurt || ended.success(),
        "{what}: nothing was injected, yet: {acknowledged:?}"
    );
    Run {
        what,
        hurt,
        killed,
        calls: traced
            .lines()
            .filter_map(|line| Some(line.split_once('(')?.0.to_owned()))
            .collect(),
        acknowledged,
    }
}

// Closed stores to begin with: one closed, one whose process was gone at once.
fn templates(dir: &Path) {
    let ledger = found(&dir.join("Use"), "studio", false);
    for number in 0..4 {
        ledger.append(fact_with("begin", &told(number))).unwrap();
    }
    ledger.close().unwrap();
    let ledger = Ledger::<Counter>::open(&Paths::new(dir.join("Use")), options()).unwrap();
    for number in 4..8 {
        ledger.append(fact_with("begin", &told(number))).unwrap();
    }
    copy(&dir.join("Use"), &dir.join("Recover"));
    ledger.close().unwrap();
    for script in ["Use", "Recover"] {
        assert_clean(&dir.join(script));
    }
}

#[test]
#[should_panic(expected = "lost: receipt")]
fn what_was_acknowledged_and_is_not_there_is_noticed() {
    let home = temp();
    let store = home.path().join("store");
    let ledger = found(&store, "studio", false);
    let receipt = ledger.append(fact("there")).unwrap();
    let line = format!(
        "receipt {} {} {} -",
        receipt.id(),
        receipt.log(),
        receipt.seq() + 1
    );
    ledger.close().unwrap();
    let run = Run {
        what: "a receipt that never was".into(),
        hurt: true,
        killed: true,
        calls: Vec::new(),
        acknowledged: vec![line],
    };
    check(home.path(), Script::Use, &run);
}

// In memory, where that has room: it is the call that is hurt, whatever disk is under it.
fn quick_place() -> tempfile::TempDir {
    const ROOM_BYTES: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room < ROOM_BYTES {
        return temp();
    }
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(private)
        .tempdir_in(memory)
        .unwrap()
}

// One run on a fresh store, and what must hold after it.
fn attempt(home: &Path, sweep: (Script, Thread), calls: &str, hurt: &str) -> Run {
    let work = quick_place();
    if sweep.0 != Script::Create {
        let template = if sweep.0 == Script::Idle {
            Script::Use
        } else {
            sweep.0
        };
        // With its holes: fjall's journals are mostly such.
        let copied = Command::new("cp")
            .args(["-a", "--sparse=auto"])
            .arg(home.join(format!("{template:?}")))
            .arg(work.path().join("store"))
            .status();
        assert!(copied.unwrap().success());
    }
    let run = run(work.path(), sweep, calls, hurt);
    check(work.path(), sweep.0, &run);
    run
}

/// One kind of call of one thread, hurt in one way: at first, and then every so many calls.
struct Sweep {
    of: (Script, Thread),
    calls: &'static str,
    hurt: &'static str,
    first: usize,
    step: usize,
}

// What there is to hurt, by what untouched runs call.
fn sweeps(home: &Path, step: usize) -> Vec<Sweep> {
    let mut sweeps = Vec::new();
    for of in SWEEPS {
        let names = attempt(home, of, &CALLS.join(","), "").calls;
        for calls in CALLS {
            let is = |name: &&String| {
                calls
                    .split(',')
                    .any(|call| call.trim_start_matches('?') == **name)
            };
            let count = names.iter().filter(is).count();
            for hurt in HURTS.iter().filter(|_| count > 0) {
                let step = if *hurt == HURTS[0] {
                    step / KILLS_A_STEP
                } else {
                    step
                };
                let step = step.min(count / PLACES).max(1);
                let first = 1 + sweeps.len() % step;
                sweeps.push(Sweep {
                    of,
                    calls,
                    hurt,
                    first,
                    step,
                });
            }
        }
    }
    sweeps
}

#[test]
fn hurt_at_any_system_call_nothing_acknowledged_is_lost_and_the_store_goes_on() {
    let there = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "strace is not installed: apt-get install strace"
        );
        eprintln!("SKIPPED: strace is not installed, so no system call was hurt");
        return;
    }
    let step = std::env::var(STEP_VARIABLE).map_or(STEP, |step| step.parse().unwrap());
    assert!(step > 0, "{STEP_VARIABLE} is at least 1");
    let home = quick_place();
    templates(home.path());
    let sweeps = sweeps(home.path(), step);
    let (next, runs, broken) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let table = Mutex::new(Vec::new());
    let work = || {
        while let Some(sweep) = sweeps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = format!("{:?} {} {}", sweep.of, sweep.calls, sweep.hurt);
            let mut places = (sweep.first..).step_by(sweep.step).take(RUNS_MAX);
            let end = places.find(|when| {
                let hurt = format!("{}:when={when}", sweep.hurt);
                // What is found is told with the next ones, which say more about its cause.
                let attempt = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    attempt(home.path(), sweep.of, sweep.calls, &hurt)
                }));
                match attempt {
                    Ok(run) if !run.hurt => return true,
                    Ok(_) => {}
                    Err(_) if broken.fetch_add(1, Ordering::Relaxed) < BROKEN_MAX => {}
                    Err(panic) => std::panic::resume_unwind(panic),
                }
                runs.fetch_add(1, Ordering::Relaxed);
                false
            });
            let end = end.unwrap_or_else(|| panic!("{name}: no run ends untouched"));
            table
                .lock()
                .unwrap()
                .push(format!("{name}: none any more at {end}, step {}", sweep.step));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    println!("{}", table.into_inner().unwrap().join("\n"));
    let runs = runs.into_inner();
    println!("{runs} runs were hurt");
    assert_eq!(broken.into_inner(), 0, "runs broke; each is told of above");
    // A sweep that hurts nothing tests nothing.
    assert!(runs >= 150, "only {runs} runs were hurt");
}
