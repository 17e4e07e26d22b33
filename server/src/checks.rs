//! Health checks of things beside this machine: a TCP port, an HTTP URL, a command, as the configuration declares them.
//!
//! Owns one task for each check. Contract: a change of state is a `node.service-state` in this machine's facts, and heartbeats
//! carry the current states; one failure alone is none, `failures` in a row are. A change that could not be kept is told by the
//! next look that finds it still so. A check that hangs ends at its timeout, with all that its command started. After a crash
//! every state is unknown until it is looked at, and then told. It mends nothing.

use crate::machine::Machine;
use crate::outside;
use ledger::core::kinds::{CheckKind, NodePulse2, NodeServiceState, ServiceGauge, ServiceState};
use ledger::core::limits::NAME_BYTES_MAX;
use ledger::core::{Draft, Stream, Subject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The shortest and the longest time between two looks, and of one look, milliseconds.
const MS_MIN: u64 = 50;
const MS_MAX: u64 = 86_400_000;

/// A thing beside the machine and how it is looked at: one of `tcp`, `http`, `command`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// Its name, at most 64 bytes.
    pub name: String,
    /// Host and port that take a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A URL that answers GET with a status below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Program and arguments, without a shell, that end with status 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Between two looks, milliseconds.
    #[serde(default = "every_ms")]
    pub every_ms: u64,
    /// How long a look may take, milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// How many failures in a row make it down.
    #[serde(default = "failures")]
    pub failures: u16,
}

fn every_ms() -> u64 {
    30_000
}

fn timeout_ms() -> u64 {
    5_000
}

fn failures() -> u16 {
    2
}

/// What is wrong with the checks of a configuration, as a sentence; nothing when they are fine.
pub(crate) fn wrong(checks: &[CheckConfig]) -> Option<String> {
    if checks.len() > NodePulse2::SERVICES_MAX {
        let (found, most) = (checks.len(), NodePulse2::SERVICES_MAX);
        return Some(format!(
            "{found} checks are declared; at most {most} are possible"
        ));
    }
    checks.iter().enumerate().find_map(|(n, check)| {
        let name = &check.name;
        let ways = [check.tcp.is_some(), check.http.is_some(), check.command.is_some()];
        let wrong = if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            format!("a name of 1 to {NAME_BYTES_MAX} bytes is expected")
        } else if checks[..n].iter().any(|other| other.name == *name) {
            "is declared twice; give each check a name of its own".to_owned()
        } else if ways.into_iter().filter(|way| *way).count() != 1 {
            "exactly one of tcp, http and command is expected".to_owned()
        } else if check.http.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            "http: an address beginning with http:// is expected".to_owned()
        } else if check.command.as_ref().is_some_and(Vec::is_empty) {
            "command: program and arguments are expected".to_owned()
        } else if !(MS_MIN..=MS_MAX).contains(&check.every_ms)
            || !(MS_MIN..=MS_MAX).contains(&check.timeout_ms)
        {
            format!("every_ms and timeout_ms: {MS_MIN} to {MS_MAX} are expected")
        } else if check.failures == 0 {
            "failures: at least 1 is expected".to_owned()
        } else {
            return None;
        };
        Some(format!("check {name:?}: {wrong}"))
    })
}

/// The current states, for heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Services(Mutex<BTreeMap<String, ServiceState>>);

impl Services {
    /// All states, by name.
    pub(crate) fn gauges(&self) -> Vec<ServiceGauge> {
        let states = self.0.lock().expect("services lock");
        let gauge = |(service, state): (&String, &ServiceState)| ServiceGauge {
            service: service.clone(),
            state: *state,
        };
        states.iter().map(gauge).collect()
    }

    /// Whether the newest looks at it found it up.
    pub(crate) fn is_up(&self, service: &str) -> bool {
        self.0.lock().expect("services lock").get(service) == Some(&ServiceState::Up)
    }

    fn set(&self, service: &str, state: ServiceState) {
        self.0
            .lock()
            .expect("services lock")
            .insert(service.to_owned(), state);
    }
}

// What a thing is, after what its looks found.
struct Judge {
    state: ServiceState,
    told: ServiceState,
    failed: u16,
}

