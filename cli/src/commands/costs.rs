//! `ledger costs`: what runs cost, by handler, machine, project or day.

use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, CARE, DIM, bytes, paint, span_ms};
use crate::times;
use clap::{Args, ValueEnum};
use ledger_server::http::wire::{CostGroup, CostSums, CostsQuery, CostsTold};
use serde_json::json;
use std::collections::BTreeMap;

/// What `costs` takes.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ledger costs --since 30d
  ledger costs --by project --since 2026-01-01 --until 2026-01-31
  ledger costs --by day --since 7d --json | jq .result.total")]
pub(crate) struct CostsArgs {
    /// How they are grouped
    #[arg(long, value_enum, default_value = "handler")]
    by: By,
    /// From the day (UTC) of this time on: a length of time before now, or a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// To the day (UTC) of this time; today if not said
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum By {
    Handler,
    Machine,
    Project,
    Day,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Machine => "machine",
            Self::Project => "project",
            Self::Day => "day",
        }
    }
}

/// Tells the sums.
pub(crate) async fn run(context: &Context, args: &CostsArgs) -> Result<Exit, CliError> {
    let time = |text: &Option<String>| {
        let text = text.as_deref();
        text.map(|text| times::parse(text, &context.now)?.at())
            .transpose()
    };
    let query = CostsQuery {
        by: Some(args.by.word().to_owned()),
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let store = context.store().await?;
    let answer = store.api.costs(&query).await?;
    let mut told = serde_json::to_value(&answer.item).unwrap_or_default();
    if let Some(fields) = told.as_object_mut() {
        fields.insert("as_of".to_owned(), json!(answer.as_of));
    }
    context.output.result(&told, &[], || table(&answer.item))?;
    Ok(FINE)
}

fn table(told: &CostsTold) -> String {
    let mut table = output::table(&[
        told.by.as_str(),
        "runs",
        "that stand",
        "wall",
        "cpu",
        "peak memory",
        "tokens",
        "money",
    ]);
    let mut row = |name: String, sums: &CostSums, stand: u64| {
        table.add_row([
            name,
            sums.runs.to_string(),
            stand.to_string(),
            span_ms(sums.wall_ms),
            span_ms(sums.cpu_ms),
            bytes(sums.peak_memory_bytes),
            sums.tokens.to_string(),
            money(&sums.money_micros),
        ]);
    };
    for group in &told.groups {
        let name = if group.group.is_empty() {
            "(none)"
        } else {
            &group.group
        };
        row(name.to_owned(), &group.all, standing(group));
    }
    let stand = told.groups.iter().map(standing).fold(0, u64::saturating_add);
    row("all".to_owned(), &told.total, stand);
    let from = told.from.as_deref().unwrap_or("the beginning");
    let days = paint(DIM, format_args!("days of UTC from {from} to {}", told.until));
    let warning = match told.total.saturated {
        true => format!(
            "\n{} a sum passed 64 bits and stays at the largest number",
            paint(CARE, "!")
        ),
        false => String::new(),
    };
    format!("{table}\n{days}{warning}")
}

// Runs whose result stands.
fn standing(group: &CostGroup) -> u64 {
    let of = |outcome: &str| group.by_outcome.get(outcome).map_or(0, |sums| sums.runs);
    of("succeeded").saturating_add(of("adopted"))
}

fn money(micros: &BTreeMap<String, u64>) -> String {
    let parts = micros
        .iter()
        .map(|(currency, micros)| format!("{}.{:06} {currency}", micros / 1_000_000, micros % 1_000_000));
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        "-".to_owned()
    } else {
        parts.join(", ")
    }
}
