//! The store of one machine with what gateway and node share: reading the Vault, the gauges, the link, the disk.

use crate::client::Signed;
use crate::config::Config;
use crate::cosign::Offered;
use crate::error::ServerError;
use crate::gateway::central::Central;
use crate::marks::Marks;
use crate::node::outbox::Outbox;
use crate::vault::VaultReader;
use ledger::clock::{Entropy, SystemEntropy};
use ledger::core::kinds::JobId;
use ledger::core::{LogId, MachineId, ReceiptId, Stream};
use ledger::{Ledger, OpenOptions, Paths, Position, Receipt, State as _};
use ledger_projections::FleetState;
use ledger_projections::health::Gauges;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use tokio::sync::watch;

/// The store of one machine.
pub struct Machine {
    /// The engine.
    pub ledger: Ledger<FleetState>,
    /// What it was told.
    pub config: Config,
    /// Names this run of the process: 32 hex characters.
    pub boot: String,
    /// The same, as the gateway is told it.
    pub(crate) process: [u8; 16],
    /// What a gateway has beside the store; idle on a node.
    pub central: Central,
    pub(crate) vault: VaultReader,
    gateway: bool,
    /// What of this store's logs other machines have.
    pub(crate) marks: Arc<Marks>,
    pub(crate) outbox: Outbox,
    gauges: RwLock<BTreeMap<MachineId, Gauges>>,
    link: Mutex<LinkView>,
    verified: Mutex<Option<LastVerify>>,
    // Free bytes and the reserve, while less than the reserve is free.
    short_of_disk: Mutex<Option<(u64, u64)>>,
    // Since when it sleeps by its own word, by the clock that counts sleep.
    resting: Mutex<Option<u64>>,
    changed: watch::Sender<Position>,
    pub(crate) offered: Offered,
    upstream: OnceLock<Arc<Signed>>,
}

type Open = fn(&Paths, OpenOptions<FleetState>) -> Result<Ledger<FleetState>, ledger::LedgerError>;

/// How a node stands with its gateway, and a gateway with itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkView {
    /// The gateway's address; absent on the gateway.
    pub gateway: Option<String>,
    /// Whether the last exchange succeeded.
    pub connected: bool,
    /// When it did, microseconds since 1970.
    pub last_contact_us: Option<i64>,
    /// Receipts that the gateway has not acknowledged.
    pub outbox_receipts: u64,
    /// Their bytes, payloads included.
    pub outbox_bytes: u64,
    /// When the oldest of them was sealed, microseconds since 1970.
    pub outbox_oldest_us: Option<i64>,
    /// The newest record of each own log that the gateway is known to have.
    pub acknowledged: BTreeMap<LogId, u64>,
    /// Our clock minus the gateway's, milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Why this machine cannot follow the gateway's order: its copy of an earlier part is another one.
    pub order_forked: Option<String>,
    /// Why Central froze itself.
    pub frozen: Option<String>,
    /// Whether Central still waits for marks.
    pub healing: bool,
}

/// What is known of the last verification of a store.
#[derive(Clone, Debug)]
pub(crate) enum LastVerify {
    /// Its outcome.
    Known(Receipt),
    /// There is none among so many of the newest facts; older ones were not looked at.
    NoneAmong(u64),
    /// There is none.
    Never,
}

/// What somebody who asked for work is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAnswer {
    /// The job.
    pub job: JobId,
    /// The request.
    pub receipt: ReceiptId,
    /// A stable word.
    pub answer_code: String,
    /// The sentence.
    pub answer: String,
    /// `local` until the gateway has it, then `replicated`.
    pub standing: &'static str,
    /// Whether it was asked before.
    pub repeated: bool,
}

/// What somebody who appended is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendAnswer {
    /// The receipt.
    pub receipt: Receipt,
    /// Whether it was said before.
    pub repeated: bool,
    /// `local` until another machine has it, then `replicated`.
    pub standing: &'static str,
}

impl Machine {
    /// Opens the store of a directory.
    ///
    /// # Errors
    /// [`ServerError::Ledger`].
    pub fn open(dir: &Path, config: Config) -> Result<Arc<Self>, ServerError> {
        Self::opened(dir, config, Ledger::open)
    }

    /// Opens a store that lost the end of what it wrote, to take it back.
    ///
    /// # Errors
    /// [`ServerError::Ledger`].
    pub(crate) fn open_behind(dir: &Path, config: Config) -> Result<Arc<Self>, ServerError> {
        Self::opened(dir, config, Ledger::open_behind)
    }

    fn opened(dir: &Path, config: Config, open: Open) -> Result<Arc<Self>, ServerError> {
        let central = Central::new(&config);
        let options = OpenOptions::default().batch_hook(central.batch_hook());
        let ledger: Ledger<FleetState> = open(&Paths::new(dir), options)?;
        let mut boot = [0; 16];
        SystemEntropy.fill(&mut boot);
        let (changed, _) = watch::channel(ledger.snapshot().end);
        let wake = changed.clone();
        ledger.on_commit(move |end| {
            wake.send_replace(end);
        });
        let link = LinkView {
            gateway: config.gateway.clone(),
            ..LinkView::default()
        };
        Ok(Arc::new(Self {
            vault: VaultReader::open(&ledger)?,
            gateway: ledger.written_logs().contains_key(&Stream::Order),
            marks: Arc::new(Marks::open(&ledger.paths().keys())),
            outbox: Outbox::default(),
            ledger,
            config,
            boot: data_encoding::HEXLOWER.encode(&boot),
            process: boot,
            central,
            gauges: RwLock::default(),
            link: Mutex::new(link),
            verified: Mutex::default(),
            short_of_disk: Mutex::default(),
            resting: Mutex::default(),
            changed,
            offered: Offered::default(),
            upstream: OnceLock::new(),
        }))
    }

