//! `ledger nodes`: list, show, uptime, drain, resume, quarantine, retire.

use crate::args::RootKey;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BAD, BOLD, CARE, DIM, GOOD, bytes, paint, span_ms};
use crate::times;
use clap::{Args, Subcommand};
use ledger::core::MachineId;
use ledger_server::http::wire::{AsOf, Gauges, Node, Uptime, UptimeQuery, WishBody};
use serde_json::json;

/// What `nodes` takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: NodesCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum NodesCommand {
    /// List the machines
    #[command(after_help = "Examples:\n  ledger nodes list")]
    List,
    /// Show one machine
    #[command(after_help = "Examples:\n  ledger nodes show studio")]
    Show {
        /// The machine
        id: String,
    },
    /// Tell how much of the time machines were there, and each outage with its cause
    #[command(
        after_help = "Examples:\n  ledger nodes uptime --since 90d\n  ledger nodes uptime studio --since 2026-12-01 --until 2027-01-01"
    )]
    Uptime {
        /// The machine; all of them if not said
        id: Option<MachineId>,
        /// Begin of the window: a length of time before now, or a time
        #[arg(long, default_value = "30d")]
        since: String,
        /// End of the window; now if not said
        #[arg(long)]
        until: Option<String>,
    },
    /// Give a machine no further work; what it runs goes on
    #[command(after_help = "Examples:\n  ledger nodes drain studio --reason 'system update'")]
    Drain {
        #[command(flatten)]
        wish: Wish,
    },
    /// Give a machine work again: ends draining and quarantine
    #[command(after_help = "Examples:\n  ledger nodes resume studio")]
    Resume {
        #[command(flatten)]
        wish: Wish,
    },
    /// Trust a machine with no work until somebody has looked
    #[command(after_help = "Examples:\n  ledger nodes quarantine studio --reason 'results look wrong'")]
    Quarantine {
        #[command(flatten)]
        wish: Wish,
    },
    /// Wait for a machine no longer; its key writes nothing more
    #[command(after_help = "Examples:\n  ledger nodes retire old-laptop --reason 'sold'")]
    Retire {
        /// The machine
        id: MachineId,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        root: RootKey,
    },
}

#[derive(Args, Debug, Clone)]
struct Wish {
    /// The machine
    id: MachineId,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
}

/// Lists, shows, tells uptimes, or takes machines in and out of work.
pub(crate) async fn run(context: &Context, args: &NodesArgs) -> Result<Exit, CliError> {
    match &args.command {
        NodesCommand::List => list(context).await,
        NodesCommand::Show { id } => show(context, id).await,
        NodesCommand::Uptime { id, since, until } => {
            uptime(context, id.as_ref(), since, until.as_deref()).await
        }
        NodesCommand::Drain { wish } => wished(context, "drain", wish).await,
        NodesCommand::Resume { wish } => wished(context, "resume", wish).await,
        NodesCommand::Quarantine { wish } => wished(context, "quarantine", wish).await,
        NodesCommand::Retire { id, reason, root } => retire(context, id, reason, root).await,
    }
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let page = store.api.nodes().await?;
    context
        .output
        .result(&json!({"nodes": page.items, "as_of": page.as_of}), &[], || {
            let mut table = output::table(&[
                "machine", "role", "status", "heard", "cpu", "memory", "runs", "handlers",
            ]);
            for node in &page.items {
                let gauge = |show: fn(&Gauges) -> String| node.gauges.as_ref().map_or("-".to_owned(), show);
                let handlers: Vec<&str> = node.handlers.iter().map(|h| h.name.as_str()).collect();
                table.add_row([
                    node.machine.clone(),
                    role(node),
                    node.status.clone(),
                    gauge(|g| format!("{} ago", span_ms(g.age_ms))),
                    gauge(|g| format!("{} %", g.cpu_per_mille / 10)),
                    gauge(|g| {
                        format!(
                            "{} of {}",
                            bytes(g.memory_used_bytes),
                            bytes(g.memory_total_bytes)
                        )
                    }),
                    gauge(|g| format!("{}/{}", g.slots_used, g.slots_total)),
                    handlers.join(" "),
                ]);
            }
            format!("{table}\n{}", freshness(&page.as_of))
        })?;
    Ok(FINE)
}

// How old the answer is, for people.
fn freshness(as_of: &AsOf) -> String {
    let age = as_of
        .age_ms
        .map_or("no receipts".to_owned(), |ms| format!("{} old", span_ms(ms)));
    let receipt = as_of.receipt.as_deref().unwrap_or("-");
    paint(DIM, format_args!("as of {receipt} ({}, {age})", as_of.standing))
}

fn role(node: &Node) -> String {
    if node.is_central {
        "gateway".to_owned()
    } else {
        node.role.clone()
    }
}

