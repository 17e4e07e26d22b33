//! Central beside its state: whether it decides now, when leases end, who was heard when.
//!
//! Deadlines and last-heard times are memory, not fold state: after a restart every lease has one full term again, and
//! what follows from a deadline is a receipt. The clock here counts sleep.

use super::backlog::Backlogs;
use super::lanes::Lanes;
use super::orphans::Orphans;
use crate::clock::running_ms;
use crate::config::Config;
use crate::error::ServerError;
use crate::gateway::processes::Processes;
use ledger::core::kinds::{Fence, PinnedRange};
use ledger::core::{LogId, MachineId, Stream};
use ledger::{BatchHook, Receipt, Tx};
use ledger_projections::FleetState;
use ledger_projections::central::{self as steps, Heard, Leases};
pub(crate) use ledger_projections::central::{put, settle};
use ledger_projections::pin;
use ledger_projections::queue::{Policy, decide};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// How long a caller waits for Central to serve before it is told to come again.
const SERVING_WAIT: Duration = Duration::from_secs(20);

/// Whether Central decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Serving {
    /// This store writes no order, or has not begun.
    Idle,
    /// Waits for the machines' marks.
    Healing,
    /// Decides.
    Deciding,
    /// Met a mark ahead of its own order: somebody has seen what this store lost.
    Frozen(String),
}

/// See the module.
pub struct Central {
    serving: watch::Sender<Serving>,
    decides: Arc<AtomicBool>,
    leases: Mutex<Leases>,
    heard: Mutex<BTreeMap<MachineId, Heard>>,
    marks_told: Mutex<BTreeSet<MachineId>>,
    lost: watch::Sender<Option<String>>,
    hellos: Mutex<BTreeMap<MachineId, u64>>,
    absences: Mutex<Vec<(i64, i64)>>,
    pub(super) backlogs: Mutex<Backlogs>,
    /// Whose push comes next.
    pub(crate) lanes: Lanes,
    pub(super) processes: Processes,
    pub(super) orphans: Orphans,
    lost_after_ms: u64,
    pub(crate) started_ms: u64,
}

