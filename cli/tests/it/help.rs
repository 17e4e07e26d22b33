//! The help is a surface: changing it is a decision (`UPDATE=1` writes the file anew).

use crate::{ledger, said};
use std::path::Path;

#[test]
fn help_is_as_recorded() {
    let pages: &[&[&str]] = &[
        &[],
        &["init"],
        &["up"],
        &["gateway"],
        &["node"],
        &["invite"],
        &["join"],
        &["submit"],
        &["jobs"],
        &["jobs", "list"],
        &["jobs", "show"],
        &["jobs", "tail"],
        &["jobs", "cancel"],
        &["jobs", "retry"],
        &["jobs", "hold"],
        &["jobs", "release"],
        &["jobs", "discard"],
        &["jobs", "drain"],
        &["handlers"],
        &["handlers", "list"],
        &["handlers", "pause"],
        &["handlers", "resume"],
        &["limits"],
        &["limits", "list"],
        &["limits", "set"],
        &["limits", "lift"],
        &["costs"],
        &["schedules"],
        &["schedules", "list"],
        &["schedules", "show"],
        &["schedules", "add"],
        &["schedules", "remove"],
        &["nodes"],
        &["nodes", "list"],
        &["nodes", "show"],
        &["nodes", "uptime"],
        &["nodes", "drain"],
        &["nodes", "resume"],
        &["nodes", "quarantine"],
        &["nodes", "retire"],
        &["config", "show"],
        &["vault", "scan"],
        &["vault", "ls"],
        &["append"],
        &["erase"],
        &["prune"],
        &["replay"],
        &["verify"],
        &["export"],
        &["import"],
        &["prove"],
        &["publish"],
        &["check"],
        &["keys"],
        &["token", "new"],
        &["token", "list"],
        &["token", "revoke"],
        &["status"],
        &["notices", "list"],
        &["notices", "ack"],
        &["sleeping"],
        &["waking"],
        &["demo"],
    ];
    let mut text = String::new();
    for page in pages {
        let out = ledger(Path::new("unused"))
            .args(*page)
            .arg("--help")
            .output()
            .unwrap();
        assert!(out.status.success(), "{page:?}: {}", said(&out));
        let shown = String::from_utf8(out.stdout).unwrap();
        let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
        text.push_str(&format!(
            "$ ledger {} --help\n{}\n\n",
            page.join(" "),
            shown.join("\n")
        ));
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/help.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(&golden).unwrap_or_default();
    let differs = text.lines().zip(recorded.lines()).find(|(now, then)| now != then);
    assert!(
        text == recorded,
        "the help differs from help.txt, first at {differs:?}; UPDATE=1 records it"
    );
}
