//! What callers may say on a machine, and what becomes of it: requests, statements of every other kind, drains.
//!
//! On a store that writes the order, what callers say goes into the order and is decided in the same commit. On a node it
//! goes into its facts and is decided when the gateway has it.

use crate::error::ServerError;
use crate::gateway::central;
use crate::gateway::schedules;
use crate::machine::{AppendAnswer, Machine, RequestAnswer};
use crate::steering::{follow_up, may_not_say};
use ledger::clock::SystemEntropy;
use ledger::core::kinds::{self, Detail, InadmissibleReason, JobId, RequestReceived};
use ledger::core::statement::VerifiedStatement;
use ledger::core::{Draft, Stream};
use ledger::{Appended, Receipt};
use ledger_projections::notices;
use ledger_projections::queue::{answer_for, decide};
use std::collections::BTreeSet;

/// The newest facts that are looked through for a request that another one depends on: a machine without its gateway adds some
/// thousand a day.
const KEPT_LOOKED_AT_MAX: u64 = 20_000;

impl Machine {
    /// Signs a draft with the local actor key, for callers on this machine who bring no signature.
    ///
    /// # Errors
    /// [`ServerError::Ledger`] for a broken bound.
    pub fn sign_as_actor(&self, draft: Draft) -> Result<VerifiedStatement, ServerError> {
        Ok(self.ledger.sign_as_actor(draft, &SystemEntropy)?)
    }

    // Whether what is said now is decided now. Not on a node, and not by a command beside a gateway's resting daemon when other
    // machines may have seen more of the order than this store has: then it is kept in facts, and decided later.
    pub(crate) async fn decides(&self) -> Result<bool, ServerError> {
        if !self.is_gateway() {
            return Ok(false);
        }
        if self.central.is_idle() {
            if !self.central.all_marks_told(&self.ledger.snapshot().state) {
                return Ok(false);
            }
            self.central.begin_deciding();
        }
        self.central.wait_until_serving().await?;
        Ok(true)
    }

    /// Seals a request and, on the gateway, makes it a job in the same commit.
    ///
    /// # Errors
    /// [`ServerError::Refused`] when the request breaks a bound or its author may not ask; [`ServerError::NotServing`]
    /// while Central waits for marks.
    pub async fn request(&self, said: VerifiedStatement) -> Result<RequestAnswer, ServerError> {
        Ok(self.ask(said).await?.0)
    }

    async fn ask(&self, said: VerifiedStatement) -> Result<(RequestAnswer, Receipt), ServerError> {
        self.has_room()?;
        let statement = said.statement();
        if statement.kind.as_str() != RequestReceived::KIND || statement.schema != RequestReceived::SCHEMA {
            return Err(ServerError::WrongRole(format!(
                "a request.received of schema 1 is expected, not {} {}",
                statement.kind, statement.schema
            )));
        }
        let detail =
            RequestReceived::decode(&statement.detail).map_err(|e| ServerError::Malformed(e.to_string()))?;
        if !decide::names_its_payload(&detail.spec, statement) {
            let why =
                "the input that the request names is not its payload; name the payload's commitment and size";
            return Err(ServerError::Malformed(why.into()));
        }
        let (job, id) = (JobId::of_request(&statement.author, &statement.id), statement.id);
        let decides = self.decides().await?;
        let policy = self.config.policy();
        // What is kept here goes before this request, so the gateway knows it by then.
        let mut checked = detail.spec;
        if !decides && !checked.depends_on.is_empty() {
            let kept = self.kept_jobs()?;
            checked.depends_on.retain(|job| !kept.contains(job));
        }
        let committed = self
            .ledger
            .submit(move |tx| -> Result<(Appended, String, String), ServerError> {
                let statement = said.statement();
                let before = tx.find(&statement.author, &statement.id)?;
                if before.is_none() {
                    decide::check_spec(tx.state(), &checked, &policy)?;
                }
                if !decides {
                    let appended = tx.append_signed(Stream::Facts, &said)?;
                    let answer = "kept here; it becomes a job when the gateway has it";
                    return Ok((appended, "local".into(), answer.into()));
                }
                let now = tx.now_us();
                tx.state()
                    .authorise(statement, Stream::Order, false, now)
                    .map_err(|reason| {
                        ServerError::Forbidden(format!("the author may not ask for work ({reason:?})"))
                    })?;
                let appended = tx.append_signed(Stream::Order, &said)?;
                if tx.state().job(&job).is_none() {
                    let drafts = decide::accept_request(tx.state(), appended.receipt(), now, &policy)?;
                    central::put(tx, drafts)?;
                }
                let answer = answer_for(tx.state(), &job);
                let (code, text) = answer.map_or(("unknown".into(), String::new()), |a| {
                    (a.code().into(), a.to_string())
                });
                Ok((appended, code, text))
            })
            .await?;
        let (appended, answer_code, answer) = committed.value;
        let repeated = appended.is_repetition();
        let receipt = self.settled(&appended, committed.receipts)?;
        let answer = RequestAnswer {
            standing: self.standing_of(&receipt).await,
            job,
            receipt: id,
            answer_code,
            answer,
            repeated,
        };
        Ok((answer, receipt))
    }