async fn show(context: &Context, id: &str) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let page = store.api.nodes().await?;
    let as_of = page.as_of;
    let node = page
        .items
        .into_iter()
        .find(|node| node.machine == id)
        .ok_or_else(|| unknown(id))?;
    let mut told = serde_json::to_value(&node).unwrap_or_default();
    if let Some(fields) = told.as_object_mut() {
        fields.insert("as_of".to_owned(), json!(as_of));
    }
    context.output.result(&told, &[], || {
        let style = if node.status == "online" { GOOD } else { CARE };
        let mut lines = vec![format!(
            "{}  {}  {}",
            paint(BOLD, &node.machine),
            role(&node),
            paint(style, &node.status)
        )];
        let mut field = |name: &str, value: String| {
            lines.push(format!("  {}  {value}", paint(DIM, format_args!("{name:<8}"))));
        };
        field("since", node.since.clone());
        if let Some(reason) = node.reason.as_ref().filter(|reason| !reason.is_empty()) {
            field("because", reason.clone());
        }
        if node.held_back {
            field("work", "none further; `ledger nodes resume` ends it".to_owned());
        }
        field("joined", node.joined_at.clone());
        field("key", node.machine_key.clone());
        if let Some(g) = &node.gauges {
            field("heard", format!("{} ago", span_ms(g.age_ms)));
            field(
                "load",
                format!(
                    "{} % cpu, load {}.{:02}",
                    g.cpu_per_mille / 10,
                    g.load1_centi / 100,
                    g.load1_centi % 100
                ),
            );
            field(
                "memory",
                format!(
                    "{} of {}",
                    bytes(g.memory_used_bytes),
                    bytes(g.memory_total_bytes)
                ),
            );
            field(
                "disk",
                format!(
                    "{} free of {}, {} are to stay free",
                    bytes(g.disk_free_bytes),
                    bytes(g.disk_total_bytes),
                    bytes(g.disk_reserve_bytes)
                ),
            );
            let oldest = g
                .outbox_oldest_age_ms
                .map(|ms| format!(", the oldest {} old", span_ms(ms)));
            field(
                "outbox",
                format!(
                    "{} receipts, {}{}",
                    g.outbox_receipts,
                    bytes(g.outbox_bytes),
                    oldest.unwrap_or_default()
                ),
            );
            if let Some(milli) = g.temperature_milli_c {
                field("hottest", format!("{} °C", milli / 1000));
            }
            if !g.version.is_empty() {
                field("version", g.version.clone());
            }
            for service in &g.services {
                let style = if service.state == "up" { GOOD } else { BAD };
                field(
                    "beside",
                    format!("{} {}", service.service, paint(style, &service.state)),
                );
            }
        }
        for handler in &node.handlers {
            field(
                "handler",
                format!(
                    "{} {} ×{} {}",
                    handler.name,
                    handler.class,
                    handler.slots,
                    handler.labels.join(" ")
                ),
            );
        }
        for job in &node.jobs {
            field("job", job.clone());
        }
        lines.push(freshness(&as_of));
        lines.join("\n")
    })?;
    Ok(FINE)
}

async fn uptime(
    context: &Context,
    id: Option<&MachineId>,
    since: &str,
    until: Option<&str>,
) -> Result<Exit, CliError> {
    let query = UptimeQuery {
        machine: id.map(ToString::to_string),
        since: times::parse_since(since, &context.now)?.at()?,
        until: until
            .map(|until| times::parse(until, &context.now)?.at())
            .transpose()?,
    };
    let store = context.store().await?;
    let page = store.api.uptime(&query).await?;
    context
        .output
        .result(&json!({"uptime": page.items, "as_of": page.as_of}), &[], || {
            let mut table = output::table(&[
                "machine", "uptime", "outages", "down", "asleep", "unknown", "from", "until",
            ]);
            for told in &page.items {
                let outages = told.away.iter().filter(|span| span.kind == "outage").count();
                table.add_row([
                    told.machine.clone(),
                    told.per_cent
                        .map_or("unknown".to_owned(), |p| format!("{p:.2} %")),
                    outages.to_string(),
                    span_ms(told.outage_ms),
                    span_ms(told.asleep_ms),
                    span_ms(told.unknown_ms),
                    told.from.clone(),
                    told.until.clone(),
                ]);
            }
            let away: Vec<String> = page.items.iter().filter_map(away).collect();
            [vec![table.to_string()], away, vec![freshness(&page.as_of)]]
                .concat()
                .join("\n")
        })?;
    Ok(FINE)
}

// The outages and sleeps of a machine, and what nobody watched; nothing when there is none.
fn away(told: &Uptime) -> Option<String> {
    let mut table = output::table(&["machine", "what", "start", "end", "length", "counted", "cause"]);
    for span in &told.away {
        table.add_row([
            told.machine.clone(),
            span.kind.clone(),
            span.from.clone(),
            span.until.clone().unwrap_or("goes on".to_owned()),
            span_ms(span.length_ms),
            span_ms(span.counted_ms),
            span.cause.clone(),
        ]);
    }
    for span in &told.unknown {
        table.add_row([
            told.machine.clone(),
            "unknown".to_owned(),
            span.from.clone(),
            span.until.clone(),
            "-".to_owned(),
            "-".to_owned(),
            "nobody watched".to_owned(),
        ]);
    }
    (table.row_count() > 0).then(|| format!("\n{table}"))
}

async fn wished(context: &Context, what: &str, wish: &Wish) -> Result<Exit, CliError> {
    let store = context.store().await?;
    let body = WishBody {
        reason: wish.reason.clone(),
    };
    let done = store.api.wish(wish.id.as_str(), what, &body).await?.item;
    context.output.result(&done, &[], || {
        format!(
            "{} is {}  {}",
            wish.id,
            done.node.status,
            paint(DIM, &done.receipt.id)
        )
    })?;
    Ok(FINE)
}

async fn retire(context: &Context, id: &MachineId, reason: &str, root: &RootKey) -> Result<Exit, CliError> {
    let root = context.root_key(root)?;
    let store = context.store().await?;
    let page = store.api.nodes().await?;
    if !page.items.iter().any(|node| node.machine == id.to_string()) {
        return Err(unknown(&id.to_string()));
    }
    let said = ledger_server::setup::retire(&root, store.fleet().await?, id, reason)?;
    let appended = store.api.append_signed(&said).await?.item;
    context.output.result(&appended, &[], || {
        format!("{id} is retired  {}", paint(DIM, &appended.receipt.id))
    })?;
    Ok(FINE)
}

fn unknown(id: &str) -> CliError {
    CliError::new(
        "machine.unknown",
        format!("no machine {id:?} is in this fleet"),
        "`ledger nodes list` shows them",
    )
}
