//! Stopping a run, and keeping how far it is: what goes into the file that a later run goes on from, and when.

use super::{Order, Work, lock};
use crate::error::LedgerError;
use crate::journal::StoreId;
use crate::verify::check::Check;
use crate::verify::cover::Mark;
use crate::verify::resume::{ResumeError, State, options_digest};
use std::sync::atomic::Ordering;

impl<'a> Work<'a> {
    pub(super) fn is_stopped(&self) -> bool {
        let stop = self.options.stop.as_ref();
        stop.is_some_and(|stop| stop.load(Ordering::Acquire))
    }

    // Writes how far the run is, when that is known and new.
    pub(super) fn save(&self, check: &mut Check<'_>, store: Option<StoreId>) -> Result<(), LedgerError> {
        let (Some(Mark { at, logs }), Some(store)) = (check.take_mark(), store) else {
            return Ok(());
        };
        let (Some(resume), Some(bad)) = (&self.options.resume, check.cover.bad_up_to(at)) else {
            return Ok(());
        };
        let mut saved = lock(&self.saved);
        if at <= *saved {
            return Ok(());
        }
        let state = State {
            store: store.to_string(),
            options: options_digest(self.options, self.anchor.is_some()),
            saved_unix_ms: crate::clock::unix_ms(self.options.clock.now_us()),
            at,
            logs,
            bad,
        };
        state
            .write(self.options.storage.as_ref(), &resume.file)
            .map_err(|source| LedgerError::Io {
                what: "writing how far the verification is to",
                path: resume.file.clone(),
                source,
            })?;
        *saved = at;
        Ok(())
    }

    // Notes how far the run is, now and then.
    pub(super) fn mark(&self, order: &mut Order<'a>) -> Result<(), LedgerError> {
        let Some(resume) = &self.options.resume else {
            return Ok(());
        };
        let (at, bytes, store) = (order.at, order.before + order.here, order.store);
        if bytes.saturating_sub(order.marked) >= resume.every_bytes {
            order.marked = bytes;
            order.check.mark_at(at);
        }
        self.save(&mut order.check, store)
    }

    // An earlier run must have been over this store.
    pub(super) fn fits(&self, order: &Order<'a>) -> Result<(), ResumeError> {
        let earlier = order.check.cover.earlier();
        let other = |state: &&State| order.store.is_some_and(|store| store.to_string() != state.store);
        match (earlier.filter(other), &self.options.resume) {
            (Some(_), Some(resume)) => Err(ResumeError::Other {
                path: resume.file.clone(),
                what: "another store",
            }),
            _ => Ok(()),
        }
    }
}