    // The jobs that will come of the requests which are kept in this machine's facts and the order has not taken in.
    fn kept_jobs(&self) -> Result<BTreeSet<JobId>, ServerError> {
        let Some(facts) = self.ledger.own_log(Stream::Facts) else {
            return Ok(BTreeSet::new());
        };
        let snapshot = self.ledger.snapshot();
        let pinned = snapshot
            .state
            .pin(&facts)
            .map_or(0, |pin| pin.seq.saturating_add(1));
        let end = snapshot
            .logs
            .get(&facts)
            .map_or(0, |chain| chain.tip().0.saturating_add(1));
        let first = pinned.max(end.saturating_sub(KEPT_LOOKED_AT_MAX));
        let mut jobs = BTreeSet::new();
        for receipt in self.ledger.range(&facts, first, u64::MAX) {
            let receipt = receipt?;
            if receipt.kind() == RequestReceived::KIND {
                jobs.insert(JobId::of_request(&receipt.statement().author, &receipt.id()));
            }
        }
        Ok(jobs)
    }

    /// Seals what an actor or the root key said. What asks Central for something is decided in the same commit.
    ///
    /// # Errors
    /// [`ServerError::Forbidden`] when the author may not say it here.
    pub async fn append(&self, said: VerifiedStatement) -> Result<AppendAnswer, ServerError> {
        let kind = said.statement().kind.clone();
        if kind.as_str() == RequestReceived::KIND {
            let (answer, receipt) = self.ask(said).await?;
            return Ok(AppendAnswer {
                receipt,
                repeated: answer.repeated,
                standing: answer.standing,
            });
        }
        if !kind.is_custom() && kinds::info(kind.as_str()).is_none() {
            let why =
                format!("kind {kind} is none that this program knows; kinds of your own begin with \"x.\"");
            return Err(ServerError::Forbidden(why));
        }
        if kind.is_custom() {
            self.has_room()?;
        }
        let stream = match (self.is_gateway(), kind.is_custom()) {
            (_, true) | (false, _) => Stream::Facts,
            (true, false) => Stream::Order,
        };
        if stream == Stream::Order && !self.decides().await? {
            // Says what to do: the daemon does not run.
            self.central.wait_until_serving().await?;
        } else if self.is_gateway() && !self.central.is_idle() {
            // Until the marks are known this store may be an old copy, and what it says a second record for one seq.
            self.central.wait_until_serving().await?;
        }
        let node = !self.is_gateway();
        let policy = self.config.policy();
        let about = schedules::About::of(self, said.statement())?;
        let committed = self
            .ledger
            .submit(move |tx| -> Result<Appended, ServerError> {
                let now = tx.now_us();
                tx.state()
                    .authorise(said.statement(), stream, false, now)
                    // What a node that just joined does not know yet is kept, and judged where the order is.
                    .or_else(|reason| match reason {
                        InadmissibleReason::UnknownAuthor if node => Ok(()),
                        reason => Err(reason),
                    })
                    .map_err(|reason| may_not_say(said.statement(), reason))?;
                let statement = said.statement();
                if stream == Stream::Order && tx.find(&statement.author, &statement.id)?.is_none() {
                    // What the fold would leave alone is refused, with the reason.
                    decide::steers(tx.state(), statement, now)?;
                }
                if let Some(about) = &about {
                    about.before(tx, statement, &policy)?;
                }
                let appended = tx.append_signed(stream, &said)?;
                if let Some(erased) = ledger::erase::said(appended.receipt()) {
                    if tx.erased_by(&erased.record)?.is_none() {
                        return Err(ledger::LedgerError::MayNotErase(erased.id).into());
                    }
                    if stream == Stream::Order {
                        crate::erase::everywhere(tx, &erased)?;
                    }
                }
                if !appended.is_repetition() {
                    follow_up(tx, said.statement(), appended.receipt())?;
                }
                Ok(appended)
            })
            .await?;
        let repeated = committed.value.is_repetition();
        let receipt = self.settled(&committed.value, committed.receipts)?;
        let standing = self.standing_of(&receipt).await;
        Ok(AppendAnswer {
            receipt,
            repeated,
            standing,
        })
    }

