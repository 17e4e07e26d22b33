//! The long-running processes: a gateway and a node. Each owns its threads and tasks, and waits for all of them.

use crate::checks::{Services, check_forever};
use crate::client::{MachineSigner, Signed};
use crate::clock::running_ms;
use crate::config::Config;
use crate::cosign::cosign_forever;
use crate::doors::{Doors, listen};
use crate::error::ServerError;
use crate::gateway;
use crate::gateway::epochs::{Lost, collect};
use crate::gateway::worker::{until_serving, work_here};
use crate::heartbeat::{Sampler, os_boot_id};
use crate::jobs::Jobs;
use crate::machine::Machine;
use crate::nightly::verify_nightly;
use crate::node::{Link, beat_from_own_thread, link_forever, may_be_behind, open_whole, reopen};
use crate::rest;
use crate::retention::keep_forever;
use ledger::clock::{Entropy, SystemEntropy};
use ledger::core::kinds::{Boot, Detail, NodeBooted, NodePulse3, NodeWaking, RestReason};
use ledger::core::limits::NAME_BYTES_MAX;
use ledger::core::{Draft, MachineId, Stream, Subject};
use ledger_projections::health::Gauges;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use crate::found::{RunFile, run_file, socket};

/// How long a stopping daemon waits for its tasks.
const STOP_WAIT: Duration = Duration::from_secs(10);

// What every daemon has.
struct Daemon {
    machine: Arc<Machine>,
    jobs: Arc<Jobs>,
    services: Arc<Services>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    threads: Vec<std::thread::JoinHandle<()>>,
    doors: Option<Doors>,
    pulse_stop: std::sync::mpsc::Sender<()>,
}

/// Runs the gateway of a directory until `shutdown` completes. When it lost the end of its order, it collects it from the
/// machines that have it and goes on in the next epoch.
///
/// # Errors
/// [`ServerError`]: no gateway's store, another process has it, the address is taken.
pub async fn run_gateway(
    dir: &Path,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    run_gateway_with(dir, config, |_, _| {}, shutdown).await
}

/// The same within a program of one's own, which gets the machine and the address (`http://host:port`) when all doors are open
/// for the first time.
///
/// # Errors
/// As [`run_gateway`].
pub async fn run_gateway_with(
    dir: &Path,
    config: Config,
    ready: impl FnOnce(&Arc<Machine>, &str),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let listener = listen(&config.listen)?;
    let mut ready = Some(ready);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut told = BTreeSet::new();
    let mut lost = None;
    let mut first = true;
    loop {
        if lost.is_none() {
            let open = || Machine::open(dir, config.clone());
            let opened = if std::mem::take(&mut first) {
                open()
            } else {
                reopen(open).await
            };
            match opened {
                Ok(machine) => {
                    let tell = |machine: &Arc<Machine>, address: &str| {
                        if let Some(ready) = ready.take() {
                            ready(machine, address);
                        }
                    };
                    let ended = serve(dir, machine, &listener, tell, shutdown.as_mut(), &told).await?;
                    lost = ended.map(Lost::Seen);
                }
                Err(e) if may_be_behind(&e) => lost = Some(Lost::Promised(e)),
                Err(e) => return Err(e),
            }
        }
        let Some(why) = lost.take() else {
            return Ok(());
        };
        match collect(dir, &config, &listener, shutdown.as_mut(), why).await? {
            Some(machines) => told = machines,
            None => return Ok(()),
        }
    }
}

