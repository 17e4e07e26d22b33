//! One daemon of the demo: a child process of this very binary, in a directory of its own.
//!
//! Contract: the process is dead and reaped when this is dropped; it also stops by itself when this process dies, since its
//! standard input ends then.

use super::stage::wait_for;
use crate::error::CliError;
use ledger_server::client::Api;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a daemon may take to stop when it is asked to.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a daemon's log shown when something went wrong.
const LAST_WORDS_LINES: usize = 6;

/// A daemon and its directory.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// The machine's id.
    pub(crate) machine: &'static str,
    /// Its directory.
    pub(crate) dir: PathBuf,
    exe: PathBuf,
    role: &'static str,
    child: Option<Child>,
}

impl Daemon {
    /// Nothing runs yet.
    pub(crate) fn new(machine: &'static str, role: &'static str, root: &Path, exe: &Path) -> Self {
        Self {
            machine,
            dir: root.join(machine),
            exe: exe.to_owned(),
            role,
            child: None,
        }
    }

    /// Whether its directory holds a store already.
    pub(crate) fn has_store(&self) -> bool {
        self.dir.join("data").is_dir()
    }

    /// Its own interface, over the unix socket.
    pub(crate) fn api(&self) -> Api {
        Api::unix(ledger_server::daemon::socket(&self.dir))
    }

    fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// Starts the process and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<u32, CliError> {
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|e| CliError::io("open", &path, &e))?;
        let child = Command::new(&self.exe)
            .arg("--dir")
            .arg(&self.dir)
            .args([self.role, "--stop-with-stdin", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| CliError::io("start", &self.exe, &e))?;
        let pid = child.id();
        self.child = Some(child);
        let what = format!("{} to answer", self.machine);
        wait_for(&what, READY_WITHIN, async || {
            if let Some(status) = self.exited() {
                let why = format!("the {} process ended: {status}", self.machine);
                return Err(CliError::new(
                    "demo.daemon-ended",
                    why,
                    "its last words are below",
                ));
            }
            let running = crate::context::running(&self.dir).is_some_and(|running| running.pid == pid);
            Ok((running && self.api().readyz().await.is_ok()).then_some(()))
        })
        .await?;
        Ok(pid)
    }

    fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// Where the running daemon listens.
    pub(crate) fn address(&self) -> Option<String> {
        crate::context::running(&self.dir).and_then(|running| running.address)
    }

    /// `kill -9`, and nothing before it.
    pub(crate) fn kill(&mut self) -> Result<(), CliError> {
        if let Some(mut child) = self.child.take() {
            let killed = child.kill().and_then(|()| child.wait());
            killed.map_err(|e| CliError::io("kill", &self.dir, &e))?;
        }
        Ok(())
    }

    /// Asks it to stop by ending its standard input, and waits for its end.
    pub(crate) async fn stop(&mut self) -> Result<(), CliError> {
        let Some(child) = self.child.as_mut() else {
            return Ok(());
        };
        drop(child.stdin.take());
        let asked = Instant::now();
        let machine = self.machine;
        let status = wait_for(&format!("{machine} to stop"), STOP_WITHIN, async || {
            Ok(self.exited())
        })
        .await?;
        self.child = None;
        if !status.success() {
            let why = format!(
                "{machine} stopped with {status} after {} ms",
                asked.elapsed().as_millis()
            );
            return Err(CliError::new(
                "demo.daemon-ended",
                why,
                "its last words are below",
            ));
        }
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_WORDS_LINES);
        lines[from..]
            .iter()
            .map(|line| format!("{}: {line}", self.machine))
            .collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be dead already; reaping is what matters.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
