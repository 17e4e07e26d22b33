//! Who belongs to the fleet: credentials, machines, invitations, and what a key may say.
//!
//! Folds `key.*`, `node.lost`, `node.back`, `node.retired`. What only the root may say is folded only when the root's key
//! said it; the caller (`fleet`) has proven the signature. Decides joining. Reads no clock: an end is compared with the
//! time that the caller names.

use crate::order::Place;
use crate::queue::Refusal;
use crate::table::Table;
use ledger::Changes;
use ledger_core::kinds::{
    Credential, InadmissibleReason, KeyAnnounced, KeyGranted, KeyInvited, KeyJoined, KeyRevoked, Role,
};
use ledger_core::limits::DRIFT_MS_MAX;
use ledger_core::{
    Draft, LogId, MachineId, PublicKey, ReceiptId, Statement, Stream, Subject, grant, signature,
};
use serde::{Deserialize, Serialize};

/// One grant of a credential.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// A bundle of patterns.
    pub role: Role,
    /// What people call the credential.
    pub name: String,
    /// The machine it belongs to.
    pub machine: Option<MachineId>,
    /// Further patterns of kinds: a kind, or a beginning followed by `*`.
    pub may: Vec<String>,
    /// When it ends, microseconds since 1970.
    pub until: Option<i64>,
}

impl Grant {
    /// Whether it is in force at a time, microseconds since 1970.
    pub fn in_force(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What a credential was granted; grants add up.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CredentialRow {
    /// Its grants, oldest first.
    pub grants: Vec<Grant>,
    /// Where it was revoked, or replaced by another key of its machine.
    pub revoked: Option<Place>,
}

impl CredentialRow {
    /// What people call it: the newest name.
    pub fn name(&self) -> Option<&str> {
        self.grants.last().map(|grant| grant.name.as_str())
    }
}

/// Whether a machine is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineStatus {
    /// Heard, since a time in microseconds since 1970.
    Online {
        /// When it joined or was first heard again.
        since: i64,
    },
    /// Not heard, the last time in microseconds since 1970.
    Lost {
        /// When Central last heard of it.
        last_heard: i64,
    },
}

/// A machine of the fleet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub id: MachineId,
    /// What it is. Central runs jobs too.
    pub role: Role,
    /// The key that signs its logs.
    pub machine_key: PublicKey,
    /// The key that cosigns others' checkpoints, once it told it.
    pub witness_key: Option<PublicKey>,
    /// The key of shells and agents on it.
    pub actor_key: Option<PublicKey>,
    /// Its logs work, facts, pulse, as it joined with them.
    pub logs: Option<[LogId; 3]>,
    /// When it came in, microseconds since 1970.
    pub joined_at: i64,
    /// Whether it is heard.
    pub status: MachineStatus,
    /// No longer waited for.
    pub retired: bool,
}

impl Machine {
    /// Whether it is heard and still wanted.
    pub fn is_online(&self) -> bool {
        !self.retired && matches!(self.status, MachineStatus::Online { .. })
    }
}

/// An invitation, by the digest of its code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// The `key.invited`.
    pub id: ReceiptId,
    /// What the guest may become.
    pub role: Role,
    /// The name that it must take.
    pub machine: Option<MachineId>,
    /// When the code dies, microseconds since 1970.
    pub until: i64,
    /// Which machine key used it.
    pub used: Option<PublicKey>,
}

/// The tables of members.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Members {
    pub(crate) credentials: Table<Credential, CredentialRow>,
    pub(crate) machines: Table<MachineId, Machine>,
    pub(crate) by_key: Table<PublicKey, MachineId>,
    pub(crate) invitations: Table<[u8; 32], Invitation>,
}

impl Members {
    pub(crate) fn invited(&mut self, id: ReceiptId, invited: KeyInvited, changes: &mut Changes) {
        let KeyInvited {
            role,
            machine,
            code,
            until,
        } = invited;
        if self.invitations.get(&code).is_none() {
            self.invitations.set(
                code,
                Invitation {
                    id,
                    role,
                    machine,
                    until,
                    used: None,
                },
                changes,
            );
        }
    }

    pub(crate) fn granted(&mut self, granted: KeyGranted, at: i64, changes: &mut Changes) {
        let KeyGranted {
            credential,
            name,
            role,
            machine,
            may,
            until,
        } = granted;
        let grant = Grant {
            role,
            name,
            machine,
            may,
            until,
        };
        self.add_grant(credential, grant.clone(), changes);
        let (Some(machine), Credential::Key(key)) = (grant.machine, credential) else {
            return;
        };
        match (role, self.machines.get(&machine).cloned()) {
            (Role::Central | Role::Node, None) => {
                let row = Machine {
                    id: machine.clone(),
                    role,
                    machine_key: key,
                    witness_key: None,
                    actor_key: None,
                    logs: None,
                    joined_at: at,
                    status: MachineStatus::Online { since: at },
                    retired: false,
                };
                self.by_key.set(key, machine.clone(), changes);
                self.machines.set(machine, row, changes);
            }
            (Role::Central, Some(row)) if row.machine_key == key => {
                self.machines.set(machine, Machine { role, ..row }, changes);
            }
            (Role::Operator, Some(row)) if row.actor_key.is_none() && row.machine_key != key => {
                self.machines.set(
                    machine,
                    Machine {
                        actor_key: Some(key),
                        ..row
                    },
                    changes,
                );
            }
            _ => {}
        }
    }

