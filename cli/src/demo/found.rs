//! Step 1: a gateway and two nodes, each with its own keys, store and process, enrolled by invitation.

use super::proxy::Proxy;
use super::settings;
use super::stage::{Stage, wait_for};
use super::tell::Teller;
use crate::error::CliError;
use crate::output::{BOLD, DIM, paint};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a node may take until the gateway sees it with its handlers.
const ONLINE_WITHIN: Duration = Duration::from_secs(20);

/// Founds the fleet or goes on with it, and starts the three machines.
pub(crate) async fn run(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    teller.step("A studio of three machines");
    let again = stage.gateway.has_store();
    teller.say(format_args!("folder {}", stage.root.display()));
    let t = settings::timings();
    teller.say(format_args!(
        "short times for watching: pulse {} ms, beat {} ms, lease {} ms, lost after {} ms, notice after {} ms, \
         failover after {} s, heal wait {} ms",
        t.pulse_ms,
        t.beat_ms,
        t.term_ms,
        t.lost_after_ms,
        t.notify_after_ms,
        t.failover_after_ms / 1000,
        t.heal_wait_ms.unwrap_or_default(),
    ));
    let gateway_dir = stage.gateway.dir.clone();
    if again {
        teller.say("the stores of an earlier run are here: going on with the same history");
    } else {
        let founded = good(
            stage
                .command(&gateway_dir, &["init", "--machine", "gateway"])
                .await?,
        )?;
        teller.say(format_args!(
            "fleet {} founded, root key made",
            short(&founded, "fleet")
        ));
    }
    settings::write(&gateway_dir, &stage.with_places(settings::gateway))?;
    let pid = stage.gateway.start().await?;
    let address = stage.gateway.address().unwrap_or_default();
    teller.say(format_args!(
        "{} runs at {address}  {}",
        paint(BOLD, "gateway"),
        dim_pid(pid)
    ));
    let plain = address.trim_start_matches("http://");
    let target: SocketAddr = plain.parse().map_err(|_| {
        CliError::new(
            "demo.address",
            format!("the gateway's address {address:?} is none"),
            "",
        )
    })?;
    let proxy = Proxy::before(target).await?;
    let through = format!("http://{}", proxy.address());
    stage.proxy = Some(proxy);
    enrol(stage, teller, &through, again).await?;
    see_all(stage, teller).await
}

async fn enrol(stage: &mut Stage, teller: &mut Teller, through: &str, again: bool) -> Result<(), CliError> {
    let direct = format!(
        "http://{}",
        stage
            .gateway
            .address()
            .unwrap_or_default()
            .trim_start_matches("http://")
    );
    let gateway_dir = stage.gateway.dir.clone();
    for (machine, dir, address, note) in [
        (
            "studio",
            stage.studio.dir.clone(),
            through.to_owned(),
            "heavy, its link goes through a small proxy",
        ),
        ("mini", stage.mini.dir.clone(), direct, "always on, the backup"),
    ] {
        if !again || !dir.join("data").is_dir() {
            let invite = ["invite", "--machine", machine, "--address", address.as_str()];
            let invited = good(stage.command(&gateway_dir, &invite).await?)?;
            let line = invited
                .get("line")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            good(
                stage
                    .command(&dir, &["join", &line, "--machine", machine])
                    .await?,
            )?;
            teller.say(format_args!(
                "{} joined by a single-use invitation",
                paint(BOLD, machine)
            ));
        }
        let config = if machine == "studio" {
            stage.with_places(|places| settings::studio(places, &address))
        } else {
            stage.with_places(|places| settings::mini(places, &address))
        };
        settings::write(&dir, &config)?;
        let daemon = if machine == "studio" {
            &mut stage.studio
        } else {
            &mut stage.mini
        };
        let pid = daemon.start().await?;
        teller.say(format_args!(
            "{} runs  {} {}",
            paint(BOLD, machine),
            dim_pid(pid),
            paint(DIM, format_args!("({note})"))
        ));
    }
    Ok(())
}

async fn see_all(stage: &mut Stage, teller: &mut Teller) -> Result<(), CliError> {
    let api = stage.gateway.api();
    let wanted = [("studio", 2), ("mini", 1)];
    let nodes = wait_for(
        "both nodes to be online with their handlers",
        ONLINE_WITHIN,
        async || {
            let nodes = api.nodes().await?.items;
            let there = wanted.iter().all(|(machine, handlers)| {
                nodes
                    .iter()
                    .any(|n| n.machine == *machine && n.status == "online" && n.handlers.len() == *handlers)
            });
            Ok(there.then_some(nodes))
        },
    )
    .await?;
    for node in &nodes {
        let handlers: Vec<String> = node
            .handlers
            .iter()
            .map(|h| format!("{} ({})", h.name, h.class))
            .collect();
        teller.aside(&format!("{:<8} {}", node.machine, handlers.join(", ")));
    }
    let mut keys: Vec<&str> = nodes.iter().map(|node| node.machine_key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    teller.fact(
        "machines",
        nodes.iter().map(|node| &node.machine).collect::<Vec<_>>(),
    );
    teller.fact("timings_ms", settings::timings());
    teller.promise(
        nodes.len() == 3 && keys.len() == 3,
        "three machines, three keys, three stores; both nodes enrolled by invitation and online",
    );
    Ok(())
}

/// The result of an envelope, or its error.
pub(crate) fn good(envelope: Value) -> Result<Value, CliError> {
    if envelope.get("ok").and_then(Value::as_bool) == Some(true) {
        return Ok(envelope.get("result").cloned().unwrap_or_default());
    }
    let text = |pointer: &str| {
        envelope
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let command = text("/command");
    Err(CliError::new(
        &text("/error/code"),
        format!("ledger {command}: {}", text("/error/message")),
        text("/error/what_to_do"),
    ))
}

fn short(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .chars()
        .take(12)
        .collect()
}

fn dim_pid(pid: u32) -> String {
    paint(DIM, format_args!("pid {pid}"))
}
