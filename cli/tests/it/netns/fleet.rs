//! Three real daemons on three machines, clients that ask all of them all the time, and what is held against what they were told.

use super::world::{World, address};
use crate::kill::{Acknowledged, MACHINES, ask, check, configure};
use crate::{Daemon, WITHIN, folder, good};
use ledger_server::client::Api;
use ledger_server::http::wire::{ReceiptsQuery, RequestBody};
use ledger_server::{Config, Machine};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where the gateway listens.
const PORT: u16 = 7171;

/// A fleet with a gateway, studio and mini; `step` runs on studio alone.
pub(super) struct Fleet {
    root: tempfile::TempDir,
    pub(super) world: World,
    daemons: BTreeMap<&'static str, Daemon>,
    runtime: tokio::runtime::Runtime,
    acknowledged: Arc<Mutex<Acknowledged>>,
    over: Arc<AtomicBool>,
    load: Vec<tokio::task::JoinHandle<()>>,
}

impl Fleet {
    /// Founds it and starts everything; nothing where there are no namespaces.
    pub(super) fn new() -> Option<Self> {
        let world = World::new(&MACHINES.map(|(name, _)| name))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut fleet = Self {
            root: folder(),
            world,
            daemons: BTreeMap::new(),
            runtime,
            acknowledged: Arc::default(),
            over: Arc::default(),
            load: Vec::new(),
        };
        let gateway = fleet.dir("gateway");
        good(&gateway, &["init", "--machine", "gateway"]);
        configure(&gateway, "light", "light");
        fleet.start("gateway");
        for machine in ["studio", "mini"] {
            let dir = fleet.dir(machine);
            let door = format!("http://{}:{PORT}", address(0));
            let line = good(&gateway, &["invite", "--machine", machine, "--address", &door])["line"]
                .as_str()
                .unwrap()
                .to_owned();
            let joining = fleet
                .world
                .ledger(machine, &dir)
                .args(["join", &line, "--machine", machine, "--json"])
                .output()
                .unwrap();
            assert!(joining.status.success(), "{}", crate::said(&joining));
            configure(&dir, "heavy", "heavy");
            if machine == "studio" {
                fleet.declare_step(&dir);
            }
            fleet.start(machine);
        }
        Some(fleet)
    }

