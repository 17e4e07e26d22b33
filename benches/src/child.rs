//! What is measured in a process of its own: the most memory that it ever held, and what a kill leaves.
//!
//! The bench starts itself with `--child TASK DIR COUNT`; the child tells on its standard output what it measured, a line
//! each: a name, a space, a number. Memory is the kernel's own `VmHWM`, which begins anew with each process, so that
//! neither the bench's other rows nor the floors are in it.

use crate::measure::{number, wall_us};
use crate::{CALLERS, Failed, append, verify};
use ledger::Ledger;
use ledger::core::Stream;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Drafts that are made at a time, so that what is to be said takes no memory worth naming.
const PORTION: usize = 10_000;
/// A child that is to be killed tells how far it is after so many appends.
const TOLD_EVERY: usize = 1_000;

/// What a child is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Open the store and append so many.
    Append,
    /// Verify the store of so many by its hashes.
    VerifyFast,
    /// Verify the store of so many in full.
    VerifyFull,
    /// Open the store and close it.
    Open,
    /// Open the store and append until killed.
    AppendUntilKilled,
}

impl Task {
    const ALL: [(Task, &'static str); 5] = [
        (Task::Append, "append"),
        (Task::VerifyFast, "verify-fast"),
        (Task::VerifyFull, "verify-full"),
        (Task::Open, "open"),
        (Task::AppendUntilKilled, "append-until-killed"),
    ];

    fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(task, _)| *task == self);
        named.map_or("", |(_, name)| name)
    }
}

/// What a child measured.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Told {
    /// The most memory it held, in MiB. Nothing where the system does not tell.
    pub peak_mib: Option<f64>,
    /// Memory when it had opened the store and done nothing yet, in MiB.
    pub open_mib: Option<f64>,
    /// Seconds of wall time that the task took.
    pub seconds: f64,
    /// Milliseconds until the store was open.
    pub open_ms: f64,
}

/// Does what this process was started for, if it was started for a task.
///
/// # Errors
/// What the task says.
pub fn obey() -> Result<bool, Failed> {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--child").collect();
    let [_, task, dir, count, ..] = words.as_slice() else {
        return Ok(false);
    };
    let task = Task::ALL.iter().find(|(_, name)| name == task);
    let (task, _) = task.ok_or("no such task")?;
    let told = work(*task, &PathBuf::from(dir), count.parse()?)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "seconds {}\nopen_ms {}", told.seconds, told.open_ms)?;
    for (name, mib) in [("peak_mib", told.peak_mib), ("open_mib", told.open_mib)] {
        if let Some(mib) = mib {
            writeln!(out, "{name} {mib}")?;
        }
    }
    out.flush()?;
    Ok(true)
}

fn work(task: Task, dir: &Path, count: usize) -> Result<Told, Failed> {
    let mut told = Told::default();
    match task {
        Task::VerifyFast | Task::VerifyFull => {
            let (us, verified) = wall_us(|| verify::store(dir, task == Task::VerifyFull, count + 1));
            verified?;
            told.seconds = us / 1e6;
        }
        Task::Append | Task::Open | Task::AppendUntilKilled => {
            let (us, ledger) = wall_us(|| Ledger::lone(dir, "bench"));
            let ledger = ledger?;
            told.open_ms = us / 1e3;
            told.open_mib = memory_mib("VmHWM");
            if task != Task::Open {
                let forever = task == Task::AppendUntilKilled;
                let (us, appended) =
                    wall_us(|| many(&ledger, if forever { usize::MAX } else { count }, forever));
                appended?;
                told.seconds = us / 1e6;
            }
            ledger.close()?;
        }
    }
    told.peak_mib = memory_mib("VmHWM");
    Ok(told)
}

// Appends with 64 tickets open, drafts made as they are needed.
fn many(ledger: &Ledger, count: usize, tell: bool) -> Result<(), Failed> {
    let mut open = VecDeque::new();
    let mut answered = 0;
    let out = std::io::stdout();
    for first in (0..count).step_by(PORTION) {
        for n in first..count.min(first.saturating_add(PORTION)) {
            let draft = append::draft(n)?;
            open.push_back(ledger.submit(move |tx| tx.append(Stream::Facts, draft)));
            if open.len() < CALLERS {
                continue;
            }
            answered += usize::from(take(&mut open)?);
            if tell && answered % TOLD_EVERY == 0 {
                writeln!(out.lock(), "answered {answered}")?;
            }
        }
    }
    while take(&mut open)? {}
    Ok(())
}

type Open = ledger::Ticket<ledger::Appended, ledger::LedgerError>;

fn take(open: &mut VecDeque<Open>) -> Result<bool, Failed> {
    let Some(ticket) = open.pop_front() else {
        return Ok(false);
    };
    ticket.wait().map_err(ledger::CommitError::into_ledger)?;
    Ok(true)
}

// A line of `/proc/self/status` in MiB.
fn memory_mib(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
    let kib: usize = value.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(number(kib) / 1024.0)
}

fn command(task: Task, dir: &Path, count: usize) -> Result<Command, Failed> {
    // By the process where there is such a name, so that it is this very program even when a newer one was built meanwhile.
    let own = PathBuf::from("/proc/self/exe");
    let program = if own.exists() {
        own
    } else {
        std::env::current_exe()?
    };
    let mut command = Command::new(program);
    command
        .args(["--child", task.name()])
        .arg(dir)
        .arg(count.to_string());
    Ok(command)
}

/// Has a child do a task and tells what it measured.
///
/// # Errors
/// When it cannot be started or does not end well.
pub fn run(task: Task, dir: &Path, count: usize) -> Result<Told, Failed> {
    let output = command(task, dir, count)?.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!(
            "the child that had to {} ended with {}",
            task.name(),
            output.status
        )
        .into());
    }
    let text = String::from_utf8(output.stdout)?;
    let values: BTreeMap<&str, f64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    let value = |name: &str| values.get(name).copied();
    Ok(Told {
        peak_mib: value("peak_mib"),
        open_mib: value("open_mib"),
        seconds: value("seconds").unwrap_or(0.0),
        open_ms: value("open_ms").unwrap_or(0.0),
    })
}

/// Kills a child that appends, after so many answers (SIGKILL).
///
/// # Errors
/// When it cannot be started, or ends before.
pub fn kill(dir: &Path, after: usize) -> Result<(), Failed> {
    let mut child = command(Task::AppendUntilKilled, dir, 0)?
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("its output is piped")?;
    let mut reached = false;
    for line in BufReader::new(out).lines() {
        let answered: usize = line?.trim_start_matches("answered ").parse()?;
        if answered >= after {
            reached = true;
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    if reached {
        Ok(())
    } else {
        Err("the child ended before it was killed".into())
    }
}
