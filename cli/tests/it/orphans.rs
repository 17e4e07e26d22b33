//! Machines that come back with more of the order than the next epoch was cut at: nothing they tell of is lost.

use crate::restored::{Fleet, copy, put_back, until};
use crate::{Daemon, good, json, ledger, said};
use std::path::PathBuf;

/// What a gateway is put back to.
struct Copy {
    data: [PathBuf; 2],
    keys: [PathBuf; 2],
}

impl Copy {
    fn of(fleet: &Fleet, machine: &str) -> Self {
        let (dir, old) = (fleet.dir(machine), fleet.dir(&format!("old-{machine}")));
        std::fs::create_dir(&old).unwrap();
        let of = |folder: &str| [old.join(folder), dir.join(folder)];
        let kept = Self {
            data: of("data"),
            keys: of("keys"),
        };
        for [old, place] in [&kept.data, &kept.keys] {
            copy(place, old);
        }
        kept
    }

    fn put_back(&self) {
        for [old, place] in [&self.data, &self.keys] {
            put_back(old, place);
        }
    }
}

fn submit(fleet: &Fleet, words: &[&str]) -> String {
    let done = good(&fleet.dir("gateway"), &[&["submit"], words].concat());
    let job = done["job"].as_str().or(done["id"].as_str());
    job.unwrap_or_else(|| panic!("{done}")).to_owned()
}

fn state(fleet: &Fleet, machine: &str, job: &str) -> String {
    let (_, said) = json(&fleet.dir(machine), &["jobs", "list"]);
    // Between two openings of its store a daemon answers nothing.
    let jobs = said["result"]["jobs"].as_array().cloned().unwrap_or_default();
    let of = jobs.iter().find(|row| row["id"] == job);
    of.map_or_else(
        || "unknown".to_owned(),
        |row| row["state"].as_str().unwrap().to_owned(),
    )
}

// The heads of the gateway's own work, as a machine has them.
fn work_of_gateway(fleet: &Fleet, machine: &str) -> Vec<String> {
    let status = good(&fleet.dir(machine), &["status"]);
    let logs = status["logs"].as_array().unwrap();
    let work = logs
        .iter()
        .filter(|log| log["machine"] == "gateway" && log["stream"] == "work");
    work.map(|log| log["root"].to_string()).collect()
}

fn arrives(fleet: &Fleet, machine: &str, job: &str, at: &str) {
    until(&format!("{job} is {at} on {machine}"), || {
        state(fleet, machine, job) == at
    });
}

#[test]
fn a_gateway_and_its_node_that_are_put_back_together_do_not_wait_for_each_other() {
    let fleet = Fleet::new(&["studio"]);
    let (gateway, studio) = (fleet.start("gateway"), fleet.start("studio"));
    let mut jobs = vec![fleet.job("on-studio")];
    gateway.stop();
    let old_gateway = Copy::of(&fleet, "gateway");

    // The node's copy is younger: it has what its gateway has not, of its own logs and of the gateway's.
    let gateway = fleet.start("gateway");
    jobs.push(fleet.job("on-studio"));
    let mut notes = vec![
        fleet.note_seen("studio", "gateway"),
        fleet.note_seen("gateway", "studio"),
    ];
    fleet.same_order(&["gateway", "studio"]);
    studio.stop();
    let old_studio = Copy::of(&fleet, "studio");
    let studio = fleet.start("studio");
    fleet.note_seen("studio", "gateway");
    studio.stop();
    gateway.stop();

    // The keys are kept, and with them the anchors, which tell both that something is lost.
    for old in [&old_gateway, &old_studio] {
        put_back(&old.data[0], &old.data[1]);
    }
    let (gateway, studio) = std::thread::scope(|threads| {
        let gateway = threads.spawn(|| fleet.start("gateway"));
        let studio = threads.spawn(|| fleet.start("studio"));
        (gateway.join().unwrap(), studio.join().unwrap())
    });
    until("the second epoch", || {
        fleet.epoch("gateway") == 2 && fleet.epoch("studio") == 2
    });
    jobs.push(fleet.job("on-studio"));
    notes.push(fleet.note_seen("studio", "gateway"));
    for machine in ["gateway", "studio"] {
        for job in &jobs {
            arrives(&fleet, machine, job, "succeeded");
        }
        until("all that was told is here", || {
            let here = fleet.notes(machine);
            notes.iter().all(|note| here.contains(note))
        });
    }
    studio.stop();
    gateway.stop();
    fleet.clean("studio");
    fleet.clean("gateway");
}