    /// Returns when this machine may say something of its own. Until the marks are known the store of a gateway's daemon may be an
    /// old copy of itself, and what it says a second record for one seq.
    ///
    /// # Errors
    /// [`ServerError::NotServing`] when Central is frozen, or still waits for marks after 20 seconds.
    pub(crate) async fn wait_until_it_may_say(&self) -> Result<(), ServerError> {
        let central = &self.central;
        let may = !self.is_gateway()
            || central.is_idle()
            || central.is_serving()
            || (central.healing() && central.all_marks_told(&self.ledger.snapshot().state));
        if may {
            return Ok(());
        }
        central.wait_until_serving().await
    }

    /// Says something as this machine. What it says of its own runs is decided in the same commit when it is Central.
    ///
    /// # Errors
    /// [`ServerError::NotServing`] on a gateway that may be an old copy of itself.
    pub async fn say(&self, stream: Stream, drafts: Vec<Draft>) -> Result<Vec<Receipt>, ServerError> {
        let decides = self.is_gateway() && stream == Stream::Work;
        if decides {
            self.central.wait_until_serving().await?;
        } else {
            self.wait_until_it_may_say().await?;
        }
        // What a node's facts tell is heard when they are taken in; Central's own, here.
        let tells = self.is_gateway() && stream == Stream::Facts && self.central.is_serving();
        let policy = self.config.policy();
        let committed = self
            .ledger
            .submit(move |tx| -> Result<usize, ServerError> {
                let count = drafts.len();
                let mut said = Vec::with_capacity(count);
                for draft in drafts {
                    said.push(tx.append(stream, draft)?);
                }
                let machine = tx.state().context().machine.clone();
                for appended in said.iter().filter(|a| !a.is_repetition()) {
                    if decides {
                        central::judge(tx, appended.receipt(), &machine, &policy)?;
                    } else if tells {
                        let drafts = notices::told_by(tx.state(), appended.receipt(), &machine, &policy);
                        central::put(tx, drafts)?;
                    }
                }
                Ok(count)
            })
            .await?;
        Ok(committed.receipts.into_iter().take(committed.value).collect())
    }

    /// Gives up those of some jobs that still wait for a claim, each by the operator's own `job.discarded`, all in one commit; how
    /// many there were.
    ///
    /// # Errors
    /// [`ServerError::Forbidden`] when the author may not say it, [`ServerError::NotServing`].
    pub(crate) async fn drain(&self, said: Vec<VerifiedStatement>) -> Result<usize, ServerError> {
        if !self.decides().await? {
            self.central.wait_until_serving().await?;
        }
        let committed = self
            .ledger
            .submit(move |tx| -> Result<usize, ServerError> {
                let (now, mut drained) = (tx.now_us(), 0);
                for said in &said {
                    let statement = said.statement();
                    // Claimed or ended meanwhile: it is no backlog any more.
                    if !matches!(decide::steers(tx.state(), statement, now), Ok(true)) {
                        continue;
                    }
                    let authorised = tx.state().authorise(statement, Stream::Order, false, now);
                    authorised.map_err(|reason| may_not_say(statement, reason))?;
                    tx.append_signed(Stream::Order, said)?;
                    drained += 1;
                }
                central::settle(tx)?;
                Ok(drained)
            })
            .await?;
        Ok(committed.value)
    }

