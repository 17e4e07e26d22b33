//! Founding a fleet, inviting machines, joining, and what else the root key signs.

use crate::client::Signed;
use crate::config::Config;
use crate::error::ServerError;
use crate::exchange::{Join, JoinAnswer, decode, encode};
use ledger::clock::{Clock, Entropy, SystemClock, SystemEntropy, unix_ms};
use ledger::core::digest::{fleet_id, secret_digest};
use ledger::core::kinds::{
    AnyDetail, CentralDesignated, Credential, Detail, KeyGranted, KeyInvited, KeyJoined, KeyRevoked,
    NodeRetired, Role,
};
use ledger::core::signature::{Signature, sign_join};
use ledger::core::statement::{SignedStatement, VerifiedStatement};
use ledger::core::{
    Chain, Draft, FleetId, LogId, MachineId, PublicKey, ReceiptId, Record, SigningKey, Stream, Subject, chain,
};
use ledger::intake::VerifiedRun;
use ledger::keyring::{Keyring, create_key, create_private_dir, read_key};
use ledger::{Fleet, Ledger, LedgerError, NewStore, OpenOptions, Paths};
use ledger_projections::FleetState;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Epochs that the founding designation lets a machine open by itself.
const EPOCHS: u64 = 64;
/// How long a joining machine waits for each answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// What an invitation's line begins with.
const LINE_PREFIX: &str = "ledger+";

/// What was founded.
#[derive(Clone, Debug, serde::Serialize)]
pub struct InitReport {
    /// The fleet.
    pub fleet: FleetId,
    /// This machine.
    pub machine: MachineId,
    /// The root key's file.
    pub root_key: PathBuf,
    /// The recovery key's file.
    pub recovery_key: PathBuf,
    /// Its logs.
    pub logs: Vec<(Stream, LogId)>,
}

/// What was joined.
#[derive(Clone, Debug, serde::Serialize)]
pub struct JoinReport {
    /// The fleet.
    pub fleet: FleetId,
    /// This machine.
    pub machine: MachineId,
    /// The gateway's machine.
    pub gateway: MachineId,
    /// Its address.
    pub address: String,
    /// What this machine may be.
    pub role: Role,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemEntropy.fill(&mut bytes);
    bytes
}

/// Signs a draft as the holder of a key.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn sign(key: &SigningKey, fleet: FleetId, draft: Draft) -> Result<SignedStatement, ServerError> {
    let now_us = SystemClock.now_us();
    let id = ReceiptId::v7(unix_ms(now_us), random());
    Ok(draft
        .into_statement(fleet, key.public(), id, now_us, random())?
        .sign(key))
}

/// Founds a fleet in a directory: root and recovery key, a store that writes the order, and the founding receipts. An
/// interrupted founding is finished.
///
/// # Errors
/// [`ServerError::Ledger`] when there is a store already or it cannot be made.
pub fn init(dir: &Path, machine: &MachineId) -> Result<InitReport, ServerError> {
    let paths = Paths::new(dir);
    create_private_dir(dir)?;
    create_private_dir(&paths.root())?;
    let key = |name: &str| {
        let path = paths.root().join(format!("{name}.key"));
        if path.exists() {
            read_key(&path, name)
        } else {
            create_key(&path, name, &SystemEntropy)
        }
    };
    let (root, recovery) = (key("root")?, key("recovery")?);
    let new = NewStore {
        machine: machine.clone(),
        streams: vec![Stream::Order, Stream::Work, Stream::Facts, Stream::Pulse],
        fleet: Fleet::Found {
            root_key: root.public(),
            recovery_key: recovery.public(),
        },
    };
    let exists = paths.journal().exists();
    let ledger: Ledger<FleetState> = Ledger::open_or_create(&paths, &new, OpenOptions::default())?;
    if exists
        && ledger.snapshot().state.order().is_some()
        && ledger.snapshot().state.machine(machine).is_some()
    {
        ledger.close()?;
        return Err(LedgerError::StoreExists(dir.to_owned()).into());
    }
    found(&ledger, &root, machine)?;
    let report = InitReport {
        fleet: ledger.context().fleet,
        machine: machine.clone(),
        root_key: paths.root().join("root.key"),
        recovery_key: paths.root().join("recovery.key"),
        logs: Stream::ALL
            .into_iter()
            .filter_map(|s| Some((s, ledger.own_log(s)?)))
            .collect(),
    };
    ledger.close()?;
    Ok(report)
}

