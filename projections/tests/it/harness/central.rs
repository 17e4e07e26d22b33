//! What Central does in a test's fleet: accept, claim, judge, tick.

use super::{Held, MINUTE, World, machine};
use ledger::{LedgerError, Receipt};
use ledger_core::kinds::*;
use ledger_core::{Draft, Subject};
use ledger_projections::FleetState;
use ledger_projections::central::OrderTx;
use ledger_projections::queue::decide::{self, ClaimCommand, ClaimDecision};

impl World {
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
                let epoch = self.state.order().unwrap().epoch;
                let receipt = self.decide(vec![draft]).remove(0);
                let fence = Fence::of_claim(epoch, receipt.seq(), &receipt.seal_digest());
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

    /// A job of a handler that runs on a machine, and Central knows it.
    pub(crate) fn running(&mut self, name: &str, handler: &str) -> (Fence, JobId) {
        self.submit(spec(handler));
        let (fence, job) = self.must_claim(name, handler);
        self.start(name, fence);
        self.push(name);
        (fence, job)
    }

    /// A heavy job that is with mini under a newer claim, while studio still runs it under the older one.
    pub(crate) fn failed_over(&mut self) -> (Fence, Fence, JobId) {
        let (old, job) = self.running("studio", "render");
        self.silence("studio");
        self.expire(job, old);
        self.now += 6 * MINUTE;
        self.fail_over(job);
        let (new, again) = self.must_claim("mini", "render");
        assert_eq!(job, again);
        self.start("mini", new);
        self.push("mini");
        (old, new, job)
    }

    /// The ticker's failover of a job that is due.
    pub(crate) fn fail_over(&mut self, job: JobId) {
        let drafts = decide::failover(&self.state, &job, self.now, &self.policy, false).unwrap();
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

/// What Central decides in one step, appended decision by decision.
impl OrderTx for World {
    fn state(&self) -> &FleetState {
        &self.state
    }

    fn now_us(&self) -> i64 {
        self.now
    }

    fn decide(&mut self, draft: Draft) -> Result<Receipt, LedgerError> {
        Ok(self.write(vec![draft]).remove(0))
    }

    fn is_erased(&self, record: &Evidence) -> Result<bool, LedgerError> {
        let mut said = self.journal.iter().filter_map(ledger::erase::said);
        Ok(said.any(|erased| erased.record == *record))
    }

    fn sealings(&self, record: &Evidence) -> Result<Vec<Receipt>, LedgerError> {
        let target = self.journal.iter().find(|r| r.evidence() == *record);
        let said = |r: &Receipt| (r.statement().author, r.id());
        let same = |r: &&Receipt| target.is_some_and(|target| said(target) == said(r));
        Ok(self.journal.iter().filter(same).cloned().collect())
    }
}

/// The claim and the verdict of a job's success.
pub(crate) fn success(world: &World, job: JobId) -> (Fence, SuccessVerdict) {
    let success = world.state.job(&job).unwrap().success().expect("succeeded");
    (success.fence, success.verdict)
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