    fn add_grant(&mut self, credential: Credential, grant: Grant, changes: &mut Changes) {
        let mut row = self.credentials.get(&credential).cloned().unwrap_or_default();
        if !row.grants.contains(&grant) {
            row.grants.push(grant);
        }
        self.credentials.set(credential, row, changes);
    }

    /// Whether a join stands within its invitation. `at` is the time of its seal or of the decision.
    pub(crate) fn admits(&self, joined: &KeyJoined, at: i64) -> Result<[u8; 32], Refusal> {
        let (code, invitation) = self
            .invitations
            .iter()
            .find(|(_, invitation)| invitation.id == joined.invitation)
            .ok_or(Refusal::InvitationUnknown)?;
        if invitation.used.is_some() {
            return Err(Refusal::InvitationUsed);
        }
        if at >= invitation.until {
            return Err(Refusal::InvitationExpired {
                until: invitation.until,
            });
        }
        let named = invitation.machine.as_ref() == Some(&joined.machine);
        if invitation.role != joined.role
            || joined.role == Role::Central
            || (invitation.machine.is_some() && !named)
        {
            return Err(Refusal::InvitationOther);
        }
        // A machine whose disk was lost joins anew under its name only when the root named it in the invitation.
        let taken = self
            .machines
            .get(&joined.machine)
            .is_some_and(|m| !named || m.role == Role::Central);
        if taken {
            return Err(Refusal::MachineTaken(joined.machine.clone()));
        }
        let keys = [joined.machine_key, joined.actor_key, joined.witness_key];
        let known = keys
            .iter()
            .any(|key| self.credentials.get(&Credential::Key(*key)).is_some());
        if known || keys[0] == keys[1] || keys[0] == keys[2] || keys[1] == keys[2] {
            return Err(Refusal::JoinKeys);
        }
        let digest = joined.proof_digest();
        let proven = |key: &PublicKey, proof| {
            key.verifier()
                .is_ok_and(|key| signature::verify_join(&key, &digest, proof))
        };
        if !proven(&joined.machine_key, &joined.machine_proof)
            || !proven(&joined.actor_key, &joined.actor_proof)
        {
            return Err(Refusal::JoinProof);
        }
        Ok(*code)
    }

    /// Takes a join in; `false` when its invitation does not carry it.
    pub(crate) fn joined(&mut self, joined: KeyJoined, at: i64, place: Place, changes: &mut Changes) -> bool {
        // Central decided by its wall clock, the seal's hybrid clock may stand a little later.
        let drift_us = i64::try_from(DRIFT_MS_MAX * 1000).expect("a minute");
        let Ok(code) = self.admits(&joined, at.saturating_sub(drift_us)) else {
            return false;
        };
        let invitation = self.invitations.get(&code).cloned().expect("admits found it");
        self.invitations.set(
            code,
            Invitation {
                used: Some(joined.machine_key),
                ..invitation
            },
            changes,
        );
        if let Some(before) = self.machines.get(&joined.machine).cloned() {
            for key in [Some(before.machine_key), before.actor_key].into_iter().flatten() {
                self.revoke(Credential::Key(key), place, changes);
            }
            self.by_key.remove(&before.machine_key, changes);
        }
        let grant = |role, name: String| Grant {
            role,
            name,
            machine: Some(joined.machine.clone()),
            may: Vec::new(),
            until: None,
        };
        let machine_grant = grant(joined.role, joined.machine.to_string());
        let actor_grant = grant(Role::Agent, format!("local@{}", joined.machine));
        self.add_grant(Credential::Key(joined.machine_key), machine_grant, changes);
        self.add_grant(Credential::Key(joined.actor_key), actor_grant, changes);
        self.by_key
            .set(joined.machine_key, joined.machine.clone(), changes);
        let row = Machine {
            id: joined.machine.clone(),
            role: joined.role,
            machine_key: joined.machine_key,
            witness_key: Some(joined.witness_key),
            actor_key: Some(joined.actor_key),
            logs: Some(joined.logs),
            joined_at: at,
            status: MachineStatus::Online { since: at },
            retired: false,
        };
        self.machines.set(joined.machine, row, changes);
        true
    }

