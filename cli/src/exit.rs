//! Exit statuses: what a shell or an agent can rely on.
//!
//! Owns the table from stable error codes to statuses, and the text about it in `--help`. Everything that fails has a
//! code; the status only groups codes, so a caller that needs to tell them apart reads the code.

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exit(pub(crate) u8);

/// Everything went well.
pub(crate) const FINE: Exit = Exit(0);
/// A difference, a failed verification, a failed job or a broken promise.
pub(crate) const DIFFERENCE: Exit = Exit(1);
/// The command line was wrong.
pub(crate) const USAGE: Exit = Exit(2);
/// Input data was wrong (sysexits `EX_DATAERR`).
pub(crate) const DATA: Exit = Exit(65);
/// A file or an object that was named does not exist (`EX_NOINPUT`).
pub(crate) const NO_INPUT: Exit = Exit(66);
/// Something that is needed cannot be reached or used now (`EX_UNAVAILABLE`).
pub(crate) const UNAVAILABLE: Exit = Exit(69);
/// A fault of this program (`EX_SOFTWARE`).
pub(crate) const SOFTWARE: Exit = Exit(70);
/// An input or output error (`EX_IOERR`).
pub(crate) const IO: Exit = Exit(74);
/// Try again later (`EX_TEMPFAIL`).
pub(crate) const LATER: Exit = Exit(75);
/// Not permitted: an unknown key, a missing grant, keys that others can read (`EX_NOPERM`).
pub(crate) const NOT_PERMITTED: Exit = Exit(77);
/// The configuration or the directory is wrong (`EX_CONFIG`).
pub(crate) const CONFIG: Exit = Exit(78);

/// Which status a code gets: the longest prefix wins.
const TABLE: &[(&str, Exit)] = &[
    ("anchor.", CONFIG),
    ("auth.", NOT_PERMITTED),
    ("bundle.", DIFFERENCE),
    ("central.not-serving", LATER),
    ("chain.", DIFFERENCE),
    ("client.", UNAVAILABLE),
    ("config.", CONFIG),
    ("daemon.", UNAVAILABLE),
    ("decode.", DIFFERENCE),
    ("demo.", DIFFERENCE),
    ("exchange.", UNAVAILABLE),
    ("handler.", DATA),
    ("import.", DATA),
    ("import.own-log", DIFFERENCE),
    ("input.", DATA),
    ("input.not-found", NO_INPUT),
    ("invitation.", NOT_PERMITTED),
    ("io", IO),
    ("job.", DATA),
    ("job.on-its-way", LATER),
    ("job.unknown", NO_INPUT),
    ("join.", NOT_PERMITTED),
    ("journal.", IO),
    ("journal.corrupt", DIFFERENCE),
    ("journal.other-store", CONFIG),
    ("key.", NOT_PERMITTED),
    ("ledger.", CONFIG),
    ("ledger.busy", LATER),
    ("ledger.closed", IO),
    ("ledger.corrupt", DIFFERENCE),
    ("ledger.erasure-reason", DATA),
    ("ledger.fork", DIFFERENCE),
    ("ledger.io", IO),
    ("ledger.key-file", NOT_PERMITTED),
    ("ledger.may-not-erase", NOT_PERMITTED),
    ("ledger.not-committed", IO),
    ("ledger.not-overwritten", IO),
    ("ledger.not-prunable", DATA),
    ("ledger.nothing-to-erase", DATA),
    ("ledger.pruned", NO_INPUT),
    ("ledger.pruned-unsaid", DIFFERENCE),
    ("ledger.publish", DATA),
    ("ledger.root-differs", DIFFERENCE),
    ("ledger.unknown", IO),
    ("ledger.unknown-log", NO_INPUT),
    ("lock.", LATER),
    ("machine.taken", NOT_PERMITTED),
    ("machine.unknown", NO_INPUT),
    ("node.gateway", UNAVAILABLE),
    ("note.", DIFFERENCE),
    ("proof.", DIFFERENCE),
    ("queue.", DATA),
    ("queue.not-central", CONFIG),
    ("receipt.", DATA),
    ("receipt.unknown", NO_INPUT),
    ("record.", DATA),
    ("request.", DATA),
    ("root-key.", NOT_PERMITTED),
    ("schedule.", DATA),
    ("schedule.unknown", NO_INPUT),
    ("server.disk-reserve", IO),
    ("server.io", IO),
    ("server.listen", UNAVAILABLE),
    ("server.not-found", NO_INPUT),
    ("server.wrong-role", CONFIG),
    ("statement.", DATA),
    ("statement.signature", NOT_PERMITTED),
    ("store.", CONFIG),
    ("store.locked", LATER),
    ("tiles.", DIFFERENCE),
    ("time.", USAGE),
    ("usage.", USAGE),
    ("verify.", DIFFERENCE),
    ("verify.interrupted", LATER),
    ("verify.resume", DATA),
];

/// The status that goes with a stable error code.
pub(crate) fn of_code(code: &str) -> Exit {
    TABLE
        .iter()
        .filter(|(prefix, _)| code.starts_with(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(SOFTWARE, |(_, exit)| *exit)
}

/// The section of `--help`.
pub(crate) const HELP: &str = "\
Exit status:
  0    fine
  1    a difference, a failed verification, a failed job or a broken promise
  2    wrong usage
  65   wrong input data             74   input or output error
  66   no such file or object       75   busy, try again later
  69   cannot be reached now        77   not permitted
  70   a fault of this program      78   wrong configuration or directory

Every error has a stable code, printed in brackets; with --json it is .error.code.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        assert_eq!(of_code("store.locked"), LATER);
        assert_eq!(of_code("store.foreign"), CONFIG);
        assert_eq!(of_code("journal.corrupt"), DIFFERENCE);
        assert_eq!(of_code("something.else"), SOFTWARE);
    }

    #[test]
    fn no_prefix_stands_twice() {
        let mut prefixes: Vec<_> = TABLE.iter().map(|(prefix, _)| prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(prefixes.len(), TABLE.len());
    }
}