#[test]
fn a_machine_that_comes_back_with_an_orphan_branch_loses_no_request_and_no_result_and_follows_the_next_epoch()
{
    let fleet = Fleet::new(&["studio", "mini"]);
    for node in ["studio", "mini"] {
        let more = format!(
            "[[handler]]\nname = \"pay-{node}\"\nargv = [\"sh\", \"-c\", \"echo 42\"]\nclass = \"exclusive\"\n"
        );
        let path = fleet.dir(node).join("config.toml");
        let settings = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, settings + &more).unwrap();
    }
    let config = fleet.dir("gateway").join("config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    let here = "[[handler]]\nname = \"here\"\nargv = [\"sh\", \"-c\", \"echo 42\"]\nclass = \"light\"\n";
    let settings = settings.replace("heal_wait_ms = 20000", "heal_wait_ms = 1500");
    std::fs::write(&config, settings + here).unwrap();

    let start = |machine: &str| -> Daemon { fleet.start(machine) };
    let (gateway, studio, mini) = (start("gateway"), start("studio"), start("mini"));
    let before = fleet.job("on-mini");
    fleet.same_order(&["gateway", "studio", "mini"]);
    gateway.stop();
    let old = Copy::of(&fleet, "gateway");

    // What studio alone follows: mini sleeps.
    let gateway = start("gateway");
    let both = fleet.job("on-studio");
    fleet.same_order(&["gateway", "studio", "mini"]);
    mini.stop();
    let done = fleet.job("on-studio");
    let paid = fleet.job("pay-studio");
    let done_here = fleet.job("here");
    let waits = submit(&fleet, &["on-mini", "--input", "{\"n\": 3}"]);
    let cancelled = submit(&fleet, &["on-mini"]);
    good(&fleet.dir("gateway"), &["jobs", "cancel", &cancelled]);
    let asked_there = good(&fleet.dir("studio"), &["submit", "on-mini"]);
    let asked_there = asked_there["job"].as_str().unwrap().to_owned();
    let called_off = good(&fleet.dir("studio"), &["submit", "on-mini"]);
    let called_off = called_off["job"].as_str().unwrap().to_owned();
    for job in [&asked_there, &called_off] {
        arrives(&fleet, "gateway", job, "ready");
    }
    // What is said of a job whose request the gateway gets last of all.
    good(&fleet.dir("gateway"), &["jobs", "cancel", &called_off]);
    let after = submit(&fleet, &["on-mini", "--depends-on", &asked_there]);
    let note = fleet.note_seen("gateway", "studio");
    fleet.same_order(&["gateway", "studio"]);
    let work = |machine: &str| work_of_gateway(&fleet, machine);
    until("studio has the gateway's work", || {
        work("studio") == work("gateway")
    });
    gateway.kill();
    studio.kill();

    // The gateway is old, and only mini is asked.
    old.put_back();
    let (mut gateway, mini) = (start("gateway"), start("mini"));
    until("the second epoch", || {
        fleet.epoch("gateway") == 2 && fleet.epoch("mini") == 2
    });
    let later = fleet.job("on-mini");
    // And once more, so that studio misses two epochs.
    fleet.same_order(&["gateway", "mini"]);
    gateway.kill();
    old.put_back();
    gateway = start("gateway");
    until("the third epoch", || {
        fleet.epoch("gateway") == 3 && fleet.epoch("mini") == 3
    });
    arrives(&fleet, "gateway", &later, "succeeded");
    assert_eq!(state(&fleet, "gateway", &both), "succeeded");
    for job in [&done, &paid, &done_here, &waits, &cancelled, &asked_there, &after] {
        assert_eq!(state(&fleet, "gateway", job), "unknown");
    }

    // Studio comes; the gateway is killed as soon as it has its branch, and once more when all is done.
    let studio = start("studio");
    until("the branch is kept", || fleet.notes("gateway").contains(&note));
    gateway.kill();
    gateway = start("gateway");
    for job in [
        &before,
        &both,
        &later,
        &done,
        &done_here,
        &waits,
        &asked_there,
        &after,
    ] {
        arrives(&fleet, "gateway", job, "succeeded");
    }
    for job in [&cancelled, &called_off] {
        arrives(&fleet, "gateway", job, "cancelled");
    }
    arrives(&fleet, "gateway", &paid, "held");
    until("what the gateway itself had said is here", || {
        fleet.notes("gateway").contains(&note)
    });
    let newest = fleet.job("on-studio");
    assert_eq!(
        (fleet.epoch("studio"), fleet.incarnation("studio", "gateway")),
        (3, 1)
    );
    gateway.kill();
    let gateway = start("gateway");
    for machine in ["gateway", "studio", "mini"] {
        for job in [
            &before,
            &both,
            &later,
            &done,
            &done_here,
            &waits,
            &asked_there,
            &newest,
        ] {
            arrives(&fleet, machine, job, "succeeded");
        }
        arrives(&fleet, machine, &paid, "held");
        arrives(&fleet, machine, &cancelled, "cancelled");
    }
    // Once each: its claim is proven, its result adopted, and nobody ran it again.
    for job in [&done_here, &done] {
        let life = good(&fleet.dir("gateway"), &["jobs", "show", job]).to_string();
        let said = |kind: &str| life.matches(&format!("\"{kind}\"")).count();
        // On a busy machine a claim's answer can come too late, and the job is given once more: that claim is proven too.
        assert!(said("job.claimed") > 0, "{life}");
        assert_eq!(said("job.claim-proven"), said("job.claimed"), "{life}");
        assert_eq!(said("run.started"), 1, "{life}");
        assert_eq!(
            life.matches("\"verdict\":\"adopted\"").count(),
            1,
            "its result stands: {life}"
        );
    }
    let told = ledger(&fleet.dir("gateway"))
        .args(["replay", "--kind", "notice.raised"])
        .output()
        .unwrap();
    assert_eq!(
        said(&told).matches("behind its cut at seq").count(),
        1,
        "{}",
        said(&told)
    );
    for daemon in [studio, mini, gateway] {
        daemon.stop();
    }
    for machine in ["gateway", "studio", "mini"] {
        fleet.clean(machine);
    }
}

