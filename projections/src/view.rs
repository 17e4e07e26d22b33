//! What can be asked of the fleet's state. Nothing here changes it.

use crate::fleet::FleetState;
use crate::members::{CredentialRow, Invitation, Machine};
use crate::notices::Notice;
use crate::order::{Designation, EpochRow, LogRow, Order, Pin};
use crate::queue::{Claim, Handler, Job, Phase, Queue, RunVerdict, Standing};
use crate::runs::{Run, Staged};
use ledger::StateContext;
use ledger_core::kinds::{Credential, Fence, InadmissibleReason, JobId, Role};
use ledger_core::{LogId, MachineId, PublicKey, ReceiptId, Statement, Stream};

impl FleetState {
    /// What the state knows about its store.
    pub fn context(&self) -> &StateContext {
        &self.context
    }

    /// The fleet's order as folded so far; absent in a store that has none.
    pub fn order(&self) -> Option<&Order> {
        self.order.order.get()
    }

    /// The epochs, their order logs and where those end.
    pub fn epochs(&self) -> impl DoubleEndedIterator<Item = (&u64, &EpochRow)> {
        self.order.epochs.iter()
    }

    /// Who may write the order, by the id of the designation.
    pub fn designations(&self) -> impl Iterator<Item = (&ReceiptId, &Designation)> {
        self.order.designations.iter()
    }

    /// The machine that writes the order now.
    pub fn central(&self) -> Option<&MachineId> {
        self.order().map(|order| &order.central)
    }

    /// Whether this store's machine writes the order now.
    pub fn is_central(&self) -> bool {
        self.order()
            .is_some_and(|order| order.central_key == self.context.machine_key)
    }

    /// The fleet's root key, once the order is founded here.
    pub fn root_key(&self) -> Option<PublicKey> {
        self.order().map(|order| order.founding.root_key)
    }

    /// How far the order has taken in a log.
    pub fn pin(&self, log: &LogId) -> Option<&Pin> {
        self.order.pins.get(log)
    }

    /// What a log's genesis says, for a log of this store.
    pub fn log(&self, log: &LogId) -> Option<&LogRow> {
        self.order.logs.get(log)
    }

    /// Every log of this store.
    pub fn logs(&self) -> impl Iterator<Item = (&LogId, &LogRow)> {
        self.order.logs.iter()
    }

    /// The newest log of a machine key and stream: by the genesis in this store, else as it joined.
    pub fn log_of(&self, machine_key: &PublicKey, stream: Stream) -> Option<LogId> {
        let newest = self
            .order
            .streams
            .range((*machine_key, stream, 0)..=(*machine_key, stream, u32::MAX))
            .next_back()
            .map(|(_, log)| *log);
        newest.or_else(|| {
            let [work, facts, pulse] = self.machine_by_key(machine_key)?.logs?;
            match stream {
                Stream::Work => Some(work),
                Stream::Facts => Some(facts),
                Stream::Pulse => Some(pulse),
                Stream::Order => None,
            }
        })
    }

    /// Whether a log is one that a machine writes or wrote under its present key: as it joined with it, or a later one whose
    /// genesis is in this store.
    pub fn writes(&self, machine: &Machine, log: &LogId) -> bool {
        let joined_with = machine.logs.is_some_and(|logs| logs.contains(log));
        joined_with
            || self.log(log).is_some_and(|row| {
                row.machine_key == machine.machine_key
                    && row.machine == machine.id
                    && row.stream != Stream::Order
            })
    }

    /// The logs that a machine writes or wrote under its present key, as far as they are known here.
    pub fn logs_of(&self, machine: &Machine) -> impl Iterator<Item = LogId> {
        let of = |(log, _): &(&LogId, _)| {
            !machine.logs.is_some_and(|logs| logs.contains(log)) && self.writes(machine, log)
        };
        let later = self.order.logs.iter().filter(of).map(|(log, _)| *log);
        machine.logs.into_iter().flatten().chain(later)
    }

    /// This store's own newest log of a stream.
    pub fn own_log(&self, stream: Stream) -> Option<LogId> {
        self.log_of(&self.context.machine_key, stream)
    }

    /// A machine of the fleet.
    pub fn machine(&self, machine: &MachineId) -> Option<&Machine> {
        self.members.machines.get(machine)
    }