    // A handler that leaves a line for each run, a checkpoint, and then waits until it may go on.
    fn declare_step(&self, dir: &Path) {
        let path = dir.join("config.toml");
        let (runs, go) = (self.runs(), self.root.path().join("go"));
        let script = format!(
            "echo ran >> {}; echo checkpoint half >> \\\"$LEDGER_REPORT\\\"; while [ ! -e {} ]; do sleep 0.02; done; echo 42",
            runs.display(),
            go.display()
        );
        let more = format!(
            "[[handler]]\nname = \"step\"\nargv = [\"sh\", \"-c\", \"{script}\"]\nclass = \"heavy\"\nslots = 1\n"
        );
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before + &more).unwrap();
    }

    fn runs(&self) -> PathBuf {
        self.root.path().join("runs")
    }

    /// How often `step` was started.
    pub(super) fn runs_count(&self) -> usize {
        let text = std::fs::read_to_string(self.runs()).unwrap_or_default();
        text.lines().count()
    }

    /// Lets `step` go on, or holds it.
    pub(super) fn let_go(&self, go: bool) {
        let file = self.root.path().join("go");
        if go {
            std::fs::write(file, "").unwrap();
        } else {
            let _ = std::fs::remove_file(file);
        }
    }

    pub(super) fn dir(&self, machine: &str) -> PathBuf {
        self.root.path().join(machine)
    }

    pub(super) fn start(&mut self, machine: &'static str) {
        let role = if machine == "gateway" { "gateway" } else { "node" };
        let dir = self.dir(machine);
        let command = self.world.ledger(machine, &dir);
        let listen = format!("{}:{PORT}", address(0));
        self.daemons
            .insert(machine, Daemon::start_as(command, &dir, role, &listen));
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, machine: &str) {
        self.daemons.remove(machine).unwrap().kill();
    }

    /// Clients ask every door for work and append receipts, from now on.
    pub(super) fn load(&mut self) {
        for door in 0..MACHINES.len() {
            self.load.push(self.runtime.spawn(ask(
                self.root.path().to_owned(),
                door,
                Arc::clone(&self.acknowledged),
                Arc::clone(&self.over),
            )));
        }
    }

    /// Clients ask no more, and what they were told is known.
    pub(super) fn pause(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let load = std::mem::take(&mut self.load);
        self.runtime.block_on(async {
            for task in load {
                task.await.unwrap();
            }
        });
        self.over.store(false, Ordering::SeqCst);
    }

    /// Waits until both nodes have all of the gateway's order and of its own logs.
    pub(super) fn until_mirrored(&self) {
        let heads = |machine: &str| {
            let status = self.runtime.block_on(self.api(machine).status()).ok()?;
            let logs = status.item.logs.into_iter();
            let logs = logs.filter(|log| log.machine == "gateway" && log.stream != "pulse");
            Some(logs.map(|log| (log.log, log.seq)).collect::<BTreeMap<_, _>>())
        };
        until("the nodes have what the gateway has", || {
            let wanted = heads("gateway");
            wanted.is_some() && ["studio", "mini"].iter().all(|node| heads(node) == wanted)
        });
    }

    /// Waits until the gateway decides, or froze itself, which is told.
    pub(super) fn is_frozen_or_serves(&self) -> bool {
        let api = self.api("gateway");
        let frozen = || {
            let status = self.runtime.block_on(api.status());
            status.is_ok_and(|status| status.item.link.is_some_and(|link| link.frozen.is_some()))
        };
        until("the gateway serves or froze itself", || {
            let ready = self.runtime.block_on(api.readyz());
            frozen() || ready.is_ok_and(|ready| ready.ready)
        });
        frozen()
    }

    /// Puts a copy of a machine's whole folder, keys and anchor and all, in another's place; no daemon runs in either.
    pub(super) fn copy(&self, from: &str, to: &str) {
        let _ = std::fs::remove_dir_all(self.dir(to));
        let copied = Command::new("cp")
            .args(["-a", "--"])
            .args([self.dir(from), self.dir(to)])
            .status();
        assert!(copied.unwrap().success());
    }

    /// How many jobs were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().jobs.len()
    }

    fn api(&self, machine: &str) -> Api {
        Api::unix(self.dir(machine).join("data/api.sock"))
    }

    /// Asks the gateway for a run of `step`; its id.
    pub(super) fn step(&self) -> String {
        let request = RequestBody {
            handler: "step".into(),
            attempts_max: Some(3),
            ..RequestBody::default()
        };
        let answer = self
            .runtime
            .block_on(self.api("gateway").request(&request))
            .unwrap()
            .item;
        let mut kept = self.acknowledged.lock().unwrap();
        kept.jobs.insert(answer.job.clone());
        kept.receipts.insert(answer.receipt);
        answer.job
    }

    /// Waits until a machine has a receipt of this kind about this job.
    pub(super) fn until(&self, machine: &str, kind: &str, job: &str) {
        let said = format!("{kind} of {job} at {machine}");
        until(&said, || self.has(machine, kind, job));
    }

    /// The same, for a shorter time; whether it came to that.
    pub(super) fn comes_to(&self, machine: &str, kind: &str, job: &str, within: Duration) -> bool {
        came(within, || self.has(machine, kind, job))
    }

    fn has(&self, machine: &str, kind: &str, job: &str) -> bool {
        let query = ReceiptsQuery {
            kind: vec![kind.to_owned()],
            subject: Some(format!("job/{job}")),
            ..ReceiptsQuery::default()
        };
        let page = self.runtime.block_on(self.api(machine).receipts(&query));
        page.is_ok_and(|page| !page.items.is_empty())
    }

    /// Waits until the gateway takes a machine for this.
    pub(super) fn until_status(&self, machine: &str, wanted: &str) {
        let api = self.api("gateway");
        until(&format!("{machine} {wanted}"), || {
            let page = self.runtime.block_on(api.nodes());
            page.is_ok_and(|page| {
                let mut nodes = page.items.iter();
                nodes.any(|node| node.machine == machine && node.status == wanted)
            })
        });
    }

    /// Ends the load, waits until everything is settled, and holds the logs against what the clients were told: every acknowledged
    /// receipt is there, every accepted job is final with one effective success, every store verifies, every copy is a prefix.
    pub(super) fn settle(mut self) {
        self.let_go(true);
        self.pause();
        self.runtime.block_on(async {
            let kept = std::mem::take(&mut *self.acknowledged.lock().unwrap());
            check(self.root.path(), &kept).await;
        });
        for (_, daemon) in std::mem::take(&mut self.daemons) {
            daemon.stop();
        }
        for (machine, _) in MACHINES {
            good(&self.dir(machine), &["verify"]);
        }
        self.runtime.block_on(async { copies(self.root.path()) });
    }
}

/// Waits for something, within a bound.
fn until(what: &str, is_so: impl Fn() -> bool) {
    assert!(came(WITHIN, is_so), "not within {WITHIN:?}: {what}");
}

fn came(within: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() >= within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

// What any store has of a log that another writes is the same, record by record.
fn copies(root: &Path) {
    let stores = MACHINES.map(|(name, _)| Machine::open(&root.join(name), Config::default()).unwrap());
    let mut compared = 0;
    for (at, one) in stores.iter().enumerate() {
        let snapshot = one.ledger.snapshot();
        for other in &stores[at + 1..] {
            for log in snapshot.logs.keys() {
                let theirs = other.ledger.range(log, 0, u64::MAX);
                for (ours, theirs) in one.ledger.range(log, 0, u64::MAX).zip(theirs) {
                    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
                    assert_eq!(
                        ours.record.bytes(),
                        theirs.record.bytes(),
                        "{log} at {}",
                        ours.seq()
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 20, "there are copies: {compared}");
}