// How often a notice tells of it.
fn told(fleet: &Fleet, text: &str) -> usize {
    let out = ledger(&fleet.dir("gateway"))
        .args(["replay", "--kind", "notice.raised"])
        .output()
        .unwrap();
    said(&out).matches(text).count()
}

#[test]
fn a_machine_with_another_order_than_the_fleets_is_told_so_and_what_it_says_is_taken_in() {
    let fleet = Fleet::new(&["studio"]);
    let config = fleet.dir("gateway").join("config.toml");
    let settings = std::fs::read_to_string(&config).unwrap();
    let settings = settings.replace("heal_wait_ms = 20000", "heal_wait_ms = 1500");
    std::fs::write(&config, settings).unwrap();
    let (gateway, studio) = (fleet.start("gateway"), fleet.start("studio"));
    fleet.job("on-studio");
    fleet.same_order(&["gateway", "studio"]);
    gateway.stop();
    let old = Copy::of(&fleet, "gateway");
    let gateway = fleet.start("gateway");
    let done = fleet.job("on-studio");
    fleet.same_order(&["gateway", "studio"]);
    gateway.kill();
    let note = fleet.note("studio");
    studio.kill();

    // Nobody answers who could know better, and Central signs another order from there on.
    old.put_back();
    let gateway = fleet.start("gateway");
    for _ in 0..12 {
        submit(&fleet, &["on-studio"]);
    }
    let studio = fleet.start("studio");
    until("the second epoch", || fleet.epoch("gateway") == 2);
    until("what studio said is here", || {
        fleet.notes("gateway").contains(&note)
    });
    let warned = || {
        let (_, said) = json(&fleet.dir("studio"), &["status"]);
        let warnings = said["result"]["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().any(|warning| warning["code"] == "order.forked")
    };
    until("studio tells why it does not follow", warned);
    let text = "studio has another record than is here";
    until("a notice tells of it", || told(&fleet, text) > 0);
    gateway.kill();
    let gateway = fleet.start("gateway");
    fleet.note_seen("studio", "gateway");
    until("studio knows it still", warned);
    let orders = told(&fleet, text);
    let evidence = std::fs::read_dir(fleet.dir("gateway").join("evidence")).unwrap();
    let files: Vec<_> = evidence.map(|entry| entry.unwrap().path()).collect();
    assert!((1..=orders).contains(&files.len()), "{files:?}");
    let keys = fleet.dir("studio.keys");
    let listed = ledger(&fleet.dir("gateway")).arg("keys").output().unwrap();
    std::fs::write(&keys, listed.stdout).unwrap();
    for file in &files {
        let [file, keys] = [file, &keys].map(|path| path.to_str().unwrap());
        good(&fleet.dir("gateway"), &["check", file, "--key", keys]);
    }
    assert_eq!(fleet.epoch("studio"), 1);
    assert_eq!(
        state(&fleet, "studio", &done),
        "succeeded",
        "as it was when it followed"
    );
    for daemon in [studio, gateway] {
        daemon.stop();
    }
    fleet.clean("studio");
}
