//! A gateway whose order lost its end, and what machines bring of it afterwards.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Config;
use crate::exchange::Claim;
use crate::gateway::claims::claim_now;
use crate::gateway::records::read_run;
use crate::node::{close, succeed};
use ledger::core::kinds::{
    Class, Costs, Fence, HandlerDeclared, InputRef, JobCancelAsked, JobReleased, JobSpec, Misfire, Outputs,
    Overlap, RunStarted, RunSucceeded, ScheduleDefined,
};
use ledger::core::{Payload, VerifiedStatement};
use ledger_projections::central::{fire, greet};
use ledger_projections::queue::decide::{self, Holds};
use ledger_projections::queue::{Phase, Standing};
use ledger_projections::schedules::Input;
use std::path::Path;

mod bounds;
mod ticks;

const SECRET: &str = "the customer is called Xanthippe Quackenbush-Zylberstein";

type Raws = Vec<(Vec<u8>, Option<Payload>)>;

/// A gateway that decides, with two handlers of its own.
struct Gateway(Arc<Machine>);

impl Gateway {
    fn open(home: &Path) -> Self {
        let machine = Machine::open(home, Config::default()).unwrap();
        machine.central.begin_healing();
        machine.central.begin_deciding();
        Self(machine)
    }

    async fn found(home: &Path) -> Self {
        crate::setup::init(home, &MachineId::new("gateway").unwrap()).unwrap();
        let gateway = Self::open(home);
        let own = gateway.0.id().clone();
        let handlers = [("render", Class::Light), ("pay", Class::Exclusive)];
        let declared = handlers.map(|(handler, class)| HandlerDeclared {
            machine: own.clone(),
            handler: handler.into(),
            class,
            labels: Vec::new(),
            slots: 100,
        });
        let declaring = gateway.0.ledger.submit(move |tx| -> Result<(), ServerError> {
            let holds = Holds {
                held: &[],
                seen: Place::MAX,
                incarnation: 1,
            };
            Ok(greet(tx, &own, &declared, &holds)?)
        });
        declaring.await.unwrap();
        gateway
    }

    /// A copy of it that lost what came after the copy was made, in its second epoch.
    async fn put_back(old: &Path) -> Self {
        Self::go_on(Machine::open_behind(old, Config::default()).unwrap(), old).await
    }

    async fn go_on(behind: Arc<Machine>, old: &Path) -> Self {
        let logs = behind.ledger.written_logs().into_values().collect();
        succeed(&behind, logs).await.unwrap();
        close(&behind, |ledger| ledger.close_restored()).await.unwrap();
        drop(behind);
        let machine = Machine::open(old, Config::default()).unwrap();
        machine.central.begin_healing();
        epochs::begin(&machine).await.unwrap();
        machine.central.begin_deciding();
        Self(machine)
    }

    async fn close(self) {
        close(&self.0, |ledger| ledger.close()).await.unwrap();
    }

    fn log(&self, stream: Stream) -> LogId {
        self.0.ledger.own_log(stream).unwrap()
    }

    fn end(&self, log: &LogId) -> u64 {
        self.0.ledger.head(log).unwrap().seq
    }

    /// What stands in a log behind a seq, up to another.
    fn tail(&self, log: &LogId, behind: u64, to: u64) -> Raws {
        let mut raws = Vec::new();
        while let next = behind + 1 + u64::try_from(raws.len()).unwrap()
            && next <= to
        {
            let (records, _) = read_run(&self.0, log, next).unwrap();
            raws.extend(records.into_iter().map(|raw| (raw.record, raw.payload)));
        }
        raws.truncate(usize::try_from(to - behind).unwrap());
        raws
    }

    fn said(&self, spec: &JobSpec, input: Option<&str>) -> VerifiedStatement {
        let subject = Subject::new("project/site").unwrap();
        let mut spec = spec.clone();
        let salt = [7; 32];
        spec.input = input.map(|input| InputRef {
            commitment: ledger::core::digest::commitment(&salt, input.as_bytes()),
            bytes: u32::try_from(input.len()).unwrap(),
        });
        let draft = Draft::of(&RequestReceived { spec }, subject);
        let draft = match input {
            Some(input) => draft.payload("text/plain", input.into()).unwrap().salt(salt),
            None => draft,
        };
        self.0.sign_as_actor(draft).unwrap()
    }