// Serves until `shutdown`, or until it is known that the end of the order is lost: then why.
async fn serve(
    dir: &Path,
    machine: Arc<Machine>,
    listener: &std::net::TcpListener,
    ready: impl FnOnce(&Arc<Machine>, &str),
    shutdown: impl Future<Output = ()>,
    told: &BTreeSet<MachineId>,
) -> Result<Option<String>, ServerError> {
    if !machine.is_gateway() {
        return Err(ServerError::WrongRole(
            "this store is a node's; run `ledger node`".into(),
        ));
    }
    gateway::epochs::begin(&machine).await?;
    for machine_id in told {
        machine.central.mark_told(machine_id);
    }
    // Before any door opens: nobody may find Central idle and have it decide.
    machine.central.begin_healing();
    let mut daemon = Daemon::start(machine).await?;
    let machine = Arc::clone(&daemon.machine);
    let stop = || daemon.stop.subscribe();
    let (ticker, notices, worker) = (stop(), stop(), stop());
    daemon.tasks.spawn(gateway::tick_forever(
        Arc::clone(&daemon.machine),
        Arc::clone(&daemon.jobs),
        Arc::clone(&daemon.services),
        ticker,
    ));
    daemon
        .tasks
        .spawn(gateway::deliver_forever(Arc::clone(&daemon.machine), notices));
    daemon.tasks.spawn(work_here(
        Arc::clone(&daemon.machine),
        Arc::clone(&daemon.jobs),
        worker,
    ));
    let doors = Doors::open(&machine, dir, "gateway", Some(listener))?;
    ready(&machine, doors.address().unwrap_or_default());
    daemon.doors = Some(doors);
    let lost = tokio::select! {
        () = shutdown => None,
        why = machine.central.wait_until_lost() => Some(why),
    };
    daemon.finish().await?;
    Ok(lost)
}

/// Runs the node of a directory until `shutdown` completes. When it followed the gateway's order further than that counts, it opens
/// its store anew as soon as nothing runs here.
///
/// # Errors
/// [`ServerError`]: no node's store, no gateway configured, another process has the store.
pub async fn run_node(
    dir: &Path,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut again = false;
    while follow_gateway(dir, &config, again, shutdown.as_mut()).await? {
        again = true;
    }
    Ok(())
}

