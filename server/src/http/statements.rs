//! What callers say: statements that they signed, or drafts that the local actor's key signs for them.
//!
//! Contract: at the network door only a signed statement is taken. Nothing is sealed before its signature was checked
//! strictly. A plain draft with the caller's own id is idempotent: said again, the first statement is found, made once
//! more with its salt and time, and compared by digest; other content under the id is the engine's error. Does not: know
//! what the author may say; the engine's state answers that in the commit.

use super::problem::Problem;
use super::wire::{SaidPayload, SignedBody};
use super::{Api, Door};
use crate::machine::Machine;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ledger::clock::{Entropy, SystemEntropy};
use ledger::core::statement::VerifiedStatement;
use ledger::core::{Draft, Payload, ReceiptId, Salt, Signature, SignedStatement};
use ledger::{PayloadState, Receipt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// A body, read by its form.
pub(crate) enum Said<T> {
    Signed(SignedStatement),
    Plain(T),
}

/// Tells a signed statement from a plain body, and refuses the plain one at the network door.
pub(crate) fn read<T: DeserializeOwned>(door: Door, body: Value) -> Result<Said<T>, Problem> {
    if body.get("statement").is_some() {
        let signed: SignedBody = serde_json::from_value(body).map_err(|e| Problem::body(e.to_string()))?;
        return Ok(Said::Signed(decode(&signed)?));
    }
    if door == Door::Network {
        return Err(Problem::body(
            "expected {statement, signature, payload?}: at this door authors sign what they say; found another body",
        ));
    }
    serde_json::from_value(body)
        .map(Said::Plain)
        .map_err(|e| Problem::body(e.to_string()))
}

fn decode(body: &SignedBody) -> Result<SignedStatement, Problem> {
    let base64 = |field: &str, text: &str| {
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| Problem::body(format!("expected `{field}` in base64")))
    };
    let hex = |field: &str, text: &str| {
        HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| Problem::body(format!("expected `{field}` in hex")))
    };
    let signature = Signature::from_slice(&hex("signature", &body.signature)?)
        .ok_or_else(|| Problem::body("expected `signature` of 64 bytes in hex"))?;
    let payload = match &body.payload {
        None => None,
        Some(payload) => {
            let salt: [u8; 32] = hex("payload.salt", &payload.salt)?
                .try_into()
                .map_err(|_| Problem::body("expected `payload.salt` of 32 bytes in hex"))?;
            Some(Payload {
                salt: Salt(salt),
                bytes: base64("payload.bytes", &payload.bytes)?,
            })
        }
    };
    Ok(SignedStatement {
        bytes: base64("statement", &body.statement)?,
        signature,
        payload,
    })
}

/// A signed statement as a body.
pub(crate) fn encode(said: &SignedStatement) -> SignedBody {
    SignedBody {
        statement: BASE64.encode(&said.bytes),
        signature: data_encoding::HEXLOWER.encode(&said.signature.0),
        payload: said.payload.as_ref().map(|payload| SaidPayload {
            salt: data_encoding::HEXLOWER.encode(&payload.salt.0),
            bytes: BASE64.encode(&payload.bytes),
        }),
    }
}

/// Checks a signed statement, off the threads that serve others.
pub(crate) async fn verify(said: SignedStatement) -> Result<VerifiedStatement, Problem> {
    let checked = tokio::task::spawn_blocking(move || said.verify()).await;
    let checked = checked.map_err(|_| Problem::broken("checking a statement"))?;
    Ok(checked.map_err(crate::error::ServerError::from)?)
}

/// Signs what a plain body says with the local actor's key. `draft` is given the salt, since a request's detail names the
/// commitment to its input.
pub(crate) async fn sign(
    api: &Api,
    id: Option<&str>,
    draft: impl Fn(&[u8; 32]) -> Result<Draft, Problem> + Send + 'static,
) -> Result<VerifiedStatement, Problem> {
    let id = id.map(read_id).transpose()?;
    let machine = Arc::clone(&api.machine);
    let signing = tokio::task::spawn_blocking(move || {
        if let Some(id) = id
            && let Some(again) = said_before(&machine, &id, &draft)?
        {
            return Ok(again);
        }
        let mut salt = [0; 32];
        SystemEntropy.fill(&mut salt);
        complete(&machine, draft(&salt)?, id, machine.now_us(), salt)
    });
    signing
        .await
        .map_err(|_| Problem::broken("signing a statement"))?
}

/// Reads an id that a caller chose.
pub(crate) fn read_id(text: &str) -> Result<ReceiptId, Problem> {
    ReceiptId::parse(text)
        .filter(ReceiptId::is_admissible)
        .ok_or_else(|| Problem::body(format!("expected a UUID of version 7 (or 8), found {text:?}")))
}

/// The receipt of a draft that was said before and whose payload was erased since. Its content cannot be compared any more; the
/// id then decides, with everything else that the statement says.
pub(crate) async fn erased_before(
    api: &Api,
    id: Option<&str>,
    draft: &Draft,
) -> Result<Option<Receipt>, Problem> {
    let Some(id) = id.map(read_id).transpose()? else {
        return Ok(None);
    };
    let (machine, draft) = (Arc::clone(&api.machine), draft.clone());
    let look = move || -> Result<Option<Receipt>, Problem> {
        let actor = machine.ledger.keyring().actor.public();
        let found = machine.ledger.find(&id)?.into_iter();
        let same = |receipt: &Receipt| {
            let said = receipt.statement();
            let media = said.payload.as_ref().map(|payload| payload.media.as_str());
            said.author == actor
                && (&said.kind, said.schema, &said.subject) == (&draft.kind, draft.schema, &draft.subject)
                && (&said.detail, said.cause) == (&draft.detail, draft.cause)
                && media == draft.content.as_ref().map(|(media, _)| media.as_str())
        };
        match found.into_iter().find(same) {
            Some(first) if machine.ledger.payload(&first)? == PayloadState::Erased => Ok(Some(first)),
            _ => Ok(None),
        }
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|_| Problem::broken("looking for what was said before"))?
}

fn said_before(
    machine: &Machine,
    id: &ReceiptId,
    draft: &impl Fn(&[u8; 32]) -> Result<Draft, Problem>,
) -> Result<Option<VerifiedStatement>, Problem> {
    let actor = machine.ledger.keyring().actor.public();
    let found = machine.ledger.find(id)?;
    let Some(first) = found
        .into_iter()
        .find(|receipt| receipt.statement().author == actor)
    else {
        return Ok(None);
    };
    let salt = machine
        .ledger
        .payload(&first)?
        .present()
        .map_or([0; 32], |payload| payload.salt.0);
    let again = complete(
        machine,
        draft(&salt)?,
        Some(*id),
        first.statement().authored_at,
        salt,
    )?;
    Ok((again.digest() == first.record.statement_digest()).then_some(again))
}

fn complete(
    machine: &Machine,
    draft: Draft,
    id: Option<ReceiptId>,
    authored_at: i64,
    salt: [u8; 32],
) -> Result<VerifiedStatement, Problem> {
    let mut random = [0; 10];
    SystemEntropy.fill(&mut random);
    let now_ms = u64::try_from(machine.now_us().max(0) / 1000).expect("not negative");
    let id = id.unwrap_or_else(|| ReceiptId::v7(now_ms, random));
    let key = &machine.ledger.keyring().actor;
    let fleet = machine.ledger.context().fleet;
    let authored = draft.into_statement(fleet, key.public(), id, authored_at, salt);
    let verified = authored.and_then(|authored| authored.sign(key).verify());
    Ok(verified.map_err(crate::error::ServerError::from)?)
}
