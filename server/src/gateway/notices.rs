//! Telling people: every notice goes to the log and to each configured sink, at least once, and each try is a receipt.

use super::central;
use crate::error::ServerError;
use crate::machine::Machine;
use crate::outside;
use ledger::core::kinds::{NoticeDelivered, NoticeUndelivered};
use ledger::core::text::shown;
use ledger::core::{Draft, ReceiptId, Subject};
use ledger_projections::notices::Notice;
use std::sync::Arc;
use std::time::Duration;

/// Tries for one notice and sink.
const ATTEMPTS_MAX: u16 = 5;
/// Destinations that the fold keeps of one notice; one beyond would be tried for ever.
const DESTINATIONS_MAX: usize = 16;
/// How long a sink may take.
const SINK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time before the second try; doubled for each one after it.
const RETRY_AFTER: Duration = Duration::from_secs(2);

#[derive(Clone)]
enum Sink {
    Log,
    Command(Vec<String>),
    Webhook(String),
}

impl Sink {
    // What the receipt calls it: enough to know it by, never a secret.
    fn destination(&self) -> String {
        let text = match self {
            Self::Log => "log".to_owned(),
            Self::Command(argv) => format!("command {}", argv.first().map_or("", String::as_str)),
            // Paths and queries of webhooks often are the secret.
            Self::Webhook(url) => {
                let host = url
                    .split("://")
                    .nth(1)
                    .unwrap_or(url)
                    .split(['/', '?'])
                    .next()
                    .unwrap_or_default();
                format!("webhook {}", host.rsplit('@').next().unwrap_or(host))
            }
        };
        outside::note(&text)
    }
}

/// Delivers what is undelivered until it is told to stop.
pub(crate) async fn deliver_forever(machine: Arc<Machine>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let config = &machine.config.notices;
    let mut sinks: Vec<Sink> = config.command.clone().map(Sink::Command).into_iter().collect();
    sinks.extend(config.webhook.clone().map(Sink::Webhook));
    // Last: a notice that the log has went out to every sink that there was.
    sinks.push(Sink::Log);
    let mut changed = machine.changed();
    let mut retry_at: std::collections::BTreeMap<(ReceiptId, String), tokio::time::Instant> =
        Default::default();
    loop {
        changed.mark_unchanged();
        if machine.central.is_serving() {
            for (id, notice, sink, attempt) in undelivered(&machine, &sinks) {
                let key = (id, sink.destination());
                if retry_at
                    .get(&key)
                    .is_some_and(|at| *at > tokio::time::Instant::now())
                {
                    continue;
                }
                match attempt_one(&machine, &id, &notice, &sink, attempt).await {
                    Ok(true) => {
                        retry_at.remove(&key);
                    }
                    Ok(false) => {
                        let wait = RETRY_AFTER * 2u32.saturating_pow(u32::from(attempt) - 1);
                        retry_at.insert(key, tokio::time::Instant::now() + wait);
                    }
                    Err(e) => {
                        tracing::error!(code = e.code(), error = %e, "a notice's delivery could not be recorded");
                    }
                }
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(RETRY_AFTER) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn undelivered(machine: &Machine, sinks: &[Sink]) -> Vec<(ReceiptId, Notice, Sink, u16)> {
    let snapshot = machine.ledger.snapshot();
    let mut due = Vec::new();
    let log = Sink::Log.destination();
    for (id, notice) in snapshot.state.notices() {
        let of = |destination: &str| notice.deliveries.iter().find(|d| d.destination == destination);
        // A sink that was configured later does not get what was told before it.
        let told = of(&log).is_some_and(|d| d.delivered);
        for sink in sinks {
            let tried = of(&sink.destination());
            let attempts = tried.map_or(0, |d| d.attempts);
            let open = match tried {
                Some(tried) => !tried.delivered && attempts < ATTEMPTS_MAX,
                None => !told && notice.deliveries.len() < DESTINATIONS_MAX,
            };
            if open {
                due.push((*id, notice.clone(), sink.clone(), attempts + 1));
            }
        }
    }
    due
}

async fn attempt_one(
    machine: &Arc<Machine>,
    id: &ReceiptId,
    notice: &Notice,
    sink: &Sink,
    attempt: u16,
) -> Result<bool, ServerError> {
    let body = serde_json::json!({
        "id": id, "topic": notice.topic, "machine": notice.machine, "text": notice.text, "raised_at_us": notice.raised_at,
    });
    let body = body.to_string();
    let told = match sink {
        Sink::Log => {
            tracing::warn!(notice = %id, topic = ?notice.topic, "{}", shown(&notice.text));
            Ok(())
        }
        Sink::Command(argv) => {
            let environment = [("LEDGER_NOTICE", id.to_string())];
            bounded(outside::run(argv, &environment, body.as_bytes())).await
        }
        Sink::Webhook(url) => bounded(post(url, id, body)).await,
    };
    let subject = Subject::new(&format!("notice/{id}"))?;
    let (destination, delivered) = (sink.destination(), told.is_ok());
    let draft = match told {
        Ok(()) => Draft::of(
            &NoticeDelivered {
                notice: *id,
                destination,
                attempt,
            },
            subject,
        ),
        Err(why) => {
            let detail = NoticeUndelivered {
                notice: *id,
                destination,
                attempt,
                error: outside::note(&why),
            };
            Draft::of(&detail, subject)
        }
    };
    let draft = draft.cause(*id);
    machine
        .ledger
        .submit(move |tx| -> Result<(), ServerError> { Ok(central::put(tx, vec![draft]).map(drop)?) })
        .await?;
    Ok(delivered)
}

async fn bounded(told: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(SINK_TIMEOUT, told)
        .await
        .unwrap_or_else(|_| Err("took longer than 20 s".into()))
}

async fn post(url: &str, id: &ReceiptId, body: String) -> Result<(), String> {
    let request = outside::client(SINK_TIMEOUT)?
        .post(url)
        .header("content-type", "application/json")
        .header("ledger-notice", id.to_string());
    let answer = request.body(body).send().await.map_err(outside::without_url)?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("answered {status}"))
    }
}