// Whether the store is to be opened anew; otherwise `shutdown` came.
async fn follow_gateway(
    dir: &Path,
    config: &Config,
    again: bool,
    mut shutdown: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, ServerError> {
    // Before anything is said: what this machine said before is here, all of it.
    let machine = tokio::select! {
        opened = open_whole(dir, config, again) => opened?,
        () = &mut shutdown => return Ok(false),
    };
    let mut daemon = Daemon::start(machine).await?;
    let machine = Arc::clone(&daemon.machine);
    let known = machine
        .ledger
        .snapshot()
        .state
        .order()
        .map(|order| order.central_key);
    let (Some(address), Some(central_key), false) =
        (machine.config.gateway.clone(), known, machine.is_gateway())
    else {
        daemon.finish().await?;
        return Err(ServerError::WrongRole(
            "this store has joined no fleet; run `ledger join` with an invitation".into(),
        ));
    };
    let signer = Arc::new(MachineSigner(machine.ledger.clone()));
    let client = |e: crate::client::ClientError| ServerError::Gateway(format!("{address}: {e}"));
    let gateway = Arc::new(Signed::new(&address, signer, Some(central_key)).map_err(client)?);
    machine.set_upstream(&gateway);
    let link = Link::new(Arc::clone(&machine), Arc::clone(&daemon.jobs), gateway);
    // What an earlier process left is told before anything new is claimed.
    daemon.jobs.recover().await?;
    let period = Duration::from_millis(machine.config.timing.beat_ms);
    let beats = beat_from_own_thread(Arc::clone(&link), period, daemon.stop.subscribe());
    daemon
        .threads
        .push(beats.map_err(ServerError::io("starting the thread of beats in", dir))?);
    let cosigns = cosign_forever(Arc::clone(&link), daemon.stop.subscribe());
    daemon.tasks.spawn(cosigns);
    daemon.tasks.spawn(link_forever(link, daemon.stop.subscribe()));
    daemon.doors = Some(Doors::open(&machine, dir, "node", None)?);
    let opens_again = tokio::select! {
        () = shutdown => false,
        () = until_idle_and_to_be_folded_again(&machine, &daemon.jobs) => true,
    };
    if opens_again {
        tracing::warn!(
            "this machine had followed the order further than it counts; its store is opened anew"
        );
    } else if let Err(e) = rest::announce(&machine, RestReason::Stop).await {
        tracing::warn!(code = e.code(), error = %e, "that this machine stops could not be told");
    }
    daemon.finish().await?;
    Ok(opens_again)
}

// No new claim is asked for meanwhile, so that what runs here ends by itself.
async fn until_idle_and_to_be_folded_again(machine: &Arc<Machine>, jobs: &Arc<Jobs>) {
    let mut changed = machine.changed();
    loop {
        changed.mark_unchanged();
        if machine.is_to_be_folded_again() && jobs.fences().is_empty() {
            return;
        }
        if changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Daemon {
    async fn start(machine: Arc<Machine>) -> Result<Self, ServerError> {
        let binary = std::env::current_exe().map_err(ServerError::io(
            "finding the program of",
            machine.ledger.paths().dir(),
        ))?;
        let jobs = Jobs::new(Arc::clone(&machine), binary);
        // Before this run's first heartbeat: until the last one somebody watched.
        if let Some(from) = last_pulse(&machine) {
            machine.central.absent(from, machine.now_us());
        }
        let (stop, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let facts_may_fork =
            machine.is_gateway() && !machine.central.all_marks_told(&machine.ledger.snapshot().state);
        if !facts_may_fork {
            say_booted(&machine).await?;
        }
        let (pulse_stop, pulse_stopped) = std::sync::mpsc::channel();
        let services = Arc::new(Services::default());
        let checks = check_forever(Arc::clone(&machine), Arc::clone(&services), stop.subscribe());
        if facts_may_fork {
            let (machine, mut stop) = (Arc::clone(&machine), stop.subscribe());
            tasks.spawn(async move {
                tokio::select! {
                    () = until_serving(&machine) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                if let Err(e) = say_booted(&machine).await {
                    tracing::error!(code = e.code(), error = %e, "the start of this daemon could not be kept");
                }
                checks.await;
            });
        } else {
            tasks.spawn(checks);
        }
        let pulses = pulse_from_own_thread(
            Arc::clone(&machine),
            Arc::clone(&jobs),
            Arc::clone(&services),
            pulse_stopped,
        )?;
        tasks.spawn(Arc::clone(&jobs).heed_forever(stop.subscribe()));
        jobs.sweep();
        tasks.spawn(verify_nightly(Arc::clone(&machine), stop.subscribe()));
        tasks.spawn(keep_forever(Arc::clone(&machine), stop.subscribe()));
        let daemon = Self {
            machine,
            jobs,
            services,
            stop,
            tasks,
            threads: vec![pulses],
            doors: None,
            pulse_stop,
        };
        Ok(daemon)
    }

    async fn finish(mut self) -> Result<(), ServerError> {
        if tokio::time::timeout(STOP_WAIT, self.jobs.stop()).await.is_err() {
            tracing::warn!("some runs did not end in time; the next start tells what became of them");
        }
        self.stop.send_replace(true);
        if self.pulse_stop.send(()).is_err() {
            tracing::debug!("the thread of heartbeats is gone already");
        }
        if let Some(doors) = self.doors.take() {
            doors.close().await;
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, all).await.is_err() {
            tracing::warn!("some tasks did not end in time and are dropped");
            self.tasks.shutdown().await;
        }
        for thread in self.threads.drain(..) {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a thread of the daemon panicked");
            }
        }
        let (ledger, machine) = (self.machine.ledger.clone(), Arc::clone(&self.machine));
        let closing = move || {
            machine.keep_marks();
            ledger.close()
        };
        tokio::task::spawn_blocking(closing)
            .await
            .expect("closing does not panic")?;
        Ok(())
    }
}

// When this store's daemon last gave a heartbeat, microseconds since 1970; nothing before its first.
fn last_pulse(machine: &Machine) -> Option<i64> {
    let pulses = machine.ledger.own_log(Stream::Pulse)?;
    let snapshot = machine.ledger.snapshot();
    let chain = snapshot.logs.get(&pulses).filter(|chain| chain.tip().0 > 0)?;
    i64::try_from(chain.time().unix_ms().saturating_mul(1000)).ok()
}

async fn say_booted(machine: &Arc<Machine>) -> Result<(), ServerError> {
    let mut nonce = [0; 16];
    SystemEntropy.fill(&mut nonce);
    let mut os_boot_id = os_boot_id().unwrap_or_default();
    os_boot_id.truncate(NAME_BYTES_MAX);
    let booted = NodeBooted {
        nonce,
        os_boot_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    machine
        .say(Stream::Facts, vec![Draft::of(&booted, subject)])
        .await?;
    Ok(())
}

// Heartbeats, from a thread of its own: whatever loads the runtime, the machine is alive.
fn pulse_from_own_thread(
    machine: Arc<Machine>,
    jobs: Arc<Jobs>,
    services: Arc<Services>,
    stopped: std::sync::mpsc::Receiver<()>,
) -> Result<std::thread::JoinHandle<()>, ServerError> {
    let period_ms = machine.config.timing.pulse_ms;
    let period = Duration::from_millis(period_ms);
    let mut sampler = Sampler::new(machine.ledger.paths().dir())?;
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    let boot = os_boot_id().ok().map(|id| Boot::of(&id));
    let run = move || {
        // The first sample of CPU use means nothing.
        let first = sampler.sample();
        machine.note_disk(first.disk_free_bytes, first.disk_total_bytes);
        let mut last_ms = running_ms();
        loop {
            if !matches!(stopped.recv_timeout(period), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            let now_ms = running_ms();
            let slept_ms = now_ms.saturating_sub(last_ms).saturating_sub(period_ms);
            last_ms = now_ms;
            // A sleep that was announced ends with the first heartbeat after it, and also when it did not come.
            let lost_after_ms = machine.config.timing.lost_after_ms;
            let rested = machine
                .resting()
                .is_some_and(|since| slept_ms >= period_ms || now_ms.saturating_sub(since) >= lost_after_ms);
            // Until the marks are known a gateway may be an old copy of itself: it says nothing.
            let says = !machine.is_gateway() || machine.central.is_serving();
            if says && (rested || slept_ms >= lost_after_ms) {
                let waking = Draft::of(&NodeWaking { slept_ms }, subject.clone());
                match machine.ledger.append_to(Stream::Facts, waking) {
                    Ok(_) => drop(machine.rest(None)),
                    Err(e) => {
                        tracing::error!(code = e.code(), error = %e, slept_ms, "a waking could not be kept");
                    }
                }
            }
            let g = sampler.sample();
            machine.note_disk(g.disk_free_bytes, g.disk_total_bytes);
            let (slots_used, slots_total) = jobs.slots();
            let link = machine.link();
            let pulse = NodePulse3 {
                cpu_per_mille: g.cpu_per_mille,
                load1_centi: g.load1_centi,
                memory_used_bytes: g.memory_used_bytes,
                memory_total_bytes: g.memory_total_bytes,
                disk_free_bytes: g.disk_free_bytes,
                disk_total_bytes: g.disk_total_bytes,
                disk_reserve_bytes: machine.config.disk.reserve_bytes(g.disk_total_bytes),
                uptime_s: g.uptime_s,
                temperature_milli_c: g.temperature_milli_c,
                slots_used,
                slots_total,
                outbox_receipts: link.outbox_receipts,
                outbox_bytes: link.outbox_bytes,
                outbox_oldest: link.outbox_oldest_us,
                clock_offset_ms: link.clock_offset_ms,
                boot,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                services: services.gauges(),
            };
            machine.set_gauges(
                machine.id(),
                Gauges {
                    pulse: pulse.clone(),
                    heard_at: machine.now_us(),
                },
            );
            if says
                && let Err(e) = machine
                    .ledger
                    .append_to(Stream::Pulse, Draft::of(&pulse, subject.clone()))
            {
                tracing::error!(code = e.code(), error = %e, kind = NodePulse3::KIND, "a heartbeat could not be kept");
            }
        }
    };
    std::thread::Builder::new()
        .name("ledger-pulse".into())
        .spawn(run)
        .map_err(ServerError::io(
            "starting the thread of heartbeats in",
            Path::new("."),
        ))
}
