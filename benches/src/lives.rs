//! An order full of job lives, made in memory by the very deciders that Central uses: what a replay folds.
//!
//! One gateway and two machines. Nine jobs in ten succeed, one fails once and is tried again, and now and then a lease runs out;
//! 32 are open at a time. Requests stand in a facts log that the order pins, as relays hand them in, or in the order itself,
//! where the fold proves each author's signature. Seals carry no real log signature: no fold looks at one.

mod log;

use self::log::{Log, outside};
use crate::Failed;
use ledger::core::kinds::{
    CentralDesignated, Class, Costs, Credential, ErrorClass, Fence, Founding, HandlerDeclared, JobId,
    JobSpec, KeyGranted, KeyInvited, KeyJoined, LogGenesis, Outputs, PinnedRange, RequestReceived, Role,
    RunFailed, RunStarted, RunSucceeded,
};
use ledger::core::{
    ContentDigest, Detail, Draft, Hlc, LogId, MachineId, ReceiptId, Record, SealDigest, Signature,
    SigningKey, Stream, Subject, digest, signature,
};
use ledger::{Changes, Position, Receipt, State, StateContext};
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};
use ledger_projections::{FleetState, Policy, members, order};
use std::sync::Arc;

/// Jobs that are open at a time.
const OPEN: usize = 32;
/// One job in so many fails once, and one lease in so many runs out.
const FAILS_EVERY: usize = 10;
const EXPIRES_EVERY: usize = 50;
const START_US: i64 = 1_750_000_000_000_000;
const TERM_MS: u32 = 60_000;

/// Where requests stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requests {
    /// In a machine's facts log: the order names them.
    Relayed,
    /// In the order itself, signed by an actor.
    InOrder,
}

/// Receipts of an order and the state that they came to while they were made.
pub struct Lives {
    /// Everything that is folded: geneses and the order.
    pub receipts: Vec<Receipt>,
    /// What the fold came to.
    pub state: FleetState,
    /// Whose store it is.
    pub context: StateContext,
    /// Jobs.
    pub jobs: usize,
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeds,
    FailsOnce,
    SucceedsLate,
}

impl End {
    fn of(n: usize) -> Self {
        if n % EXPIRES_EVERY == EXPIRES_EVERY / 2 {
            Self::SucceedsLate
        } else if n.is_multiple_of(FAILS_EVERY) {
            Self::FailsOnce
        } else {
            Self::Succeeds
        }
    }
}

struct Node {
    id: MachineId,
    work: Log,
    claims: u64,
}

struct World {
    now: i64,
    ids: u64,
    context: StateContext,
    state: FleetState,
    root: Arc<SigningKey>,
    operator: Arc<SigningKey>,
    order: Log,
    facts: Log,
    nodes: Vec<Node>,
    folded: Vec<Receipt>,
    policy: Policy,
}

/// Makes so many jobs live.
///
/// # Errors
/// When a decider refuses, which for these inputs it does not.
pub fn make(jobs: usize, requests: Requests) -> Result<Lives, Failed> {
    let mut world = World::founded()?;
    let mut done = 0;
    while done < jobs {
        let count = OPEN.min(jobs - done);
        world.round(done, count, requests)?;
        done += count;
    }
    let inert = world.state.order().map_or(0, |order| order.inert);
    if inert > 0 {
        return Err(format!("{inert} decisions changed nothing").into());
    }
    Ok(Lives {
        receipts: world.folded,
        state: world.state,
        context: world.context,
        jobs,
    })
}

fn key(seed: u8) -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed([seed; 32]))
}

fn machine(name: &str) -> Result<MachineId, Failed> {
    Ok(MachineId::new(name)?)
}

