//! Machines whose old data is put back: nothing that another machine has seen is lost, and no seq is signed twice.

use crate::{Daemon, WITHIN, folder, good, json, ledger, said};
use ledger_server::client::Api;
use ledger_server::http::wire::{AppendBody, ReceiptsQuery};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SETTINGS: &str = "[timing]\npulse_ms = 300\nbeat_ms = 200\nterm_ms = 2000\npoll_ms = 200\nlost_after_ms = 60000\n\
                        heal_wait_ms = 20000\n[verify]\nenabled = false\n";

/// A gateway and nodes, each a real process, on a port that stays the gateway's.
pub(super) struct Fleet {
    root: tempfile::TempDir,
    listen: String,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    pub(super) fn new(nodes: &[&str]) -> Self {
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

    pub(super) fn dir(&self, machine: &str) -> PathBuf {
        self.root.path().join(machine)
    }

    pub(super) fn start(&self, machine: &str) -> Daemon {
        let role = if machine == "gateway" { "gateway" } else { "node" };
        Daemon::start_at(&self.dir(machine), role, &self.listen)
    }

    fn api(&self, machine: &str) -> Api {
        Api::unix(self.dir(machine).join("data/api.sock"))
    }

    // What this machine has of the notes of all.
    pub(super) fn notes(&self, machine: &str) -> BTreeSet<String> {
        let query = ReceiptsQuery {
            kind: vec!["x.note".to_owned()],
            limit: Some(1000),
            ..ReceiptsQuery::default()
        };
        let page = self.runtime.block_on(self.api(machine).receipts(&query)).unwrap();
        page.items.into_iter().map(|receipt| receipt.id).collect()
    }

    pub(super) fn note(&self, machine: &str) -> String {
        let note = AppendBody {
            kind: "x.note".to_owned(),
            ..AppendBody::default()
        };
        let appended = self.runtime.block_on(self.api(machine).append(&note)).unwrap();
        appended.item.receipt.id
    }

    // A note on a machine, and the wait until another has it.
    pub(super) fn note_seen(&self, machine: &str, by: &str) -> String {
        let note = self.note(machine);
        until("the note is seen", || self.notes(by).contains(&note));
        note
    }

    pub(super) fn job(&self, handler: &str) -> String {
        until("the handler is declared", || {
            let nodes = good(&self.dir("gateway"), &["nodes", "list"]);
            nodes["nodes"].to_string().contains(handler)
        });
        let done = good(&self.dir("gateway"), &["submit", handler, "--wait"]);
        let job = done["job"].as_str().or(done["id"].as_str());
        job.unwrap_or_else(|| panic!("{done}")).to_owned()
    }

    pub(super) fn states(&self, machine: &str) -> Vec<(String, String)> {
        let listed = good(&self.dir(machine), &["jobs", "list"]);
        let jobs = listed["jobs"].as_array().unwrap();
        let text = |job: &serde_json::Value, key: &str| job[key].as_str().unwrap().to_owned();
        jobs.iter()
            .map(|job| (text(job, "id"), text(job, "state")))
            .collect()
    }

    // The newest incarnation of a machine's work log, as a machine knows it.
    pub(super) fn incarnation(&self, of: &str, at: &str) -> u64 {
        let status = good(&self.dir(at), &["status"]);
        let logs = status["logs"].as_array().unwrap();
        let of = logs
            .iter()
            .filter(|log| log["machine"] == of && log["stream"] == "work");
        of.map(|log| log["incarnation"].as_u64().unwrap()).max().unwrap()
    }

    // The epoch that a machine follows: the incarnation of the newest order log that it has.
    pub(super) fn epoch(&self, machine: &str) -> u64 {
        let (_, said) = json(&self.dir(machine), &["status"]);
        // Between two openings of its store a daemon answers nothing.
        let none = Vec::new();
        let logs = said["result"]["logs"].as_array().unwrap_or(&none);
        let of = logs.iter().filter(|log| log["stream"] == "order");
        of.map(|log| log["incarnation"].as_u64().unwrap())
            .max()
            .unwrap_or(0)
    }

    // Waits until these machines have the same of the order.
    pub(super) fn same_order(&self, machines: &[&str]) {
        let head = |machine: &&str| {
            let status = good(&self.dir(machine), &["status"]);
            let logs = status["logs"].as_array().unwrap().clone();
            let mut orders: Vec<_> = logs.into_iter().filter(|log| log["stream"] == "order").collect();
            orders.sort_by_key(|log| log["incarnation"].as_u64());
            orders
                .iter()
                .map(|log| (log["log"].to_string(), log["root"].to_string()))
                .collect::<Vec<_>>()
        };
        until("all have the same of the order", || {
            let heads: Vec<_> = machines.iter().map(head).collect();
            heads.windows(2).all(|pair| pair[0] == pair[1])
        });
    }

    pub(super) fn clean(&self, machine: &str) {
        let out = ledger(&self.dir(machine)).arg("verify").output().unwrap();
        assert!(out.status.success(), "{machine}: {}", said(&out));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for dir in std::fs::read_dir(self.root.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let log = std::fs::read_to_string(dir.path().join("daemon.log")).unwrap_or_default();
                println!("{}:\n{log}", dir.path().display());
            }
        }
    }
}