    /// Asks for so many jobs of a handler in one commit.
    async fn ask(&self, handler: &str, count: usize) -> Vec<JobId> {
        let said: Vec<_> = (0..count).map(|_| self.said(&spec(handler), None)).collect();
        let jobs = said.iter().map(|said| job_of(said.statement())).collect();
        let policy = self.0.config.policy();
        let asking = self.0.ledger.submit(move |tx| -> Result<(), ServerError> {
            for said in said {
                let asked = tx.append_signed(Stream::Order, &said)?;
                let drafts = decide::accept_request(tx.state(), asked.receipt(), tx.now_us(), &policy)?;
                central::put(tx, drafts)?;
            }
            Ok(())
        });
        asking.await.unwrap();
        jobs
    }

    async fn claim(&self, handler: &str, n: u8) -> Vec<Fence> {
        let claim = Claim {
            claim: [n; 16],
            incarnation: 1,
            free: vec![(handler.to_owned(), 1)],
            wait_ms: 0,
        };
        let own = self.0.id().clone();
        let given = claim_now(&self.0, &own, &claim, None).await.unwrap();
        let records = given.into_iter();
        let records = records.map(|given| ledger::core::Record::parse(&given.claimed.record).unwrap());
        let epoch = self.0.ledger.snapshot().state.order().unwrap().epoch;
        records
            .map(|record| Fence::of_claim(epoch, record.seal().seq, &record.seal_digest()))
            .collect()
    }

    async fn say<D: Detail>(&self, detail: &D, job: &JobId) {
        let said = self.0.sign_as_actor(Draft::of(detail, job.subject())).unwrap();
        self.0.append(said).await.unwrap();
    }

    async fn cancel(&self, job: JobId) {
        let asked = JobCancelAsked {
            job,
            force: false,
            reason: "not wanted".into(),
        };
        self.say(&asked, &job).await;
    }

    async fn succeed(&self, job: JobId, fence: Fence) {
        let started = RunStarted {
            job,
            fence,
            handler: "render".into(),
            attempt: 1,
        };
        let done = success(job, fence);
        let drafts = vec![
            Draft::of(&started, job.subject()),
            Draft::of(&done, job.subject()),
        ];
        self.0.say(Stream::Work, drafts).await.unwrap();
    }

    /// Takes in what a machine brings, all of it.
    async fn bring(&self, raws: &Raws) {
        let studio = MachineId::new("studio").unwrap();
        for raws in raws.chunks(1000) {
            let log = ledger::core::Record::parse(&raws[0].0).unwrap().seal().log;
            let chain = self.0.ledger.snapshot().logs.get(&log).cloned();
            let run = VerifiedRun::verify(raws.to_vec(), chain.as_deref()).unwrap();
            keep(&self.0, &studio, run.unwrap()).await.unwrap();
        }
        self.0.central.orphans.hear(&studio, false, running_ms());
    }

    fn phase(&self, job: &JobId) -> Option<Phase> {
        let snapshot = self.0.ledger.snapshot();
        snapshot.state.job(job).map(|job| job.phase())
    }

    fn standing(&self, fence: &Fence) -> Standing {
        self.0.ledger.snapshot().state.standing(fence)
    }

    /// How often the order that goes on has a kind.
    fn count(&self, kind: &str) -> usize {
        let order = self.0.ledger.range(&self.log(Stream::Order), 0, u64::MAX);
        order
            .filter(|receipt| receipt.as_ref().unwrap().kind() == kind)
            .count()
    }
}

fn spec(handler: &str) -> JobSpec {
    JobSpec {
        handler: handler.into(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 3,
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

fn success(job: JobId, fence: Fence) -> RunSucceeded {
    RunSucceeded {
        job,
        fence,
        result: ledger::core::ContentDigest([1; 32]),
        outputs: Outputs {
            manifest: [1; 32],
            count: 1,
        },
        costs: Costs::default(),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    // A store refuses keys that others may read.
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_file() {
            std::fs::copy(from, to).unwrap();
        }
    }
}

fn holds(dir: &Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), needle);
        }
        let text = kind.is_file().then(|| std::fs::read(entry.path()).unwrap());
        text.is_some_and(|bytes| {
            bytes
                .windows(needle.len())
                .any(|found| found == needle.as_bytes())
        })
    })
}