    /// The machines of the fleet, by name.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.members.machines.iter().map(|(_, machine)| machine)
    }

    /// The machine of a machine key.
    pub fn machine_by_key(&self, key: &PublicKey) -> Option<&Machine> {
        self.members
            .by_key
            .get(key)
            .and_then(|machine| self.machine(machine))
    }

    /// What a key or token was granted.
    pub fn credential(&self, credential: &Credential) -> Option<&CredentialRow> {
        self.members.credentials.get(credential)
    }

    /// All keys and tokens.
    pub fn credentials(&self) -> impl Iterator<Item = (&Credential, &CredentialRow)> {
        self.members.credentials.iter()
    }

    /// The strongest role of a credential that is in force at `now`, microseconds since 1970.
    pub fn role_of(&self, credential: &Credential, now: i64) -> Option<Role> {
        self.members.role_of(credential, now)
    }

    /// What people call the holder of a key: the grant's name, the machine's, `root`, or the key's beginning.
    pub fn name_of(&self, key: &PublicKey) -> String {
        if let Some(machine) = self.machine_by_key(key) {
            return machine.id.to_string();
        }
        if let Some(name) = self
            .credential(&Credential::Key(*key))
            .and_then(CredentialRow::name)
        {
            return name.to_owned();
        }
        if self.root_key() == Some(*key) {
            return "root".to_owned();
        }
        let own = self
            .order
            .streams
            .range((*key, Stream::Work, 0)..)
            .next()
            .filter(|((of, ..), _)| of == key);
        match own.and_then(|(_, log)| self.log(log)) {
            Some(log) => log.machine.to_string(),
            None => key.short(),
        }
    }

    /// Whether an author may say this in a stream. `own_log`: the author is the machine whose log it is or will be;
    /// `now` is in microseconds since 1970.
    ///
    /// # Errors
    /// [`InadmissibleReason`]: the record would be kept and inert.
    pub fn authorise(
        &self,
        statement: &Statement,
        stream: Stream,
        own_log: bool,
        now: i64,
    ) -> Result<(), InadmissibleReason> {
        let root = self.root_key() == Some(statement.author);
        self.members.authorise(statement, stream, root, own_log, now)
    }

    /// The invitation of a code, by the code's digest.
    pub fn invitation(&self, code: &[u8; 32]) -> Option<&Invitation> {
        self.members.invitations.get(code)
    }

    /// A machine's declaration of a handler.
    pub fn handler(&self, machine: &MachineId, handler: &str) -> Option<&Handler> {
        self.queue.handlers.get(&(machine.clone(), handler.to_owned()))
    }

    /// All declarations, by machine and handler.
    pub fn handlers(&self) -> impl Iterator<Item = (&(MachineId, String), &Handler)> {
        self.queue.handlers.iter()
    }

    /// Who came and went, and when.
    pub(crate) fn presence(&self) -> &crate::uptime::Presence {
        &self.presence
    }

    /// What the operator wishes about a machine, and its boot; absent until the order told any such thing of it.
    pub fn watched(&self, machine: &MachineId) -> Option<&crate::uptime::Watched> {
        self.presence.of(machine)
    }

    /// The queue with all its questions.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// A job.
    pub fn job(&self, job: &JobId) -> Option<&Job> {
        self.queue.job(job)
    }

    /// All jobs in the order of their acceptance.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.queue.jobs()
    }

    /// The jobs in a state, in the order of their acceptance.
    pub fn jobs_in(&self, phase: Phase) -> impl DoubleEndedIterator<Item = &Job> {
        self.queue.jobs_in(phase)
    }

    /// The jobs that a machine holds a claim for, leased or suspect.
    pub fn jobs_on<'a>(&'a self, machine: &'a MachineId) -> impl Iterator<Item = &'a Job> {
        self.queue.jobs_on(machine)
    }

    /// A claim that was once given.
    pub fn fence(&self, fence: &Fence) -> Option<&Claim> {
        self.queue.claims.get(fence)
    }

    /// The claim that a machine made under an id of its own.
    pub fn claim_of(&self, machine: &MachineId, claim: &[u8; 16]) -> Option<Fence> {
        self.queue.claim_of(machine, claim)
    }

    /// What a claim is worth now.
    pub fn standing(&self, fence: &Fence) -> Standing {
        self.queue.standing(fence)
    }

    /// The final verdict on a report under a claim, when it has one.
    pub fn verdict(&self, fence: &Fence, report: &ReceiptId) -> Option<RunVerdict> {
        self.queue.verdict(fence, report)
    }

    /// All notices by id.
    pub fn notices(&self) -> impl Iterator<Item = (&ReceiptId, &Notice)> {
        self.notices.notices.iter()
    }

    /// Whether a machine is away by its own word.
    pub fn is_asleep(&self, machine: &MachineId) -> bool {
        self.presence.asleep(machine).is_some()
    }

    /// A notice.
    pub fn notice(&self, notice: &ReceiptId) -> Option<&Notice> {
        self.notices.notices.get(notice)
    }

    /// The notices of which somebody is still to be told, or was not told and has not seen them; in no order of time.
    pub fn open_notices(&self) -> impl Iterator<Item = (&ReceiptId, &Notice)> {
        self.notices.open()
    }

    /// Whether a notice is one of these.
    pub fn is_open_notice(&self, id: &ReceiptId) -> bool {
        self.notices.is_open(id)
    }

    /// This machine's own runs that have no final verdict yet: going on, or ended and still to be judged.
    pub fn runs(&self) -> impl Iterator<Item = (&Fence, &Run)> {
        self.runs.runs.iter()
    }

    /// The own run under a claim.
    pub fn run(&self, fence: &Fence) -> Option<&Run> {
        self.runs.runs.get(fence)
    }

    /// The outputs that an own run staged, by their seq in the work log.
    pub fn staged(&self, fence: &Fence) -> impl Iterator<Item = (u64, &Staged)> {
        self.runs
            .staged
            .range((*fence, 0)..=(*fence, u64::MAX))
            .map(|((_, seq), staged)| (*seq, staged))
    }
}