impl Judge {
    fn new() -> Self {
        Self {
            state: ServiceState::Unknown,
            told: ServiceState::Unknown,
            failed: 0,
        }
    }

    fn look(&mut self, succeeded: bool, failures: u16) {
        if succeeded {
            (self.state, self.failed) = (ServiceState::Up, 0);
            return;
        }
        self.failed = self.failed.saturating_add(1);
        if self.failed >= failures {
            self.state = ServiceState::Down;
        }
    }

    // The state that was told last, while the state is another one.
    fn untold(&self) -> Option<ServiceState> {
        (self.told != self.state).then_some(self.told)
    }
}

/// Looks at everything that the configuration declares until it is told to stop.
pub(crate) async fn check_forever(
    machine: Arc<Machine>,
    services: Arc<Services>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    for check in machine.config.checks.clone() {
        services.set(&check.name, ServiceState::Unknown);
        tasks.spawn(check_one_forever(
            Arc::clone(&machine),
            Arc::clone(&services),
            check,
        ));
    }
    // A sender that is gone stops as well.
    drop(stop.wait_for(|stop| *stop).await);
    tasks.shutdown().await;
}

async fn check_one_forever(machine: Arc<Machine>, services: Arc<Services>, check: CheckConfig) {
    let mut judge = Judge::new();
    loop {
        let found = look(&check).await;
        judge.look(found.is_ok(), check.failures);
        services.set(&check.name, judge.state);
        if let Some(before) = judge.untold() {
            let note = found.err().unwrap_or_default();
            match tell(&machine, &check, before, judge.state, &note).await {
                Ok(()) => judge.told = judge.state,
                Err(e) => {
                    tracing::error!(check = check.name, code = e.code(), error = %e, "a change of state could not be kept");
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(check.every_ms)).await;
    }
}

async fn tell(
    machine: &Machine,
    check: &CheckConfig,
    before: ServiceState,
    state: ServiceState,
    note: &str,
) -> Result<(), crate::ServerError> {
    let detail = NodeServiceState {
        service: check.name.clone(),
        check: match (&check.tcp, &check.http) {
            (Some(_), _) => CheckKind::Tcp,
            (None, Some(_)) => CheckKind::Http,
            (None, None) => CheckKind::Command,
        },
        before,
        state,
        note: outside::note(note),
    };
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    machine
        .say(Stream::Facts, vec![Draft::of(&detail, subject)])
        .await
        .map(drop)
}

// Looks once; what is wrong, as a sentence.
async fn look(check: &CheckConfig) -> Result<(), String> {
    let limit = Duration::from_millis(check.timeout_ms);
    let looking = async {
        match (&check.tcp, &check.http, &check.command) {
            (Some(address), ..) => {
                let connected = tokio::net::TcpStream::connect(address).await;
                connected.map(drop).map_err(|e| e.to_string())
            }
            (None, Some(url), _) => get(url, limit).await,
            (None, None, Some(argv)) => outside::run(argv, &[], b"").await,
            (None, None, None) => Err("nothing to look at".to_owned()),
        }
    };
    tokio::time::timeout(limit, looking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", check.timeout_ms)))
}

async fn get(url: &str, connect_within: Duration) -> Result<(), String> {
    let answer = outside::client(connect_within)?.get(url).send().await;
    let status = answer.map_err(outside::without_url)?.status();
    if status.as_u16() < 400 {
        Ok(())
    } else {
        Err(format!("answered {status}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Config;
    use ledger::core::MachineId;
    use ledger::core::kinds::AnyDetail;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    fn check(text: &str) -> CheckConfig {
        toml::from_str(&format!(
            "name = \"thing\"\nevery_ms = 50\ntimeout_ms = 2000\n{text}"
        ))
        .unwrap()
    }

    #[test]
    fn one_failure_is_none_and_the_configured_number_in_a_row_is() {
        let mut judge = Judge::new();
        let states: Vec<_> = [false, true, true, false, true, false, false, false, true]
            .map(|succeeded| {
                judge.look(succeeded, 2);
                judge.state
            })
            .into();
        let (up, down, unknown) = (ServiceState::Up, ServiceState::Down, ServiceState::Unknown);
        assert_eq!(states, [unknown, up, up, up, up, up, down, down, up]);
    }

    #[test]
    fn a_change_that_could_not_be_kept_is_told_later_unless_it_has_passed() {
        let mut judge = Judge::new();
        judge.look(true, 1);
        assert_eq!(judge.untold(), Some(ServiceState::Unknown));
        judge.look(true, 1);
        assert_eq!(judge.untold(), Some(ServiceState::Unknown));
        judge.told = judge.state;
        assert_eq!(judge.untold(), None);
        judge.look(false, 1);
        assert_eq!(judge.untold(), Some(ServiceState::Up));
        judge.look(true, 1);
        assert_eq!(judge.untold(), None);
    }

    #[test]
    fn a_wrong_check_is_named_with_what_is_expected() {
        assert_eq!(wrong(&[check("tcp = \"127.0.0.1:1\"")]), None);
        for (text, part) in [
            ("", "exactly one"),
            ("tcp = \"h:1\"\nhttp = \"http://h\"", "exactly one"),
            ("http = \"ftp://h\"", "http://"),
            ("command = []", "program"),
            ("tcp = \"h:1\"\nfailures = 0", "at least 1"),
        ] {
            let told = wrong(&[check(text)]).unwrap();
            assert!(told.contains("\"thing\"") && told.contains(part), "{told}");
        }
        let twice = vec![check("tcp = \"h:1\""); 2];
        assert!(wrong(&twice).unwrap().contains("twice"));
    }

    #[tokio::test]
    async fn a_port_a_url_and_a_command_are_looked_at() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(look(&check(&format!("tcp = \"{address}\""))).await, Ok(()));
        let serve = async |status: &str| {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        // The connection of the first look.
        drop(listener.accept().await.unwrap());
        let url = check(&format!("http = \"http://{address}/health\""));
        let (good, ()) = tokio::join!(look(&url), serve("204 No Content"));
        assert_eq!(good, Ok(()));
        let (bad, ()) = tokio::join!(look(&url), serve("503 Service Unavailable"));
        assert!(bad.unwrap_err().contains("503"));
        drop(listener);
        assert!(look(&check(&format!("tcp = \"{address}\""))).await.is_err());
        assert_eq!(look(&check("command = [\"true\"]")).await, Ok(()));
        assert!(
            look(&check("command = [\"false\"]"))
                .await
                .unwrap_err()
                .contains("exit")
        );
        let hangs = CheckConfig {
            timeout_ms: 50,
            ..check("command = [\"sleep\", \"60\"]")
        };
        assert!(look(&hangs).await.unwrap_err().contains("no answer"));
    }

    #[tokio::test]
    async fn a_change_of_state_is_a_receipt_and_the_state_is_a_gauge() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        crate::setup::init(&home, &MachineId::new("studio").unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            checks: vec![check(&format!("tcp = \"{address}\""))],
            ..Config::default()
        };
        let machine = Machine::open(&home, config).unwrap();
        let services = Arc::new(Services::default());
        let (stop, stopped) = watch::channel(false);
        let mut changed = machine.changed();
        let running = tokio::spawn(check_forever(
            Arc::clone(&machine),
            Arc::clone(&services),
            stopped,
        ));
        let facts = machine.ledger.own_log(Stream::Facts).unwrap();
        let states = || -> Vec<(ServiceState, ServiceState)> {
            let receipts = machine.ledger.range(&facts, 1, u64::MAX).map(Result::unwrap);
            let detail = |receipt: ledger::Receipt| match receipt.statement().any_detail() {
                Ok(AnyDetail::NodeServiceState(d)) => Some((d.before, d.state)),
                _ => None,
            };
            receipts.filter_map(detail).collect()
        };
        let reached = async |changed: &mut watch::Receiver<_>, count: usize| {
            while states().len() < count {
                changed.changed().await.unwrap();
            }
        };
        reached(&mut changed, 1).await;
        assert_eq!(services.gauges()[0].state, ServiceState::Up);
        drop(listener);
        reached(&mut changed, 2).await;
        assert_eq!(
            states(),
            [
                (ServiceState::Unknown, ServiceState::Up),
                (ServiceState::Up, ServiceState::Down)
            ]
        );
        assert_eq!(services.gauges()[0].state, ServiceState::Down);
        stop.send_replace(true);
        running.await.unwrap();
    }
}
