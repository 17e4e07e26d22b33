//! A fleet in memory: three machines with real keys and logs, the gateway's store as a list of receipts.
//!
//! Drafts are sealed with core's own types, so that everything that is folded is a receipt as the engine would write it.
//! Nodes keep an outbox: what they did reaches the gateway when a test says so.

use ledger::{Change, Changes, Position, Receipt, Row, State, StateContext};
use ledger_core::kinds::*;
use ledger_core::{
    ContentDigest, Detail, Draft, FleetId, Hlc, LogId, MachineId, PublicKey, ReceiptId, Record, Seal,
    SealDigest, SigningKey, Stream, Subject, digest, signature,
};
use ledger_projections::projection::{Kept, ReceiptSource, RowStore, SourceError};
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};
use ledger_projections::table::RunningDigest;
use ledger_projections::{FleetState, Place, Policy, members, order};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

pub(crate) fn machine(name: &str) -> MachineId {
    MachineId::new(name).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

/// A log and the key that signs it.
struct Log {
    key: Arc<SigningKey>,
    id: LogId,
    receipts: Vec<Receipt>,
}

/// A node: what it holds and what it has not sent yet.
pub(crate) struct Node {
    pub(crate) id: MachineId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) actor: Arc<SigningKey>,
    pub(crate) logs: [LogId; 3],
    pub(crate) outbox: VecDeque<Receipt>,
    pub(crate) held: BTreeMap<Fence, Held>,
    claims: u64,
}

/// A claim as its node knows it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) job: JobId,
    pub(crate) started: bool,
    pub(crate) ended: Option<ReceiptId>,
}

/// The whole fleet.
pub(crate) struct World {
    pub(crate) now: i64,
    ids: u64,
    pub(crate) fleet: FleetId,
    pub(crate) root: Arc<SigningKey>,
    pub(crate) context: StateContext,
    pub(crate) state: FleetState,
    pub(crate) journal: Vec<Receipt>,
    pub(crate) rows: BTreeMap<(u16, Vec<u8>), Vec<u8>>,
    pub(crate) digest: RunningDigest,
    logs: BTreeMap<LogId, Log>,
    pub(crate) order: LogId,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) policy: Policy,
    /// What every run costs from here on.
    pub(crate) costs: Costs,
    /// Compare the state with the one loaded from rows after every receipt.
    pub(crate) check_every_prefix: bool,
}

impl World {
    /// The gateway alone, founded.
    pub(crate) fn founded() -> Self {
        let (root, gateway, operator) = (Arc::new(key(1)), Arc::new(key(2)), Arc::new(key(3)));
        let recovery = key(4).public();
        let nonce = [9; 16];
        let fleet = digest::fleet_id(&root.public().0, &recovery.0, &nonce);
        let context = StateContext {
            fleet,
            machine: machine("gateway"),
            machine_key: gateway.public(),
        };
        let mut world = Self {
            now: 1_750_000_000 * SECOND,
            ids: 0,
            fleet,
            state: FleetState::empty(&context),
            context,
            journal: Vec::new(),
            rows: BTreeMap::new(),
            digest: RunningDigest::default(),
            logs: BTreeMap::new(),
            order: LogId([0; 32]),
            nodes: BTreeMap::new(),
            policy: Policy::default(),
            costs: Costs::default(),
            check_every_prefix: false,
            root,
        };
        let founding = Founding {
            root_key: world.root.public(),
            recovery_key: recovery,
            nonce,
        };
        world.order = world
            .open_log(&gateway, "gateway", Stream::Order, Some(founding))
            .0;
        let streams = [Stream::Work, Stream::Facts, Stream::Pulse];
        let logs = streams.map(|stream| world.open_log(&gateway, "gateway", stream, None).0);
        let node = Node {
            id: machine("gateway"),
            key: gateway.clone(),
            actor: operator.clone(),
            logs,
            outbox: VecDeque::new(),
            held: BTreeMap::new(),
            claims: 0,
        };
        world.nodes.insert("gateway".into(), node);
        let receipts: Vec<Receipt> = world.logs.values().flat_map(|log| log.receipts.clone()).collect();
        for receipt in receipts {
            world.take(receipt);
        }
        world.rooted(&CentralDesignated {
            machine: machine("gateway"),
            machine_key: gateway.public(),
            epoch_first: 1,
            epoch_last: 64,
        });
        for (key, role, name) in [
            (gateway.public(), Role::Central, "gateway"),
            (operator.public(), Role::Operator, "operator"),
        ] {
            world.rooted(&KeyGranted {
                credential: Credential::Key(key),
                name: name.into(),
                role,
                machine: Some(machine("gateway")),
                may: Vec::new(),
                until: None,
            });
        }
        world
    }

