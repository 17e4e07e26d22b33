//! The processes of the fleet's bench: a gateway, a node and a handler, each this very program started anew.
//!
//! Child and parent talk by lines: the parent writes a command, the child answers it with lines of its own, the last of which
//! is `done`. A child ends when its input does, so that a parent that is killed leaves none.

use crate::Failed;
use crate::measure::number;
use ledger::core::kinds::{JobSpec, RequestReceived, Role};
use ledger::core::{Draft, MachineId, SignedStatement, Subject};
use ledger_projections::queue::Phase;
use ledger_server::worker::HandlerConfig;
use ledger_server::{Config, Machine, daemon, setup, worker};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The handler that the bench's own nodes run without a process.
pub const NO_OP: &str = "no-op";
/// The handler that says when it was started, as a process.
pub const STAMP: &str = "stamp";
/// How long an invitation holds.
const INVITED_FOR: Duration = Duration::from_secs(3600);
/// The kernel's clock ticks in a second, as `/proc` counts.
const TICKS: f64 = 100.0;

/// The clock that all processes of a machine share, in microseconds.
///
/// # Errors
/// Never on a machine whose clock runs forwards.
pub fn shared_us() -> Result<u64, Failed> {
    let time = clock_gettime(ClockId::Monotonic);
    Ok(u64::try_from(time.tv_sec)? * 1_000_000 + u64::try_from(time.tv_nsec)? / 1000)
}

/// Does what this process was started for, if it was started as one of the fleet. Called first: a supervisor has no threads.
///
/// # Errors
/// What the daemon says.
pub fn obey() -> Result<bool, Failed> {
    let mut words = std::env::args_os().skip(1);
    let (Some(task), Some(at)) = (words.next(), words.next()) else {
        return Ok(false);
    };
    match task.to_str() {
        Some("supervise") => std::process::exit(worker::supervise_main(std::iter::once(at).chain(words))),
        Some("fleet-stamp") => {
            let mut file = std::fs::File::options().append(true).create(true).open(at)?;
            writeln!(file, "{}", shared_us()?)?;
        }
        Some("fleet-gateway") => runtime()?.block_on(gateway(&PathBuf::from(at)))?,
        Some("fleet-node") => runtime()?.block_on(node(&PathBuf::from(at)))?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A runtime of as many threads as there are cores.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

// Commands as they come; the channel closes with the input.
fn commands() -> mpsc::UnboundedReceiver<String> {
    let (said, heard) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if said.send(line).is_err() {
                return;
            }
        }
    });
    heard
}

fn tell(lines: &[String]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "done")?;
    Ok(out.flush()?)
}

fn config() -> Config {
    let mut config = Config {
        listen: "127.0.0.1:0".into(),
        ..Config::default()
    };
    config.verify.enabled = false;
    config
}

async fn node(dir: &Path) -> Result<(), Failed> {
    let mut config = Config {
        gateway: Config::load(dir, &[])?.0.gateway,
        ..config()
    };
    let program = std::env::current_exe()?.display().to_string();
    let stamps = dir.join("stamps").display().to_string();
    let handler = |name: &str, argv: Vec<String>, slots: u32| -> Result<HandlerConfig, Failed> {
        Ok(toml::from_str(&format!(
            "name = {name:?}\nargv = {argv:?}\nclass = \"light\"\nslots = {slots}\n"
        ))?)
    };
    config.handlers = vec![
        handler("process", vec!["true".into()], 4)?,
        handler(STAMP, vec![program, "fleet-stamp".into(), stamps], 1)?,
    ];
    tell(&[])?;
    let mut commands = commands();
    daemon::run_node(
        dir,
        config,
        async move { while commands.recv().await.is_some() {} },
    )
    .await?;
    Ok(())
}

async fn gateway(dir: &Path) -> Result<(), Failed> {
    let (up, is_up) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let ready = |machine: &Arc<Machine>, address: &str| {
        drop(up.send((Arc::clone(machine), address.to_owned())));
    };
    let until = async { drop(stopped.await) };
    let daemon = daemon::run_gateway_with(dir, config(), ready, until);
    let serving = async {
        let (machine, address) = is_up.await?;
        machine.central.wait_until_serving().await?;
        tell(std::slice::from_ref(&address))?;
        let mut commands = commands();
        let mut signed = VecDeque::new();
        let commits = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&commits);
        machine.ledger.on_commit(move |_| {
            counted.fetch_add(1, Ordering::AcqRel);
        });
        while let Some(line) = commands.recv().await {
            let words: Vec<&str> = line.split(' ').collect();
            let told = match words.as_slice() {
                ["invite", names @ ..] => invite(dir, &machine, &address, names).await?,
                ["sign", handler, count] => {
                    signed = sign(&machine, handler, count.parse()?)?;
                    Vec::new()
                }
                ["submit", callers] => {
                    submit(&machine, std::mem::take(&mut signed), callers.parse()?).await?
                }
                ["one", handler] => {
                    let one = sign(&machine, handler, 1)?.pop_front().ok_or("one was signed")?;
                    let before = shared_us()?;
                    machine.request(one.verify()?).await?;
                    vec![before.to_string()]
                }
                ["succeeded", count] => {
                    let count: usize = count.parse()?;
                    while machine.ledger.snapshot().state.jobs_in(Phase::Succeeded).count() < count {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Vec::new()
                }
                ["counts"] => {
                    let logs = machine
                        .ledger
                        .snapshot()
                        .logs
                        .values()
                        .map(|chain| chain.tip().0 + 1)
                        .sum::<u64>();
                    vec![logs.to_string(), commits.load(Ordering::Acquire).to_string()]
                }
                _ => return Err(format!("no such command: {line}").into()),
            };
            tell(&told)?;
        }
        drop(stop);
        Ok::<(), Failed>(())
    };
    let (daemon, serving) = tokio::join!(daemon, serving);
    daemon?;
    serving
}

