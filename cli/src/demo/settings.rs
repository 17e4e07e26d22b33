//! The configuration of the demo's machines: short times, and the handlers.

use crate::error::CliError;
use ledger_server::config::{Config, Limits, Notices, Timing, Verify};
use ledger_server::worker::{Class, HandlerConfig};
use std::path::Path;

/// How long a run of the slow handler takes, in milliseconds.
pub(crate) const SURVEY_MS: u64 = 4_000;

/// Times short enough to watch.
pub(crate) fn timings() -> Timing {
    Timing {
        cosign_ms: 5_000,
        pulse_ms: 500,
        beat_ms: 300,
        term_ms: 2_000,
        poll_ms: 500,
        lost_after_ms: 1_500,
        notify_after_ms: 2_000,
        stable_after_ms: 500,
        outbox_after_ms: 600_000,
        failover_after_ms: 60_000,
        heal_wait_ms: Some(2_000),
    }
}

/// Where the demo's handlers work and leave traces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    /// This program.
    pub(crate) exe: &'a Path,
    /// The real files.
    pub(crate) vault: &'a Path,
    /// Where the survey leaves a line for each start and end, outside of the ledger.
    pub(crate) effects: &'a Path,
    /// Where the notice command appends what it is told.
    pub(crate) notices: &'a Path,
    /// Whether the Vault is a git checkout, and git is here.
    pub(crate) has_git: bool,
}

/// The gateway's configuration: light handlers, and a command for notices.
pub(crate) fn gateway(places: Places<'_>) -> Config {
    let mut handlers = vec![
        own("word-count", Class::Light, &[], places),
        // Three plain tools make a handler as well: the JSON list of paths is taken apart by tr.
        handler(
            "largest-files",
            Class::Light,
            &[
                "sh",
                "-c",
                "tr -d '[]\"' | tr ',' '\\n' | while read -r f; do wc -c \"$f\"; done | sort -rn | head -n 3",
            ],
            places,
        ),
    ];
    if places.has_git {
        let words = ["git", "log", "--no-decorate", "--format=%h %as %s", "-n", "3"];
        handlers.push(handler("git-log", Class::Light, &words, places));
    }
    let file = places.notices.to_string_lossy().into_owned();
    let words = ["sh", "-c", "cat >> \"$0\"; echo >> \"$0\"", &file];
    Config {
        notices: Notices {
            command: Some(words.map(ToOwned::to_owned).to_vec()),
            webhook: None,
            webhook_token_file: None,
        },
        handlers,
        ..base()
    }
}

/// The heavy node's configuration.
pub(crate) fn studio(places: Places<'_>, gateway: &str) -> Config {
    let effects = places.effects.to_string_lossy().into_owned();
    Config {
        gateway: Some(gateway.to_owned()),
        handlers: vec![
            own("digest-manifest", Class::Heavy, &[], places),
            own("survey", Class::Heavy, &["--effects", &effects], places),
        ],
        ..base()
    }
}

/// The backup's configuration.
pub(crate) fn mini(places: Places<'_>, gateway: &str) -> Config {
    let mut manifest = own("digest-manifest", Class::Heavy, &[], places);
    manifest.labels = vec!["backup".to_owned()];
    Config {
        gateway: Some(gateway.to_owned()),
        handlers: vec![manifest],
        ..base()
    }
}

fn base() -> Config {
    Config {
        listen: "127.0.0.1:0".to_owned(),
        timing: timings(),
        // The demo kills on purpose; the bound on lost leases is for machines that do not.
        limits: Limits { losses_max: 0 },
        verify: Verify {
            enabled: false,
            ..Verify::default()
        },
        ..Config::default()
    }
}

fn own(name: &str, class: Class, more: &[&str], places: Places<'_>) -> HandlerConfig {
    let exe = places.exe.to_string_lossy().into_owned();
    let mut words: Vec<&str> = vec![&exe, "demo-handler", name];
    words.extend(more);
    handler(name, class, &words, places)
}

fn handler(name: &str, class: Class, argv: &[&str], places: Places<'_>) -> HandlerConfig {
    HandlerConfig {
        name: name.to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        class,
        labels: Vec::new(),
        cwd: Some(places.vault.to_owned()),
        env: Vec::new(),
        timeout_s: 120,
        kill_grace_ms: 500,
        outputs: vec!["**".to_owned()],
        output_bytes_max: 1 << 20,
        slots: 1,
    }
}

/// Writes a machine's `config.toml`.
pub(crate) fn write(dir: &Path, config: &Config) -> Result<(), CliError> {
    let text = toml::to_string(config).map_err(|e| {
        CliError::new(
            "software.config",
            format!("the configuration cannot be written: {e}"),
            "",
        )
    })?;
    let path = Config::path(dir);
    std::fs::create_dir_all(dir).map_err(|e| CliError::io("create", dir, &e))?;
    std::fs::write(&path, text).map_err(|e| CliError::io("write", &path, &e))
}
