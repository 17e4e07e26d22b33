//! What people hand in on the command line: a text, `@file`, or `-` for standard input. Bounded.

use crate::error::CliError;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read at most: what could be a payload, and one more to tell that it is too long.
const INPUT_BYTES_MAX: usize = ledger::core::limits::PAYLOAD_BYTES_MAX;

/// Reads the bytes that an argument names.
///
/// # Errors
/// `input.not-found` or `io`, and `input.too-large` past the size of a payload.
pub(crate) fn bytes(argument: &str) -> Result<Vec<u8>, CliError> {
    let bytes = if argument == "-" {
        bounded(std::io::stdin().lock(), Path::new("standard input"))?
    } else if let Some(path) = argument.strip_prefix('@') {
        let path = PathBuf::from(path);
        let file = std::fs::File::open(&path).map_err(|e| CliError::io("open", &path, &e))?;
        bounded(file, &path)?
    } else {
        argument.as_bytes().to_vec()
    };
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(CliError::new(
            "input.too-large",
            format!("more than {INPUT_BYTES_MAX} bytes; a payload has at most that"),
            "put the content into the Vault and name its path and digest instead",
        ));
    }
    Ok(bytes)
}

/// The same, as JSON.
///
/// # Errors
/// Also `input.json`.
pub(crate) fn json(argument: &str) -> Result<serde_json::Value, CliError> {
    let bytes = bytes(argument)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        CliError::new(
            "input.json",
            format!("the input is not JSON: {error}"),
            "quote it for the shell: --input '{\"path\":\"README.md\"}', or give @file, or - for standard input",
        )
    })
}

fn bounded(from: impl Read, path: &Path) -> Result<Vec<u8>, CliError> {
    let limit = u64::try_from(INPUT_BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut bytes = Vec::new();
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| CliError::io("read", path, &e))?;
    Ok(bytes)
}