// Seq 1 to 3 of the first order: who is Central, what the founding machine is, and the operator's key.
fn found(ledger: &Ledger<FleetState>, root: &SigningKey, machine: &MachineId) -> Result<(), ServerError> {
    let fleet = ledger.context().fleet;
    let (machine_key, actor_key) = (ledger.context().machine_key, ledger.keyring().actor.public());
    let subject = Subject::new(&format!("node/{machine}"))?;
    let designated = CentralDesignated {
        machine: machine.clone(),
        machine_key,
        epoch_first: 1,
        epoch_last: EPOCHS,
    };
    let granted = |key, name: &str, role| KeyGranted {
        credential: Credential::Key(key),
        name: name.to_owned(),
        role,
        machine: Some(machine.clone()),
        may: Vec::new(),
        until: None,
    };
    let drafts = [
        Draft::of(&designated, subject.clone()),
        Draft::of(
            &granted(machine_key, machine.as_str(), Role::Central),
            subject.clone(),
        ),
        Draft::of(&granted(actor_key, "operator", Role::Operator), subject),
    ];
    let said: Vec<VerifiedStatement> = drafts
        .into_iter()
        .map(|draft| Ok(sign(root, fleet, draft)?.verify()?))
        .collect::<Result<_, ServerError>>()?;
    ledger
        .commit(move |tx| -> Result<(), LedgerError> {
            for statement in &said {
                tx.append_signed(Stream::Order, statement)?;
            }
            Ok(())
        })
        .map_err(ledger::CommitError::into_ledger)?;
    Ok(())
}

/// Reads the root key: the named file, else `DIR/root/root.key`.
///
/// # Errors
/// [`ServerError::Ledger`] when it is not there or others may read it.
pub fn load_root_key(dir: &Path, file: Option<&Path>) -> Result<SigningKey, ServerError> {
    let path = file.map_or_else(|| Paths::new(dir).root().join("root.key"), Path::to_owned);
    Ok(read_key(&path, "root")?)
}

/// Signs an invitation and makes its line: address, root key and single-use code.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn invitation(
    root: &SigningKey,
    fleet: FleetId,
    role: Role,
    machine: Option<MachineId>,
    ttl: Duration,
    address: &str,
) -> Result<(SignedStatement, String), ServerError> {
    let code: [u8; 16] = random();
    let ttl_us = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    let until = SystemClock.now_us().saturating_add(ttl_us);
    let detail = KeyInvited {
        role,
        machine,
        code: secret_digest(&code),
        until,
    };
    let said = sign(root, fleet, Draft::of(&detail, Subject::new("fleet")?))?;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    Ok((
        said,
        format!(
            "{LINE_PREFIX}{}/join/{}/{}",
            address.trim_end_matches('/'),
            root.public(),
            hex(&code)
        ),
    ))
}

/// Signs a grant of a read-only bearer token; the secret is shown once and only its digest is kept.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn token(
    root: &SigningKey,
    fleet: FleetId,
    name: &str,
    until: Option<i64>,
) -> Result<(SignedStatement, String), ServerError> {
    let secret = format!("ledger_{}", data_encoding::HEXLOWER.encode(&random::<32>()));
    let credential = Credential::Token(secret_digest(secret.as_bytes()));
    Ok((grant(root, fleet, credential, name, Role::Reader, until)?, secret))
}

/// Signs a grant.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn grant(
    root: &SigningKey,
    fleet: FleetId,
    credential: Credential,
    name: &str,
    role: Role,
    until: Option<i64>,
) -> Result<SignedStatement, ServerError> {
    let detail = KeyGranted {
        credential,
        name: name.to_owned(),
        role,
        machine: None,
        may: Vec::new(),
        until,
    };
    sign(
        root,
        fleet,
        Draft::of(&detail, Subject::new(&format!("key/{name}"))?),
    )
}

