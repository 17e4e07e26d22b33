//! `GET /v1/costs`.

use super::caller::Caller;
use super::extract::Query;
use super::problem::Problem;
use super::reply::Reply;
use super::wire::{self, Answer, CostGroup, CostSums, CostsQuery, CostsTold};
use super::{Api, times};
use axum::Extension;
use axum::extract::State;
use ledger_projections::costs::{By, Group, Outcome, Sums, day_of, day_text};
use std::sync::Arc;

const GROUPINGS: [(By, &str); 4] = [
    (By::Handler, "handler"),
    (By::Machine, "machine"),
    (By::Project, "project"),
    (By::Day, "day"),
];

/// What runs cost, by handler, machine, project or day.
#[utoipa::path(
    get, path = "/v1/costs", operation_id = "show_costs", tag = "jobs", params(CostsQuery),
    responses(
        (status = 200, description = "The sums", body = Answer<CostsTold>),
        (status = "default", description = "A problem", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<CostsQuery>,
) -> Result<Reply<Answer<CostsTold>>, Problem> {
    caller.may_read()?;
    let wanted = query.by.as_deref().unwrap_or("handler");
    let by = GROUPINGS.into_iter().find(|(_, name)| *name == wanted);
    let (by, name) = by.ok_or_else(|| {
        Problem::query(format!(
            "expected `by` to be handler, machine, project or day, found {wanted:?}"
        ))
    })?;
    let day = |name, text: &Option<String>| -> Result<Option<i32>, Problem> {
        let at = text.as_deref().map(|text| times::parse(name, text)).transpose()?;
        Ok(at.map(day_of))
    };
    let (since, until) = (day("since", &query.since)?, day("until", &query.until)?);
    api.item(move |machine, snapshot| {
        let until = until.unwrap_or_else(|| day_of(machine.now_us()));
        let from = since.unwrap_or(i32::MIN);
        if from > until {
            return Err(Problem::query("expected `since` not after `until`"));
        }
        let groups = snapshot.state.costs().groups(by, from..=until);
        let mut total = Sums::default();
        for group in groups.values() {
            total.add(&group.all);
        }
        Ok(CostsTold {
            by: name.to_owned(),
            from: since.map(day_text),
            until: day_text(until),
            groups: groups.iter().map(|(name, group)| shown(name, group)).collect(),
            total: sums(&total),
        })
    })
    .await
}

fn shown(name: &str, group: &Group) -> CostGroup {
    let of = group.by_outcome.iter();
    CostGroup {
        group: name.to_owned(),
        all: sums(&group.all),
        by_outcome: of
            .map(|(outcome, of)| (word(*outcome).to_owned(), sums(of)))
            .collect(),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Adopted => "adopted",
        Outcome::Failed => "failed",
        Outcome::Stopped => "stopped",
        Outcome::Late => "late",
    }
}

fn sums(of: &Sums) -> CostSums {
    CostSums {
        runs: of.runs,
        wall_ms: of.wall_ms,
        cpu_ms: of.cpu_ms,
        peak_memory_bytes: of.peak_memory_bytes,
        tokens: of.tokens,
        money_micros: of.money.clone(),
        saturated: of.saturated,
    }
}