    /// The gateway with studio and mini joined, and the handlers of the tests: `tidy` (light, everywhere), `render`
    /// (heavy, on studio, mini as backup), `pay` (exclusive, on studio and mini).
    pub(crate) fn studio() -> Self {
        let mut world = Self::founded();
        world.join("studio", 20);
        world.join("mini", 30);
        world.declare("gateway", &[("tidy", Class::Light, &[])]);
        world.declare(
            "studio",
            &[
                ("pay", Class::Exclusive, &[]),
                ("render", Class::Heavy, &["gpu"]),
                ("tidy", Class::Light, &[]),
            ],
        );
        world.declare(
            "mini",
            &[
                ("pay", Class::Exclusive, &[]),
                ("render", Class::Heavy, &["backup"]),
            ],
        );
        world
    }

    pub(crate) fn declare(&mut self, name: &str, handlers: &[(&str, Class, &[&str])]) {
        let id = machine(name);
        let declared: Vec<HandlerDeclared> = handlers
            .iter()
            .map(|(handler, class, labels)| HandlerDeclared {
                machine: id.clone(),
                handler: (*handler).into(),
                class: *class,
                labels: labels.iter().map(|l| (*l).to_owned()).collect(),
                slots: 2,
            })
            .collect();
        let drafts = decide::handler_declared(&self.state, &id, &declared).unwrap();
        self.decide(drafts);
    }

