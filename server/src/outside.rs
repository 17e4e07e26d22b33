//! Programs and addresses of other people that notices and checks ask: a command without a shell, an HTTP client, their words.
//!
//! Contract: a command runs in a process group of its own, and whoever stops waiting for it ends the whole group with it. A
//! program that leaves its group is not found. Does not: bound the time; whoever asks does.

use crate::client::plain_client;
use ledger::core::limits::NOTE_BYTES_MAX;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// A client that connects within a time and repeats nothing of this host's settings.
pub(crate) fn client(connect_within: Duration) -> Result<reqwest::Client, String> {
    let client = plain_client().connect_timeout(connect_within).build();
    client.map_err(|e| e.to_string())
}

/// What went wrong with a request. The URL may carry a secret, and the library's error would repeat it.
pub(crate) fn without_url(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

// A program that leads its process group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None as soon as it is reaped: from then on the number may be somebody else's.
        let leader = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = leader.and_then(Pid::from_raw) {
            // It fails only when nobody is left.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a program to its end; what is wrong when it does not end with status 0, as a sentence.
pub(crate) async fn run(argv: &[String], environment: &[(&str, String)], input: &[u8]) -> Result<(), String> {
    let (program, arguments) = argv.split_first().ok_or("no program")?;
    let child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let mut group = Group(child.map_err(|e| e.to_string())?);
    if let Some(mut stdin) = group.0.stdin.take() {
        // A program that does not read its input is told by its exit status alone.
        drop(stdin.write_all(input).await);
    }
    let status = group.0.wait().await.map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ended with {status}"))
    }
}

/// As much of a text as a note holds.
pub(crate) fn note(text: &str) -> String {
    let mut end = text.len().min(NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;
    use sysinfo::{ProcessStatus, ProcessesToUpdate, System};

    /// How long anything here may take before it counts as hung.
    const WITHIN: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn nothing_that_a_command_started_outlives_the_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("pid");
        let script = format!(
            "sleep 600 & echo $! > {0}.new && mv {0}.new {0}; wait",
            told.display()
        );
        let argv = ["sh", "-c", &script].map(str::to_owned);
        let began = Instant::now();
        let mut running = Box::pin(run(&argv, &[], b""));
        let grandchild = loop {
            assert!(began.elapsed() < WITHIN, "it does not start");
            let waited = tokio::time::timeout(Duration::from_millis(10), &mut running).await;
            assert!(waited.is_err(), "it ended: {waited:?}");
            if let Ok(pid) = std::fs::read_to_string(&told) {
                break pid.trim().parse::<u32>().unwrap();
            }
        };
        drop(running);
        // Whoever adopts it reaps it, or it stays as a zombie, which runs no more.
        let pid = sysinfo::Pid::from_u32(grandchild);
        let mut system = System::new().unwrap();
        let mut runs = || {
            system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
            let found = system.process(pid);
            found.is_some_and(|process| process.status() != ProcessStatus::Zombie)
        };
        while runs() {
            assert!(began.elapsed() < WITHIN, "it outlives the wait");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_command_gets_its_input_and_its_status_is_told() {
        let argv = ["sh", "-c", "test \"$(cat)$NAME\" = inputvalue"].map(str::to_owned);
        let environment = [("NAME", "value".to_owned())];
        assert_eq!(run(&argv, &environment, b"input").await, Ok(()));
        assert!(run(&argv, &[], b"input").await.unwrap_err().contains("exit"));
        assert!(run(&[], &[], b"").await.is_err());
    }

    #[test]
    fn a_note_ends_between_characters() {
        let long = format!("{}é", "a".repeat(NOTE_BYTES_MAX - 1));
        assert_eq!(note(&long), "a".repeat(NOTE_BYTES_MAX - 1));
        assert_eq!(note("short é"), "short é");
    }
}
