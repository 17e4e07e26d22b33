//! Checkpoints on their way to witnesses: the gateway cosigns those of its nodes, each node those of the gateway.
//!
//! The node begins the exchange, as every one. Contract: what is cosigned was compared with the copy on this disk first
//! (`ledger::Ledger::cosign`), so the gateway's cosignature says that it has exactly these records, durably, and serves them.
//! It fails open: nothing waits for a witness, and how far each lags is told. What a crash leaves: what was cosigned before. Two
//! roots over equally many records, both signed by a log's own key, are kept as evidence of a fork.

use crate::clock::running_ms;
use crate::error::ServerError;
use crate::evidence::keep;
use crate::exchange::{Cosign, CosignAnswer, NOTES_MAX, encode};
use crate::gateway;
use crate::machine::Machine;
use crate::node::Link;
use ledger::LedgerError;
use ledger::core::checkpoint::Checkpoint;
use ledger::core::cosignature::{self, Cosignature};
use ledger::core::kinds::KeyAnnounced;
use ledger::core::note::VerifierKey;
use ledger::core::{Chain, Draft, LogId, MachineId, Stream, Subject};
use ledger::evidence::ProvenFork;
use ledger_projections::FleetState;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A head that nothing was added to is cosigned again after this, so that its cosignatures do not look old, seconds.
const AGAIN_AFTER_S: u64 = 60 * 60;

/// The gateway's checkpoints that are out for cosigning. All nodes get the same one for a while, so that theirs add up.
#[derive(Default)]
pub(crate) struct Offered(Mutex<BTreeMap<LogId, (u64, String)>>);

/// How far the witnesses of one log have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The log.
    pub log: LogId,
    /// Records under the newest cosigned checkpoint; 0 when there is none.
    pub tree_size: u64,
    /// Records that came after it.
    pub behind: u64,
    /// When the oldest of these was sealed, microseconds since 1970.
    pub oldest_us: Option<i64>,
    /// Who cosigned it, and when.
    pub by: Vec<Cosignature>,
}

/// The key to pin for a machine as a witness, once it is known.
pub fn pin_of(state: &FleetState, machine: &MachineId) -> Option<VerifierKey> {
    let key = state.machine(machine)?.witness_key?.verifier().ok()?;
    Some(VerifierKey::witness(cosignature::witness_name(machine), key))
}

/// The keys to pin for all machines of the fleet as witnesses.
pub fn pins(state: &FleetState) -> Vec<VerifierKey> {
    let machines = state.machines();
    machines.filter_map(|row| pin_of(state, &row.id)).collect()
}

/// The gateway's key to pin as a witness, once it announced it.
pub(crate) fn gateway_pin(state: &FleetState) -> Option<VerifierKey> {
    pin_of(state, state.central()?)
}

/// How far the witnesses of this machine's own logs have come.
///
/// # Errors
/// [`ServerError::Ledger`] when the disk cannot be read.
pub fn witnessed(machine: &Machine) -> Result<Vec<Witnessed>, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let pins = pins(&snapshot.state);
    let own = Stream::ALL
        .into_iter()
        .filter_map(|stream| machine.ledger.own_log(stream));
    own.map(|log| {
        let size = snapshot.logs.get(&log).map_or(0, |chain| chain.tree().size());
        let cosigned = machine.ledger.cosigned(&log)?;
        let by = cosigned
            .as_ref()
            .map(|cosigned| cosigned.by(&pins))
            .unwrap_or_default();
        let tree_size = match (&cosigned, by.is_empty()) {
            (Some(cosigned), false) => cosigned.checkpoint.tree_size,
            _ => 0,
        };
        let oldest = match tree_size < size {
            true => machine.ledger.get(&log, tree_size).ok().flatten(),
            false => None,
        };
        Ok(Witnessed {
            log,
            tree_size,
            behind: size.saturating_sub(tree_size),
            oldest_us: oldest.map(|receipt| ledger_projections::micros_of(&receipt)),
            by,
        })
    })
    .collect()
}

