//! The keys that the reader trusts: from the command line or from files of their own, never from what is being checked.

use crate::error::CliError;
use ledger::core::note::VerifierKey;
use std::path::Path;

/// Reads `--key`, each a key or a file of keys.
pub(crate) fn read(keys: &[String]) -> Result<Vec<VerifierKey>, CliError> {
    let mut pinned = Vec::new();
    for text in keys {
        // A key holds two '+'; a file that is there may be called anything.
        let path = Path::new(text);
        if path.is_file() {
            let lines = std::fs::read_to_string(path).map_err(|e| CliError::io("read", path, &e))?;
            pinned.extend(VerifierKey::parse_lines(&lines).map_err(|e| wrong(text, &e.to_string()))?);
        } else {
            pinned.push(VerifierKey::parse(text).map_err(|e| wrong(text, &e.to_string()))?);
        }
    }
    Ok(pinned)
}

fn wrong(text: &str, why: &str) -> CliError {
    CliError::new(
        "usage.key",
        format!("--key {text:?}: {why}"),
        "give NAME+ID+KEY as `ledger keys` prints it on the machine that writes the log, or a file of such lines",
    )
}