impl Central {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            serving: watch::channel(Serving::Idle).0,
            decides: Arc::default(),
            leases: Mutex::new(Leases::new(config.timing.term_ms)),
            heard: Mutex::default(),
            marks_told: Mutex::default(),
            lost: watch::channel(None).0,
            hellos: Mutex::default(),
            absences: Mutex::default(),
            backlogs: Mutex::default(),
            lanes: Lanes::new(),
            processes: Processes::default(),
            orphans: Orphans::default(),
            lost_after_ms: config.timing.lost_after_ms,
            started_ms: running_ms(),
        }
    }

    /// Pins what a batch brought to this machine's own logs, as soon as Central decides. Whatever was said before that is
    /// pinned with the first batch after it.
    pub(crate) fn batch_hook(&self) -> BatchHook<FleetState> {
        let decides = Arc::clone(&self.decides);
        Box::new(move |tx| {
            if !decides.load(Ordering::Acquire) {
                return Ok(());
            }
            let mut ranges = Vec::new();
            for stream in [Stream::Work, Stream::Facts] {
                let log = tx.own_log(stream)?;
                let (last, seal) = tx.own_tip(stream)?;
                let first = tx.state().pin(&log).map_or(0, |pin| pin.seq + 1);
                if first <= last {
                    ranges.push(PinnedRange {
                        log,
                        first,
                        last,
                        seal,
                        root: None,
                    });
                }
            }
            for draft in pin(&ranges) {
                tx.append(Stream::Order, draft)?;
            }
            Ok(())
        })
    }

    // Every change of mind goes through here, so that two never overwrite each other.
    fn change(&self, next: impl FnOnce(&Serving) -> Option<Serving>) {
        self.serving.send_if_modified(|serving| match next(serving) {
            Some(next) => {
                self.decides.store(next == Serving::Deciding, Ordering::Release);
                *serving = next;
                true
            }
            None => false,
        });
    }

    /// A daemon begins: nothing is decided until the marks are known. Called before any door opens.
    pub(crate) fn begin_healing(&self) {
        self.change(|now| (*now == Serving::Idle).then_some(Serving::Healing));
    }

    /// The marks are known, or nobody is there who could know better. A frozen Central stays frozen.
    pub(crate) fn begin_deciding(&self) {
        self.change(|now| matches!(now, Serving::Idle | Serving::Healing).then_some(Serving::Deciding));
    }

    /// Somebody has seen more of the order than this store has.
    pub(crate) fn freeze(&self, why: String) {
        self.change(|now| (!matches!(now, Serving::Frozen(_))).then_some(Serving::Frozen(why)));
    }

    /// Whether a daemon of this process heals, decides or is frozen; otherwise the store was opened by a command.
    pub(crate) fn is_idle(&self) -> bool {
        *self.serving.borrow() == Serving::Idle
    }

    pub(crate) fn is_serving(&self) -> bool {
        *self.serving.borrow() == Serving::Deciding
    }

    /// For whoever decides in several commits: asked in each of them.
    ///
    /// # Errors
    /// [`ServerError::NotServing`] unless Central decides.
    pub(crate) fn demand_serving(&self) -> Result<(), ServerError> {
        if self.is_serving() {
            return Ok(());
        }
        let why = self.frozen();
        Err(ServerError::NotServing(why.unwrap_or_else(|| {
            "it waits for the marks of its machines; try again".into()
        })))
    }

    pub(crate) fn healing(&self) -> bool {
        *self.serving.borrow() == Serving::Healing
    }

    /// Why Central froze itself.
    pub(crate) fn frozen(&self) -> Option<String> {
        match &*self.serving.borrow() {
            Serving::Frozen(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Returns when Central decides.
    ///
    /// # Errors
    /// [`ServerError::NotServing`] when it is frozen, or still waits for marks after 20 seconds.
    pub async fn wait_until_serving(&self) -> Result<(), ServerError> {
        let mut serving = self.serving.subscribe();
        let settled = serving.wait_for(|s| *s != Serving::Healing);
        let now = match tokio::time::timeout(SERVING_WAIT, settled).await {
            Ok(Ok(now)) => now.clone(),
            _ => Serving::Healing,
        };
        match now {
            Serving::Deciding => Ok(()),
            Serving::Idle => Err(ServerError::NotServing(
                "the gateway's daemon does not run, and other machines may have seen more than this store has; start it with \
                 `ledger gateway`"
                    .into(),
            )),
            Serving::Healing => Err(ServerError::NotServing(
                "it waits for the marks of its machines; try again".into(),
            )),
            Serving::Frozen(why) => Err(ServerError::NotServing(why)),
        }
    }

    /// Notes that a machine told what it has seen of the order.
    pub(crate) fn mark_told(&self, machine: &MachineId) {
        self.marks_told
            .lock()
            .expect("marks lock")
            .insert(machine.clone());
    }

    /// The machines that told what they have.
    pub(crate) fn told(&self) -> BTreeSet<MachineId> {
        self.marks_told.lock().expect("marks lock").clone()
    }

    /// A machine has, provably, what this store lost: the tail is to be collected.
    pub(crate) fn lost_its_tail(&self, why: String) {
        self.freeze(why.clone());
        self.lost.send_if_modified(|lost| lost.replace(why).is_none());
    }

    /// Returns why, when it is so.
    pub(crate) async fn wait_until_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await.map(|lost| lost.clone()) {
            Ok(Some(why)) => why,
            // The sender lives as long as this.
            _ => std::future::pending().await,
        }
    }

    /// Whether every machine that is waited for told its mark.
    pub(crate) fn all_marks_told(&self, state: &FleetState) -> bool {
        let told = self.marks_told.lock().expect("marks lock");
        let own = &state.context().machine;
        state
            .machines()
            .filter(|m| !m.retired && m.id != *own)
            .all(|m| told.contains(&m.id))
    }

    /// A machine says hello: what it claimed before and got no answer for is void. Counts up.
    pub(crate) fn note_hello(&self, machine: &MachineId) {
        *self
            .hellos
            .lock()
            .expect("hellos lock")
            .entry(machine.clone())
            .or_insert(0) += 1;
    }

    /// Notes what a machine has of its logs and what of them is here.
    pub(crate) fn note_backlog(&self, machine: &MachineId, logs: &[(LogId, u64, Option<u64>)], now_us: i64) {
        let mut backlogs = self.backlogs.lock().expect("backlogs lock");
        backlogs.note(machine, logs, now_us);
    }

    /// How many hellos of a machine were noted; a claim that waits over one is void.
    pub(crate) fn hellos(&self, machine: &MachineId) -> u64 {
        self.hellos
            .lock()
            .expect("hellos lock")
            .get(machine)
            .copied()
            .unwrap_or(0)
    }

    /// Notes that nobody watched between two times, microseconds since 1970; the ticker tells it. What is shorter than the silence
    /// of a lost machine is none.
    pub(crate) fn absent(&self, from: i64, until: i64) {
        let least = i64::try_from(self.lost_after_ms.saturating_mul(1000)).unwrap_or(i64::MAX);
        if until.saturating_sub(from) >= least {
            self.absences.lock().expect("absences lock").push((from, until));
        }
    }

    /// The spans in which nobody watched that are still to be told.
    pub(crate) fn absences(&self) -> Vec<(i64, i64)> {
        self.absences.lock().expect("absences lock").clone()
    }

    /// Forgets those that are told.
    pub(crate) fn told_absences(&self, told: &[(i64, i64)]) {
        self.absences
            .lock()
            .expect("absences lock")
            .retain(|span| !told.contains(span));
    }

    /// Moves every deadline and every time of hearing by a pause in which this process did not run.
    pub(crate) fn slept(&self, pause_ms: u64) {
        // Nobody could bring anything meanwhile.
        *self.backlogs.lock().expect("backlogs lock") = Backlogs::default();
        for heard in self.heard.lock().expect("heard lock").values_mut() {
            heard.last_ms = heard.last_ms.saturating_add(pause_ms);
        }
        self.leases.lock().expect("leases lock").slept(pause_ms);
    }

    /// Notes a sign of life.
    pub(crate) fn hear(&self, machine: &MachineId, now_us: i64) {
        let mut heard = self.heard.lock().expect("heard lock");
        let now = Heard {
            first_us: now_us,
            last_us: now_us,
            last_ms: running_ms(),
        };
        let first_us = heard.get(machine).map_or(now_us, |before| before.first_us);
        heard.insert(machine.clone(), Heard { first_us, ..now });
    }

    pub(crate) fn heard(&self, machine: &MachineId) -> Option<Heard> {
        self.heard.lock().expect("heard lock").get(machine).copied()
    }

    /// Forgets that a machine was heard, unless it was since (`last_us`), so that the next sign of life is the first.
    pub(crate) fn unhear(&self, machine: &MachineId, last_us: i64) {
        let mut heard = self.heard.lock().expect("heard lock");
        if heard.get(machine).is_some_and(|heard| heard.last_us <= last_us) {
            heard.remove(machine);
        }
    }

    /// Begins or renews a lease for one term from now.
    pub(crate) fn renew(&self, fence: &Fence) {
        self.leases
            .lock()
            .expect("leases lock")
            .renew(fence, running_ms());
    }

    /// Whether a lease's term is over. One that nobody began here (after a restart) begins now.
    pub(crate) fn is_over(&self, fence: &Fence) -> bool {
        self.leases
            .lock()
            .expect("leases lock")
            .is_over(fence, running_ms())
    }

    /// The claims whose lease ran out; `held` is what this machine itself runs.
    pub(crate) fn overdue(&self, state: &FleetState, held: &[Fence]) -> Vec<Fence> {
        let mut leases = self.leases.lock().expect("leases lock");
        steps::overdue(state, held, &mut leases, running_ms())
    }

    /// Gives every lease a full term: Central itself could not serve meanwhile.
    pub(crate) fn renew_all(&self) {
        self.leases.lock().expect("leases lock").clear();
    }
}

/// Decides what follows from a report in a machine's work log.
pub(crate) fn judge(
    tx: &mut Tx<'_, FleetState>,
    report: &Receipt,
    machine: &MachineId,
    policy: &Policy,
) -> Result<(), ServerError> {
    let drafts = decide::report(tx.state(), report, machine, tx.now_us(), policy)?;
    put(tx, drafts)?;
    Ok(())
}