/// Answers a node's exchange of checkpoints.
///
/// # Errors
/// [`ServerError::Malformed`] for too many of them; [`ServerError::Ledger`] when the store fails.
pub(crate) async fn answer(
    machine: &Arc<Machine>,
    node: &MachineId,
    asked: Cosign,
) -> Result<CosignAnswer, ServerError> {
    if asked.checkpoints.len() > NOTES_MAX || asked.cosigned.len() > NOTES_MAX {
        let why = format!("more than {NOTES_MAX} checkpoints in one exchange");
        return Err(ServerError::Malformed(why));
    }
    let (compared, of_node) = (Arc::clone(machine), node.clone());
    let (answer, forks) = blocking(move || {
        let (machine, node) = (compared, of_node);
        let snapshot = machine.ledger.snapshot();
        let key = snapshot.state.machine(&node).map(|row| row.machine_key);
        let of_node = |chain: &Chain| chain.genesis().machine == node && Some(chain.machine_key()) == key;
        let Outcome {
            cosigned,
            refused,
            forks,
        } = cosign_all(&machine, &asked.checkpoints, of_node);
        if let Some(pin) = pin_of(&snapshot.state, &node) {
            keep_all(&machine, &asked.cosigned, &pin);
        }
        // What the node brought stands, whatever is the matter with our own.
        let checkpoints = offer(&machine).unwrap_or_else(|error| {
            tracing::error!(code = error.code(), %error, "no checkpoints of this machine go out");
            Vec::new()
        });
        let answer = CosignAnswer {
            cosigned,
            refused,
            checkpoints,
        };
        Ok((answer, forks))
    })
    .await?;
    for fork in &forks {
        gateway::forked(machine, node, fork).await;
    }
    Ok(answer)
}

// What came of checkpoints that others brought.
#[derive(Default)]
struct Outcome {
    cosigned: Vec<String>,
    refused: Vec<(LogId, String)>,
    forks: Vec<ProvenFork>,
}

// Cosigns what may be cosigned; the rest with its reason.
fn cosign_all(machine: &Machine, notes: &[String], permitted: impl Fn(&Chain) -> bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (cosigned, refused) = (&mut outcome.cosigned, &mut outcome.refused);
    for note in notes {
        let Ok(checkpoint) = Checkpoint::read_unverified(note) else {
            continue;
        };
        let log = checkpoint.log;
        let logs = &machine.ledger.snapshot().logs;
        if !logs.get(&log).is_some_and(|chain| permitted(chain)) {
            refused.push((
                log,
                "it is not a log of the machine that asks, or not here".to_owned(),
            ));
            continue;
        }
        let line = machine.ledger.cosign(&log, note);
        match line.map(|line| cosignature::add(note, &line)) {
            Ok(Ok(note)) => cosigned.push(note),
            Ok(Err(error)) => refused.push((log, error.to_string())),
            Err(error) => {
                if matches!(error, LedgerError::RootDiffers { .. }) {
                    tracing::error!(code = error.code(), %error, "a checkpoint that another history gives");
                }
                // Also one that is older than what was compared may contradict what is kept.
                outcome.forks.extend(two_roots(machine, &log, note));
                refused.push((log, error.to_string()));
            }
        }
    }
    outcome
}

// Keeps the proof when the checkpoint that is kept here and this one cannot both be.
fn two_roots(machine: &Machine, log: &LogId, note: &str) -> Option<ProvenFork> {
    let evidence = machine.ledger.two_roots(log, note).map_err(ServerError::from);
    let kept = evidence.and_then(|evidence| match evidence {
        Some(evidence) => keep(machine, &evidence),
        None => Ok(None),
    });
    kept.unwrap_or_else(|error| {
        tracing::error!(code = error.code(), %error, "fork evidence could not be kept");
        None
    })
}

fn keep_all(machine: &Machine, notes: &[String], pin: &VerifierKey) {
    for note in notes {
        if let Err(error) = machine.ledger.keep_cosignature(note, pin) {
            tracing::warn!(code = error.code(), %error, witness = pin.name(), "a cosignature is not kept");
            if let LedgerError::RootDiffers { log, .. } = error {
                // Somebody else signs with this machine's keys.
                two_roots(machine, &log, note);
            }
        }
    }
}

// The checkpoints of the gateway's own logs that are out, new ones when they are old.
fn offer(machine: &Machine) -> Result<Vec<String>, ServerError> {
    let mut offered = machine.offered.0.lock().expect("offered lock");
    let now = running_ms();
    let mut notes = Vec::new();
    for stream in [Stream::Order, Stream::Work, Stream::Facts] {
        let Some(log) = machine.ledger.own_log(stream) else {
            continue;
        };
        let fresh = offered
            .get(&log)
            .filter(|(at, _)| now < at.saturating_add(machine.config.timing.cosign_ms));
        let note = match fresh {
            Some((_, note)) => note.clone(),
            None => {
                let note = machine.ledger.checkpoint_for_witnesses(&log)?;
                offered.insert(log, (now, note.clone()));
                note
            }
        };
        notes.push(note);
    }
    Ok(notes)
}

