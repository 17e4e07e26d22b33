//! Who may have a payload destroyed, and whose word binds this store.
//!
//! The author of a receipt, an operator and the root key may; the machine that sealed it may, in its own facts. Central
//! repeats in the order what was said in a machine's facts, and the order binds everyone who mirrors it.

use crate::FleetState;
use crate::fleet::{author_is_proven, micros_of};
use ledger::{Erasing, Receipt};
use ledger_core::kinds::{Credential, Role};
use ledger_core::{PublicKey, Stream};

impl FleetState {
    /// Whether a key may have the payload of a receipt destroyed: its author's, the root's or an operator's; `now` is in
    /// microseconds since 1970.
    pub fn may_erase(&self, by: &PublicKey, target: Option<&Receipt>, now: i64) -> bool {
        let is_operator = self
            .members
            .role_of(&Credential::Key(*by), now)
            .is_some_and(|role| role == Role::Operator);
        let is_author = target.is_some_and(|target| target.statement().author == *by);
        is_author || is_operator || self.root_key() == Some(*by)
    }

    pub(crate) fn heeds(&self, erasing: &Erasing<'_>) -> bool {
        let receipt = erasing.receipt;
        let statement = receipt.statement();
        let Some(log) = self.order.logs.get(&receipt.log()) else {
            return false;
        };
        let own = statement.author == log.machine_key;
        let at = micros_of(receipt);
        let is_said = statement.fleet == self.context.fleet
            && (own || author_is_proven(receipt))
            && self.authorise(statement, log.stream, own, at).is_ok();
        let sealed_it = || {
            let sealer = self.order.logs.get(&erasing.record.log);
            own && sealer.is_some_and(|sealer| sealer.machine_key == log.machine_key)
        };
        let may = || self.may_erase(&statement.author, erasing.target, at);
        match log.stream {
            Stream::Order => {
                let counts = self.order().is_some_and(|order| order.log == receipt.log());
                is_said && counts && (own || may())
            }
            Stream::Facts => is_said && (sealed_it() || may()),
            Stream::Work | Stream::Pulse => false,
        }
    }
}