#[test]
fn a_branch_is_settled_when_all_of_it_is_here_and_what_comes_meanwhile_is_settled_later() {
    let (orphans, studio) = (Orphans::default(), MachineId::new("studio").unwrap());
    // What earlier processes kept.
    assert!(orphans.is_unsettled(0));
    orphans.settled(1);
    assert!(!orphans.is_unsettled(0));

    orphans.hear(&studio, true, 0);
    orphans.brought(&studio, BRINGING_MS);
    orphans.hear(&studio, true, BRINGING_MS + 1);
    assert!(!orphans.is_unsettled(2 * BRINGING_MS - 1));
    // It went away in the middle.
    assert!(orphans.is_unsettled(2 * BRINGING_MS));
    orphans.brought(&studio, 3 * BRINGING_MS);
    orphans.hear(&studio, false, 3 * BRINGING_MS);
    assert!(orphans.is_unsettled(3 * BRINGING_MS));

    // One that has another branch than is kept says so for ever, and is not waited for.
    orphans.hear(&studio, true, 4 * BRINGING_MS);
    orphans.hear(&studio, true, 5 * BRINGING_MS);
    assert!(orphans.is_unsettled(5 * BRINGING_MS));
}

#[tokio::test]
async fn a_long_branch_is_settled_in_bounded_pieces_and_a_claim_at_its_end_holds_for_the_request_at_its_beginning()
 {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let jobs = gateway.ask("render", AT_ONCE + 100).await;
    let paid = gateway.ask("pay", 1).await[0];
    let (first, cancelled) = (jobs[0], jobs[1]);
    let given = gateway.claim("render", 1).await[0];
    let paying = gateway.claim("pay", 2).await[0];
    gateway.cancel(cancelled).await;
    // Whoever says so knows nothing of what the claim came to.
    let released = JobReleased {
        job: paid,
        note: String::new(),
    };
    let released = gateway
        .0
        .sign_as_actor(Draft::of(&released, paid.subject()))
        .unwrap();
    let saying = gateway
        .0
        .ledger
        .submit(move |tx| tx.append_signed(Stream::Order, &released).map(drop));
    saying.await.unwrap();
    let tail = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    let gateway = Gateway::put_back(&old).await;
    gateway.bring(&tail).await;
    let machine = &gateway.0;
    let mut branches = Branch::all(machine).unwrap();
    let branch = branches.pop().unwrap();
    let first_piece = branch.piece(machine, branch.first()).unwrap();
    assert!(first_piece.told.len() <= AT_ONCE && first_piece.next.is_some());

    // Somebody has seen more, in the middle of it.
    let next = first_piece.next.unwrap();
    say_again(machine, &branch, first_piece.told).await.unwrap();
    assert_eq!(gateway.standing(&given), Standing::Released, "known with its job");
    let at = gateway.end(&gateway.log(Stream::Order));
    machine.central.freeze("studio has seen more".into());
    let rest = branch.piece(machine, next).unwrap();
    let refused = say_again(machine, &branch, rest.told).await;
    assert!(matches!(refused, Err(ServerError::NotServing(_))), "{refused:?}");
    settle(machine).await;
    assert_eq!(gateway.end(&gateway.log(Stream::Order)), at);
    gateway.close().await;

    // As after a kill between two commits.
    let gateway = Gateway::open(&old);
    settle(&gateway.0).await;
    for job in &jobs {
        let phase = if *job == cancelled {
            Phase::Cancelled
        } else {
            Phase::Ready
        };
        assert_eq!(gateway.phase(job), Some(phase), "{job}");
    }
    assert_eq!(
        (gateway.phase(&paid), gateway.phase(&first)),
        (Some(Phase::Held), Some(Phase::Ready))
    );
    assert_eq!(gateway.standing(&paying), Standing::Released);
    assert_eq!(
        (gateway.count("job.accepted"), gateway.count("job.claim-proven")),
        (AT_ONCE + 101, 2)
    );
    assert_eq!(
        (gateway.count("log.cited"), gateway.count("job.cancel-asked")),
        (1, 1)
    );
    // The same once more gives nothing.
    let at = gateway.end(&gateway.log(Stream::Order));
    gateway.bring(&tail).await;
    gateway.close().await;
    let gateway = Gateway::open(&old);
    settle(&gateway.0).await;
    assert_eq!(gateway.end(&gateway.log(Stream::Order)), at);
    gateway.succeed(first, given).await;
    assert_eq!(gateway.phase(&first), Some(Phase::Succeeded));
    gateway.close().await;
}