    // What a commit appended or repeats, as it is durable. Beside it the commit may have appended other things.
    pub(crate) fn settled(
        &self,
        appended: &Appended,
        committed: Vec<Receipt>,
    ) -> Result<Receipt, ServerError> {
        let seen = appended.receipt();
        let same = |receipt: &Receipt| (receipt.log(), receipt.seq()) == (seen.log(), seen.seq());
        match committed.into_iter().find(same) {
            Some(receipt) => Ok(receipt),
            None => Ok(self.ledger.durable(seen)?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;
    use ledger::core::MachineId;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_said_again_is_answered_with_its_own_receipt_whatever_else_the_commit_appended() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        crate::setup::init(&home, &MachineId::new("studio").unwrap()).unwrap();
        let machine = Machine::open(&home, Config::default()).unwrap();
        let note = |text: &str| {
            let kind = ledger::core::Kind::new("x.note").unwrap();
            let subject = ledger::core::Subject::new(text).unwrap();
            Draft::custom(kind, subject)
        };
        let said = machine.sign_as_actor(note("first")).unwrap();
        let first = machine.append(said.clone()).await.unwrap().receipt;
        let committed = machine.ledger.submit(move |tx| -> Result<_, ServerError> {
            let again = tx.append_signed(Stream::Facts, &said)?;
            tx.append(Stream::Facts, note("second"))?;
            Ok(again)
        });
        let committed = committed.await.unwrap();
        assert!(committed.value.is_repetition());
        let answered = machine.settled(&committed.value, committed.receipts).unwrap();
        assert_eq!((answered.id(), answered.seq()), (first.id(), first.seq()));
    }

    // A gateway's daemon that has just begun, and the end of each log that it writes.
    fn begun(home: &std::path::Path) -> Arc<Machine> {
        crate::setup::init(home, &MachineId::new("mini").unwrap()).unwrap();
        let machine = Machine::open(home, Config::default()).unwrap();
        machine.central.begin_healing();
        machine
    }

    fn ends(machine: &Machine) -> Vec<Option<u64>> {
        let own = Stream::ALL.into_iter().filter_map(|s| machine.ledger.own_log(s));
        own.map(|log| machine.ledger.head(&log).map(|head| head.seq))
            .collect()
    }

    fn note() -> Vec<Draft> {
        let (kind, subject) = (
            ledger::core::Kind::new("x.note").unwrap(),
            ledger::core::Subject::new("note").unwrap(),
        );
        vec![Draft::custom(kind, subject)]
    }

    #[tokio::test]
    async fn a_gateway_that_may_be_an_old_copy_of_itself_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let machine = begun(&home);
        // Nobody else is there who could know better.
        machine.say(Stream::Facts, note()).await.unwrap();

        let root = crate::setup::load_root_key(&home, None).unwrap();
        let studio = ledger::core::kinds::KeyGranted {
            credential: ledger::core::kinds::Credential::Key(
                ledger::core::SigningKey::from_seed([9; 32]).public(),
            ),
            name: "studio".into(),
            role: ledger::core::kinds::Role::Node,
            machine: Some(MachineId::new("studio").unwrap()),
            may: Vec::new(),
            until: None,
        };
        let fleet = machine.ledger.context().fleet;
        let subject = ledger::core::Subject::new("node/studio").unwrap();
        let joined = crate::setup::sign(&root, fleet, Draft::of(&studio, subject)).unwrap();
        let joined = joined.verify().unwrap();
        let committed = machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            tx.append_signed(Stream::Order, &joined)?;
            Ok(())
        });
        committed.await.unwrap();
        let before = ends(&machine);
        let waits = std::time::Duration::from_millis(300);
        for stream in [Stream::Facts, Stream::Pulse] {
            let said = tokio::time::timeout(waits, machine.say(stream, note())).await;
            assert!(said.is_err(), "studio has not told its marks: {said:?}");
        }
        machine.central.mark_told(&MachineId::new("studio").unwrap());
        machine.say(Stream::Facts, note()).await.unwrap();
        let told = ends(&machine);
        assert_ne!(told, before);

        machine.central.freeze("studio has seen more".into());
        let api = crate::client::Api::in_process(crate::http::router(
            Arc::clone(&machine),
            crate::http::Door::Local,
        ));
        let refused = |answer: Result<(), crate::client::ClientError>| {
            assert_eq!(
                answer.map_err(|e| e.code().to_owned()),
                Err("central.not-serving".to_owned())
            );
        };
        for stream in [Stream::Facts, Stream::Pulse] {
            let said = machine.say(stream, note()).await;
            assert!(matches!(said, Err(ServerError::NotServing(_))), "{said:?}");
        }
        refused(api.run_retention().await.map(drop));
        std::fs::write(dir.path().join("new"), b"new").unwrap();
        let scan = crate::http::wire::ScanBody {
            dir: Some(dir.path().display().to_string()),
        };
        refused(api.scan_vault(&scan).await.map(drop));
        let verified = crate::nightly::verify_now(&machine).await.unwrap();
        assert!(verified.report.is_clean() && !verified.kept);
        assert_eq!(ends(&machine), told);
    }
}
