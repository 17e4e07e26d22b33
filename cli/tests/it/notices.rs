//! The gateway tells people: a webhook that fails at first, a command, a verification that found something in the night.

use crate::{Daemon, WITHIN, bad, founded, good, ledger};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a webhook was sent.
#[derive(Debug)]
struct Posted {
    head: String,
    body: Value,
}

/// A server that answers with these statuses, one after another, then 204.
fn webhook(answers: &'static [u16]) -> (String, Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sent, posted) = channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = answers.get(n).copied().unwrap_or(204);
            let answer = format!(
                "HTTP/1.1 {status} so\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            if sent.send(Posted { head, body }).is_err() {
                return;
            }
        }
    });
    (address, posted)
}

fn configure(dir: &Path, text: &str) {
    std::fs::write(
        dir.join("config.toml"),
        format!("[timing]\nheal_wait_ms = 0\n{text}"),
    )
    .unwrap();
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < WITHIN, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn notices(dir: &Path, open: bool) -> Vec<Value> {
    let words: &[&str] = if open {
        &["notices", "list", "--open"]
    } else {
        &["notices", "list"]
    };
    good(dir, words)["notices"].as_array().unwrap().clone()
}

/// Asks for work that no machine does: a job that is parked, and a notice.
fn park(dir: &Path) {
    ledger(dir).args(["submit", "nobody-does-this"]).output().unwrap();
}

#[test]
fn a_notice_reaches_a_webhook_that_failed_once_and_a_command_and_each_try_is_a_receipt() {
    let dir = founded();
    let dir = dir.path();
    let (address, posted) = webhook(&[503]);
    let (token, told) = (dir.join("token"), dir.join("told.jsonl"));
    std::fs::write(&token, "s3cret\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let script = format!("cat >> {0} && echo \" $LEDGER_NOTICE\" >> {0}", told.display());
    configure(
        dir,
        &format!(
            "[notices]\nwebhook = \"http://{address}/hook?key=hunter2\"\nwebhook_token_file = {token:?}\n\
             command = [\"sh\", \"-c\", {script:?}]\n"
        ),
    );
    let daemon = Daemon::start(dir, "gateway");
    park(dir);
    let [first, second] = [0, 1].map(|n| {
        let posted = posted.recv_timeout(WITHIN);
        posted.unwrap_or_else(|_| panic!("post {n} did not come"))
    });
    let id = first.body["id"].as_str().unwrap().to_owned();
    for posted in [&first, &second] {
        assert!(
            posted.head.starts_with("post /hook?key=hunter2 "),
            "{}",
            posted.head
        );
        assert!(
            posted.head.contains(&format!("ledger-notice: {id}")),
            "{}",
            posted.head
        );
        assert!(
            posted.head.contains("authorization: bearer s3cret"),
            "{}",
            posted.head
        );
        assert_eq!(posted.body["topic"], "job-parked");
        assert_eq!(posted.body["id"], first.body["id"]);
    }
    until("it is delivered", || notices(dir, true).is_empty().then_some(()));
    let notice = notices(dir, false).remove(0);
    let deliveries = notice["deliveries"].as_array().unwrap();
    let of = |sink: &str| {
        let found = deliveries
            .iter()
            .find(|d| d["destination"].as_str().unwrap().starts_with(sink));
        found.unwrap_or_else(|| panic!("{sink}: {notice}"))
    };
    for (sink, attempts) in [("log", 1), ("command sh", 1), ("webhook 127.0.0.1", 2)] {
        assert_eq!(
            (&of(sink)["attempts"], &of(sink)["delivered"]),
            (&attempts.into(), &true.into())
        );
    }
    let lines = std::fs::read_to_string(&told).unwrap();
    assert!(lines.contains(&id) && lines.trim_end().ends_with(&id), "{lines}");
    daemon.stop();
    // Nothing of it is told again after a restart, and no secret is in any receipt.
    let daemon = Daemon::start(dir, "gateway");
    park(dir);
    let third = posted.recv_timeout(WITHIN).unwrap();
    assert_ne!(third.body["id"], first.body["id"]);
    let told = ledger(dir)
        .args(["replay", "--json", "--kind", "notice.*"])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("answered 503") && !told.contains("hunter2") && !told.contains("s3cret"),
        "{told}"
    );
    daemon.stop();
}

