//! The real binary, as a person or a script uses it. One file, one promise.
#![allow(clippy::unwrap_used)]

mod asleep;
mod bad_input;
mod costs;
mod daily;
mod erase;
mod failover;
mod full_disk;
mod fuzz;
mod help;
mod kill;
mod netns;
mod notices;
mod orphans;
mod progress;
mod proofs;
mod prune;
mod queue;
mod quorum;
mod replication;
mod restored;
mod schedules;
mod status;
mod tour;
mod verify;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything here may take before it counts as hung.
const WITHIN: Duration = Duration::from_secs(60);
/// The same of one command, which may wait for a job by itself.
const COMMAND_WITHIN: Duration = Duration::from_secs(180);

/// The program, free of this shell's settings.
fn ledger(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledger"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEDGER_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("COLUMNS")
        .env("NO_COLOR", "1")
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end; one that does not end is killed, so that a test fails and does not hang.
fn ended(command: &mut Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            drop(from.read_to_end(&mut all));
            all
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > COMMAND_WITHIN {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Runs a command with `--json` to its end: its status and its envelope.
fn json(dir: &Path, words: &[&str]) -> (i32, Value) {
    let out = ended(ledger(dir).args(words).arg("--json"));
    let envelope = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|_| panic!("{words:?} said no JSON: {}", said(&out)));
    (out.status.code().unwrap_or(-1), envelope)
}

/// The same for a command that must succeed: its result.
fn good(dir: &Path, words: &[&str]) -> Value {
    let (status, envelope) = json(dir, words);
    assert_eq!(
        (status, &envelope["ok"]),
        (0, &Value::Bool(true)),
        "{words:?}: {envelope}"
    );
    envelope["result"].clone()
}

/// The same for a command that must fail with this code and status, saying what it found.
fn bad(dir: &Path, words: &[&str], code: &str, status: i32) -> Value {
    let (found, envelope) = json(dir, words);
    assert_eq!(envelope["error"]["code"], code, "{words:?}: {envelope}");
    assert_eq!(found, status, "{words:?}: {envelope}");
    assert!(
        envelope["error"]["message"]
            .as_str()
            .is_some_and(|message| message.len() > 10),
        "{envelope}"
    );
    envelope
}

fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// A daemon that is killed and reaped when the test is over.
struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    /// Starts `gateway` or `node` and waits until it answers; a gateway listens on any free port.
    fn start(dir: &Path, role: &str) -> Daemon {
        Self::start_at(dir, role, "127.0.0.1:0")
    }

    fn start_at(dir: &Path, role: &str, listen: &str) -> Daemon {
        Self::start_in(dir, role, listen, &[])
    }

    fn start_in(dir: &Path, role: &str, listen: &str, environment: &[(&str, &str)]) -> Daemon {
        let mut command = ledger(dir);
        command.envs(environment.iter().copied());
        Self::start_as(command, dir, role, listen)
    }

    /// The same with a command that is the program in a directory, started in some other way.
    fn start_as(mut command: Command, dir: &Path, role: &str, listen: &str) -> Daemon {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("daemon.log"))
            .unwrap();
        command.args([
            role,
            "--stop-with-stdin",
            "-v",
            "--set",
            &format!("listen={listen}"),
        ]);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Daemon {
            child,
            dir: dir.to_owned(),
        };
        let began = Instant::now();
        loop {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
                panic!("{role} ended with {status}: {log}");
            }
            if daemon
                .run_file()
                .is_some_and(|run| run["pid"] == daemon.child.id())
                && std::os::unix::net::UnixStream::connect(dir.join("data/api.sock")).is_ok()
            {
                return daemon;
            }
            assert!(began.elapsed() < WITHIN, "{role} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run_file(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.dir.join("data/run.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Where it listens.
    fn address(&self) -> String {
        self.run_file()
            .and_then(|run| run["address"].as_str().map(ToOwned::to_owned))
            .unwrap_or_default()
    }

    /// `kill -9`, reaped.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; it must end well.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "the daemon stopped with {status}");
                return;
            }
            assert!(began.elapsed() < WITHIN, "the daemon does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its owner's alone, as a machine's must be.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().unwrap()
}

/// A fleet of one, founded in a directory of its own.
fn founded() -> tempfile::TempDir {
    let dir = folder();
    good(dir.path(), &["init", "--machine", "mini"]);
    dir
}
