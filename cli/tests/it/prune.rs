//! Pruning on the command line: only pulses, only without a daemon, and what there is not is said.

use crate::{Daemon, bad, founded, good};

#[test]
fn only_pulses_are_pruned_and_only_while_no_daemon_holds_the_store() {
    let dir = founded();
    let nothing = good(
        dir.path(),
        &["prune", "--older-than", "30d", "--reason", "30 days"],
    );
    assert_eq!(
        (&nothing["first_kept"], &nothing["records"]),
        (&1.into(), &0.into())
    );
    assert!(nothing["receipt"].is_null() && nothing["checkpoint"].is_string());
    let facts = ["prune", "--log", "facts", "--below", "1", "--reason", "no"];
    bad(dir.path(), &facts, "ledger.not-prunable", 65);
    let newest = ["prune", "--below", "99", "--reason", "no"];
    bad(dir.path(), &newest, "ledger.not-prunable", 65);
    let _gateway = Daemon::start(dir.path(), "gateway");
    let held = ["prune", "--below", "1", "--reason", "no"];
    bad(dir.path(), &held, "store.locked", 75);
}
