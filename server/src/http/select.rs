//! From a query's parameters to the one filter over receipts.
//!
//! Owns: reading bounds in time and pages. Contract: a name that cannot exist is an error, one that merely does not is an
//! empty list. Does not: match receipts; `timeline::Filter` does, for every reader alike.

use super::limits::{PAGE_DEFAULT, PAGE_MAX};
use super::problem::Problem;
use super::times;
use super::wire::{EventsQuery, ReceiptsQuery};
use crate::machine::Machine;
use http::StatusCode;
use ledger::Published;
use ledger::core::MachineId;
use ledger_projections::FleetState;
use ledger_projections::timeline::{Bound, Filter};

/// How many items a page holds.
pub(crate) fn page_size(limit: Option<u32>) -> Result<usize, Problem> {
    match limit.map(usize::try_from) {
        None => Ok(PAGE_DEFAULT),
        Some(Ok(limit @ 1..=PAGE_MAX)) => Ok(limit),
        Some(_) => Err(Problem::query(format!(
            "expected `limit` from 1 to {PAGE_MAX}, found another number"
        ))),
    }
}

/// The filter of a list of receipts. Resolves `@seq` against the order as it is in the snapshot.
pub(crate) fn of_receipts(
    query: &ReceiptsQuery,
    machine: &Machine,
    snapshot: &Published<FleetState>,
) -> Result<Filter, Problem> {
    let bound = |name, text: &Option<String>| {
        text.as_deref()
            .map(|text| bound(name, text, machine, snapshot))
            .transpose()
    };
    let (since, until) = (bound("since", &query.since)?, bound("until", &query.until)?);
    let filter = parts(
        &query.kind,
        query.actor.as_deref(),
        query.machine.as_deref(),
        query.subject.as_deref(),
    )?;
    Ok(Filter {
        since: since.map(Bound::Time),
        until: until.map(Bound::Time),
        ..filter
    })
}

/// The filter of a live tail.
pub(crate) fn of_events(query: &EventsQuery) -> Result<Filter, Problem> {
    parts(
        &query.kind,
        query.actor.as_deref(),
        query.machine.as_deref(),
        query.subject.as_deref(),
    )
}

/// The first time of a filter, microseconds since 1970.
pub(crate) fn since_us(filter: &Filter) -> Option<i64> {
    match filter.since {
        Some(Bound::Time(us)) => Some(us),
        Some(Bound::Seq(_)) | None => None,
    }
}

/// The time at which a filter ends, microseconds since 1970.
pub(crate) fn until_us(filter: &Filter) -> Option<i64> {
    match filter.until {
        Some(Bound::Time(us)) => Some(us),
        Some(Bound::Seq(_)) | None => None,
    }
}

fn parts(
    kinds: &[String],
    actor: Option<&str>,
    machine: Option<&str>,
    subject: Option<&str>,
) -> Result<Filter, Problem> {
    let machine = machine
        .map(MachineId::new)
        .transpose()
        .map_err(|e| Problem::query(e.to_string()))?;
    for kind in kinds {
        let name = kind.strip_suffix('*').unwrap_or(kind);
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
        if !name.chars().all(allowed) {
            let detail =
                format!("expected `kind` as a name like job.ready or a pattern like job.*, found {kind:?}");
            return Err(Problem::query(detail));
        }
    }
    Ok(Filter {
        kinds: kinds.to_vec(),
        actor: actor.map(str::to_owned),
        machine,
        subject: subject.map(str::to_owned),
        ..Filter::default()
    })
}

/// A time as a parameter names it, microseconds since 1970: RFC 3339, or `@seq` of the order.
pub(crate) fn bound(
    name: &str,
    text: &str,
    machine: &Machine,
    snapshot: &Published<FleetState>,
) -> Result<i64, Problem> {
    let Some(seq) = text.strip_prefix('@') else {
        return times::parse(name, text);
    };
    let seq: u64 = seq
        .parse()
        .map_err(|_| Problem::query(format!("expected `{name}` as @ and a number, found {text:?}")))?;
    let order = snapshot.state.order().map(|order| order.log);
    let receipt = match order {
        Some(log) => machine.ledger.get(&log, seq)?,
        None => None,
    };
    let receipt = receipt.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request.query",
            format!(
                "expected `{name}` to name a seq of the order, found {text}, which this store does not have"
            ),
            "look at the order's head in /v1/status",
        )
    })?;
    Ok(times::hlc_us(receipt.time()))
}
