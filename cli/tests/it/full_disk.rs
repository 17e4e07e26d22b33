//! A daemon whose disk is full says so, goes on reading, and takes appends again by itself when there is room.
//!
//! On a tmpfs of its own; mounting needs root. Without it the test says loudly that it was skipped, and fails where `CI` is set.

use crate::{Daemon, WITHIN, bad, folder, good, json, ledger, said};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(mib: u32) -> Option<Self> {
        let dir = folder();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"])
            .arg(dir.path())
            .output();
        if done.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no tmpfs can be mounted, which needs root: {done:?}"
        );
        eprintln!("SKIPPED: no tmpfs can be mounted, which needs root, so no disk was full: {done:?}");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(gone.unwrap().success() || std::thread::panicking());
    }
}

fn append(dir: &Path, number: u32, payload: &str) -> bool {
    let subject = format!("t/{number}");
    let words = [
        "append",
        "--kind",
        "x.note",
        "--subject",
        &subject,
        "--payload",
        payload,
    ];
    let (status, envelope) = json(dir, &words);
    if status != 0 {
        let message = envelope["error"]["message"].as_str().unwrap();
        assert!(message.contains("no space left"), "{envelope}");
    }
    status == 0
}

#[test]
fn a_daemon_on_a_full_disk_reads_on_and_resumes_by_itself() {
    let Some(disk) = Mounted::new(16) else { return };
    let dir = disk.0.path().join("mini");
    good(&dir, &["init", "--machine", "mini"]);
    let daemon = Daemon::start(&dir, "gateway");
    assert!(append(&dir, 0, "before"));
    let ballast = disk.0.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    for bytes in [4096, 1] {
        while file.write_all(&vec![0xba; bytes]).is_ok() {}
    }
    drop(file);
    // What is written ahead in the segment is still to be had.
    let payload = "a payload that takes its room. ".repeat(2000);
    let taken = (1..200)
        .take_while(|number| append(&dir, *number, &payload))
        .count();
    assert!(taken < 199, "the disk is small");
    bad_again(&dir, &payload);
    let replayed = ledger(&dir).arg("replay").output().unwrap();
    assert!(
        replayed.status.success() && said(&replayed).contains("6 bytes"),
        "{}",
        said(&replayed)
    );
    std::fs::remove_file(&ballast).unwrap();
    let began = Instant::now();
    while !append(&dir, 500, &payload) {
        assert!(began.elapsed() < WITHIN, "appends do not resume");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    daemon.stop();
    good(&dir, &["verify"]);
}

fn bad_again(dir: &Path, payload: &str) {
    let words = [
        "append",
        "--kind",
        "x.note",
        "--subject",
        "t",
        "--payload",
        payload,
    ];
    bad(dir, &words, "journal.no-space", 74);
}