impl World {
    fn founded() -> Result<Self, Failed> {
        let (root, gateway, operator) = (key(1), key(2), key(3));
        let (recovery, nonce) = (key(4).public(), [9; 16]);
        let context = StateContext {
            fleet: digest::fleet_id(&root.public().0, &recovery.0, &nonce),
            machine: machine("gateway")?,
            machine_key: gateway.public(),
        };
        let blank = |key: &Arc<SigningKey>| Log {
            id: LogId([0; 32]),
            key: Arc::clone(key),
            next: 0,
            last: SealDigest::ZERO,
            time: Hlc::default(),
        };
        let mut world = Self {
            now: START_US,
            ids: 0,
            state: FleetState::empty(&context),
            context,
            order: blank(&gateway),
            facts: blank(&gateway),
            root,
            operator,
            nodes: Vec::new(),
            folded: Vec::new(),
            // What fails is tried again at once, so that the mill never stands still.
            policy: Policy {
                backoff_first_ms: 0,
                ..Policy::default()
            },
        };
        let founding = Founding {
            root_key: world.root.public(),
            recovery_key: recovery,
            nonce,
        };
        world.order = world.open_log(&gateway, "gateway", Stream::Order, Some(founding))?;
        world.facts = world.open_log(&gateway, "gateway", Stream::Facts, None)?;
        world.rooted(&CentralDesignated {
            machine: machine("gateway")?,
            machine_key: gateway.public(),
            epoch_first: 1,
            epoch_last: 64,
        })?;
        let operator = world.operator.public();
        for (credential, role, name) in [
            (gateway.public(), Role::Central, "gateway"),
            (operator, Role::Operator, "operator"),
        ] {
            world.rooted(&KeyGranted {
                credential: Credential::Key(credential),
                name: name.into(),
                role,
                machine: Some(machine("gateway")?),
                may: Vec::new(),
                until: None,
            })?;
        }
        world.join("studio", 20)?;
        world.join("mini", 30)?;
        Ok(world)
    }

    fn join(&mut self, name: &str, seed: u8) -> Result<(), Failed> {
        let code = [seed; 16];
        let invitation = self.rooted(&KeyInvited {
            role: Role::Node,
            machine: None,
            code: digest::secret_digest(&code),
            until: self.now + 600_000_000,
        })?;
        let (own, actor) = (key(seed), key(seed + 1));
        let id = machine(name)?;
        let work = self.open_log(&own, name, Stream::Work, None)?;
        let facts = self.open_log(&own, name, Stream::Facts, None)?;
        let pulse = self.open_log(&own, name, Stream::Pulse, None)?;
        let unsigned = Signature([0; 64]);
        let mut joined = KeyJoined {
            invitation,
            machine: id.clone(),
            role: Role::Node,
            machine_key: own.public(),
            witness_key: key(seed + 2).public(),
            actor_key: actor.public(),
            logs: [work.id, facts.id, pulse.id],
            machine_proof: unsigned,
            actor_proof: unsigned,
        };
        let proof = joined.proof_digest();
        joined.machine_proof = signature::sign_join(&own, &proof);
        joined.actor_proof = signature::sign_join(&actor, &proof);
        let drafts = members::join(&self.state, &code, &joined, self.now)?;
        self.decide(drafts)?;
        let declared = [HandlerDeclared {
            machine: id.clone(),
            handler: "render".into(),
            class: Class::Heavy,
            labels: Vec::new(),
            slots: 32,
        }];
        let drafts = decide::handler_declared(&self.state, &id, &declared)?;
        self.decide(drafts)?;
        self.nodes.push(Node { id, work, claims: 0 });
        Ok(())
    }

    fn fresh_id(&mut self) -> Result<ReceiptId, Failed> {
        self.ids += 1;
        let bytes = digest::content_digest(&self.ids.to_be_bytes()).0;
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        Ok(ReceiptId::v7(u64::try_from(self.now / 1000)?, random))
    }

