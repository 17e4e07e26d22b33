//! The fleet as every seed finds it: a gateway and three nodes that joined, with real keys, signatures and logs. Made once.

use crate::store::{Store, Voice, unix_ms};
use ledger::{Position, Receipt, StateContext};
use ledger_core::kinds::{
    CentralDesignated, Class, Credential, Founding, HandlerDeclared, KeyGranted, KeyInvited, KeyJoined,
    LogGenesis, Role,
};
use ledger_core::{
    Draft, FleetId, Hlc, LogId, MachineId, ReceiptId, Record, Seal, SealDigest, SigningKey, Stream, Subject,
    digest, signature,
};
use ledger_projections::members;
use std::sync::{Arc, OnceLock};

/// The wall clock when a simulation begins, microseconds since 1970.
pub(crate) const BEGIN_US: i64 = 1_750_000_000_000_000;
/// The machines: 0 is the gateway.
pub(crate) const NAMES: [&str; 4] = ["gateway", "laptop", "mini", "studio"];

/// A machine as it begins.
#[derive(Clone)]
pub(crate) struct Founded {
    pub(crate) id: MachineId,
    pub(crate) voice: Voice,
    pub(crate) actor: Arc<SigningKey>,
    pub(crate) handlers: Vec<HandlerDeclared>,
    pub(crate) store: Store,
}

/// The fleet, founded.
pub(crate) fn founded() -> &'static [Founded] {
    static FOUNDED: OnceLock<Vec<Founded>> = OnceLock::new();
    FOUNDED.get_or_init(found)
}

fn key(seed: u8) -> Arc<SigningKey> {
    Arc::new(SigningKey::from_seed([seed; 32]))
}

fn machine(name: &str) -> MachineId {
    MachineId::new(name).expect("a name")
}

/// `tidy` is light and runs everywhere, `render` is heavy on studio with mini as its backup, `pay` is exclusive on laptop and studio.
fn handlers(name: &str) -> Vec<HandlerDeclared> {
    let declared = |handler: &str, class, labels: &[&str], slots| HandlerDeclared {
        machine: machine(name),
        handler: handler.to_owned(),
        class,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        slots,
    };
    let tidy = declared("tidy", Class::Light, &[], 2);
    match name {
        "gateway" => vec![tidy],
        "laptop" => vec![declared("pay", Class::Exclusive, &[], 1), tidy],
        "mini" => vec![declared("render", Class::Heavy, &["backup"], 1), tidy],
        _ => vec![
            declared("pay", Class::Exclusive, &[], 2),
            declared("render", Class::Heavy, &["gpu"], 2),
            tidy,
        ],
    }
}

fn genesis(
    fleet: FleetId,
    key: &SigningKey,
    name: &str,
    stream: Stream,
    founding: Option<Founding>,
) -> Receipt {
    let said = LogGenesis {
        machine: machine(name),
        stream,
        incarnation: 1,
        machine_key: key.public(),
        checkpoint_key: SigningKey::from_seed([200; 32]).public(),
        predecessor: None,
        founding,
        nonce: [0; 16],
    };
    let draft = Draft::of(&said, Subject::new("log").expect("short"));
    let id = ReceiptId::v7(unix_ms(BEGIN_US), [stream as u8; 10]);
    let authored = draft
        .into_statement(fleet, key.public(), id, BEGIN_US, [0; 32])
        .expect("within its bounds");
    let log = digest::log_id(&authored.bytes);
    let seal = Seal {
        version: 1,
        log,
        seq: 0,
        prev: SealDigest::ZERO,
        time: Hlc::from_unix_ms(unix_ms(BEGIN_US)),
        statement: authored.digest,
    };
    let signed = signature::sign_seal(key, &seal.digest());
    let record = Record::assemble(authored.statement, &authored.bytes, None, seal, signed);
    Receipt {
        position: Position::START,
        record: Arc::new(record),
    }
}

/// Signs a statement of somebody who is not the log's machine.
pub(crate) fn signed(
    fleet: FleetId,
    by: &SigningKey,
    draft: Draft,
    id: ReceiptId,
    at: i64,
) -> (ledger_core::statement::AuthoredStatement, ledger_core::Signature) {
    let authored = draft
        .into_statement(fleet, by.public(), id, at, [7; 32])
        .expect("within its bounds");
    let signature = signature::sign_statement(by, &authored.digest);
    (authored, signature)
}