async fn invite(dir: &Path, machine: &Machine, address: &str, names: &[&str]) -> Result<Vec<String>, Failed> {
    let root = setup::load_root_key(dir, None)?;
    let fleet = machine.ledger.context().fleet;
    let mut lines = Vec::new();
    for name in names {
        let name = Some(MachineId::new(name)?);
        let (said, line) = setup::invitation(&root, fleet, Role::Node, name, INVITED_FOR, address)?;
        machine.append(said.verify()?).await?;
        lines.push(line);
    }
    Ok(lines)
}

// Requests as an agent brings them: signed elsewhere, which is not the ledger's expense.
fn sign(machine: &Machine, handler: &str, count: usize) -> Result<VecDeque<SignedStatement>, Failed> {
    let spec = JobSpec {
        handler: handler.to_owned(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 3,
        not_before: None,
        deadline: None,
        unique_key: None,
        concurrency_key: None,
        depends_on: Vec::new(),
        hold_on_failed_dependency: false,
        retry_of: None,
        input: None,
    };
    let (actor, fleet) = (&machine.ledger.keyring().actor, machine.ledger.context().fleet);
    let one = |_| -> Result<SignedStatement, Failed> {
        let draft = Draft::of(&RequestReceived { spec: spec.clone() }, Subject::new("request")?);
        Ok(setup::sign(actor, fleet, draft)?)
    };
    (0..count).map(one).collect()
}

// Callers that each wait for an answer before they ask for the next job.
async fn submit(
    machine: &Arc<Machine>,
    signed: VecDeque<SignedStatement>,
    callers: usize,
) -> Result<Vec<String>, Failed> {
    let signed = Arc::new(Mutex::new(signed));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (machine, signed) = (Arc::clone(machine), Arc::clone(&signed));
        asking.spawn(async move {
            loop {
                let next = signed.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(next) = next else { return Ok(()) };
                machine.request(next.verify()?).await?;
            }
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked?.map_err(|e: Failed| e)?;
    }
    Ok(Vec::new())
}

/// A child, as the parent has it.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said when it was ready.
    pub first: Vec<String>,
}

impl Process {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn start(task: &str, dir: &Path) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(task)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("its output is piped")?;
        let mut process = Self {
            input: child.stdin.take(),
            lines: BufReader::new(out).lines(),
            child,
            first: Vec::new(),
        };
        process.first = process.answer()?;
        Ok(process)
    }

    fn answer(&mut self) -> Result<Vec<String>, Failed> {
        let mut told = Vec::new();
        for line in self.lines.by_ref() {
            let line = line?;
            if line == "done" {
                return Ok(told);
            }
            told.push(line);
        }
        Err("a process of the fleet ended before it answered".into())
    }

    /// Says a command.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn say(&mut self, command: &str) -> Result<(), Failed> {
        let input = self.input.as_mut().ok_or("it was told to stop")?;
        writeln!(input, "{command}")?;
        Ok(input.flush()?)
    }

    /// Says a command and waits for the answer.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn ask(&mut self, command: &str) -> Result<Vec<String>, Failed> {
        self.say(command)?;
        self.answer()
    }

    /// Waits for the answer to what was said.
    ///
    /// # Errors
    /// When the child is gone.
    pub fn hear(&mut self) -> Result<Vec<String>, Failed> {
        self.answer()
    }

    /// Seconds of CPU that it used so far; nothing where the system does not tell.
    pub fn cpu_s(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: usize = fields.next()?.parse().ok()?;
        let system: usize = fields.next()?.parse().ok()?;
        Some(number(user + system) / TICKS)
    }

    /// Memory that it holds now, in MiB; nothing where the system does not tell.
    pub fn memory_mib(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: usize = value.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(number(kib) / 1024.0)
    }

    /// Has it stop, and waits for it.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(mut self) -> Result<(), Failed> {
        self.input = None;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a process of the fleet ended with {status}").into())
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
