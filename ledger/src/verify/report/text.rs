//! A report as text for people.

use super::{NotChecked, Report, whole_ms};
use ledger_core::kinds::Verdict;
use std::fmt;

/// Findings that the text for people shows.
const SHOWN_MAX: usize = 40;

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Found => "FOUND",
        Verdict::NotChecked => "not checked",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{}", self.path.display())?;
        writeln!(
            f,
            "  integrity     {:<12} {} receipts in {} logs, {} payloads ({} erased, {} absent), {} bytes",
            word(self.integrity),
            counts.receipts,
            counts.logs,
            counts.payloads,
            counts.erased,
            counts.absent,
            counts.bytes
        )?;
        writeln!(
            f,
            "  signatures    {:<12} {} of logs, {} of authors",
            word(self.signatures),
            counts.log_signatures,
            counts.author_signatures
        )?;
        writeln!(
            f,
            "  authority     {:<12} {} receipts judged",
            word(self.authority),
            counts.judged
        )?;
        writeln!(
            f,
            "  completeness  {:<12} {} heads of anchor, pins and checkpoints compared",
            word(self.completeness),
            counts.heads_compared
        )?;
        match self.freshness.age_ms {
            Some(age_ms) => writeln!(
                f,
                "  freshness     {:<12} newest receipt {}.{} s ago",
                word(self.freshness.verdict),
                age_ms / 1000,
                age_ms % 1000 / 100
            )?,
            None => writeln!(
                f,
                "  freshness     {:<12} no receipt",
                word(self.freshness.verdict)
            )?,
        }
        for age in &self.checkpoints {
            writeln!(f, "  checkpoint    {age}")?;
        }
        if let Some(ranged) = &self.range {
            writeln!(
                f,
                "  range         {} receipts: {}",
                ranged.receipts, ranged.range
            )?;
        }
        if let Some(resumed) = &self.resumed {
            let (at, log, author) = (resumed.from, resumed.log_signatures, resumed.author_signatures);
            writeln!(
                f,
                "  resumed       from {at}: {log} signatures of logs and {author} of authors stand on the earlier run; all else \
                 was read again"
            )?;
        }
        for NotChecked { aspect, why } in &self.not_checked {
            writeln!(f, "  {aspect} not checked: {why}")?;
        }
        for log in &self.logs {
            let machine = log.machine.as_deref().unwrap_or("unknown machine");
            let stream = log
                .stream
                .map_or_else(|| "unknown".to_owned(), |stream| stream.to_string());
            let root = log.root.map_or_else(|| "unknown".to_owned(), |root| root.short());
            let (short, receipts, seq) = (log.log.short(), log.receipts, log.seq);
            writeln!(
                f,
                "  log {short} {machine} {stream}: {receipts} receipts, head seq {seq}, root {root}"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for finding in self.findings.iter().take(SHOWN_MAX) {
            writeln!(f, "  {finding}")?;
        }
        let shown = u64::try_from(self.findings.len().min(SHOWN_MAX)).unwrap_or(u64::MAX);
        if self.findings_total > shown {
            writeln!(f, "  and {} further findings", self.findings_total - shown)?;
        }
        let took = whole_ms(&self.elapsed);
        if self.is_clean() {
            write!(f, "  nothing found, in {took} ms")
        } else {
            write!(f, "  {} findings, in {took} ms", self.findings_total)
        }
    }
}
