//! Everything that the program prints: results to stdout, talk to stderr.
//!
//! Contract: with `--json` stdout carries exactly one envelope `{ok, command, result, next_actions}`, or one JSON value a
//! line for streams; without it stdout is for people. Colours only where the stream is a terminal and `NO_COLOR` is
//! not set. A reader that closes the pipe ends the program quietly.

use crate::error::CliError;
use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, ContentArrangement, Table};
use ledger::core::text::shown_lines;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::Write;

/// Something that should stand out a little.
pub(crate) const BOLD: Style = Style::new().bold();
/// Something that matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// It went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// It did not.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Wait and see.
pub(crate) const CARE: Style = AnsiColor::Yellow.on_default();

/// A text in a style.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Where results and talk go.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    command: String,
    json: bool,
    quiet: bool,
}

impl Output {
    /// The output of one command.
    pub(crate) fn new(command: &str, json: bool, quiet: bool) -> Self {
        Self {
            command: command.to_owned(),
            json,
            quiet,
        }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress may be drawn: a person looks at stderr.
    pub(crate) fn draws_progress(&self) -> bool {
        use std::io::IsTerminal;
        !self.json && !self.quiet && std::io::stderr().is_terminal()
    }

    /// A remark for people, to stderr.
    pub(crate) fn talk(&self, text: impl Display) {
        if !self.quiet {
            let mut stderr = anstream::stderr().lock();
            // Nobody can be told that nobody listens.
            let _ = writeln!(stderr, "{}", shown_lines(&text.to_string()));
        }
    }

    /// The result of a command, for people as `human` says it.
    pub(crate) fn result<T: Serialize>(
        &self,
        result: &T,
        next_actions: &[String],
        human: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        self.verdict(true, result, next_actions, human)
    }

    /// The same when the command ran well and what it found is not.
    pub(crate) fn verdict<T: Serialize>(
        &self,
        ok: bool,
        result: &T,
        next_actions: &[String],
        human: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        if self.json {
            let envelope = json!({
                "ok": ok,
                "command": self.command,
                "result": to_value(result)?,
                "next_actions": next_actions,
            });
            return self.write(&envelope.to_string());
        }
        let text = human();
        if !text.is_empty() {
            self.write(text.trim_end_matches('\n'))?;
        }
        if !next_actions.is_empty() && !self.quiet {
            self.talk("");
            for action in next_actions {
                self.talk(format_args!("  {} {action}", paint(DIM, "next:")));
            }
        }
        Ok(())
    }

    /// One element of a stream: a line of JSON, or the line that `human` says.
    pub(crate) fn element<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        if self.json {
            let text = serde_json::to_string(value).map_err(|e| unprintable(&e))?;
            return self.write(&text);
        }
        self.write(&human())
    }

    /// A line of a result for people, to stdout.
    pub(crate) fn write(&self, line: &str) -> Result<(), CliError> {
        let mut stdout = anstream::stdout().lock();
        // JSON has its own escapes, and a program wants the text as it is.
        let line = if self.json { line.into() } else { shown_lines(line) };
        writeln!(stdout, "{line}")
            .and_then(|()| stdout.flush())
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::BrokenPipe => CliError::new(BROKEN_PIPE, "nobody reads on", ""),
                _ => CliError::new("io", format!("cannot write to standard output: {error}"), ""),
            })
    }

    /// Tells why the command failed: to stderr for people, as an envelope to stdout for programs.
    pub(crate) fn failure(&self, error: &CliError) {
        if self.json {
            let envelope = json!({
                "ok": false,
                "command": self.command,
                "error": {"code": error.code, "message": error.message, "what_to_do": error.what_to_do},
                "result": error.result,
            });
            let _ = self.write(&envelope.to_string());
            return;
        }
        let mut stderr = anstream::stderr().lock();
        let head = paint(BAD.bold(), "error");
        let code = paint(DIM, format_args!("[{}]", error.code));
        let _ = writeln!(stderr, "{head}: {} {code}", shown_lines(&error.message));
        if !error.what_to_do.is_empty() {
            let _ = writeln!(stderr, "  {}", shown_lines(&error.what_to_do));
        }
    }
}

/// The code under which a closed pipe ends the program without a word.
pub(crate) const BROKEN_PIPE: &str = "output.closed";

fn to_value<T: Serialize>(value: &T) -> Result<Value, CliError> {
    serde_json::to_value(value).map_err(|e| unprintable(&e))
}

fn unprintable(error: &serde_json::Error) -> CliError {
    CliError::new(
        "output.json",
        format!("the result cannot be written as JSON: {error}"),
        "",
    )
}

/// A table without lines, as wide as the terminal.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(
            head.iter()
                .map(|text| Cell::new(text).add_attribute(Attribute::Dim)),
        );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A size in bytes for people: `3.1 KiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = count;
    let mut tenths = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{tenths} {}", UNITS[unit])
    }
}

/// A whole number with its thousands told apart: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A span of time for people: `2 h 5 min`, `3.4 s`, from milliseconds.
pub(crate) fn span_ms(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// The first characters of a long id.
pub(crate) fn short(id: &str) -> &str {
    // Ids of version 7 begin with the time, so their end tells them apart better.
    let start = id.len().saturating_sub(12);
    id.get(start..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(span_ms(950), "950 ms");
        assert_eq!(span_ms(3_450), "3.4 s");
        assert_eq!(span_ms(7_500_000), "2 h 5 min");
    }
}