/// Signs the revocation of an actor key or token.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn revoke(
    root: &SigningKey,
    fleet: FleetId,
    credential: Credential,
    reason: &str,
) -> Result<SignedStatement, ServerError> {
    let detail = KeyRevoked {
        credential,
        cut: Vec::new(),
        reason: reason.to_owned(),
    };
    sign(root, fleet, Draft::of(&detail, Subject::new("fleet")?))
}

/// Signs the retirement of a machine: it is no longer waited for.
///
/// # Errors
/// [`ServerError::Statement`] for a broken bound.
pub fn retire(
    root: &SigningKey,
    fleet: FleetId,
    machine: &MachineId,
    reason: &str,
) -> Result<SignedStatement, ServerError> {
    let detail = NodeRetired {
        machine: machine.clone(),
        reason: reason.to_owned(),
    };
    sign(
        root,
        fleet,
        Draft::of(&detail, Subject::new(&format!("node/{machine}"))?),
    )
}

struct Line {
    address: String,
    root: PublicKey,
    code: [u8; 16],
}

fn parse_line(line: &str) -> Result<Line, ServerError> {
    let bad = || {
        let form = "ledger+http://host:port/join/<root key>/<code>";
        ServerError::Invitation(format!(
            "that is no invitation; it looks like {form} and comes from `ledger invite`"
        ))
    };
    let rest = line.trim().strip_prefix(LINE_PREFIX).ok_or_else(bad)?;
    let (address, keys) = rest.split_once("/join/").ok_or_else(bad)?;
    let (root, code) = keys.split_once('/').ok_or_else(bad)?;
    let root = PublicKey::from_hex(root).ok_or_else(bad)?;
    let code = data_encoding::HEXLOWER
        .decode(code.as_bytes())
        .ok()
        .and_then(|c| c.try_into().ok())
        .ok_or_else(bad)?;
    Ok(Line {
        address: address.to_owned(),
        root,
        code,
    })
}

/// Makes this machine's keys and logs, proves them, and is in.
///
/// # Errors
/// [`ServerError::Invitation`] when the line is none, has ended, or the gateway is not of the fleet that it names;
/// [`ServerError::Gateway`] when it cannot be reached.
pub async fn join(dir: &Path, line: &str, machine: &MachineId) -> Result<JoinReport, ServerError> {
    let line = parse_line(line)?;
    let paths = Paths::new(dir);
    let gateway = |e: crate::client::ClientError| match e.problem() {
        Some(problem) if problem.code.starts_with("invitation.") => {
            ServerError::Invitation(problem.detail.clone())
        }
        _ => ServerError::Gateway(format!("{}: {e}", line.address)),
    };
    // The first question needs no key of ours yet; a throw-away one signs what the gateway does not check.
    let stranger = Arc::new(SigningKey::from_seed(random()));
    let asking = Signed::new(&line.address, stranger, None).map_err(gateway)?;
    let look = encode(&Join::Look { code: line.code });
    let answer: JoinAnswer = decode(
        "join",
        &asking
            .exchange("join", look, JOIN_TIMEOUT)
            .await
            .map_err(gateway)?,
    )?;
    let order = prove(&line.root, &answer)?;
    if answer.machine.as_ref().is_some_and(|fixed| fixed != machine) {
        let fixed = answer.machine.as_ref().map_or("", MachineId::as_str);
        return Err(ServerError::Invitation(format!(
            "the invitation is for a machine called {fixed}, not {machine}"
        )));
    }
    let new = NewStore {
        machine: machine.clone(),
        streams: vec![Stream::Work, Stream::Facts, Stream::Pulse],
        fleet: Fleet::Join(answer.fleet),
    };
    let ledger: Ledger<FleetState> = Ledger::open_or_create(&paths, &new, OpenOptions::default())?;
    if ledger.context().fleet != answer.fleet {
        return Err(ServerError::Invitation(format!(
            "{} belongs to another fleet; name another directory",
            dir.display()
        )));
    }
    let joined = introduce(&ledger, &answer)?;
    let mut genesis = Vec::new();
    for log in &joined.logs {
        let receipt = ledger.get(log, 0)?.ok_or(LedgerError::UnknownLog(*log))?;
        genesis.push(receipt.record.bytes().to_vec());
    }
    let enter = encode(&Join::Enter {
        code: line.code,
        joined: Box::new(joined),
        genesis,
    });
    let entered: JoinAnswer = decode(
        "join",
        &asking
            .exchange("join", enter, JOIN_TIMEOUT)
            .await
            .map_err(gateway)?,
    )?;
    if entered.order != answer.order || entered.gateway_key != answer.gateway_key {
        return Err(ServerError::Invitation(
            "the gateway changed while joining; try again".into(),
        ));
    }
    let intake = ledger.submit(move |tx| -> Result<(), LedgerError> {
        tx.intake(&order)?;
        Ok(())
    });
    intake.await.map_err(ledger::CommitError::into_ledger)?;
    Config::write_key(dir, "gateway", &line.address)?;
    ledger.close()?;
    Ok(JoinReport {
        fleet: answer.fleet,
        machine: machine.clone(),
        gateway: answer.gateway,
        address: line.address,
        role: answer.role,
    })
}