fn configure(dir: &Path, more: &str) {
    append(dir, &format!("{SETTINGS}{more}"));
}

fn append(dir: &Path, more: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, before + more).unwrap();
}

pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < WITHIN, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

// Puts a copy in the place of what is there.
pub(super) fn put_back(copy_of: &Path, place: &Path) {
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

#[test]
fn a_node_whose_old_copy_holds_a_log_that_was_begun_and_never_told_tells_it_before_it_begins_another() {
    let fleet = Fleet::new(&["studio"]);
    let (dir, data) = (fleet.dir("studio"), fleet.dir("studio").join("data"));
    let (old_data, untold_data) = (fleet.dir("old-data"), fleet.dir("untold-data"));
    let gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    let mut notes = vec![fleet.note_seen("studio", "gateway")];
    studio.stop();
    copy(&data, &old_data);
    let studio = fleet.start("studio");
    notes.push(fleet.note_seen("studio", "gateway"));
    studio.kill();

    // It takes its tail back and begins new logs; the gateway dies before it is told of them.
    put_back(&old_data, &data);
    let log = || std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
    let studio = std::thread::scope(|threads| {
        let starting = threads.spawn(|| fleet.start("studio"));
        until("its tail is here", || log().contains("own tail is here again"));
        gateway.kill();
        starting.join().unwrap()
    });
    assert_eq!(fleet.incarnation("studio", "studio"), 2);
    notes.push(fleet.note("studio"));
    studio.stop();
    copy(&data, &untold_data);

    // What is written now nobody else ever has. The anchor knows of it.
    let anchor = || std::fs::read(dir.join("keys/anchor")).unwrap();
    let studio = fleet.start("studio");
    let before = anchor();
    let lost = fleet.note("studio");
    until("the anchor knows it", || anchor() != before);
    studio.kill();
    put_back(&untold_data, &data);
    let gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    notes.push(fleet.note_seen("studio", "gateway"));
    for machine in ["studio", "gateway"] {
        let here = fleet.notes(machine);
        assert!(
            notes.iter().all(|note| here.contains(note)),
            "{machine}: {here:?}"
        );
        assert!(!here.contains(&lost));
        assert_eq!(fleet.incarnation("studio", machine), 3);
    }
    let job = fleet.job("on-studio");
    assert!(fleet.states("gateway").contains(&(job, "succeeded".into())));
    studio.stop();
    gateway.stop();
    fleet.clean("studio");
    fleet.clean("gateway");
}

#[test]
fn a_gateway_whose_old_data_is_put_back_collects_the_order_from_its_machines_and_opens_the_next_epoch() {
    let fleet = Fleet::new(&["studio", "mini"]);
    let (data, keys) = (
        fleet.dir("gateway").join("data"),
        fleet.dir("gateway").join("keys"),
    );
    let (old_data, old_keys) = (fleet.dir("old-data"), fleet.dir("old-keys"));
    let told = fleet.dir("told");
    let script = format!("cat >> {}", told.display());
    append(
        &fleet.dir("gateway"),
        &format!("[notices]\ncommand = [\"sh\", \"-c\", {script:?}]\n"),
    );
    let gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    let mini = fleet.start("mini");
    let mut jobs = vec![fleet.job("on-studio"), fleet.job("on-mini")];
    let mut notes = vec![fleet.note_seen("gateway", "studio")];
    gateway.stop();
    copy(&data, &old_data);
    copy(&keys, &old_keys);

    // The data alone are old: the anchor says so.
    let gateway = fleet.start("gateway");
    jobs.extend([fleet.job("on-studio"), fleet.job("on-mini")]);
    notes.push(fleet.note_seen("gateway", "studio"));
    notes.push(fleet.note_seen("mini", "gateway"));
    fleet.same_order(&["gateway", "studio", "mini"]);
    gateway.kill();
    put_back(&old_data, &data);
    let gateway = fleet.start("gateway");
    until("the second epoch", || {
        fleet.epoch("gateway") == 2 && fleet.epoch("mini") == 2
    });
    jobs.extend([fleet.job("on-studio"), fleet.job("on-mini")]);
    until("every note is here again", || {
        notes.iter().all(|note| fleet.notes("gateway").contains(note))
    });
    notes.push(fleet.note_seen("studio", "gateway"));
    // Killed between the telling and its record it would tell again: at least once is the promise.
    let all_told = || {
        until("everybody was told, and it is on record", || {
            let open = good(&fleet.dir("gateway"), &["notices", "list", "--open"]);
            open["notices"].as_array().is_some_and(Vec::is_empty)
        });
    };
    all_told();
    fleet.same_order(&["gateway", "studio", "mini"]);
    gateway.kill();

    // Keys and anchor are old as well: only the machines know.
    put_back(&old_data, &data);
    put_back(&old_keys, &keys);
    let gateway = fleet.start("gateway");
    until("the third epoch", || {
        fleet.epoch("gateway") == 3 && fleet.epoch("studio") == 3
    });
    jobs.extend([fleet.job("on-studio"), fleet.job("on-mini")]);
    until("every note is here again", || {
        notes.iter().all(|note| fleet.notes("gateway").contains(note))
    });

    let states = fleet.states("gateway");
    for job in &jobs {
        let state = states.iter().find(|(id, _)| id == job);
        assert_eq!(
            state.map(|(_, state)| state.as_str()),
            Some("succeeded"),
            "{states:?}"
        );
    }
    fleet.same_order(&["gateway", "studio", "mini"]);
    // Of each new epoch people are told once, and that they were is on record.
    all_told();
    let told = std::fs::read_to_string(&told).unwrap_or_default();
    for epoch in ["epoch 2 goes on", "epoch 3 goes on"] {
        assert_eq!(told.matches(epoch).count(), 1, "{epoch}: {told}");
    }
    for daemon in [studio, mini, gateway] {
        daemon.stop();
    }
    for machine in ["gateway", "studio", "mini"] {
        fleet.clean(machine);
    }
}

#[test]
fn a_machine_whose_keys_run_twice_is_proven_to_be_two_and_gets_no_more_work() {
    let fleet = Fleet::new(&["studio"]);
    let _gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    fleet.job("on-studio");
    fleet.note_seen("studio", "gateway");
    studio.stop();
    // The same machine once more, on another disk; both run.
    copy(&fleet.dir("studio"), &fleet.dir("clone"));
    let studio = fleet.start("studio");
    fleet.note_seen("studio", "gateway");
    let clone = fleet.start("clone");
    fleet.note("studio");
    fleet.note("clone");
    let health = || {
        let nodes = good(&fleet.dir("gateway"), &["nodes", "list"]);
        let nodes = nodes["nodes"].as_array().unwrap().clone();
        let studio = nodes.iter().find(|node| node["machine"] == "studio");
        studio.unwrap()["status"].as_str().unwrap().to_owned()
    };
    until("it is quarantined", || health() == "quarantined");

    let proofs: Vec<PathBuf> = std::fs::read_dir(fleet.dir("gateway").join("evidence"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "fork"))
        .collect();
    let keys = fleet.dir("keys.txt");
    let listed = ledger(&fleet.dir("gateway")).arg("keys").output().unwrap();
    std::fs::write(&keys, &listed.stdout).unwrap();
    let (proof, keys) = (proofs[0].to_str().unwrap(), keys.to_str().unwrap());
    let nowhere = folder();
    let proven = good(nowhere.path(), &["check", proof, "--key", keys]);
    assert_eq!(
        (&proven["fork"], &proven["machine"]),
        (&true.into(), &"studio".into())
    );
    // One changed character, and it proves nothing.
    let text = std::fs::read_to_string(proof).unwrap();
    let at = text.rfind("record ").unwrap() + 200;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = fleet.dir("forged.fork");
    std::fs::write(&forged, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    let forged = ledger(nowhere.path())
        .args(["check", forged.to_str().unwrap(), "--key", keys])
        .output()
        .unwrap();
    assert_eq!(forged.status.code(), Some(1), "{}", said(&forged));
    let out = ledger(&fleet.dir("gateway")).arg("verify").output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
    assert!(said(&out).contains("fork.evidence"), "{}", said(&out));
    drop((studio, clone));
}

#[test]
fn a_node_whose_disk_is_lost_joins_anew_under_its_name_and_gets_its_own_history_back() {
    let fleet = Fleet::new(&["studio"]);
    let _gateway = fleet.start("gateway");
    let studio = fleet.start("studio");
    let first = fleet.job("on-studio");
    let note = fleet.note_seen("studio", "gateway");
    studio.kill();
    std::fs::remove_dir_all(fleet.dir("studio")).unwrap();
    fleet.join("studio");
    let studio = fleet.start("studio");
    until("its history is here again", || {
        fleet.notes("studio").contains(&note)
    });
    let second = fleet.job("on-studio");
    let newer = fleet.note_seen("studio", "gateway");
    assert!(fleet.notes("studio").is_superset(&BTreeSet::from([note, newer])));
    until("its copy of the order tells both jobs' success", || {
        let states = fleet.states("studio");
        let succeeded = |job: &String| states.contains(&(job.clone(), "succeeded".into()));
        [&first, &second].into_iter().all(succeeded)
    });
    studio.stop();
    fleet.clean("studio");
    fleet.clean("gateway");
}