fn found() -> Vec<Founded> {
    let (root, recovery) = (key(1), key(4));
    let nonce = [9; 16];
    let fleet = digest::fleet_id(&root.public().0, &recovery.public().0, &nonce);
    let founding = Founding {
        root_key: root.public(),
        recovery_key: recovery.public(),
        nonce,
    };
    let streams = [Stream::Work, Stream::Facts, Stream::Pulse];
    let mut all: Vec<(Founded, Vec<Receipt>)> = Vec::new();
    for (name, seed) in NAMES.iter().zip([10u8, 20, 30, 40]) {
        let own = key(seed);
        let mut opened: Vec<Receipt> = streams
            .iter()
            .map(|stream| genesis(fleet, &own, name, *stream, None))
            .collect();
        let mut logs = [
            Some(opened[0].log()),
            Some(opened[1].log()),
            Some(opened[2].log()),
            None,
        ];
        if *name == "gateway" {
            let order = genesis(fleet, &own, name, Stream::Order, Some(founding.clone()));
            logs[3] = Some(order.log());
            opened.push(order);
        }
        let context = StateContext {
            fleet,
            machine: machine(name),
            machine_key: own.public(),
        };
        let founded = Founded {
            id: machine(name),
            voice: Voice { key: own, logs },
            actor: key(seed + 1),
            handlers: handlers(name),
            store: Store::new(context),
        };
        all.push((founded, opened));
    }
    let mut nodes = all.split_off(1);
    let (mut gateway, opened) = all.remove(0);
    write_order(&mut gateway, &opened, &root, &nodes);
    let order = gateway.voice.log(Stream::Order);
    let told = gateway.store.run_of(&order, 0, usize::MAX);
    for (node, own) in &mut nodes {
        take(node, own);
        take(node, &told);
        node.store.settle();
    }
    let nodes = nodes.into_iter().map(|(node, _)| node);
    std::iter::once(gateway).chain(nodes).collect()
}

fn take(founded: &mut Founded, receipts: &[Receipt]) {
    let mut rng = fastrand::Rng::with_seed(0);
    let mut tx = transaction(founded, &mut rng);
    tx.intake(receipts).expect("logs begin with their genesis");
}

fn transaction<'a>(founded: &'a mut Founded, rng: &'a mut fastrand::Rng) -> crate::store::SimTx<'a> {
    crate::store::SimTx {
        store: &mut founded.store,
        voice: &founded.voice,
        now_us: BEGIN_US,
        rng,
        signed: true,
        control: crate::Control::None,
    }
}

fn write_order(
    gateway: &mut Founded,
    opened: &[Receipt],
    root: &SigningKey,
    nodes: &[(Founded, Vec<Receipt>)],
) {
    take(gateway, opened);
    let mut rng = fastrand::Rng::with_seed(1);
    let (own, actor) = (gateway.voice.key.public(), gateway.actor.public());
    let fleet = gateway.store.context.fleet;
    let mut tx = transaction(gateway, &mut rng);
    let mut ids = 0u8;
    let mut rooted = |tx: &mut crate::store::SimTx<'_>, draft: Draft| {
        ids += 1;
        let id = ReceiptId::v7(unix_ms(BEGIN_US), [100 + ids; 10]);
        let (said, by) = signed(fleet, root, draft, id, BEGIN_US);
        tx.append_signed(Stream::Order, &said, by).id()
    };
    let subject = || Subject::new("root").expect("short");
    let designated = CentralDesignated {
        machine: machine("gateway"),
        machine_key: own,
        epoch_first: 1,
        epoch_last: 64,
    };
    rooted(&mut tx, Draft::of(&designated, subject()));
    for (key, role, name) in [
        (own, Role::Central, "gateway"),
        (actor, Role::Operator, "operator"),
    ] {
        let granted = KeyGranted {
            credential: Credential::Key(key),
            name: name.into(),
            role,
            machine: Some(machine("gateway")),
            may: Vec::new(),
            until: None,
        };
        rooted(&mut tx, Draft::of(&granted, subject()));
    }
    for (n, (node, own)) in (1u8..).zip(nodes) {
        let code = [n; 16];
        let invited = KeyInvited {
            role: Role::Node,
            machine: None,
            code: digest::secret_digest(&code),
            until: BEGIN_US + 600_000_000,
        };
        let invitation = rooted(&mut tx, Draft::of(&invited, subject()));
        let joined = joined(invitation, node, SigningKey::from_seed([150 + n; 32]).public());
        let state = ledger_projections::central::OrderTx::state(&tx);
        let drafts = members::join(state, &code, &joined, BEGIN_US).expect("an invitation in force");
        for draft in drafts {
            tx.append(Stream::Order, draft);
        }
        tx.intake(own).expect("its genesis records");
    }
    gateway.store.settle();
}

fn joined(invitation: ReceiptId, node: &Founded, witness_key: ledger_core::PublicKey) -> KeyJoined {
    let log = |stream| -> LogId { node.voice.log(stream) };
    let zero = ledger_core::Signature([0; 64]);
    let mut joined = KeyJoined {
        invitation,
        machine: node.id.clone(),
        role: Role::Node,
        machine_key: node.voice.key.public(),
        witness_key,
        actor_key: node.actor.public(),
        logs: [log(Stream::Work), log(Stream::Facts), log(Stream::Pulse)],
        machine_proof: zero,
        actor_proof: zero,
    };
    let digest = joined.proof_digest();
    joined.machine_proof = signature::sign_join(&node.voice.key, &digest);
    joined.actor_proof = signature::sign_join(&node.actor, &digest);
    joined
}