// The order's founding records must prove, from the root key in the line alone, who Central is.
fn prove(root: &PublicKey, answer: &JoinAnswer) -> Result<VerifiedRun, ServerError> {
    let bad = |why: &str| {
        ServerError::Invitation(format!(
            "the gateway is not of the fleet that the line names: {why}"
        ))
    };
    let founding = &answer.founding;
    if founding.root_key != *root {
        return Err(bad("another root key"));
    }
    if fleet_id(&founding.root_key.0, &founding.recovery_key.0, &founding.nonce) != answer.fleet {
        return Err(bad("its id is not that of its founding"));
    }
    let raw = answer
        .proof
        .iter()
        .map(|r| (r.record.clone(), r.payload.clone()))
        .collect();
    let run = VerifiedRun::verify(raw, None)?.ok_or_else(|| bad("no founding records"))?;
    let records: Vec<&Record> = run.records().iter().map(|(record, _)| &**record).collect();
    let [genesis, designation, ..] = records[..] else {
        return Err(bad("too few founding records"));
    };
    let order = Chain::start(genesis).map_err(LedgerError::from)?;
    if order.genesis().founding.as_ref() != Some(founding) || order.fleet() != answer.fleet {
        return Err(bad("the order was founded by other keys"));
    }
    let central = match designation.statement().any_detail() {
        Ok(AnyDetail::CentralDesignated(central)) if designation.statement().author == *root => central,
        _ => return Err(bad("the root key designates nobody")),
    };
    chain::verify_author(designation).map_err(|_| bad("the designation is not signed by the root key"))?;
    if central.machine_key != answer.gateway_key || order.machine_key() != answer.gateway_key {
        return Err(bad("its key is not the designated one"));
    }
    Ok(run)
}

fn introduce(ledger: &Ledger<FleetState>, answer: &JoinAnswer) -> Result<KeyJoined, ServerError> {
    let keyring: &Keyring = ledger.keyring();
    let log = |stream| {
        let missing = || ServerError::WrongRole("the store in this directory is no node's".into());
        ledger.own_log(stream).ok_or_else(missing)
    };
    if ledger.own_log(Stream::Order).is_some() {
        return Err(ServerError::WrongRole(
            "this directory holds a gateway's store; a gateway does not join".into(),
        ));
    }
    let unsigned = Signature([0; 64]);
    let mut joined = KeyJoined {
        invitation: answer.invitation,
        machine: ledger.context().machine.clone(),
        role: answer.role,
        machine_key: keyring.machine.public(),
        witness_key: keyring.witness.public(),
        actor_key: keyring.actor.public(),
        logs: [log(Stream::Work)?, log(Stream::Facts)?, log(Stream::Pulse)?],
        machine_proof: unsigned,
        actor_proof: unsigned,
    };
    let digest = joined.proof_digest();
    joined.machine_proof = sign_join(&keyring.machine, &digest);
    joined.actor_proof = sign_join(&keyring.actor, &digest);
    debug_assert_eq!(
        KeyJoined::decode(&ledger::core::canonical::encode(&joined)).as_ref(),
        Ok(&joined)
    );
    Ok(joined)
}
