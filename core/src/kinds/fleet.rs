//! Families `epoch`, `central`, `key`, `handler`, `node` (in the order), `notice` and `receipt`.

use super::common::{Class, Role, hex32};
use crate::chain::Head;
use crate::digest::LogId;
use crate::id::ReceiptId;
use crate::key::PublicKey;
use crate::kind::MachineId;
use crate::signature::Signature;
use serde::{Deserialize, Serialize};

/// `epoch.started` 1: seq 1 of every order log but the first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochStarted {
    /// The epoch.
    pub epoch: u64,
    /// Its order log.
    pub log: LogId,
    /// The order log before.
    pub previous: LogId,
    /// Where the order before ends.
    pub cut: Head,
    /// The root-signed designation that permits it.
    pub designation: ReceiptId,
}

/// `central.designated` 1 (root): a machine may write the order in these epochs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CentralDesignated {
    /// The machine.
    pub machine: MachineId,
    /// Its key.
    pub machine_key: PublicKey,
    /// The first epoch.
    pub epoch_first: u64,
    /// The last epoch.
    pub epoch_last: u64,
}

/// `key.invited` 1 (root): whoever shows the code may join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyInvited {
    /// What it may become.
    pub role: Role,
    /// The machine id that it must take, when one was fixed.
    pub machine: Option<MachineId>,
    /// Digest of the single-use code.
    #[serde(with = "hex32")]
    pub code: [u8; 32],
    /// When the code dies, microseconds since 1970.
    pub until: i64,
}

/// `key.joined` 1 (Central, countersigned by the joiner): a machine is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyJoined {
    /// The invitation that it used.
    pub invitation: ReceiptId,
    /// The machine.
    pub machine: MachineId,
    /// What it is.
    pub role: Role,
    /// Its machine key.
    pub machine_key: PublicKey,
    /// Its key for witnessing others' checkpoints.
    pub witness_key: PublicKey,
    /// The key of the shells and agents on it.
    pub actor_key: PublicKey,
    /// Its logs: work, facts, pulse.
    pub logs: [LogId; 3],
    /// The machine key's signature over [`KeyJoined::proof_digest`].
    pub machine_proof: Signature,
    /// The actor key's signature over the same.
    pub actor_proof: Signature,
}

impl KeyJoined {
    /// What the joiner signs: the digest of the detail with both proofs zero.
    pub fn proof_digest(&self) -> [u8; 32] {
        let zero = Signature([0; 64]);
        let blank = Self {
            machine_proof: zero,
            actor_proof: zero,
            ..self.clone()
        };
        blake3::derive_key("ledger v1 join proof", &crate::canonical::encode(&blank))
    }
}

/// What a grant is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credential {
    /// An Ed25519 key.
    Key(PublicKey),
    /// A bearer token, by the digest of its secret.
    Token(#[serde(with = "hex32")] [u8; 32]),
}

/// `key.granted` 1 (root): what a credential may do from here on. Grants of one credential add up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyGranted {
    /// The key or token.
    pub credential: Credential,
    /// What people call it.
    pub name: String,
    /// A bundle of patterns.
    pub role: Role,
    /// The machine it belongs to.
    pub machine: Option<MachineId>,
    /// Further patterns of kinds, at most 32 of 64 bytes.
    pub may: Vec<String>,
    /// When it ends, microseconds since 1970.
    pub until: Option<i64>,
}

/// `key.revoked` 1 (root): an actor key or token adds nothing from this position on; a machine key nothing past its cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// The key or token.
    pub credential: Credential,
    /// For a machine key: the last admissible head of each of its logs.
    pub cut: Vec<(LogId, Head)>,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// `handler.declared` 1: a machine runs jobs of this handler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerDeclared {
    /// The machine.
    pub machine: MachineId,
    /// The handler.
    pub handler: String,
    /// Its class.
    pub class: Class,
    /// Its labels, at most 16.
    pub labels: Vec<String>,
    /// How many run at once.
    pub slots: u16,
}

/// `handler.withdrawn` 1: it no longer does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandlerWithdrawn {
    /// The machine.
    pub machine: MachineId,
    /// The handler.
    pub handler: String,
}

/// `node.lost` 1: Central heard nothing for too long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeLost {
    /// The machine.
    pub machine: MachineId,
    /// When Central last heard of it, microseconds since 1970.
    pub last_heard: i64,
}

/// `node.back` 1: it is heard again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeBack {
    /// The machine.
    pub machine: MachineId,
    /// When Central first heard of it again, microseconds since 1970.
    pub first_heard: i64,
}

/// `node.retired` 1 (root): the machine is no longer waited for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRetired {
    /// The machine.
    pub machine: MachineId,
    /// Why, at most 200 bytes.
    pub reason: String,
}

/// What a notice is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeTopic {
    /// A machine went offline.
    NodeOffline,
    /// A machine is back.
    NodeOnline,
    /// A job landed among the dead letters.
    JobParked,
    /// Two results of one job differ.
    ResultConflict,
    /// A verification found something.
    VerifyFailed,
    /// Central froze itself.
    CentralFrozen,
    /// A machine goes and comes more often than is worth telling each time.
    NodeFlapping,
    /// A machine's outbox grows although it reaches the gateway.
    OutboxGrows,
    /// A machine's disk is down to its reserve.
    DiskReserve,
    /// A machine is not trusted with work.
    NodeQuarantined,
    /// Two records for one place in a log, or a log that went back in time.
    ForkEvidence,
    /// A thing beside a machine is down.
    ServiceDown,
}

/// `notice.raised` 1: something that a person should know. Its id is derived, so that it is raised once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoticeRaised {
    /// About what.
    pub topic: NoticeTopic,
    /// The machine, when it is about one.
    pub machine: Option<MachineId>,
    /// The sentence, at most 200 bytes.
    pub text: String,
}

/// `notice.delivered` 1: a sink took it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoticeDelivered {
    /// The `notice.raised`.
    pub notice: ReceiptId,
    /// The sink, at most 200 bytes; never a secret.
    pub destination: String,
    /// Which attempt, from 1.
    pub attempt: u16,
}

/// `notice.undelivered` 1: a sink did not take it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoticeUndelivered {
    /// The `notice.raised`.
    pub notice: ReceiptId,
    /// The sink, at most 200 bytes; never a secret.
    pub destination: String,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// What went wrong, at most 200 bytes.
    pub error: String,
}

/// `notice.acknowledged` 1: somebody has seen a notice; whoever was not told of it is told no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoticeAcknowledged {
    /// The `notice.raised`.
    pub notice: ReceiptId,
    /// In words, at most 200 bytes.
    pub note: String,
}

/// Why a record is kept but inert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InadmissibleReason {
    /// The author's key is not known.
    UnknownAuthor,
    /// The author may not say this.
    NotPermitted,
    /// The author's signature is not valid.
    AuthorSignature,
    /// The kind does not stand in this stream.
    WrongStream,
    /// The detail is not the canonical encoding of its kind.
    MalformedDetail,
    /// Its time is too far from Central's.
    ClockOutOfBounds,
    /// A family that Central must understand, in a schema that it does not know.
    UnknownSchema,
    /// The same (author, id) stands elsewhere with other content.
    Conflicting,
}

/// `receipt.inadmissible` 1: names a record that is kept and inert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReceiptInadmissible {
    /// The record.
    pub record: super::Evidence,
    /// Its id.
    pub id: ReceiptId,
    /// Why.
    pub reason: InadmissibleReason,
}
