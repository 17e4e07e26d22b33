//! Every command of the README's tour runs as it is written there.

use crate::said;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_five_minute_tour_of_the_readme_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let tour = readme.split("## Five minutes").nth(1).unwrap();
    let script = tour.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_ledger");
    let script = script
        .replace("/tmp/", &format!("{}/", dir.path().display()))
        // After the folders: the binary itself may lie below /tmp.
        .replace("$PWD/target/release/ledger", binary)
        // A person types slower than a daemon starts.
        .replace(
            "ledger up &",
            "ledger up & \nuntil [ -S $LEDGER_DIR/data/api.sock ]; do sleep 0.1; done\n#",
        );
    assert!(script.matches("ledger ").count() > 15, "the tour is there");
    let script = format!(
        "set -em; shopt -s expand_aliases; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    );
    let out = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .current_dir(root)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let text = said(&out);
    for expected in ["succeeded", "x.note", "clean", "FORMAT.md"] {
        assert!(text.contains(expected), "{expected:?} is missing in: {text}");
    }
}
