//! Typed content said to a ledger and read back: one receipt, all of a store, a tail.
//!
//! Owns what became of a receipt's content ([`Typed`]) and the calls of [`Ledger`] and [`Tail`] that give it.

use super::{Content, TypedError, TypedKind};
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::read::PayloadState;
use crate::state::State;
use crate::tail::Tail;
use crate::{Position, Receipt};
use ledger_core::LogId;
use std::time::{Duration, Instant};

/// What became of a receipt's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed<T> {
    /// Here it is, as today's type.
    Value(T),
    /// It was erased, as a receipt says; see [`Ledger::erased_by`].
    Erased,
    /// This store does not have it.
    Absent,
    /// It is here and does not match its commitment: damage, named by `ledger verify`.
    Damaged,
}

impl<T> Typed<T> {
    /// The value when there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value by reference, when there is one.
    pub fn as_value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }
}

impl Receipt {
    /// Whether it is of a type's kind.
    pub fn is<T: TypedKind>(&self) -> bool {
        self.kind() == T::KIND
    }
}

/// One receipt of a type's kind, with its content.
pub type TypedReceipt<T> = (Receipt, Typed<T>);

fn typed_of<T: TypedKind>(receipt: &Receipt, payload: PayloadState) -> Result<Typed<T>, TypedError> {
    let payload = match payload {
        PayloadState::Present(payload) => payload,
        PayloadState::Erased => return Ok(Typed::Erased),
        PayloadState::Absent => return Ok(Typed::Absent),
        PayloadState::Damaged => return Ok(Typed::Damaged),
        PayloadState::None => {
            return Err(TypedError::Empty {
                kind: receipt.kind().to_owned(),
            });
        }
    };
    let media = receipt
        .statement()
        .payload
        .as_ref()
        .map_or("", |said| &said.media);
    Content::parse(receipt.kind(), media, &payload.bytes)?
        .into_value()
        .map(Typed::Value)
}

impl<S: State> Ledger<S> {
    /// The content of a receipt as a type, read from disk and checked against its commitment.
    ///
    /// # Errors
    /// [`TypedError::Kind`] for a receipt of another kind (ask [`Receipt::is`] first); [`TypedError::Schema`] and
    /// [`TypedError::Malformed`], which carry the bytes; [`TypedError::Ledger`] when the store cannot be read.
    pub fn typed<T: TypedKind>(&self, receipt: &Receipt) -> Result<Typed<T>, TypedError> {
        if !receipt.is::<T>() {
            return Err(TypedError::Kind {
                expected: T::KIND,
                found: receipt.kind().to_owned(),
            });
        }
        typed_of(receipt, self.payload(receipt)?)
    }

    /// The receipts of a type's kind among those of a log from one seq to another, both included.
    ///
    /// # Errors
    /// Each item as [`Ledger::typed`]; after a receipt whose content cannot be read come the next ones.
    pub fn typed_range<'a, T: TypedKind>(
        &'a self,
        log: &LogId,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = Result<TypedReceipt<T>, TypedError>> + use<'a, S, T> {
        self.range(log, first, last)
            .filter_map(|receipt| self.typed_step(receipt))
    }

    /// The receipts of a type's kind in the whole store behind a position, up to now, in the order in which the store
    /// learned them.
    ///
    /// # Errors
    /// Each item as [`Ledger::typed`]; after a receipt whose content cannot be read come the next ones.
    pub fn typed_scan<T: TypedKind>(
        &self,
        after: Position,
    ) -> impl Iterator<Item = Result<TypedReceipt<T>, TypedError>> {
        self.scan(after).filter_map(|receipt| self.typed_step(receipt))
    }

    fn typed_step<T: TypedKind>(
        &self,
        receipt: Result<Receipt, LedgerError>,
    ) -> Option<Result<TypedReceipt<T>, TypedError>> {
        match receipt {
            Ok(receipt) if !receipt.is::<T>() => None,
            Ok(receipt) => Some(self.typed(&receipt).map(|content| (receipt, content))),
            Err(e) => Some(Err(e.into())),
        }
    }
}

impl<S: State> Tail<S> {
    /// The next receipt of a type's kind, if one comes in time; others are passed over. After an error about content the
    /// tail stands behind that receipt, and the next call goes on.
    ///
    /// # Errors
    /// As [`Ledger::typed`].
    pub fn next_typed_within<T: TypedKind>(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<TypedReceipt<T>>, TypedError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(receipt) = self.next_within(left)? else {
                return Ok(None);
            };
            if receipt.is::<T>() {
                let content = self.ledger().typed(&receipt)?;
                return Ok(Some((receipt, content)));
            }
        }
    }
}
