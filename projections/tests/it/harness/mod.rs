//! A fleet in memory: three machines with real keys and logs, the gateway's store as a list of receipts.
//!
//! Drafts are sealed with core's own types, so that everything that is folded is a receipt as the engine would write it.
//! Nodes keep an outbox: what they did reaches the gateway when a test says so. Here is the fleet and its logs; what Central does
//! is in `central`, what machines do in `nodes`, stores of rows in `rows`.

mod central;
mod nodes;
mod rows;

pub(crate) use central::{spec, success};
pub(crate) use nodes::{joined, nothing_held};
pub(crate) use rows::{MemoryRows, apply, load};

use ledger::{Changes, Position, Receipt, State, StateContext};
use ledger_core::kinds::*;
use ledger_core::{
    Detail, Draft, FleetId, Head, Hlc, LogId, MachineId, ReceiptId, Record, Seal, SealDigest, SigningKey,
    Stream, Subject, TreeRoot, digest, signature,
};
use ledger_projections::table::RunningDigest;
use ledger_projections::{FleetState, Policy};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

pub(crate) fn machine(name: &str) -> MachineId {
    MachineId::new(name).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

/// A log and the key that signs it.
#[derive(Clone)]
struct Log {
    key: Arc<SigningKey>,
    id: LogId,
    receipts: Vec<Receipt>,
}

/// A node: what it holds and what it has not sent yet.
#[derive(Clone)]
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

/// The whole fleet. A clone is a copy of the store at that moment, with everybody's keys.
#[derive(Clone)]
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

    /// Central goes on in the next epoch, in a new order log behind the old one's head, as a store does that lost what came after.
    pub(crate) fn next_epoch(&mut self) {
        let key = self.gateway_key();
        let old = self.state.order().unwrap().clone();
        let (log, genesis) = self.open_log(&key, "gateway", Stream::Order, None);
        self.take(genesis);
        let started = EpochStarted {
            epoch: old.epoch + 1,
            log,
            previous: old.log,
            cut: Head {
                seq: old.head_seq,
                seal: old.head_seal,
                root: TreeRoot([0; 32]),
            },
            designation: *self.state.designations().next().unwrap().0,
        };
        let draft = Draft::of(&started, Subject::new("order").unwrap());
        let receipt = self.seal(log, draft, &key);
        self.take(receipt);
        self.order = log;
        assert_eq!(self.state.order().unwrap().epoch, old.epoch + 1);
    }
}
