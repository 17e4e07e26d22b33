//! Sinks of notices: the log, a command, a webhook. One try of one notice, bounded in time.
//!
//! Contract: a sink gets a notice as JSON with its id beside it, so that whoever gets it twice can tell. No redirect is followed,
//! nothing is asked but what the operator configured, and what is told of a try holds no secret. Does not: try again; see
//! `notices`.

use crate::config::Notices;
use crate::outside;
use ledger::core::ReceiptId;
use ledger::core::text::shown;
use ledger_projections::notices::{LOG, Notice};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a sink may take.
const SINK_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a file with a token at most.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Where notices go, beside the log.
#[derive(Clone)]
pub(super) struct Sink {
    way: Way,
    /// What the receipts call it: enough to know it by, never a secret.
    pub(super) destination: String,
}

#[derive(Clone)]
enum Way {
    Command(Vec<String>),
    Webhook {
        url: String,
        token_file: Option<PathBuf>,
    },
}

impl Sink {
    /// Those that are configured.
    pub(super) fn configured(config: &Notices) -> Vec<Self> {
        let command = config.command.clone().map(Way::Command);
        let webhook = config.webhook.clone().map(|url| Way::Webhook {
            url,
            token_file: config.webhook_token_file.clone(),
        });
        let ways = command.into_iter().chain(webhook);
        ways.map(|way| Self {
            destination: way.destination(),
            way,
        })
        .collect()
    }

    /// Tells it a notice once; what went wrong, as a sentence without secrets.
    pub(super) async fn tell(&self, id: &ReceiptId, notice: &Notice) -> Result<(), String> {
        let body = body(id, notice);
        let telling = async {
            match &self.way {
                Way::Command(argv) => {
                    let environment = [("LEDGER_NOTICE", id.to_string())];
                    outside::run(argv, &environment, body.as_bytes()).await
                }
                Way::Webhook { url, token_file } => post(url, token_file.as_deref(), id, body).await,
            }
        };
        let told = tokio::time::timeout(SINK_TIMEOUT, telling).await;
        told.unwrap_or_else(|_| Err(format!("took longer than {} s", SINK_TIMEOUT.as_secs())))
    }
}

impl Way {
    fn destination(&self) -> String {
        let text = match self {
            Self::Command(argv) => format!("command {}", argv.first().map_or("", String::as_str)),
            // Paths and queries of webhooks often are the secret.
            Self::Webhook { url, .. } => {
                let host = url
                    .split("://")
                    .nth(1)
                    .unwrap_or(url)
                    .split(['/', '?', '#'])
                    .next()
                    .unwrap_or_default();
                format!("webhook {}", host.rsplit('@').next().unwrap_or(host))
            }
        };
        outside::note(&text)
    }
}

/// Tells the log, which is always there.
pub(super) fn log(id: &ReceiptId, notice: &Notice) {
    tracing::warn!(notice = %id, topic = ?notice.topic, sink = LOG, "{}", shown(&notice.text));
}

fn body(id: &ReceiptId, notice: &Notice) -> String {
    serde_json::json!({
        "id": id, "topic": notice.topic, "machine": notice.machine, "text": notice.text, "raised_at_us": notice.raised_at,
    })
    .to_string()
}

async fn post(url: &str, token_file: Option<&Path>, id: &ReceiptId, body: String) -> Result<(), String> {
    let mut request = outside::client(SINK_TIMEOUT)?
        .post(url)
        .header("content-type", "application/json")
        .header("ledger-notice", id.to_string());
    if let Some(file) = token_file {
        // At each try anew, so that it can be changed while the daemon runs.
        request = request.bearer_auth(token(file)?);
    }
    let answer = request.body(body).send().await.map_err(outside::without_url)?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("answered {status}"))
    }
}

// The token in a file that its owner alone may read.
fn token(file: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("the token's file: {e}");
    let meta = std::fs::metadata(file).map_err(failed)?;
    if meta.mode() & 0o077 != 0 {
        return Err("the token's file may be read by others; give it mode 0600".into());
    }
    if meta.len() > TOKEN_BYTES_MAX {
        return Err(format!("the token's file has more than {TOKEN_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token's file holds no token of printable ASCII".into());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_destination_names_the_sink_and_no_secret() {
        let config = Notices {
            command: Some(vec!["/usr/bin/notify".into(), "--key=hunter2".into()]),
            webhook: Some("http://user:hunter2@hooks.example:81/T0/hunter2?key=hunter2#hunter2".into()),
            webhook_token_file: None,
        };
        let sinks = Sink::configured(&config);
        let named: Vec<&str> = sinks.iter().map(|sink| sink.destination.as_str()).collect();
        assert_eq!(named, ["command /usr/bin/notify", "webhook hooks.example:81"]);
    }

    #[test]
    fn a_token_is_read_from_a_file_of_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(token(&file).unwrap_err().contains("0600"));
        mode(0o600);
        assert_eq!(token(&file).unwrap(), "s3cret");
        for wrong in ["", " \n", "two words", "Schlüssel"] {
            std::fs::write(&file, wrong).unwrap();
            let why = token(&file).unwrap_err();
            assert!(why.contains("no token") && !why.contains("two"), "{why}");
        }
        assert!(token(&dir.path().join("none")).is_err());
    }
}
