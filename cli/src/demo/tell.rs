//! What the demo prints as it goes, and the promises that it checks.
//!
//! Owns: headings, lines with elapsed seconds, ticks, and the report of each step. Contract: the demo went well only if
//! every promise of every step held.

use crate::error::CliError;
use crate::output::{BAD, BOLD, CARE, DIM, GOOD, Output, paint};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Instant;

/// What became of one step.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StepReport {
    /// From 1.
    pub(crate) step: u8,
    /// What it is about.
    pub(crate) name: String,
    /// Whether every promise held.
    pub(crate) ok: bool,
    /// Each promise and whether it held.
    pub(crate) promises: Vec<Promise>,
    /// Numbers and names behind it.
    pub(crate) facts: Map<String, Value>,
}

/// Something that must be so.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Promise {
    /// What.
    pub(crate) what: String,
    /// Whether it is.
    pub(crate) held: bool,
}

/// Prints and remembers.
#[derive(Debug)]
pub(crate) struct Teller {
    output: Output,
    began: Instant,
    steps: Vec<StepReport>,
}

impl Teller {
    /// Begins now.
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            began: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn print(&self, line: &str) {
        // A reader who closed the pipe has seen enough; the promises are kept all the same.
        if self.output.is_json() {
            self.output.talk(line);
        } else {
            let _ = self.output.write(line);
        }
    }

    /// Begins a step.
    pub(crate) fn step(&mut self, name: &str) {
        let number = u8::try_from(self.steps.len() + 1).unwrap_or(u8::MAX);
        self.steps.push(StepReport {
            step: number,
            name: name.to_owned(),
            ok: true,
            promises: Vec::new(),
            facts: Map::new(),
        });
        self.print("");
        self.print(&format!("{}  {}", paint(BOLD, number), paint(BOLD, name)));
    }

    /// Says what happened.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        let elapsed = self.elapsed_ms();
        let stamp = format!("{:>5}.{} s", elapsed / 1000, elapsed % 1000 / 100);
        self.print(&format!("{}  {text}", paint(DIM, stamp)));
    }

    /// Shows something that belongs to the last line.
    pub(crate) fn aside(&self, text: &str) {
        self.print(&format!("           {}", paint(DIM, text)));
    }

    /// Shows a line as it is.
    pub(crate) fn plain(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    /// Checks a promise.
    pub(crate) fn promise(&mut self, held: bool, what: impl Into<String>) {
        let what = what.into();
        let mark = if held {
            paint(GOOD, "✓")
        } else {
            paint(BAD.bold(), "✗")
        };
        self.print(&format!("        {mark}  {what}"));
        if let Some(step) = self.steps.last_mut() {
            step.ok &= held;
            step.promises.push(Promise { what, held });
        }
    }

    /// Remembers a fact of this step for programs.
    pub(crate) fn fact(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        if let Some(step) = self.steps.last_mut() {
            step.facts.insert(name.to_owned(), value);
        }
    }

    /// Says why the demo cannot go on.
    pub(crate) fn broke(&mut self, error: &CliError) {
        let mark = paint(BAD.bold(), "✗");
        self.print(&format!(
            "        {mark}  {} {}",
            error.message,
            paint(DIM, format_args!("[{}]", error.code))
        ));
        if !error.what_to_do.is_empty() {
            self.aside(&error.what_to_do);
        }
        if let Some(step) = self.steps.last_mut() {
            step.ok = false;
            step.facts.insert(
                "error".to_owned(),
                json!({"code": error.code, "message": error.message}),
            );
        }
    }

    /// Warns of something that is no broken promise.
    pub(crate) fn care(&self, text: &str) {
        self.print(&format!("        {}  {text}", paint(CARE, "!")));
    }

    /// Whether every promise so far held.
    pub(crate) fn all_held(&self) -> bool {
        self.steps.iter().all(|step| step.ok)
    }

    /// The steps so far.
    pub(crate) fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// Milliseconds since the beginning.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
