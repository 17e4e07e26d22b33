//! What keys were permitted: asked of a judge that the caller brings, since the engine knows no grants.
//!
//! The judge is shown every receipt in the journal's order and says at the end what was not permitted at its place in the order. A log
//! that founded its own fleet needs no judge: whoever its machine let in was permitted. Without either, this verdict is "not checked".

use super::report::{Aspect, Finding, Report};
use crate::receipt::Receipt;
use ledger_core::kinds::Verdict;
use ledger_core::{LogId, ReceiptId};
use std::sync::Arc;

/// Judges what authors and machine keys were permitted. Pure: reads no clock and no disk.
pub trait Authority: Send {
    /// Takes the next receipt of the journal. Its signatures and its place in its log are checked elsewhere.
    fn take(&mut self, receipt: &Receipt);

    /// What came of it.
    fn finish(&mut self) -> Judgement;
}

/// Makes a judge for one reading of a journal.
pub type AuthorityMaker = Arc<dyn Fn() -> Box<dyn Authority> + Send + Sync>;

/// What a judge says at the end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Judgement {
    /// Receipts that it could judge.
    pub judged: u64,
    /// Receipts that were not permitted, and of which the order says so: kept, inert, and no finding.
    pub excused: u64,
    /// Receipts that no place in the order covers yet, so that nobody can say.
    pub waiting: u64,
    /// Receipts that were not permitted, and of which the order says nothing.
    pub found: Vec<NotPermitted>,
    /// Why nothing could be judged at all.
    pub not_checked: Option<String>,
}

/// A receipt that was not permitted at its place in the order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotPermitted {
    /// Its log.
    pub log: LogId,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub id: ReceiptId,
    /// A stable code, such as `authority.not-permitted`.
    pub code: &'static str,
    /// What was not permitted, in words.
    pub text: String,
}

impl Judgement {
    /// Puts it into a report, as far as it is of logs that are wanted.
    pub(super) fn tell(self, report: &mut Report, wants: impl Fn(&LogId) -> bool) {
        report.authority = Verdict::Clean;
        report.counts.judged = self.judged;
        for said in self.found.into_iter().filter(|said| wants(&said.log)) {
            report.found(Finding {
                code: said.code,
                aspect: Aspect::Authority,
                log: Some(said.log),
                seq: Some(said.seq),
                id: Some(said.id),
                position: None,
                text: said.text,
            });
        }
        if self.excused > 0 {
            report.note(format!(
                "{} receipts were not permitted; the order names them as inadmissible, and they are inert",
                self.excused
            ));
        }
        if self.waiting > 0 {
            report.note(format!(
                "{} receipts are covered by no pin of the order yet; whether they were permitted nobody can say",
                self.waiting
            ));
        }
    }
}