    /// Whether this store writes the order.
    pub fn is_gateway(&self) -> bool {
        self.gateway
    }

    /// Which set of logs it writes, from 1 on.
    pub(crate) fn incarnation(&self) -> u32 {
        let snapshot = self.ledger.snapshot();
        let own = self.ledger.own_log(Stream::Work);
        own.and_then(|log| snapshot.logs.get(&log).map(|chain| chain.genesis().incarnation))
            .unwrap_or(1)
    }

    /// Whether this store followed the order further than it counts, so that it is to be opened again, which folds everything
    /// anew.
    pub(crate) fn is_to_be_folded_again(&self) -> bool {
        self.ledger.snapshot().state.begin_again().is_some()
    }

    /// This machine's name.
    pub fn id(&self) -> &MachineId {
        &self.ledger.context().machine
    }

    /// Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.ledger.clock().now_us()
    }

    /// Tells the end of the store after each durable batch.
    pub fn changed(&self) -> watch::Receiver<Position> {
        self.changed.subscribe()
    }

    /// The last gauges of a machine that came in with a pulse.
    pub fn gauges(&self, machine: &MachineId) -> Option<Gauges> {
        self.gauges.read().expect("gauges lock").get(machine).cloned()
    }

    pub(crate) fn set_gauges(&self, machine: &MachineId, gauges: Gauges) {
        self.gauges
            .write()
            .expect("gauges lock")
            .insert(machine.clone(), gauges);
    }

    /// How this machine stands with its gateway, without what waits in its outbox.
    pub(crate) fn link_without_outbox(&self) -> LinkView {
        let mut view = self.link.lock().expect("link lock").clone();
        view.frozen = self.central.frozen();
        view.healing = self.central.healing();
        view
    }

    /// How this machine stands with its gateway. Reads what came into the outbox since the last time, the first time all of it:
    /// blocks.
    pub fn link(&self) -> LinkView {
        let mut view = self.link_without_outbox();
        if !self.is_gateway() {
            match self.outbox.waiting(self) {
                Ok(waiting) => {
                    view.outbox_receipts = waiting.receipts;
                    view.outbox_bytes = waiting.bytes;
                    view.outbox_oldest_us = waiting.oldest_us;
                    view.acknowledged = waiting.acknowledged;
                }
                Err(e) => tracing::warn!(code = e.code(), error = %e, "the outbox cannot be counted"),
            }
        }
        view
    }

    /// The gateway as this machine's daemon dials it; nobody on a gateway, or on a store without a daemon.
    pub(crate) fn upstream(&self) -> Option<&Arc<Signed>> {
        self.upstream.get()
    }

    pub(crate) fn set_upstream(&self, gateway: &Arc<Signed>) {
        self.upstream.get_or_init(|| Arc::clone(gateway));
    }

    pub(crate) fn set_link(&self, change: impl FnOnce(&mut LinkView)) {
        change(&mut self.link.lock().expect("link lock"));
    }

    /// The last verification, as far as this process ran, found or looked for one.
    pub(crate) fn last_verify(&self) -> Option<LastVerify> {
        self.verified.lock().expect("verified lock").clone()
    }

    /// A verification came to its end.
    pub(crate) fn set_verified(&self, receipt: Receipt) {
        *self.verified.lock().expect("verified lock") = Some(LastVerify::Known(receipt));
    }

    /// Notes what a search for an earlier one found, unless one came to its end meanwhile.
    pub(crate) fn found_verified(&self, found: LastVerify) -> LastVerify {
        let mut verified = self.verified.lock().expect("verified lock");
        verified.get_or_insert(found).clone()
    }

    /// Takes a look at the disk: its free bytes and its size, the size 0 when it could not be read.
    pub(crate) fn note_disk(&self, free: u64, total: u64) {
        let reserve = self.config.disk.reserve_bytes(total);
        let short = (total > 0 && free < reserve).then_some((free, reserve));
        let before = std::mem::replace(&mut *self.short_of_disk.lock().expect("disk lock"), short);
        match (before, short) {
            (None, Some((free, reserve))) => {
                tracing::error!(
                    free,
                    reserve,
                    "the disk is down to its reserve; no new work is taken"
                );
            }
            (Some(_), None) => tracing::info!(free, "the disk has room again"),
            _ => {}
        }
    }

    /// Whether new work is taken here.
    ///
    /// # Errors
    /// [`ServerError::DiskReserve`] while the disk is down to its reserve.
    pub(crate) fn has_room(&self) -> Result<(), ServerError> {
        match *self.short_of_disk.lock().expect("disk lock") {
            Some((free, reserve)) => Err(ServerError::DiskReserve {
                free_mib: free >> 20,
                reserve_mib: reserve >> 20,
            }),
            None => Ok(()),
        }
    }

    /// Since when the machine sleeps by its own word, by the clock that counts sleep, milliseconds.
    pub(crate) fn resting(&self) -> Option<u64> {
        *self.resting.lock().expect("resting lock")
    }

    /// Notes that the machine sleeps since then, or no more; what was noted before.
    pub(crate) fn rest(&self, since_ms: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.resting.lock().expect("resting lock"), since_ms)
    }
}
