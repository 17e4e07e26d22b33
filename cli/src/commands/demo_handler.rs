//! The hidden `ledger demo-handler`: programs that the demo declares as handlers. They know nothing of the ledger: input
//! is JSON on standard input, the result is what they print, `LEDGER_OUT` and `LEDGER_REPORT` name where outputs and
//! progress go.

use super::input;
use crate::error::CliError;
use crate::exit::{Exit, FINE};
use clap::{Args, ValueEnum};
use ledger::core::digest::content_digest;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps into which the survey cuts its work, each with a line of progress.
const SURVEY_STEPS: u64 = 40;

/// What a handler of the demo takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct DemoHandlerArgs {
    /// Which
    #[arg(value_enum)]
    name: Name,
    /// Where the survey leaves a line for each start and each end, outside of the ledger
    #[arg(long)]
    effects: Option<PathBuf>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Name {
    /// Lines, words and bytes.
    WordCount,
    /// A file that names every file with its BLAKE3 digest.
    DigestManifest,
    /// Letters by frequency, slowly.
    Survey,
}

#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    paths: Vec<PathBuf>,
    #[serde(default)]
    duration_ms: u64,
}

/// Runs one handler in its working directory, the Vault.
pub(crate) fn run(args: &DemoHandlerArgs) -> Result<Exit, CliError> {
    let task: Task = serde_json::from_value(input::json("-")?)
        .map_err(|e| CliError::new("input.json", format!("the task is not understood: {e}"), ""))?;
    let result = match args.name {
        Name::WordCount => word_count(&task.paths),
        Name::DigestManifest => digest_manifest(&task.paths),
        Name::Survey => survey(&task, args.effects.as_deref()),
    }?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{result}").map_err(|e| CliError::io("write to", Path::new("standard output"), &e))?;
    Ok(FINE)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|e| CliError::io("read", path, &e))
}

fn total(sizes: impl Iterator<Item = usize>) -> u64 {
    sizes.fold(0, |sum, size| {
        sum.saturating_add(u64::try_from(size).unwrap_or(u64::MAX))
    })
}

fn word_count(paths: &[PathBuf]) -> Result<Value, CliError> {
    let (mut lines, mut words, mut bytes) = (0_u64, 0_u64, 0_u64);
    for path in paths {
        let content = read(path)?;
        let text = String::from_utf8_lossy(&content);
        lines += total(std::iter::once(text.lines().count()));
        words += total(std::iter::once(text.split_whitespace().count()));
        bytes += total(std::iter::once(content.len()));
    }
    Ok(json!({"files": paths.len(), "lines": lines, "words": words, "bytes": bytes}))
}

fn digest_manifest(paths: &[PathBuf]) -> Result<Value, CliError> {
    let out = std::env::var_os("LEDGER_OUT")
        .map(PathBuf::from)
        .unwrap_or_default();
    let mut manifest = String::new();
    let mut bytes = 0_u64;
    for path in paths {
        let content = read(path)?;
        bytes += total(std::iter::once(content.len()));
        manifest.push_str(&format!("{}  {}\n", content_digest(&content), path.display()));
    }
    let file = out.join("MANIFEST.b3");
    std::fs::write(&file, &manifest).map_err(|e| CliError::io("write", &file, &e))?;
    Ok(json!({"files": paths.len(), "bytes": bytes, "manifest": "MANIFEST.b3"}))
}

fn survey(task: &Task, effects: Option<&Path>) -> Result<Value, CliError> {
    let fence = std::env::var("LEDGER_FENCE").unwrap_or_default();
    let job = std::env::var("LEDGER_JOB").unwrap_or_default();
    let note = |word: &str| -> Result<(), CliError> {
        let Some(dir) = effects else { return Ok(()) };
        append(&dir.join(&job), &format!("{word} {fence}\n"))
    };
    let report = std::env::var_os("LEDGER_REPORT").map(PathBuf::from);
    note("started")?;
    let pause = Duration::from_millis(task.duration_ms / SURVEY_STEPS);
    let mut letters = [0_u64; 26];
    for step in 0..SURVEY_STEPS {
        let share = task.paths.len().div_ceil(40).max(1);
        let from = share.saturating_mul(usize::try_from(step).unwrap_or(usize::MAX));
        for path in task.paths.iter().skip(from).take(share) {
            for byte in read(path)?.iter().map(u8::to_ascii_lowercase) {
                if byte.is_ascii_lowercase() {
                    letters[usize::from(byte - b'a')] += 1;
                }
            }
        }
        std::thread::sleep(pause);
        if let Some(report) = &report {
            let per_cent = (step + 1) * 100 / SURVEY_STEPS;
            append(
                report,
                &format!("progress {per_cent} {} of {SURVEY_STEPS}\n", step + 1),
            )?;
        }
    }
    note("finished")?;
    let mut ranked: Vec<(char, u64)> = ('a'..='z').zip(letters).collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let first: String = ranked.iter().take(6).map(|(letter, _)| letter).collect();
    Ok(json!({"files": task.paths.len(), "letters": letters.iter().sum::<u64>(), "most_frequent": first}))
}

fn append(path: &Path, line: &str) -> Result<(), CliError> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|e| CliError::io("append to", path, &e))
}