    // Opens a log and folds its genesis.
    fn open_log(
        &mut self,
        key: &Arc<SigningKey>,
        name: &str,
        stream: Stream,
        founding: Option<Founding>,
    ) -> Result<Log, Failed> {
        let genesis = LogGenesis {
            machine: machine(name)?,
            stream,
            incarnation: 1,
            machine_key: key.public(),
            checkpoint_key: SigningKey::from_seed([200; 32]).public(),
            predecessor: None,
            founding,
            nonce: [0; 16],
        };
        let draft = Draft::of(&genesis, Subject::new("log")?);
        let id = self.fresh_id()?;
        let said = draft.into_statement(self.context.fleet, key.public(), id, self.now, [0; 32])?;
        let mut log = Log {
            id: digest::log_id(&said.bytes),
            key: Arc::clone(key),
            next: 0,
            last: SealDigest::ZERO,
            time: Hlc::default(),
        };
        let record = log.seal(said.statement, &said.bytes, said.digest, None, self.now)?;
        self.fold(record)?;
        Ok(log)
    }

    fn fold(&mut self, record: Record) -> Result<Receipt, Failed> {
        let offset = u32::try_from(self.folded.len())? + 1;
        let receipt = Receipt {
            position: Position { segment: 1, offset },
            record: Arc::new(record),
        };
        self.state.fold(&receipt, &mut Changes::discarding());
        self.folded.push(receipt.clone());
        Ok(receipt)
    }

    // Seals what an author says in the order, and folds it.
    fn say(&mut self, draft: Draft, author: &SigningKey) -> Result<Receipt, Failed> {
        let id = self.fresh_id()?;
        let said = draft.into_statement(self.context.fleet, author.public(), id, self.now, [7; 32])?;
        let own = author.public() == self.order.key.public();
        let by = (!own).then(|| signature::sign_statement(author, &said.digest));
        let record = self
            .order
            .seal(said.statement, &said.bytes, said.digest, by, self.now)?;
        self.fold(record)
    }