    /// Takes in with which key Central's machine cosigns; `false` for any other machine, and for a key with another purpose.
    pub(crate) fn announced(&mut self, announced: &KeyAnnounced, changes: &mut Changes) -> bool {
        let known = self
            .credentials
            .get(&Credential::Key(announced.witness_key))
            .is_some();
        let Some(row) = self.machines.get(&announced.machine).cloned() else {
            return false;
        };
        if row.role != Role::Central || known || row.machine_key == announced.witness_key {
            return false;
        }
        let witness_key = Some(announced.witness_key);
        self.machines
            .set(announced.machine.clone(), Machine { witness_key, ..row }, changes);
        true
    }

    pub(crate) fn revoked(&mut self, revoked: &KeyRevoked, place: Place, changes: &mut Changes) {
        self.revoke(revoked.credential, place, changes);
    }

    fn revoke(&mut self, credential: Credential, place: Place, changes: &mut Changes) {
        let row = self.credentials.get(&credential).cloned().unwrap_or_default();
        let revoked = row.revoked.or(Some(place));
        self.credentials
            .set(credential, CredentialRow { revoked, ..row }, changes);
    }

    /// Changes a machine's row; `false` when there is none.
    pub(crate) fn change(
        &mut self,
        machine: &MachineId,
        changes: &mut Changes,
        change: impl FnOnce(&mut Machine),
    ) -> bool {
        let Some(mut row) = self.machines.get(machine).cloned() else {
            return false;
        };
        change(&mut row);
        self.machines.set(machine.clone(), row, changes);
        true
    }

    /// The roles of a credential that are in force.
    fn grants_in_force(&self, credential: &Credential, now: i64) -> impl Iterator<Item = &Grant> {
        self.credentials
            .get(credential)
            .filter(|row| row.revoked.is_none())
            .into_iter()
            .flat_map(|row| &row.grants)
            .filter(move |grant| grant.in_force(now))
    }

    /// The strongest role of a credential that is in force.
    pub(crate) fn role_of(&self, credential: &Credential, now: i64) -> Option<Role> {
        self.grants_in_force(credential, now)
            .map(|grant| grant.role)
            .min()
    }

    pub(crate) fn authorise(
        &self,
        statement: &Statement,
        stream: Stream,
        root: bool,
        own_log: bool,
        now: i64,
    ) -> Result<(), InadmissibleReason> {
        let credential = Credential::Key(statement.author);
        let revoked = self
            .credentials
            .get(&credential)
            .is_some_and(|row| row.revoked.is_some());
        if revoked && !root {
            return Err(InadmissibleReason::NotPermitted);
        }
        let mut verdict = grant::permits(None, root, own_log, &statement.kind, stream);
        for held in self.grants_in_force(&credential, now) {
            if verdict.is_ok() {
                break;
            }
            verdict = grant::permits(Some(held.role), root, own_log, &statement.kind, stream);
            if verdict == Err(InadmissibleReason::NotPermitted) && pattern_permits(held, statement, stream) {
                verdict = Ok(());
            }
        }
        verdict
    }
}

/// Whether a further pattern covers a kind that actors may write at all.
fn pattern_permits(grant: &Grant, statement: &Statement, stream: Stream) -> bool {
    use ledger_core::kinds::{Author, info};
    let kind = &statement.kind;
    let open = match info(kind.as_str()) {
        Some(info) => info.author == Author::Actor && info.streams.contains(&stream),
        None => kind.is_custom() && stream != Stream::Work,
    };
    open && grant.may.iter().any(|pattern| matches(pattern, kind.as_str()))
}

/// Whether a pattern covers a kind: the same text, or a beginning followed by `*`.
///
/// ```
/// use ledger_projections::members::matches;
/// assert!(matches("x.note.*", "x.note.day") && matches("run.lost", "run.lost"));
/// assert!(!matches("run.lost", "run.lost.again"));
/// ```
pub fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => kind.starts_with(beginning),
        None => pattern == kind,
    }
}

/// Decides a join: whoever shows the code of an invitation and proves its keys is in. Nothing to write when this very
/// join stands already.
///
/// # Errors
/// [`Refusal`] naming what does not fit the invitation.
pub fn join(
    state: &crate::FleetState,
    code: &[u8],
    joined: &KeyJoined,
    now: i64,
) -> Result<Vec<Draft>, Refusal> {
    let digest = ledger_core::digest::secret_digest(code);
    let invitation = state
        .members
        .invitations
        .get(&digest)
        .ok_or(Refusal::InvitationUnknown)?;
    if invitation.id != joined.invitation {
        return Err(Refusal::InvitationOther);
    }
    let stands = state
        .members
        .machines
        .get(&joined.machine)
        .is_some_and(|m| m.machine_key == joined.machine_key);
    if stands && invitation.used == Some(joined.machine_key) {
        return Ok(Vec::new());
    }
    state.members.admits(joined, now)?;
    let subject = Subject::new(&format!("node/{}", joined.machine)).expect("short and printable");
    Ok(vec![Draft::of(joined, subject).cause(joined.invitation)])
}
