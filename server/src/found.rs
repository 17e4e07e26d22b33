//! Where a running daemon is found: the file that tells its process and address, and the socket of its local door.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a running daemon tells others on the machine, in `DIR/data/run.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Its process id.
    pub pid: u32,
    /// `gateway` or `node`.
    pub role: String,
    /// Where the gateway listens, as `http://host:port`; absent on a node.
    pub address: Option<String>,
    /// Names this run.
    pub boot: String,
    /// When it was ready, microseconds since 1970.
    pub started_at: i64,
}

/// The file of a directory.
pub fn run_file(dir: &Path) -> PathBuf {
    dir.join("data").join("run.json")
}

/// The socket of a directory.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("data").join("api.sock")
}
