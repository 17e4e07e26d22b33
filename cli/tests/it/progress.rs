//! How far a run is, as its handler reports it, reaches whoever asks while it runs.

use crate::queue::{declare, joined, submit, until};
use crate::{Daemon, WITHIN, founded, good};
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn the_per_cent_that_a_run_reports_on_another_machine_are_shown_with_its_job_while_it_runs() {
    let dir = founded();
    let gateway = Daemon::start(dir.path(), "gateway");
    let node = joined(dir.path(), "studio");
    let goes_on = node.path().join("goes-on");
    let shell = format!(
        "printf 'progress 10 begun\\nprogress 40 half of the frames\\n' >> $LEDGER_REPORT; \
         until test -e {0}; do sleep 0.05; done; echo progress 90 nearly >> $LEDGER_REPORT",
        goes_on.display()
    );
    declare(node.path(), "render", &shell, "");
    let working = Daemon::start(node.path(), "node");
    let job = submit(dir.path(), &["render"]);
    let progress = |shown: &Value| -> Vec<String> {
        let receipts = shown["receipts"].as_array().unwrap().iter();
        let told = receipts.filter(|receipt| receipt["kind"] == "run.progressed");
        told.map(|receipt| receipt["line"].as_str().unwrap().to_owned())
            .collect()
    };
    let began = Instant::now();
    let shown = loop {
        let shown = good(dir.path(), &["jobs", "show", &job]);
        if !progress(&shown).is_empty() {
            break shown;
        }
        assert!(began.elapsed() < WITHIN, "no progress comes: {shown}");
        std::thread::sleep(Duration::from_millis(30));
    };
    assert_eq!(shown["state"], "leased", "{shown}");
    // Of what is reported at once the newest counts.
    let told = progress(&shown);
    assert!(
        told.len() == 1 && told[0].contains("at 40 %: half of the frames"),
        "{told:?}"
    );
    std::fs::write(&goes_on, "").unwrap();
    let shown = until(dir.path(), &job, "succeeded");
    let began = Instant::now();
    while !progress(&good(dir.path(), &["jobs", "show", &job]))
        .iter()
        .any(|told| told.contains("at 90 %: nearly"))
    {
        assert!(
            began.elapsed() < WITHIN,
            "what was reported last does not come: {shown}"
        );
        std::thread::sleep(Duration::from_millis(30));
    }
    working.stop();
    gateway.stop();
}