#[test]
fn a_notice_that_no_sink_takes_stays_in_status_until_somebody_has_seen_it() {
    let dir = founded();
    let dir = dir.path();
    // Follows no redirect: the other address would take it.
    let (address, posted) = webhook(&[302, 302, 302, 302]);
    configure(dir, &format!("[notices]\nwebhook = \"http://{address}/\"\n"));
    let daemon = Daemon::start(dir, "gateway");
    park(dir);
    let first = posted.recv_timeout(WITHIN).unwrap();
    let id = first.body["id"].as_str().unwrap();
    let shown = until("status shows it", || {
        let status = good(dir, &["status"]);
        (status["counts"]["notices_open"] == 1).then_some(status)
    });
    let warned = shown["warnings"].as_array().unwrap();
    assert!(
        warned.iter().any(|w| w["code"] == "notice.undelivered"),
        "{shown}"
    );
    // A kill between the try and its receipt, or after it: the same id again.
    daemon.kill();
    let daemon = Daemon::start(dir, "gateway");
    assert_eq!(posted.recv_timeout(WITHIN).unwrap().body["id"], first.body["id"]);
    bad(
        dir,
        &["notices", "ack", "0190b1c2-0000-7000-8000-000000000000"],
        "server.not-found",
        66,
    );
    good(dir, &["notices", "ack", id, "--note", "seen"]);
    assert_eq!(good(dir, &["status"])["counts"]["notices_open"], 0);
    assert!(notices(dir, true).is_empty());
    daemon.stop();
}

/// Where a text stands in a file of the journal.
#[test]
fn all_that_are_open_are_acknowledged_however_many_pages_they_fill() {
    use ledger::core::kinds::{NoticeRaised, NoticeTopic};
    use ledger::core::{Draft, Stream, Subject};
    let dir = founded();
    let dir = dir.path();
    let many = 1_003_u32;
    let machine = ledger_server::Machine::open(dir, ledger_server::Config::default()).unwrap();
    for part in (0..many).collect::<Vec<_>>().chunks(200) {
        let part = part.to_vec();
        let raised = machine
            .ledger
            .commit(move |tx| -> Result<(), ledger_server::ServerError> {
                for n in part {
                    let raised = NoticeRaised {
                        topic: NoticeTopic::JobParked,
                        machine: None,
                        text: format!("notice {n}"),
                    };
                    let subject = Subject::new("notice").expect("short and printable");
                    tx.append(Stream::Order, Draft::of(&raised, subject))?;
                }
                Ok(())
            });
        raised.unwrap();
    }
    drop(machine);
    let page = good(dir, &["notices", "list", "--open", "--limit", "2"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let behind = good(
        dir,
        &["notices", "list", "--open", "--limit", "2000", "--cursor", cursor],
    );
    assert_eq!(behind["notices"].as_array().unwrap().len(), 1_001);
    assert!(behind["next_cursor"].is_null());
    let done = good(dir, &["notices", "ack", "--all", "--note", "read"]);
    assert_eq!(done["acknowledged"].as_array().unwrap().len(), 1_003);
    assert!(notices(dir, true).is_empty());
}

fn find(dir: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let files = std::fs::read_dir(dir.join("data/journal")).unwrap();
    let mut found = files.filter_map(|file| {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).ok()?;
        let at = bytes.windows(needle.len()).position(|window| window == needle)?;
        Some((path, at))
    });
    found.next().unwrap()
}

#[test]
fn the_nightly_verification_runs_at_its_time_and_what_it_finds_is_told() {
    let dir = founded();
    let dir = dir.path();
    let (address, posted) = webhook(&[]);
    let daemon = Daemon::start(dir, "gateway");
    good(
        dir,
        &[
            "append",
            "--kind",
            "x.note",
            "--subject",
            "notes",
            "--payload",
            "a needle in the journal",
        ],
    );
    daemon.stop();
    // A time zone in which the next full minute is a dozen seconds away.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ahead = (60 + 48 - now % 60) % 60;
    let minute = (now + ahead) / 60 + 1;
    let at = format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    configure(
        dir,
        &format!("[notices]\nwebhook = \"http://{address}/\"\n[verify]\nat = \"{at}\"\n"),
    );
    let daemon = Daemon::start_in(
        dir,
        "gateway",
        "127.0.0.1:0",
        &[("TZ", &format!("NIGHT-00:00:{ahead:02}"))],
    );
    // The disk rots while the daemon runs.
    let (file, place) = find(dir, b"needle");
    let mut file = std::fs::File::options().write(true).open(file).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(place.try_into().unwrap())).unwrap();
    file.write_all(b"n").and_then(|()| file.write_all(b"o")).unwrap();
    let told = posted.recv_timeout(WITHIN).expect("a notice in the night");
    assert_eq!(told.body["topic"], "verify-failed", "{told:?}");
    let status = good(dir, &["status"]);
    assert_eq!(status["verification"]["clean"], false, "{status}");
    drop(daemon);
}
