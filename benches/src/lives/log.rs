//! A log in memory that seals what it is given, without a real signature.

use crate::Failed;
use ledger::core::{Hlc, LogId, Record, Seal, SealDigest, Signature, SigningKey, Statement, StatementDigest};
use ledger::{Position, Receipt};
use std::sync::Arc;

/// The end of a log and the key that would sign it.
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) key: Arc<SigningKey>,
    pub(super) next: u64,
    pub(super) last: SealDigest,
    pub(super) time: Hlc,
}

// A receipt of another log, which the order's fold does not take in.
pub(super) fn outside(record: Record) -> Receipt {
    Receipt {
        position: Position::START,
        record: Arc::new(record),
    }
}

impl Log {
    pub(super) fn seal(
        &mut self,
        statement: Statement,
        bytes: &[u8],
        digest: StatementDigest,
        by: Option<Signature>,
        now: i64,
    ) -> Result<Record, Failed> {
        self.time = self.time.tick(u64::try_from(now / 1000)?);
        let seal = Seal {
            version: 1,
            log: self.id,
            seq: self.next,
            prev: self.last,
            time: self.time,
            statement: digest,
        };
        self.next += 1;
        self.last = seal.digest();
        Ok(Record::assemble(statement, bytes, by, seal, Signature([0; 64])))
    }
}