    fn fresh_id(&mut self) -> ReceiptId {
        self.ids += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.to_be_bytes());
        ReceiptId::v7(u64::try_from(self.now / 1000).unwrap(), random)
    }

    fn open_log(
        &mut self,
        key: &Arc<SigningKey>,
        name: &str,
        stream: Stream,
        founding: Option<Founding>,
    ) -> (LogId, Receipt) {
        let genesis = LogGenesis {
            machine: machine(name),
            stream,
            incarnation: 1,
            machine_key: key.public(),
            checkpoint_key: SigningKey::from_seed([200; 32]).public(),
            predecessor: None,
            founding,
            nonce: [0; 16],
        };
        let draft = Draft::of(&genesis, Subject::new("log").unwrap());
        let id = self.fresh_id();
        let authored = draft
            .into_statement(self.fleet, key.public(), id, self.now, [0; 32])
            .unwrap();
        let log = digest::log_id(&authored.bytes);
        let time = Hlc::from_unix_ms(u64::try_from(self.now / 1000).unwrap());
        let seal = Seal {
            version: 1,
            log,
            seq: 0,
            prev: SealDigest::ZERO,
            time,
            statement: authored.digest,
        };
        let signed = signature::sign_seal(key, &seal.digest());
        let record = Record::assemble(authored.statement, &authored.bytes, None, seal, signed);
        let receipt = Receipt {
            position: Position::START,
            record: Arc::new(record),
        };
        self.logs.insert(
            log,
            Log {
                key: key.clone(),
                id: log,
                receipts: vec![receipt.clone()],
            },
        );
        (log, receipt)
    }

    /// A log whose genesis the gateway has not taken in yet.
    pub(crate) fn foreign_log(
        &mut self,
        key: &Arc<SigningKey>,
        name: &str,
        stream: Stream,
    ) -> (LogId, Receipt) {
        self.open_log(key, name, stream, None)
    }

    /// Seals a draft in a log; signed by `author`, or by nobody when that is the log's own machine.
    pub(crate) fn seal(&mut self, log: LogId, draft: Draft, author: &SigningKey) -> Receipt {
        let id = self.fresh_id();
        self.seal_as(log, draft, author, id)
    }

    /// The same under an id of the author's own choice.
    pub(crate) fn seal_as(
        &mut self,
        log: LogId,
        draft: Draft,
        author: &SigningKey,
        id: ReceiptId,
    ) -> Receipt {
        let authored = draft
            .into_statement(self.fleet, author.public(), id, self.now, [7; 32])
            .unwrap();
        let log = self.logs.get_mut(&log).unwrap();
        let last = log.receipts.last().unwrap();
        let seal = Seal {
            version: 1,
            log: log.id,
            seq: last.seq() + 1,
            prev: last.seal_digest(),
            time: last.time().tick(u64::try_from(self.now / 1000).unwrap()),
            statement: authored.digest,
        };
        let own = author.public() == log.key.public();
        let by = (!own).then(|| signature::sign_statement(author, &authored.digest));
        let signed = signature::sign_seal(&log.key, &seal.digest());
        let record = Record::assemble(authored.statement, &authored.bytes, by, seal, signed);
        let receipt = Receipt {
            position: Position::START,
            record: Arc::new(record),
        };
        log.receipts.push(receipt.clone());
        receipt
    }

    /// The gateway's store takes a receipt in, its own or a foreign one.
    pub(crate) fn take(&mut self, mut receipt: Receipt) -> Receipt {
        let offset = u32::try_from(self.journal.len()).unwrap() + 1;
        receipt.position = Position { segment: 1, offset };
        self.journal.push(receipt.clone());
        let mut changes = Changes::recording();
        self.state.fold(&receipt, &mut changes);
        let changes = changes.take();
        self.digest.absorb(&changes);
        apply(&mut self.rows, &changes);
        if self.check_every_prefix {
            assert_eq!(
                load(&self.context, &self.rows),
                self.state,
                "rows after {}",
                receipt.kind()
            );
        }
        receipt
    }

    pub(crate) fn gateway_key(&self) -> Arc<SigningKey> {
        self.nodes["gateway"].key.clone()
    }

    /// Central writes these into the order; jobs that waited for what thereby ended go on, as they do in the server's commit.
    /// What is returned are the decisions given.
    pub(crate) fn decide(&mut self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let given = self.write(drafts);
        for round in 0.. {
            assert!(round < 100, "what is settled stays so");
            let settled = decide::settle(&self.state, self.now);
            if settled.is_empty() {
                break;
            }
            self.write(settled);
        }
        given
    }

    /// The ticker looks once; tells what it wrote.
    pub(crate) fn tick(&mut self) -> Vec<Receipt> {
        let drafts = decide::due(&self.state, self.now, &self.policy);
        self.decide(drafts)
    }

    fn write(&mut self, drafts: Vec<Draft>) -> Vec<Receipt> {
        let key = self.gateway_key();
        drafts
            .into_iter()
            .map(|draft| {
                let receipt = self.seal(self.order, draft, &key);
                self.take(receipt)
            })
            .collect()
    }

    /// The root says something in the order.
    pub(crate) fn rooted<D: Detail>(&mut self, detail: &D) -> Receipt {
        let root = Arc::clone(&self.root);
        let receipt = self.seal(
            self.order,
            Draft::of(detail, Subject::new("root").unwrap()),
            &root,
        );
        self.take(receipt)
    }

    pub(crate) fn join(&mut self, name: &str, seed: u8) {
        let code = [seed; 16];
        let until = self.now + 10 * MINUTE;
        let invited = KeyInvited {
            role: Role::Node,
            machine: None,
            code: digest::secret_digest(&code),
            until,
        };
        let invitation = self.rooted(&invited).id();
        let (key, actor) = (Arc::new(key(seed)), Arc::new(self::key(seed + 1)));
        let streams = [Stream::Work, Stream::Facts, Stream::Pulse];
        let opened = streams.map(|stream| self.open_log(&key, name, stream, None));
        let logs = [opened[0].0, opened[1].0, opened[2].0];
        let joined = joined(invitation, name, &key, &actor, self::key(seed + 2).public(), logs);
        let drafts = members::join(&self.state, &code, &joined, self.now).unwrap();
        assert_eq!(drafts.len(), 1);
        self.decide(drafts);
        for (_, genesis) in opened {
            self.take(genesis);
        }
        let node = Node {
            id: machine(name),
            key,
            actor,
            logs,
            outbox: VecDeque::new(),
            held: BTreeMap::new(),
            claims: 0,
        };
        self.nodes.insert(name.into(), node);
    }

    /// A request by the operator, handed to Central.
    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        self.submit_for(spec, None)
    }

    /// The same for a project.
    pub(crate) fn submit_for(&mut self, spec: JobSpec, project: Option<&str>) -> JobId {
        let operator = self.nodes["gateway"].actor.clone();
        let subject = project.map_or("request".to_owned(), |name| format!("project/{name}"));
        let draft = Draft::of(&RequestReceived { spec }, Subject::new(&subject).unwrap());
        let receipt = self.seal(self.order, draft, &operator);
        let receipt = self.take(receipt);
        let job = JobId::of_request(&operator.public(), &receipt.id());
        self.accept(&receipt);
        job
    }

    pub(crate) fn accept(&mut self, request: &Receipt) -> Vec<Receipt> {
        let drafts = decide::accept_request(&self.state, request, self.now, &self.policy).unwrap();
        self.decide(drafts)
    }

    /// One claim of a node for a handler; the fence when it got a job.
    pub(crate) fn claim(&mut self, name: &str, handler: &str) -> Option<(Fence, JobId)> {
        let node = self.nodes.get_mut(name).unwrap();
        node.claims += 1;
        let mut claim = [0; 16];
        claim[8..].copy_from_slice(&node.claims.to_be_bytes());
        let command = ClaimCommand {
            machine: node.id.clone(),
            incarnation: 1,
            claim,
            free: vec![(handler.into(), 1)],
            term_ms: 60_000,
            now: self.now,
        };
        match decide::claim(&self.state, &command, &self.policy).unwrap() {
            ClaimDecision::Claim(draft) => {
                let receipt = self.decide(vec![draft]).remove(0);
                let fence = Fence::of_claim(1, receipt.seq(), &receipt.seal_digest());
                let job = self.state.fence(&fence).expect("the claim is folded").job;
                let held = Held {
                    job,
                    started: false,
                    ended: None,
                };
                self.nodes.get_mut(name).unwrap().held.insert(fence, held);
                Some((fence, job))
            }
            ClaimDecision::Already { .. } => panic!("a fresh claim id"),
            ClaimDecision::Nothing => None,
        }
    }

    pub(crate) fn must_claim(&mut self, name: &str, handler: &str) -> (Fence, JobId) {
        self.claim(name, handler)
            .unwrap_or_else(|| panic!("{name} gets no {handler}"))
    }

    /// A node writes into its work log; it stays in its outbox.
    pub(crate) fn work<D: Detail>(&mut self, name: &str, detail: &D) -> Receipt {
        let (key, log) = (self.nodes[name].key.clone(), self.nodes[name].logs[0]);
        let receipt = self.seal(log, Draft::of(detail, Subject::new("run").unwrap()), &key);
        self.nodes
            .get_mut(name)
            .unwrap()
            .outbox
            .push_back(receipt.clone());
        receipt
    }

    pub(crate) fn start(&mut self, name: &str, fence: Fence) -> Receipt {
        let held = self
            .nodes
            .get_mut(name)
            .unwrap()
            .held
            .get_mut(&fence)
            .expect("held");
        held.started = true;
        let job = held.job;
        self.work(
            name,
            &RunStarted {
                job,
                fence,
                handler: "h".into(),
                attempt: 1,
            },
        )
    }

    fn end<D: Detail>(&mut self, name: &str, fence: Fence, detail: &D) -> Receipt {
        let receipt = self.work(name, detail);
        if let Some(held) = self.nodes.get_mut(name).unwrap().held.get_mut(&fence) {
            held.ended = Some(receipt.id());
        }
        receipt
    }

    pub(crate) fn succeed(&mut self, name: &str, fence: Fence, job: JobId, result: u8) -> Receipt {
        let outputs = Outputs {
            manifest: [result; 32],
            count: 1,
        };
        let costs = self.costs;
        self.end(
            name,
            fence,
            &RunSucceeded {
                job,
                fence,
                result: ContentDigest([result; 32]),
                outputs,
                costs,
            },
        )
    }

    pub(crate) fn fail(
        &mut self,
        name: &str,
        fence: Fence,
        job: JobId,
        error: ErrorClass,
        permanent: bool,
    ) -> Receipt {
        let costs = self.costs;
        self.end(
            name,
            fence,
            &RunFailed {
                job,
                fence,
                error,
                status: Some(1),
                permanent,
                costs,
            },
        )
    }

    pub(crate) fn lose(&mut self, name: &str, fence: Fence, job: JobId) -> Receipt {
        self.end(name, fence, &RunLost { job, fence })
    }

    /// The gateway takes in everything of a node's outbox, pins and judges it; tells what it decided.
    pub(crate) fn push(&mut self, name: &str) -> Vec<Receipt> {
        let mut decided = Vec::new();
        while let Some(receipt) = self.nodes.get_mut(name).unwrap().outbox.pop_front() {
            decided.extend(self.push_one(name, receipt));
        }
        decided
    }

    pub(crate) fn push_one(&mut self, name: &str, receipt: Receipt) -> Vec<Receipt> {
        let receipt = self.take(receipt);
        let range = PinnedRange {
            log: receipt.log(),
            first: receipt.seq(),
            last: receipt.seq(),
            seal: receipt.seal_digest(),
            root: None,
        };
        self.decide(order::pin(&[range]));
        self.judge(name, &receipt)
    }

    pub(crate) fn judge(&mut self, name: &str, receipt: &Receipt) -> Vec<Receipt> {
        let drafts = decide::report(&self.state, receipt, &machine(name), self.now, &self.policy).unwrap();
        self.decide(drafts)
    }

    pub(crate) fn expire(&mut self, job: JobId, fence: Fence) -> Vec<Receipt> {
        let drafts = decide::expire_lease(&self.state, &job, &fence, self.now, &self.policy).unwrap();
        self.decide(drafts)
    }

    /// A node says hello with what it holds, after its outbox.
    pub(crate) fn hello(&mut self, name: &str) -> Vec<Receipt> {
        self.push(name);
        let held: Vec<Fence> = self.nodes[name].held.keys().copied().collect();
        let drafts = decide::resume(&self.state, &machine(name), &held, Place::MAX, self.now).unwrap();
        self.decide(drafts)
    }

    pub(crate) fn silence(&mut self, name: &str) {
        let drafts = ledger_projections::notices::node_lost(&self.state, &machine(name), self.now - MINUTE);
        self.decide(drafts);
    }

    pub(crate) fn back(&mut self, name: &str) {
        let drafts = ledger_projections::notices::node_back(&self.state, &machine(name), self.now);
        self.decide(drafts);
    }

    pub(crate) fn inert(&self) -> u64 {
        self.state.order().unwrap().inert
    }

    /// All kinds in the order about a job, in their order.
    pub(crate) fn story(&self, job: JobId) -> Vec<String> {
        let subject = job.subject();
        let about = |r: &&Receipt| r.log() == self.order && r.statement().subject == subject;
        self.journal
            .iter()
            .filter(about)
            .map(|r| r.kind().to_owned())
            .collect()
    }
}

