//! Real daemons in processes of their own, over loopback: a gateway and a node that has joined it.
//!
//! The bench starts itself: `--daemon ROLE DIR` runs until its standard input ends, and `supervise` is what a daemon
//! starts for each run of a handler. What a child uses is read from `/proc`, where there is such a thing.

use crate::Failed;
use crate::measure::number;
use ledger::core::MachineId;
use ledger::core::kinds::Role;
use ledger_server::client::Api;
use ledger_server::{Config, daemon, setup};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(10);
/// Clock ticks of `/proc/PID/stat` in a second; Linux tells every program 100.
const TICKS: f64 = 100.0;

/// Does what this process was started for, if it was started as a daemon or a supervisor.
///
/// # Errors
/// What the daemon says.
pub fn obey() -> Result<bool, Failed> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "supervise") {
        std::process::exit(ledger_server::worker::supervise_main(words));
    }
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--daemon").collect();
    let [_, role, dir, ..] = words.as_slice() else {
        return Ok(false);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = PathBuf::from(dir);
    let (config, _) = Config::load(&dir, &[])?;
    let stop = async {
        // However it ends, nobody holds the other end any more.
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        drop(ended.await);
    };
    match role.as_str() {
        "gateway" => runtime.block_on(daemon::run_gateway(&dir, config, stop))?,
        _ => runtime.block_on(daemon::run_node(&dir, config, stop))?,
    }
    runtime.shutdown_background();
    Ok(true)
}

/// A daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    /// Its directory.
    pub dir: PathBuf,
}

impl Daemon {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub fn start(role: &str, dir: &Path) -> Result<Self, Failed> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--daemon", role])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let mut daemon = Self {
            child,
            dir: dir.to_owned(),
        };
        let began = Instant::now();
        while daemon.told().is_none_or(|told| told.pid != daemon.child.id()) {
            if let Some(status) = daemon.child.try_wait()? {
                return Err(format!("the {role} ended with {status}").into());
            }
            if began.elapsed() > READY_WITHIN {
                return Err(format!("the {role} does not answer").into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(daemon)
    }

    fn told(&self) -> Option<daemon::RunFile> {
        let text = std::fs::read(daemon::run_file(&self.dir)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Its local door.
    pub fn api(&self) -> Api {
        Api::unix(daemon::socket(&self.dir))
    }

    /// Seconds of CPU that it used so far.
    pub fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name may hold anything; the numbers come behind its last bracket.
        let numbers = stat.rsplit(')').next().unwrap_or_default();
        let ticks = numbers.split_whitespace().skip(11).take(2);
        let ticks: usize = ticks.filter_map(|n| n.parse::<usize>().ok()).sum();
        number(ticks) / TICKS
    }

    /// A line of its `/proc/PID/status`, in MiB: `VmRSS` now, `VmHWM` at most so far.
    pub fn memory_mib(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let value = status
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        let kib = value.and_then(|v| v.trim().trim_end_matches("kB").trim().parse::<usize>().ok());
        number(kib.unwrap_or_default()) / 1024.0
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(mut self) -> Result<(), Failed> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a daemon stopped with {status}").into())
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that ended already cannot be killed, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Founds a gateway, starts it, and has a node join it that does not run yet and that runs jobs called `noop`.
///
/// # Errors
/// What either says.
pub async fn pair(dir: &Path) -> Result<(Daemon, PathBuf), Failed> {
    let (home, node) = (dir.join("gateway"), dir.join("node"));
    setup::init(&home, &MachineId::new("gateway")?)?;
    std::fs::write(
        home.join("config.toml"),
        "listen = \"127.0.0.1:0\"\n[verify]\nenabled = false\n",
    )?;
    let gateway = Daemon::start("gateway", &home)?;
    let address = gateway.told().and_then(|told| told.address);
    let address = address.ok_or("a gateway tells where it listens")?;
    let status = gateway.api().status().await?.item;
    let fleet = ledger::core::FleetId(hex(&status.fleet)?);
    let root = setup::load_root_key(&home, None)?;
    let (name, hour) = (MachineId::new("node")?, Duration::from_secs(3600));
    let (said, line) = setup::invitation(&root, fleet, Role::Node, Some(name.clone()), hour, &address)?;
    gateway.api().append_signed(&said).await?;
    setup::join(&node, &line, &name).await?;
    let config = node.join("config.toml");
    let before = std::fs::read_to_string(&config)?;
    let handler = "[[handler]]\nname = \"noop\"\nargv = [\"true\"]\nclass = \"light\"\nslots = 4\n";
    std::fs::write(config, format!("{before}\n[verify]\nenabled = false\n{handler}"))?;
    Ok((gateway, node))
}

fn hex(text: &str) -> Result<[u8; 32], Failed> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16);
    let bytes: Vec<u8> = (0..64).step_by(2).map(byte).collect::<Result<_, _>>()?;
    Ok(bytes.as_slice().try_into()?)
}
