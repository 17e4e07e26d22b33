//! What is known of orphan branches beside the store. Memory: made again at the next start.

use super::super::waiting::Waiting;
use super::BRINGING_MS;
use ledger::core::{LogId, MachineId};
use ledger_projections::FleetState;
use ledger_projections::schedules::{FiredBefore, fired_before};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(crate) struct Orphans {
    // How often something was kept, what earlier processes kept counted once, and how much of that is settled.
    kept: AtomicU64,
    settled: AtomicU64,
    pub(super) settling: Arc<tokio::sync::Mutex<()>>,
    // Machines that have more of a branch than is here, and when they last brought some of it.
    bringing: Mutex<BTreeMap<MachineId, u64>>,
    waiting: Mutex<Waiting>,
    // Up to where this process said again what a branch tells, by its log.
    said: Mutex<BTreeMap<LogId, u64>>,
    // Up to where the order was asked for citations of a branch, and the newest seq that it cites.
    cited: Mutex<BTreeMap<LogId, (u64, u64)>>,
    // Schedule and nominal time, microseconds since 1970, of the earliest tick that a schedule is to decide first.
    too_early: Mutex<Option<(String, i64)>>,
    // When more of this machine's own work log last came, by the clock that counts sleep, in milliseconds.
    brought_work: Mutex<Option<u64>>,
}

impl Default for Orphans {
    fn default() -> Self {
        Self {
            kept: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            settling: Arc::default(),
            bringing: Mutex::default(),
            waiting: Mutex::default(),
            said: Mutex::default(),
            cited: Mutex::default(),
            too_early: Mutex::default(),
            brought_work: Mutex::default(),
        }
    }
}

impl Orphans {
    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bringing(&self) -> MutexGuard<'_, BTreeMap<MachineId, u64>> {
        self.bringing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_early(&self) -> MutexGuard<'_, Option<(String, i64)>> {
        self.too_early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine said whether it has more of a branch than is here. One that only says so is not waited for anew.
    pub(in super::super) fn hear(&self, machine: &MachineId, has_more: bool, now_ms: u64) {
        if has_more {
            self.bringing().entry(machine.clone()).or_insert(now_ms);
        } else {
            self.bringing().remove(machine);
        }
    }

    /// More of this machine's own work log is here.
    pub(super) fn brought_own_work(&self, now_ms: u64) {
        *self.brought_work.lock().expect("brought lock") = Some(now_ms);
    }

    /// Whether more of this machine's own work log came since this was last so, and none for a while: the end of a run may come
    /// behind its beginning.
    pub(in super::super) fn take_brought_work(&self, now_ms: u64) -> bool {
        let mut last = self.brought_work.lock().expect("brought lock");
        let quiet = |at: &mut u64| now_ms.saturating_sub(*at) >= BRINGING_MS;
        last.take_if(quiet).is_some()
    }

    /// A machine brought a part of a branch, and it is durable.
    pub(super) fn brought(&self, machine: &MachineId, now_ms: u64) {
        self.bringing().insert(machine.clone(), now_ms);
        self.go_through_again();
    }

    /// All that is kept is gone through once more.
    pub(super) fn go_through_again(&self) {
        self.kept.fetch_add(1, Ordering::AcqRel);
    }

    /// How often something was kept: what is kept from here on may be read, or not.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// All that was kept so often is gone through.
    pub(super) fn settled(&self, kept: u64) {
        self.settled.store(kept, Ordering::Release);
    }

    fn is_behind(&self) -> bool {
        self.settled.load(Ordering::Acquire) < self.kept()
    }

    /// Whether something may wait for a job that is not remembered as waiting for it.
    pub(super) fn knows_not_all(&self) -> bool {
        self.is_behind() || self.waiting().overflows()
    }

    /// Whether something was kept that is not settled, and nobody is about to bring more of it.
    pub(super) fn is_unsettled(&self, now_ms: u64) -> bool {
        let mut bringing = self.bringing().clone().into_values();
        self.is_behind() && bringing.all(|last_ms| now_ms.saturating_sub(last_ms) >= BRINGING_MS)
    }

    /// Up to where this process said again what a branch tells: what was refused then is not said once more, when it would apply.
    pub(in super::super) fn said(&self, log: &LogId) -> u64 {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(log).copied().unwrap_or(0)
    }

    /// It said it again up to there. What found no room to wait is to be said once more, with what came behind it.
    pub(super) fn said_to(&self, log: LogId, to: u64) {
        if self.waiting().overflows() {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = said.entry(log).or_default();
        *before = to.max(*before);
    }

    /// Up to where the order was asked for citations of a branch, and the newest seq that it cites.
    pub(in super::super) fn cited(&self, log: &LogId) -> Option<(u64, u64)> {
        let cited = self.cited.lock().unwrap_or_else(PoisonError::into_inner);
        cited.get(log).copied()
    }

    /// The order was asked so far, and cites a branch up to there.
    pub(in super::super) fn cite(&self, log: LogId, asked: u64, to: u64) {
        let mut cited = self.cited.lock().unwrap_or_else(PoisonError::into_inner);
        cited.insert(log, (asked, to));
    }

    /// All that is kept is gone through from its beginning.
    pub(super) fn begin(&self) {
        self.waiting().begin();
        *self.too_early() = None;
    }

    /// Whether all was decided since, or is remembered as waiting for a job.
    pub(super) fn is_whole(&self) -> bool {
        !self.waiting().overflows() && self.too_early().is_none()
    }

    /// A schedule is to decide a tick's time first.
    pub(super) fn defer(&self, schedule: &str, nominal: i64) {
        let mut first = self.too_early();
        if first.as_ref().is_none_or(|(_, first)| nominal < *first) {
            *first = Some((schedule.to_owned(), nominal));
        }
    }

    /// Has the branches gone through again when that schedule has decided.
    pub(super) fn look(&self, state: &FleetState) {
        let mut first = self.too_early();
        let is_decided = |tick: &mut (String, i64)| {
            let (schedule, nominal) = tick;
            fired_before(state, schedule, *nominal, false) != FiredBefore::Undecided
        };
        if first.take_if(is_decided).is_some() {
            self.go_through_again();
        }
    }
}