pub(crate) fn joined(
    invitation: ReceiptId,
    name: &str,
    key: &SigningKey,
    actor: &SigningKey,
    witness: PublicKey,
    logs: [LogId; 3],
) -> KeyJoined {
    let zero = signature::sign_join(key, &[0; 32]);
    let mut joined = KeyJoined {
        invitation,
        machine: machine(name),
        role: Role::Node,
        machine_key: key.public(),
        witness_key: witness,
        actor_key: actor.public(),
        logs,
        machine_proof: zero,
        actor_proof: zero,
    };
    let digest = joined.proof_digest();
    joined.machine_proof = signature::sign_join(key, &digest);
    joined.actor_proof = signature::sign_join(actor, &digest);
    joined
}

pub(crate) fn spec(handler: &str) -> JobSpec {
    JobSpec {
        handler: handler.into(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 2,
        not_before: None,
        deadline: None,
        unique_key: None,
        concurrency_key: None,
        depends_on: Vec::new(),
        hold_on_failed_dependency: false,
        retry_of: None,
        input: None,
    }
}

pub(crate) fn apply(rows: &mut BTreeMap<(u16, Vec<u8>), Vec<u8>>, changes: &[Change]) {
    for change in changes {
        let key = (change.table, change.key.clone());
        let before = match &change.new {
            Some(new) => rows.insert(key, new.clone()),
            None => rows.remove(&key),
        };
        assert_eq!(before, change.old, "a change tells what was there before");
    }
}

pub(crate) fn load(context: &StateContext, rows: &BTreeMap<(u16, Vec<u8>), Vec<u8>>) -> FleetState {
    let mut state = FleetState::empty(context);
    for ((table, key), value) in rows {
        state
            .load(&Row {
                table: *table,
                key: key.clone(),
                value: value.clone(),
            })
            .unwrap();
    }
    state
}

impl ReceiptSource for World {
    fn range(&self, log: &LogId, first: u64, last: u64) -> Result<Vec<Receipt>, SourceError> {
        let mut found: Vec<Receipt> = self
            .journal
            .iter()
            .filter(|r| r.log() == *log && (first..=last).contains(&r.seq()))
            .cloned()
            .collect();
        found.sort_by_key(Receipt::seq);
        Ok(found)
    }
}

/// Rows of projections in memory; can be told to fail.
#[derive(Default)]
pub(crate) struct MemoryRows {
    kept: Mutex<BTreeMap<String, (u32, Kept)>>,
    pub(crate) fails: Mutex<bool>,
}

impl RowStore for MemoryRows {
    fn load(&self, name: &str, version: u32) -> Result<Option<Kept>, SourceError> {
        let kept = self.kept.lock().unwrap();
        Ok(kept
            .get(name)
            .filter(|(of, _)| *of == version)
            .map(|(_, kept)| kept.clone()))
    }

    fn commit(
        &self,
        name: &str,
        version: u32,
        changes: &[Change],
        cursor: &[u8],
        digest: &[u8; 32],
    ) -> Result<(), SourceError> {
        if *self.fails.lock().unwrap() {
            return Err(SourceError("the disk says no".into()));
        }
        let mut all = self.kept.lock().unwrap();
        let (_, kept) = all
            .entry(name.to_owned())
            .or_insert_with(|| (version, Kept::default()));
        for change in changes {
            kept.rows
                .retain(|row| (row.table, &row.key) != (change.table, &change.key));
            if let Some(new) = &change.new {
                kept.rows.push(Row {
                    table: change.table,
                    key: change.key.clone(),
                    value: new.clone(),
                });
            }
        }
        kept.cursor = cursor.to_vec();
        kept.digest = *digest;
        Ok(())
    }

    fn clear(&self, name: &str) -> Result<(), SourceError> {
        self.kept.lock().unwrap().remove(name);
        Ok(())
    }
}
