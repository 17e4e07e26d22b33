//! What machines do in a test's fleet: join, run, report, push, say hello.

use super::{MINUTE, Node, World, key, machine};
use ledger::Receipt;
use ledger_core::kinds::*;
use ledger_core::{
    ContentDigest, Detail, Draft, LogId, PublicKey, ReceiptId, SigningKey, Stream, Subject, digest, signature,
};
use ledger_projections::queue::decide::{self, Holds};
use ledger_projections::{Place, members, order};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

impl World {
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
        let (key, actor) = (Arc::new(key(seed)), Arc::new(super::key(seed + 1)));
        let streams = [Stream::Work, Stream::Facts, Stream::Pulse];
        let opened = streams.map(|stream| self.open_log(&key, name, stream, None));
        let logs = [opened[0].0, opened[1].0, opened[2].0];
        let joined = joined(
            invitation,
            name,
            &key,
            &actor,
            super::key(seed + 2).public(),
            logs,
        );
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
        let holds = Holds {
            held: &held,
            ..nothing_held()
        };
        let drafts = decide::resume(&self.state, &machine(name), &holds, self.now).unwrap();
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

/// A machine that knows the whole order says that it holds nothing.
pub(crate) fn nothing_held() -> Holds<'static> {
    Holds {
        held: &[],
        seen: Place::MAX,
        incarnation: 1,
    }
}
