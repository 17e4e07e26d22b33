//! Files that prove a fork, in `DIR/evidence`: one for each, and nothing overwrites or removes them. A crash before the rename leaves
//! nothing.

use crate::error::ServerError;
use crate::machine::Machine;
use ledger::evidence::{EXTENSION, ForkEvidence, ForkKind, ProvenFork};
use ledger::keyring::create_private_dir;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One writer at a time: two pushes may prove the same.
static WRITING: Mutex<()> = Mutex::new(());

/// Writes a proof under a name of its own; none when it proves nothing.
///
/// # Errors
/// [`ServerError::Io`] when the disk refuses.
pub(crate) fn keep(machine: &Machine, evidence: &ForkEvidence) -> Result<Option<ProvenFork>, ServerError> {
    let proven = match evidence.check() {
        Ok(proven) => proven,
        Err(e) => {
            tracing::warn!(code = e.code(), error = %e, "what does not fit proves no fork");
            return Ok(None);
        }
    };
    let dir = machine.ledger.paths().evidence();
    // Whoever panicked left what a crash leaves.
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    create_private_dir(&dir)?;
    let by = match proven.kind {
        ForkKind::Records => "",
        ForkKind::Roots => "-roots",
    };
    let name = format!("fork-{}-{}{by}.{EXTENSION}", proven.log.short(), proven.seq);
    let path: PathBuf = dir.join(&name);
    if path.exists() {
        return Ok(Some(proven));
    }
    let making = dir.join(format!("{name}.new"));
    let mut file = std::fs::File::create(&making).map_err(ServerError::io("writing", &making))?;
    file.write_all(evidence.to_text().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(ServerError::io("writing", &making))?;
    std::fs::rename(&making, &path).map_err(ServerError::io("writing", &path))?;
    std::fs::File::open(&dir)
        .and_then(|dir| dir.sync_all())
        .map_err(ServerError::io("syncing", &dir))?;
    tracing::error!(path = %path.display(), "fork evidence is kept");
    Ok(Some(proven))
}