/// Exchanges checkpoints with the gateway until it is told to stop.
pub(crate) async fn cosign_forever(link: Arc<Link>, mut stop: watch::Receiver<bool>) {
    let period = Duration::from_millis(link.machine().config.timing.cosign_ms.max(1));
    loop {
        let round = async {
            let mut synced = link.synced();
            if synced.wait_for(Option::is_some).await.map(drop).is_err() {
                return;
            }
            if let Err(e) = exchange(&link).await {
                tracing::warn!(code = e.code(), error = %e, "checkpoints could not be exchanged; nothing waits for it");
            }
            tokio::time::sleep(period).await;
        };
        tokio::select! {
            () = round => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// One exchange of checkpoints with the gateway.
async fn exchange(link: &Arc<Link>) -> Result<(), ServerError> {
    let machine = Arc::clone(link.machine());
    let checkpoints = blocking(move || own_checkpoints(&machine)).await?;
    let cosigned = Vec::new();
    let asked = Cosign {
        checkpoints,
        cosigned,
    };
    let answer: CosignAnswer = link.aside("cosign", encode(&asked)).await?;
    for (log, why) in &answer.refused {
        tracing::info!(log = %log.short(), why, "the gateway does not cosign a checkpoint yet");
    }
    let machine = Arc::clone(link.machine());
    let cosigned = blocking(move || {
        let snapshot = machine.ledger.snapshot();
        let state = &snapshot.state;
        if let Some(pin) = gateway_pin(state) {
            keep_all(&machine, &answer.cosigned, &pin);
        }
        let gateways = |chain: &Chain| state.central() == Some(&chain.genesis().machine);
        let notes = answer.checkpoints.iter().take(NOTES_MAX).cloned();
        // A fork of the gateway's is kept and told; nobody here can quarantine it.
        let Outcome {
            cosigned, refused, ..
        } = cosign_all(&machine, &notes.collect::<Vec<_>>(), gateways);
        for (log, why) in refused {
            // The mirror may be a moment behind.
            tracing::debug!(log = %log.short(), why, "a checkpoint of the gateway is not cosigned yet");
        }
        Ok(cosigned)
    })
    .await?;
    if !cosigned.is_empty() {
        let checkpoints = Vec::new();
        let told = Cosign {
            checkpoints,
            cosigned,
        };
        let _: CosignAnswer = link.aside("cosign", encode(&told)).await?;
    }
    Ok(())
}

// Of each own log that grew since the gateway cosigned it, or whose cosignature is old.
fn own_checkpoints(machine: &Machine) -> Result<Vec<String>, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let pin = gateway_pin(&snapshot.state);
    let now_s = u64::try_from(machine.now_us() / 1_000_000).unwrap_or(0);
    let mut notes = Vec::new();
    for stream in [Stream::Work, Stream::Facts, Stream::Pulse] {
        let Some(log) = machine.ledger.own_log(stream) else {
            continue;
        };
        let size = snapshot.logs.get(&log).map_or(0, |chain| chain.tree().size());
        let cosigned = machine.ledger.cosigned(&log)?;
        let current = cosigned
            .filter(|cosigned| cosigned.checkpoint.tree_size == size)
            .and_then(|cosigned| Some(cosigned.by(std::slice::from_ref(pin.as_ref()?))))
            .is_some_and(|by| {
                by.iter()
                    .any(|seen| now_s < seen.unix_s.saturating_add(AGAIN_AFTER_S))
            });
        if current {
            continue;
        }
        match machine.ledger.checkpoint_for_witnesses(&log) {
            Ok(note) => notes.push(note),
            Err(error) => {
                tracing::error!(code = error.code(), %error, "a checkpoint of an own log does not go out");
            }
        }
    }
    Ok(notes)
}

/// What Central says once: with which key its machine cosigns. `None` when the order has it already.
pub(crate) fn announcement(machine: &Machine, state: &FleetState) -> Option<Draft> {
    let witness_key = machine.ledger.keyring().witness.public();
    let row = state.machine(machine.id())?;
    if row.witness_key == Some(witness_key) {
        return None;
    }
    let machine = machine.id().clone();
    let subject = Subject::new(&format!("node/{machine}")).expect("short and printable");
    Some(Draft::of(&KeyAnnounced { machine, witness_key }, subject))
}

/// Runs what waits for the disk on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ServerError::Malformed(e.to_string()))?
}
