//! A proof convinces as many witnesses' worth as it is asked for, and no more.

use crate::{Daemon, WITHIN, bad, folder, good, json, ledger};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TIMING: &str = "[timing]\npulse_ms = 60000\nbeat_ms = 500\nterm_ms = 5000\npoll_ms = 500\nlost_after_ms = 60000\n\
                      heal_wait_ms = 500\ncosign_ms = 200\n[verify]\nenabled = false\n";

fn configure(dir: &Path) {
    let path = dir.join("config.toml");
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, before + TIMING).unwrap();
}

fn joined(root: &Path, gateway: &Daemon, name: &str) -> (PathBuf, Daemon) {
    let dir = root.join(name);
    let address = gateway.address();
    let invited = good(
        &gateway.dir,
        &["invite", "--machine", name, "--address", &address],
    );
    good(
        &dir,
        &["join", invited["line"].as_str().unwrap(), "--machine", name],
    );
    configure(&dir);
    let daemon = Daemon::start(&dir, "node");
    (dir, daemon)
}

// Says something on the gateway, and waits until so many have cosigned a checkpoint over it; its id.
fn witnessed(gateway: &Path, by: usize) -> String {
    let said = good(gateway, &["append", "--kind", "x.note", "--subject", "notes"]);
    let (id, seq) = (&said["receipt"]["id"], said["receipt"]["seq"].as_u64().unwrap());
    let began = Instant::now();
    loop {
        let status = good(gateway, &["status"]);
        let facts = |seen: &&Value| seen["stream"] == "facts" && seen["tree_size"].as_u64() > Some(seq);
        let seen = status["witnessed"].as_array().unwrap().iter().find(facts);
        if seen.is_some_and(|seen| seen["by"].as_array().unwrap().len() == by) {
            return id.as_str().unwrap().to_owned();
        }
        assert!(began.elapsed() < WITHIN, "nobody cosigned: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_quorum_of_witnesses_is_held_to_the_pinned_keys_and_outlasts_what_the_log_grows() {
    let (root, stranger) = (folder(), folder());
    let gateway = root.path().join("gateway");
    good(&gateway, &["init", "--machine", "gateway"]);
    configure(&gateway);
    let running = Daemon::start(&gateway, "gateway");
    let (_, studio) = joined(root.path(), &running, "studio");
    let (_, mini) = joined(root.path(), &running, "mini");
    let early = witnessed(&gateway, 2);

    let file = |name: &str| stranger.path().join(name).to_str().unwrap().to_owned();
    let (keys, fewer, proof) = (file("all.keys"), file("fewer.keys"), file("early.tlog-proof"));
    let listed = ledger(&gateway).arg("keys").output().unwrap().stdout;
    fs::write(&keys, &listed).unwrap();
    // The same without the one witness, whose line follows the one that names it.
    let listed = String::from_utf8(listed).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    let named = lines.iter().position(|line| line.starts_with("# mini witness"));
    let mini_key = lines[named.unwrap() + 1];
    let others: Vec<&str> = lines.iter().copied().filter(|line| *line != mini_key).collect();
    fs::write(&fewer, others.join("\n")).unwrap();

    let check = |proof: &str, keys: &str, quorum: &str| {
        let words = ["check", proof, "--key", keys, "--quorum", quorum];
        json(stranger.path(), &words)
    };
    let prove = |id: &str, proof: &str| {
        let _ = fs::remove_file(proof);
        good(&gateway, &["prove", id, "--out", proof]);
    };
    let refused = |proof: &str, keys: &str, quorum: &str| {
        let words = ["check", proof, "--key", keys, "--quorum", quorum];
        bad(stranger.path(), &words, "proof.quorum", 1)
    };
    prove(&early, &proof);
    for (keys, quorum, by) in [(&keys, "2", 2), (&keys, "0", 2), (&fewer, "1", 1)] {
        let (status, said) = check(&proof, keys, quorum);
        assert_eq!(status, 0, "{said}");
        assert_eq!(said["result"]["cosigned"].as_array().unwrap().len(), by, "{said}");
    }
    let message = refused(&proof, &keys, "3");
    assert!(message.to_string().contains("2 of the witnesses"), "{message}");
    refused(&proof, &fewer, "2");
    // The same key twice is one witness.
    let words = ["check", &proof, "--key", &fewer, "--key", &fewer, "--quorum", "2"];
    bad(stranger.path(), &words, "proof.quorum", 1);
    let out = ledger(stranger.path())
        .args(["check", &proof, "--key", &keys, "--quorum", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    for witness in ["studio", "mini"] {
        let line = text
            .lines()
            .find(|line| line.contains(&format!("witness/{witness} at ")));
        assert!(line.is_some_and(|line| line.ends_with(" ago")), "{text}");
    }

    // The log grows while one of the two is away: what both had seen stays proven by both.
    mini.stop();
    let late = witnessed(&gateway, 1);
    prove(&early, &proof);
    assert_eq!(
        check(&proof, &keys, "2").0,
        0,
        "the older checkpoint has the quorum still"
    );
    let late_proof = file("late.tlog-proof");
    prove(&late, &late_proof);
    refused(&late_proof, &keys, "2");
    assert_eq!(check(&late_proof, &keys, "1").0, 0);
    studio.stop();
    running.stop();
}