#[tokio::test]
async fn what_a_branch_erases_is_gone_wherever_its_request_was_sealed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let request = gateway.said(&spec("render"), Some(SECRET));
    let (id, job) = (request.statement().id, job_of(request.statement()));
    gateway.0.request(request.clone()).await.unwrap();
    let shorter = gateway.tail(&order, cut, gateway.end(&order));
    gateway.0.erase(id, "they asked for it").await.unwrap();
    let longer = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    // The shorter first, and then the longer, which another machine had.
    let later = dir.path().join("later");
    copy(&old, &later);
    let gateway = Gateway::put_back(&old).await;
    gateway.bring(&shorter).await;
    settle(&gateway.0).await;
    assert_eq!(gateway.phase(&job), Some(Phase::Ready));
    assert_eq!(gateway.0.ledger.find(&id).unwrap().len(), 2);
    assert!(holds(&old, SECRET));
    gateway.bring(&longer).await;
    settle(&gateway.0).await;
    assert!(!holds(&old, SECRET));
    assert_eq!(gateway.count("erased"), 2);
    settle(&gateway.0).await;
    assert_eq!(gateway.count("log.cited"), 2);
    gateway.close().await;

    // Its author asked again and had it erased before a machine brought it once more.
    let gateway = Gateway::put_back(&later).await;
    gateway.0.request(request).await.unwrap();
    gateway.0.erase(id, "they asked for it").await.unwrap();
    assert!(!holds(&later, SECRET));
    gateway.bring(&shorter).await;
    settle(&gateway.0).await;
    assert!(!holds(&later, SECRET));
    gateway.close().await;
}

#[tokio::test]
async fn two_machines_with_branches_of_different_lengths_come_to_the_same_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    let before = gateway.ask("render", 1).await[0];
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let known = gateway.claim("render", 1).await[0];
    let asked = gateway.ask("render", 2).await;
    let given = gateway.claim("render", 2).await[0];
    let shorter = gateway.tail(&order, cut, gateway.end(&order));
    let late = gateway.ask("render", 1).await[0];
    for job in [before, asked[1], late] {
        gateway.cancel(job).await;
    }
    let longer = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    for (n, parts) in [[&shorter, &longer], [&longer, &shorter]].into_iter().enumerate() {
        let place = dir.path().join(format!("in-order-{n}"));
        copy(&old, &place);
        let gateway = Gateway::put_back(&place).await;
        // It is done in the new epoch before anybody brings that somebody cancelled it.
        let now = gateway.claim("render", 3).await[0];
        gateway.succeed(before, now).await;
        // What was told too early is judged when the claim is known.
        gateway.succeed(asked[0], given).await;
        assert_eq!(gateway.phase(&asked[0]), None);
        for part in parts {
            gateway.bring(part).await;
            settle(&gateway.0).await;
            assert_eq!(gateway.phase(&asked[0]), Some(Phase::Succeeded));
        }
        let phases = [before, asked[1], late].map(|job| gateway.phase(&job));
        let (done, cancelled) = (Some(Phase::Succeeded), Some(Phase::Cancelled));
        assert_eq!(phases, [done, cancelled, cancelled], "in order {n}");
        assert_ne!(gateway.standing(&known), Standing::Unknown);
        assert_eq!(gateway.count("job.claim-proven"), 2);
        assert_eq!(gateway.count("job.accepted"), 3);
        assert_eq!(
            gateway.count("job.late-result"),
            1,
            "rejected once, adopted by its success"
        );
        gateway.close().await;
    }
}
