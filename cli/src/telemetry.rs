//! Logs: to stderr, quiet by default.

use tracing_subscriber::EnvFilter;

/// The variable that sets the filter finely (`ledger_server=debug,warn`).
const VARIABLE: &str = "LEDGER_LOG";

/// Starts logging for the whole process.
pub(crate) fn start(verbose: u8) {
    let default = match verbose {
        0 => "error",
        1 => "info,fjall=warn,lsm_tree=warn,hyper=warn",
        _ => "debug,fjall=info,lsm_tree=info,hyper=info",
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let colours =
        std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
}