    fn decide(&mut self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, Failed> {
        let central = Arc::clone(&self.order.key);
        drafts
            .into_iter()
            .map(|draft| self.say(draft, &central))
            .collect()
    }

    fn rooted<D: Detail>(&mut self, detail: &D) -> Result<ReceiptId, Failed> {
        let root = Arc::clone(&self.root);
        Ok(self.say(Draft::of(detail, Subject::new("root")?), &root)?.id())
    }

    // Some jobs from their requests to their ends.
    fn round(&mut self, first: usize, count: usize, requests: Requests) -> Result<(), Failed> {
        self.now += 1_000_000;
        for n in first..first + count {
            self.submit(n, requests)?;
        }
        let ends = (first..first + count).map(End::of).collect();
        let mut again = self.run(ends)?;
        // What failed comes back, and succeeds.
        while again > 0 {
            self.now += 60_000_000;
            again = self.run(vec![End::Succeeds; again])?;
        }
        Ok(())
    }

    fn submit(&mut self, n: usize, requests: Requests) -> Result<(), Failed> {
        let spec = JobSpec {
            handler: "render".into(),
            machine: None,
            labels: Vec::new(),
            priority: i16::try_from(n % 3)?,
            attempts_max: 3,
            not_before: None,
            deadline: n.is_multiple_of(4).then_some(self.now + 86_400_000_000),
            unique_key: (n % 4 == 1).then(|| format!("scene-{n}")),
            concurrency_key: None,
            depends_on: Vec::new(),
            hold_on_failed_dependency: false,
            retry_of: None,
            input: None,
        };
        let draft = Draft::of(&RequestReceived { spec }, Subject::new("request")?);
        let operator = Arc::clone(&self.operator);
        let request = match requests {
            Requests::InOrder => self.say(draft, &operator)?,
            Requests::Relayed => {
                let id = self.fresh_id()?;
                let said =
                    draft.into_statement(self.context.fleet, operator.public(), id, self.now, [7; 32])?;
                let by = signature::sign_statement(&operator, &said.digest);
                let record = self
                    .facts
                    .seal(said.statement, &said.bytes, said.digest, Some(by), self.now)?;
                outside(record)
            }
        };
        let drafts = decide::accept_request(&self.state, &request, self.now, &self.policy)?;
        self.decide(drafts)?;
        Ok(())
    }

    // Both machines claim what is ready, work, and hand in; tells how many jobs are ready again.
    fn run(&mut self, ends: Vec<End>) -> Result<usize, Failed> {
        let mut held: Vec<(usize, Fence, JobId)> = Vec::new();
        for n in 0..ends.len() {
            let node = n % self.nodes.len();
            if let Some((fence, job)) = self.claim(node)? {
                held.push((node, fence, job));
            }
        }
        let started = |&(_, fence, job): &(usize, Fence, JobId)| RunStarted {
            job,
            fence,
            handler: "render".into(),
            attempt: 1,
        };
        let mut reports = Vec::new();
        for run in &held {
            reports.push((run.0, self.work(run.0, &started(run))?));
        }
        self.push(&reports)?;
        self.now += 5_000_000;
        let mut reports = Vec::new();
        for ((node, fence, job), end) in held.into_iter().zip(ends) {
            if end == End::SucceedsLate {
                let drafts = decide::expire_lease(&self.state, &job, &fence, self.now, &self.policy)?;
                self.decide(drafts)?;
            }
            let report = if end == End::FailsOnce {
                let failed = RunFailed {
                    job,
                    fence,
                    error: ErrorClass::ExitStatus,
                    status: Some(1),
                    permanent: false,
                    costs: Costs::default(),
                };
                self.work(node, &failed)?
            } else {
                let result = digest::content_digest(&fence.seq.to_be_bytes()).0;
                let outputs = Outputs {
                    manifest: result,
                    count: 1,
                };
                let succeeded = RunSucceeded {
                    job,
                    fence,
                    result: ContentDigest(result),
                    outputs,
                    costs: Costs::default(),
                };
                self.work(node, &succeeded)?
            };
            reports.push((node, report));
        }
        self.push(&reports)?;
        Ok(self.state.queue().ready_len())
    }

    fn claim(&mut self, node: usize) -> Result<Option<(Fence, JobId)>, Failed> {
        let node = &mut self.nodes[node];
        node.claims += 1;
        let mut claim = [0; 16];
        let bytes = digest::content_digest(&node.claims.to_be_bytes()).0;
        claim.copy_from_slice(&bytes[..16]);
        let command = ClaimCommand {
            machine: node.id.clone(),
            incarnation: 1,
            claim,
            free: vec![("render".into(), 32)],
            term_ms: TERM_MS,
            now: self.now,
        };
        let ClaimDecision::Claim(draft) = decide::claim(&self.state, &command, &self.policy)? else {
            return Ok(None);
        };
        let receipt = self.decide(vec![draft])?.remove(0);
        let fence = Fence::of_claim(1, receipt.seq(), &receipt.seal_digest());
        let job = self.state.fence(&fence).ok_or("the claim is folded")?.job;
        Ok(Some((fence, job)))
    }

    fn work<D: Detail>(&mut self, node: usize, detail: &D) -> Result<Receipt, Failed> {
        let id = self.fresh_id()?;
        let (fleet, now) = (self.context.fleet, self.now);
        let log = &mut self.nodes[node].work;
        let said = Draft::of(detail, Subject::new("run")?).into_statement(
            fleet,
            log.key.public(),
            id,
            now,
            [7; 32],
        )?;
        Ok(outside(log.seal(
            said.statement,
            &said.bytes,
            said.digest,
            None,
            now,
        )?))
    }

    // The gateway pins what the machines handed in and judges it.
    fn push(&mut self, reports: &[(usize, Receipt)]) -> Result<(), Failed> {
        let ranges: Vec<PinnedRange> = (0..self.nodes.len())
            .filter_map(|node| {
                let mut of = reports.iter().filter(|(at, _)| *at == node).map(|(_, r)| r);
                let first = of.next()?;
                let last = of.next_back().unwrap_or(first);
                Some(PinnedRange {
                    log: first.log(),
                    first: first.seq(),
                    last: last.seq(),
                    seal: last.seal_digest(),
                    root: None,
                })
            })
            .collect();
        self.decide(order::pin(&ranges))?;
        for (node, report) in reports {
            let machine = self.nodes[*node].id.clone();
            let drafts = decide::report(&self.state, report, &machine, self.now, &self.policy)?;
            self.decide(drafts)?;
        }
        Ok(())
    }
}
