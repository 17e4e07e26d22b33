//! Killing every process of a run, and knowing that none is left.
//!
//! Two situations, two means:
//! - **Inside the supervisor** ([`kill_children`]): on Linux it is the reaper of all its descendants, also of those that
//!   left the process group or the session. It kills only its own direct children, again and again, while orphans
//!   keep moving up to it: nobody else can reap them, so no pid can have been given away meanwhile. "No child
//!   left" (`ECHILD`) is then the kernel's proof that nothing of the run is alive. Elsewhere it kills the process group; a
//!   process that left the group is not found.
//! - **From outside** ([`members`]), when the supervisor itself was killed: processes that still hold the run's lock
//!   (every process inherits it) or have the run's folder in their environment.
//!
//! Processes that the handler asked a foreign service to start (a container daemon, a service manager) are not
//! processes of the run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, kill_process_group, wait,
    waitid,
};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// Pause between two rounds of killing and reaping.
const ROUND: Duration = Duration::from_millis(5);

/// The supervisor's view of the handler's first process, which leads the process group.
pub(super) struct Leader {
    pid: Pid,
    status: Option<WaitStatus>,
}

impl Leader {
    /// Takes the pid of a child that was started as the leader of a group of its own.
    pub(super) fn new(pid: u32) -> Option<Leader> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some(Leader { pid, status: None })
    }

    /// Sends a signal to the whole group, as long as the leader's pid cannot belong to anybody else.
    pub(super) fn signal_group(&self, signal: Signal) {
        if self.status.is_none() {
            // The only failures are "gone" and "not permitted"; both show when the children are counted.
            let _gone = kill_process_group(self.pid, signal);
        }
    }

    /// Whether the leader ended; it stays unreaped, so that its group can still be signalled safely.
    pub(super) fn has_ended(&self) -> bool {
        self.status.is_some()
            || matches!(
                waitid(
                    WaitId::Pid(self.pid),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT
                ),
                Ok(Some(_))
            )
    }

    /// Takes the exit status of every child that ended. Returns whether any child is left.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => self.status = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Kills and reaps until no process of the run is left; then returns how the leader ended.
    ///
    /// Waits without bound: a process that cannot be killed (stuck in the kernel, or of another user) means that the run is
    /// alive, and the lock must keep saying so.
    pub(super) fn kill_all(&mut self) -> Option<WaitStatus> {
        self.signal_group(Signal::KILL);
        while self.reap() {
            self.signal_group(Signal::KILL);
            kill_children();
            std::thread::sleep(ROUND);
        }
        wait_for_group_outside_linux(self.pid);
        self.status
    }
}

/// Blocks until a child ended, and leaves it unreaped. Returns `false` when there is no child.
pub(super) fn wait_for_a_child() -> bool {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(Errno::INTR) => {}
            answer => return answer.is_ok(),
        }
    }
}

/// Makes orphaned descendants children of this process, where the system can.
pub(super) fn adopt_descendants() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Sends SIGKILL to every direct child of this process.
#[cfg(target_os = "linux")]
fn kill_children() {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for pid in proc_pids() {
        if proc_parent(pid) == Some(own)
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn kill_children() {}

#[cfg(target_os = "linux")]
fn wait_for_group_outside_linux(_group: Pid) {}

/// Members that became children of the system's first process end a moment after the signal; it reaps them.
#[cfg(not(target_os = "linux"))]
fn wait_for_group_outside_linux(group: Pid) {
    const ROUNDS_MAX: u32 = 1000;
    for _ in 0..ROUNDS_MAX {
        if rustix::process::test_kill_process_group(group).is_err() {
            return;
        }
        std::thread::sleep(ROUND);
    }
}

/// The pids of processes that belong to the run whose outputs folder is `out_dir`, this process left out.
pub(super) fn members(out_dir: &Path, alive_lock: &Path) -> BTreeSet<i32> {
    let mut found = with_environment(out_dir);
    found.extend(lock_holders(alive_lock));
    found.remove(&rustix::process::getpid().as_raw_nonzero().get());
    found
}

/// Sends SIGKILL to these processes.
pub(super) fn kill_each(pids: impl IntoIterator<Item = i32>) {
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

fn with_environment(out_dir: &Path) -> BTreeSet<i32> {
    let mut mark = OsString::from("LEDGER_OUT=");
    mark.push(out_dir);
    let Ok(mut system) = System::new() else {
        return BTreeSet::new();
    };
    let kind = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    system
        .processes()
        .iter()
        .filter(|(_, process)| process.environ().contains(&mark))
        .filter_map(|(pid, _)| i32::try_from(pid.as_u32()).ok())
        .collect()
}

/// Processes that have the lock open for writing. A backup or a pager has it open for reading at most.
#[cfg(target_os = "linux")]
pub(super) fn lock_holders(alive_lock: &Path) -> BTreeSet<i32> {
    use std::os::unix::fs::PermissionsExt;

    const OPEN_FOR_WRITING: u32 = 0o200;
    let holds = |pid: &i32| {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        entries.flatten().any(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|target| target == alive_lock)
                && std::fs::symlink_metadata(entry.path())
                    .is_ok_and(|link| link.permissions().mode() & OPEN_FOR_WRITING != 0)
        })
    };
    proc_pids().filter(holds).collect()
}

/// Not known on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn lock_holders(_alive_lock: &Path) -> BTreeSet<i32> {
    BTreeSet::new()
}

#[cfg(target_os = "linux")]
fn proc_pids() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Field 4 of `/proc/PID/stat`; the command's name before it may contain spaces and parentheses.
#[cfg(target_os = "linux")]
fn proc_parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}
