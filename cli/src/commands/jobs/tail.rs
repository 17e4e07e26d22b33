//! `ledger jobs tail`: each change of a job as the order says it, until interrupted.
//!
//! A tail that breaks is resumed behind what was told: nothing is lost, nothing comes twice.

use super::resolve;
use crate::context::{Context, Store};
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, DIM, paint};
use crate::times;
use clap::Args;
use ledger_server::client::ClientError;
use ledger_server::http::wire::{EventsQuery, Receipt};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time between the end of a tail and the next one.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Tries to reach the daemon again before it counts as gone.
const TRIES_MAX: u32 = 20;
/// Jobs whose handler is remembered, at most.
const KNOWN_MAX: usize = 4096;

/// What `jobs tail` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct TailArgs {
    /// Only this job
    id: Option<String>,
    /// Only jobs of this handler
    #[arg(long)]
    handler: Option<String>,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Follows.
pub(super) async fn run(context: &Context, store: &Store, args: &TailArgs) -> Result<Exit, CliError> {
    if !store.has_daemon() {
        return Err(CliError::new(
            "daemon.absent",
            "no daemon runs here, so nothing changes",
            "start `ledger gateway` or `ledger node`; `ledger jobs list` shows how the jobs stand",
        ));
    }
    let job = match &args.id {
        Some(part) => Some(resolve(&store.api, part).await?),
        None => None,
    };
    let mut query = EventsQuery {
        kind: vec!["job.*".to_owned()],
        subject: Some(job.map_or("job/".to_owned(), |job| format!("job/{job}"))),
        ..EventsQuery::default()
    };
    let mut handlers = Handlers::default();
    let (mut told, mut tries) = (0u64, 0u32);
    loop {
        let mut events = match store.api.events(&query).await {
            Ok(events) => {
                tries = 0;
                events
            }
            Err(error) if tries == TRIES_MAX || error.problem().is_some() => return Err(error.into()),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
        };
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                // The same again would come behind every new beginning.
                Err(error @ ClientError::Malformed { .. }) => return Err(error.into()),
                Err(_) => break,
            };
            query.after = Some(event.cursor);
            let receipt = event.receipt;
            let handler = handlers.of(store, &receipt).await;
            if args.handler.is_some() && args.handler != handler {
                continue;
            }
            context
                .output
                .element(&receipt, || line(context, &receipt, handler.as_deref()))?;
            told += 1;
            if args.count.is_some_and(|count| told >= count) {
                return Ok(FINE);
            }
        }
        if query.after.is_none() {
            query.after = events.cursor().map(str::to_owned);
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn line(context: &Context, receipt: &Receipt, handler: Option<&str>) -> String {
    let time = receipt.time.parse::<jiff::Timestamp>();
    let time = time.map_or_else(
        |_| receipt.time.clone(),
        |time| times::clock(time.as_microsecond(), &context.now),
    );
    let id = job_of(receipt).unwrap_or_default();
    format!(
        "{}  {}  {:<16} {:<20} {}",
        paint(DIM, time),
        output::short(id),
        handler.unwrap_or("-"),
        receipt.kind,
        receipt.line
    )
}

fn job_of(receipt: &Receipt) -> Option<&str> {
    receipt.subject.strip_prefix("job/")
}

/// The handlers of the jobs that were met: most receipts of a job do not name it.
#[derive(Default)]
struct Handlers(BTreeMap<String, String>);

impl Handlers {
    async fn of(&mut self, store: &Store, receipt: &Receipt) -> Option<String> {
        let id = job_of(receipt)?;
        if let Some(known) = self.0.get(id) {
            return Some(known.clone());
        }
        let told = store.api.job_here(id).await.ok()?;
        let handler = told.item.job.handler;
        if self.0.len() == KNOWN_MAX {
            self.0.pop_first();
        }
        self.0.insert(id.to_owned(), handler.clone());
        Some(handler)
    }
}
