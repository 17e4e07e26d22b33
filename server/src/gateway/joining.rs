//! Taking a new machine in. The code proves that it was invited, its signatures that it holds the keys.

use super::central;
use crate::error::ServerError;
use crate::exchange::{Join, JoinAnswer, Raw};
use crate::gateway::records::raw_of;
use crate::machine::Machine;
use ledger::core::digest::secret_digest;
use ledger::core::kinds::{KeyJoined, PinnedRange};
use ledger::core::signature::verify_join;
use ledger::core::{Chain, MachineId, Record, Stream};
use ledger::intake::VerifiedRun;
use ledger_projections::{members, pin};
use std::sync::Arc;

/// Records at the order's beginning that prove who founded the fleet and who is Central.
const PROOF_RECORDS: u64 = 3;

/// Answers a join.
pub(crate) async fn answer(machine: &Arc<Machine>, join: Join) -> Result<JoinAnswer, ServerError> {
    machine.central.wait_until_serving().await?;
    match join {
        Join::Look { code } => look(machine, &code),
        Join::Enter {
            code,
            joined,
            genesis,
        } => {
            enter(machine, &code, *joined, genesis).await?;
            look(machine, &code)
        }
    }
}

fn look(machine: &Arc<Machine>, code: &[u8; 16]) -> Result<JoinAnswer, ServerError> {
    let snapshot = machine.ledger.snapshot();
    let invitation = snapshot.state.invitation(&secret_digest(code));
    // One answer for a code that never was and one that is of another fleet.
    let invitation = invitation
        .ok_or_else(|| ServerError::Invitation("the invitation's code is not known here".into()))?;
    if invitation.until <= machine.now_us() && invitation.used.is_none() {
        return Err(ServerError::Invitation(
            "the invitation has ended; ask for a new one with `ledger invite`".into(),
        ));
    }
    let order = snapshot
        .state
        .order()
        .ok_or_else(|| ServerError::WrongRole("this store has no order".into()))?;
    let first = snapshot
        .state
        .epochs()
        .next()
        .map_or(order.log, |(_, epoch)| epoch.log);
    let proof: Result<Vec<Raw>, ServerError> = machine
        .ledger
        .range(&first, 0, PROOF_RECORDS - 1)
        .map(|receipt| raw_of(machine, &receipt?))
        .collect();
    Ok(JoinAnswer {
        fleet: machine.ledger.context().fleet,
        founding: order.founding.clone(),
        invitation: invitation.id,
        role: invitation.role,
        machine: invitation.machine.clone(),
        gateway: machine.id().clone(),
        gateway_key: machine.ledger.context().machine_key,
        order: order.log,
        proof: proof?,
    })
}

async fn enter(
    machine: &Arc<Machine>,
    code: &[u8; 16],
    joined: KeyJoined,
    genesis: Vec<Vec<u8>>,
) -> Result<(), ServerError> {
    let refuse = |why: &str| Err(ServerError::Invitation(why.to_owned()));
    let digest = joined.proof_digest();
    for (key, proof) in [
        (&joined.machine_key, &joined.machine_proof),
        (&joined.actor_key, &joined.actor_proof),
    ] {
        if !key.verifier().is_ok_and(|key| verify_join(&key, &digest, proof)) {
            return refuse("a key of the joining machine is not proven");
        }
    }
    if genesis.len() != joined.logs.len() {
        return refuse("the genesis records of work, facts and pulse are needed");
    }
    let mut runs = Vec::new();
    for ((bytes, log), stream) in
        genesis
            .into_iter()
            .zip(joined.logs)
            .zip([Stream::Work, Stream::Facts, Stream::Pulse])
    {
        let chain = Chain::start(&Record::parse(&bytes).map_err(ledger::LedgerError::from)?)
            .map_err(ledger::LedgerError::from)?;
        let fits = chain.log() == log
            && chain.machine_key() == joined.machine_key
            && chain.genesis().machine == joined.machine
            && chain.genesis().stream == stream
            && chain.fleet() == machine.ledger.context().fleet;
        if !fits {
            return refuse("a genesis record does not fit the machine that joins");
        }
        runs.extend(VerifiedRun::verify(vec![(bytes, None)], None)?);
    }
    let code = *code;
    let name: MachineId = joined.machine.clone();
    // Under this name another disk may have been known until now.
    machine.marks.returned(&name, 0);
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> {
            let drafts = members::join(tx.state(), &code, &joined, tx.now_us())?;
            central::put(tx, drafts)?;
            let stands = |m: &members::Machine| m.machine_key == joined.machine_key;
            if !tx.state().machine(&joined.machine).is_some_and(stands) {
                // Our hybrid clock is past the invitation's end, for instance.
                return Err(ServerError::Invitation(
                    "the invitation has ended; ask for a new one".into(),
                ));
            }
            for run in &runs {
                let intake = tx.intake(run)?;
                let Some(genesis) = intake.new.first() else {
                    continue;
                };
                let chain = tx
                    .foreign(&run.log())
                    .filter(|chain| chain.genesis().stream != Stream::Pulse);
                let Some(root) = chain.map(|chain| chain.head().root) else {
                    continue;
                };
                let seal = genesis.seal_digest();
                let range = PinnedRange {
                    log: run.log(),
                    first: 0,
                    last: 0,
                    seal,
                    root: Some(root),
                };
                central::put(tx, pin(&[range]))?;
            }
            Ok(())
        })
        .await?;
    machine.central.mark_told(&name);
    machine.central.hear(&name, machine.now_us());
    Ok(())
}
