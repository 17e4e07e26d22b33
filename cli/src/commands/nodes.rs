//! `ledger nodes`: list, show, retire.

use crate::args::RootKey;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use crate::output::{self, BOLD, CARE, DIM, GOOD, bytes, paint, span_ms};
use clap::{Args, Subcommand};
use ledger::core::MachineId;
use ledger_server::http::wire::{Gauges, Node};
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

/// Lists, shows or retires.
pub(crate) async fn run(context: &Context, args: &NodesArgs) -> Result<Exit, CliError> {
    match &args.command {
        NodesCommand::List => list(context).await,
        NodesCommand::Show { id } => show(context, id).await,
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
            table.to_string()
        })?;
    Ok(FINE)
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
    let node = page
        .items
        .into_iter()
        .find(|node| node.machine == id)
        .ok_or_else(|| unknown(id))?;
    context.output.result(&node, &[], || {
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
                    "{} free of {}",
                    bytes(g.disk_free_bytes),
                    bytes(g.disk_total_bytes)
                ),
            );
            field("outbox", format!("{} receipts", g.outbox_receipts));
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
        lines.join("\n")
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
