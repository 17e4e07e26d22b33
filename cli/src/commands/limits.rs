//! `ledger limits`: list, set, lift.

use super::handlers::bounds;
use super::jobs::said;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, paint};
use crate::times;
use clap::{Args, Subcommand};
use ledger_server::http::wire::{LimitBody, LimitView, RateView};
use serde_json::json;

/// What `limits` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct LimitsArgs {
    #[command(subcommand)]
    command: LimitsCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum LimitsCommand {
    /// List the limits in force
    #[command(after_help = "Examples:\n  ledger limits list")]
    List,
    /// Limit how many jobs are claimed at once, or in a period
    #[command(
        after_help = "Examples:\n  ledger limits set --handler render --running 2 --reason 'two licences'\n  ledger limits set --key api.example --rate 10/1m\n  ledger limits set --machine studio --running 4"
    )]
    Set {
        #[command(flatten)]
        scope: Scope,
        /// At most so many jobs claimed at once
        #[arg(long, value_name = "N", required_unless_present = "rate")]
        running: Option<u32>,
        /// At most so many claims in a period
        #[arg(long, value_name = "N/TIME")]
        rate: Option<String>,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift a limit
    #[command(after_help = "Examples:\n  ledger limits lift --handler render")]
    Lift {
        #[command(flatten)]
        scope: Scope,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = false)]
struct Scope {
    /// Jobs of this handler, on all machines together
    #[arg(long)]
    handler: Option<String>,
    /// Jobs on this machine, of all handlers together
    #[arg(long, value_name = "ID")]
    machine: Option<String>,
    /// Jobs with this concurrency key
    #[arg(long)]
    key: Option<String>,
}

impl Scope {
    fn named(&self) -> (String, String) {
        let named = [
            ("handler", &self.handler),
            ("machine", &self.machine),
            ("key", &self.key),
        ];
        let mut given = named
            .into_iter()
            .filter_map(|(scope, name)| Some((scope.to_owned(), name.clone()?)));
        given.next().expect("the group demands one")
    }
}

/// Lists, sets or lifts.
pub(crate) async fn run(context: &Context, args: &LimitsArgs) -> Result<Exit, CliError> {
    match &args.command {
        LimitsCommand::List => list(context).await,
        LimitsCommand::Set {
            scope,
            running,
            rate,
            reason,
        } => {
            let rate = rate.as_deref().map(rate_of).transpose()?;
            set(context, scope, *running, rate, reason).await
        }
        LimitsCommand::Lift { scope, reason } => set(context, scope, None, None, reason).await,
    }
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let page = store.api.limits().await?;
    let told = json!({"limits": page.items, "as_of": page.as_of});
    context.output.result(&told, &[], || {
        if page.items.is_empty() {
            return "no limits".to_owned();
        }
        let mut table = output::table(&["of", "name", "limit", "claimed", "next at", "because"]);
        for limit in &page.items {
            table.add_row([
                limit.scope.clone(),
                limit.name.clone(),
                bounds(limit),
                limit.running.to_string(),
                limit.admits_at.clone().unwrap_or("now".to_owned()),
                limit.reason.clone(),
            ]);
        }
        table.to_string()
    })?;
    Ok(FINE)
}

async fn set(
    context: &Context,
    scope: &Scope,
    running_max: Option<u32>,
    rate: Option<RateView>,
    reason: &str,
) -> Result<Exit, CliError> {
    let (scope, name) = scope.named();
    let body = LimitBody {
        scope: scope.clone(),
        name: name.clone(),
        running_max,
        rate,
        reason: reason.to_owned(),
    };
    let store = context.store().await?;
    let done = store.api.set_limit(&body).await?.item;
    context.output.result(&done, &[], || {
        let stands = done.limit.as_ref().map_or("no limit".to_owned(), stands);
        let receipt = said(done.receipt.as_ref().map(|receipt| receipt.id.as_str()));
        format!("{scope} {name}  {}  {receipt}", paint(BOLD, stands))
    })?;
    Ok(FINE)
}

fn stands(limit: &LimitView) -> String {
    format!("{}, {} claimed now", bounds(limit), limit.running)
}

// `10/1m`: so many claims in that period.
fn rate_of(text: &str) -> Result<RateView, CliError> {
    let malformed = |why: String| {
        CliError::new(
            "usage.rate",
            format!("--rate {text:?}: {why}"),
            "write how many claims in which period, like 10/1m",
        )
    };
    let (claims, period) = text
        .split_once('/')
        .ok_or_else(|| malformed("a number and a length of time are expected".to_owned()))?;
    let claims = claims
        .trim()
        .parse()
        .map_err(|_| malformed(format!("{claims:?} is no whole number")))?;
    let period_ms = times::parse_span(period.trim())?.as_millis();
    let period_ms = u64::try_from(period_ms).map_err(|_| malformed("the period is not one".to_owned()))?;
    Ok(RateView { claims, period_ms })
}
