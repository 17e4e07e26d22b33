//! Machines whose old data is put back: nothing that another machine has seen is lost, and no seq is signed twice.

use crate::{Daemon, WITHIN, folder, good, ledger, said};
use ledger_server::client::Api;
use ledger_server::http::wire::{AppendBody, ReceiptsQuery};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SETTINGS: &str = "[timing]\npulse_ms = 300\nbeat_ms = 200\nterm_ms = 2000\npoll_ms = 200\nlost_after_ms = 60000\n\
                        heal_wait_ms = 20000\n[verify]\nenabled = false\n";

/// A gateway and nodes, each a real process, on a port that stays the gateway's.
struct Fleet {
    root: tempfile::TempDir,
    listen: String,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    fn new(nodes: &[&str]) -> Self {
        let root = folder();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let fleet = Self {
            root,
            listen: port.to_string(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        };
        let gateway = fleet.dir("gateway");
        good(&gateway, &["init", "--machine", "gateway"]);
        configure(&gateway, "");
        let daemon = fleet.start("gateway");
        for node in nodes {
            fleet.join(node);
        }
        daemon.stop();
        fleet
    }

    fn join(&self, node: &str) {
        let address = format!("http://{}", self.listen);
        let invited = good(
            &self.dir("gateway"),
            &["invite", "--machine", node, "--address", &address],
        );
        let line = invited["line"].as_str().unwrap().to_owned();
        good(&self.dir(node), &["join", &line, "--machine", node]);
        let handler = format!(
            "[[handler]]\nname = \"on-{node}\"\nargv = [\"sh\", \"-c\", \"echo 42\"]\nclass = \"heavy\"\nslots = 2\n"
        );
        configure(&self.dir(node), &handler);
    }

    fn dir(&self, machine: &str) -> PathBuf {
        self.root.path().join(machine)
    }

    fn start(&self, machine: &str) -> Daemon {
        let role = if machine == "gateway" { "gateway" } else { "node" };
        Daemon::start_at(&self.dir(machine), role, &self.listen)
    }

    fn api(&self, machine: &str) -> Api {
        Api::unix(self.dir(machine).join("data/api.sock"))
    }

    // What this machine has of the notes of all.
    fn notes(&self, machine: &str) -> BTreeSet<String> {
        let query = ReceiptsQuery {
            kind: vec!["x.note".to_owned()],
            limit: Some(1000),
            ..ReceiptsQuery::default()
        };
        let page = self.runtime.block_on(self.api(machine).receipts(&query)).unwrap();
        page.items.into_iter().map(|receipt| receipt.id).collect()
    }

    fn note(&self, machine: &str) -> String {
        let note = AppendBody {
            kind: "x.note".to_owned(),
            ..AppendBody::default()
        };
        let appended = self.runtime.block_on(self.api(machine).append(&note)).unwrap();
        appended.item.receipt.id
    }

    // A note on a machine, and the wait until another has it.
    fn note_seen(&self, machine: &str, by: &str) -> String {
        let note = self.note(machine);
        until("the note is seen", || self.notes(by).contains(&note));
        note
    }

    fn job(&self, handler: &str) -> String {
        until("the handler is declared", || {
            let nodes = good(&self.dir("gateway"), &["nodes", "list"]);
            nodes["nodes"].to_string().contains(handler)
        });
        let done = good(&self.dir("gateway"), &["submit", handler, "--wait"]);
        let job = done["job"].as_str().or(done["id"].as_str());
        job.unwrap_or_else(|| panic!("{done}")).to_owned()
    }

    fn states(&self, machine: &str) -> Vec<(String, String)> {
        let listed = good(&self.dir(machine), &["jobs", "list"]);
        let jobs = listed["jobs"].as_array().unwrap();
        let text = |job: &serde_json::Value, key: &str| job[key].as_str().unwrap().to_owned();
        jobs.iter()
            .map(|job| (text(job, "id"), text(job, "state")))
            .collect()
    }

    // The newest incarnation of a machine's work log, as a machine knows it.
    fn incarnation(&self, of: &str, at: &str) -> u64 {
        let status = good(&self.dir(at), &["status"]);
        let logs = status["logs"].as_array().unwrap();
        let of = logs
            .iter()
            .filter(|log| log["machine"] == of && log["stream"] == "work");
        of.map(|log| log["incarnation"].as_u64().unwrap()).max().unwrap()
    }

    fn clean(&self, machine: &str) {
        let out = ledger(&self.dir(machine)).arg("verify").output().unwrap();
        assert!(out.status.success(), "{machine}: {}", said(&out));
    }
}

fn configure(dir: &Path, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + SETTINGS + more).unwrap();
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WITHIN, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

// Puts a copy in the place of what is there.
fn put_back(copy_of: &Path, place: &Path) {
    std::fs::remove_dir_all(place).unwrap();
    copy(copy_of, place);
}

#[test]
fn a_node_whose_old_data_is_put_back_takes_its_own_tail_back_before_it_says_anything() {
    let fleet = Fleet::new(&["studio"]);
    let (data, keys) = (fleet.dir("studio").join("data"), fleet.dir("studio").join("keys"));
    let (old_data, old_keys) = (fleet.dir("old-data"), fleet.dir("old-keys"));
    let _gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    let mut jobs = vec![fleet.job("on-studio")];
    let mut notes = vec![fleet.note_seen("studio", "gateway")];
    studio.stop();
    copy(&data, &old_data);
    copy(&keys, &old_keys);

    // Its anchor, newer and clean, proves that nothing more was signed: the same logs go on.
    let studio = fleet.start("studio");
    jobs.push(fleet.job("on-studio"));
    notes.push(fleet.note_seen("studio", "gateway"));
    studio.stop();
    put_back(&old_data, &data);
    let studio = fleet.start("studio");
    assert!(notes.iter().all(|note| fleet.notes("studio").contains(note)));
    assert_eq!(fleet.incarnation("studio", "studio"), 1);
    jobs.push(fleet.job("on-studio"));
    notes.push(fleet.note_seen("studio", "gateway"));
    studio.kill();

    // Everything is old, and nothing here knows it: the gateway does, and new logs go on.
    put_back(&old_data, &data);
    put_back(&old_keys, &keys);
    let studio = fleet.start("studio");
    assert!(notes.iter().all(|note| fleet.notes("studio").contains(note)));
    jobs.push(fleet.job("on-studio"));
    notes.push(fleet.note_seen("studio", "gateway"));
    assert_eq!(fleet.incarnation("studio", "studio"), 2);
    assert_eq!(fleet.incarnation("studio", "gateway"), 2);
    studio.stop();

    // And again, with an anchor that the crash left behind what was signed.
    let studio = fleet.start("studio");
    notes.push(fleet.note_seen("studio", "gateway"));
    studio.kill();
    put_back(&old_data, &data);
    let studio = fleet.start("studio");
    notes.push(fleet.note_seen("studio", "gateway"));
    jobs.push(fleet.job("on-studio"));
    assert!(notes.iter().all(|note| fleet.notes("studio").contains(note)));
    assert_eq!(fleet.incarnation("studio", "gateway"), 3);

    let states = fleet.states("gateway");
    for job in &jobs {
        let state = states.iter().find(|(id, _)| id == job);
        assert_eq!(
            state.map(|(_, state)| state.as_str()),
            Some("succeeded"),
            "{states:?}"
        );
    }
    studio.stop();
    fleet.clean("studio");
    fleet.clean("gateway");
}
