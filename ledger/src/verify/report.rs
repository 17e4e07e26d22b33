//! What a verification came to: five verdicts told apart, and findings that each name what they are about.
//!
//! The report keeps at most [`FINDINGS_MAX`] findings and counts the rest, so that it stays small whatever is damaged.

mod text;

use super::scope::Range;
use super::seen::CheckpointAge;
use crate::Position;
use ledger_core::kinds::{Verdict, VerifyCompleted};
use ledger_core::{Hlc, LogId, ReceiptId, SealDigest, Stream, TreeRoot};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Findings and notes that a report keeps; further findings are only counted.
pub const FINDINGS_MAX: usize = 1000;

/// The verdict that a finding belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Journal or file, chain, tree, payloads against their commitments.
    Integrity,
    /// Log and author signatures.
    Signatures,
    /// What author and machine key were permitted at the record's place in the order.
    Authority,
    /// No gap; what anchor, pins and others have seen is here; payloads are present.
    Completeness,
    /// The age of the newest receipt.
    Freshness,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Integrity => "integrity",
            Self::Signatures => "signatures",
            Self::Authority => "authority",
            Self::Completeness => "completeness",
            Self::Freshness => "freshness",
        })
    }
}

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// A stable code, such as `chain.prev` or `journal.records`.
    pub code: &'static str,
    /// The verdict that it belongs to.
    pub aspect: Aspect,
    /// The log, when it is known.
    pub log: Option<LogId>,
    /// The receipt's place in that log, when it is known; of several, the first.
    pub seq: Option<u64>,
    /// The receipt's id, when it is known.
    pub id: Option<ReceiptId>,
    /// Where in the journal; `None` for bundles, and for what is missing.
    pub position: Option<Position>,
    /// What differs, in words.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.aspect, self.code)?;
        if let Some(log) = &self.log {
            write!(f, " log {}", log.short())?;
        }
        if let Some(seq) = self.seq {
            write!(f, " seq {seq}")?;
        }
        if let Some(id) = &self.id {
            write!(f, " receipt {id}")?;
        }
        if let Some(position) = self.position {
            write!(f, " at {position}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// How much was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counts {
    /// Logs.
    pub logs: u64,
    /// Receipts that could be read.
    pub receipts: u64,
    /// Payloads that fit their commitments.
    pub payloads: u64,
    /// Payloads that were erased in place, or are said to be erased.
    pub erased: u64,
    /// Payloads that are not here for another reason. In other machines' logs that is permitted.
    pub absent: u64,
    /// Records that were pruned, as gaps and marks in the journal say.
    pub pruned: u64,
    /// Log signatures that were verified.
    pub log_signatures: u64,
    /// Author signatures that were verified.
    pub author_signatures: u64,
    /// Records whose author signature does not verify, and of which the order says so: kept, inert, and no finding.
    pub excused: u64,
    /// Receipts of which it was judged whether their keys were permitted to say them.
    pub judged: u64,
    /// Heads of the anchor, of pins, of citations, and of given and cosigned checkpoints that were compared with what is here.
    pub heads_compared: u64,
    /// Cosignatures by known witnesses, of the checkpoints that the store keeps, that were verified.
    pub cosignatures: u64,
    /// Segments of the journal; 0 for a bundle.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// One log, as far as it could be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LogReport {
    /// The log.
    pub log: LogId,
    /// The machine that writes it; `None` when its genesis could not be read.
    pub machine: Option<String>,
    /// Which of the machine's logs; `None` when its genesis could not be read.
    pub stream: Option<Stream>,
    /// Which set of logs of that machine.
    pub incarnation: Option<u32>,
    /// Whether the machine that owns the store writes it.
    pub own: bool,
    /// Its records that could be read.
    pub receipts: u64,
    /// The seq of its newest record.
    pub seq: u64,
    /// The digest of that record's seal; `None` for a bundle, which is held to the root.
    pub seal: Option<SealDigest>,
    /// The tree's root over all records; `None` when some could not be read.
    pub root: Option<TreeRoot>,
    /// When that record was sealed; `None` for a bundle.
    pub time: Option<Hlc>,
}

/// How old the newest receipt is. That is told, and judged only by an age that the reader names, who knows what may be
/// silent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Freshness {
    /// Whether it is older than the reader permits.
    pub verdict: Verdict,
    /// What the reader permits, in milliseconds.
    pub max_age_ms: Option<u64>,
    /// When the newest receipt was sealed, milliseconds since 1970; `None` when there is none.
    pub newest_unix_ms: Option<u64>,
    /// How long ago that was, in milliseconds.
    pub age_ms: Option<u64>,
}

/// Why a verdict is "not checked".
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NotChecked {
    /// The verdict.
    pub aspect: Aspect,
    /// Why.
    pub why: String,
}

/// What of a run was in the range that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Ranged {
    /// The range.
    #[serde(flatten)]
    pub range: Range,
    /// Receipts in it, of the logs that were looked at.
    pub receipts: u64,
}

/// What of a run stands on an earlier one: signatures only, everything else was read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Resumed {
    /// The last place of the journal where the earlier run was.
    pub from: Position,
    /// When it wrote that down, milliseconds since 1970.
    pub saved_unix_ms: u64,
    /// Receipts up to there.
    pub receipts: u64,
    /// Log signatures that were not checked again; [`Counts`] has them, too.
    pub log_signatures: u64,
    /// Author signatures likewise.
    pub author_signatures: u64,
}

/// How a verification ended.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was read.
    pub path: PathBuf,
    /// The store that the segments name, in hex; `None` for a bundle.
    pub store: Option<String>,
    /// Journal or file, chain, tree, payloads.
    pub integrity: Verdict,
    /// Log and author signatures.
    pub signatures: Verdict,
    /// What each key was permitted, as the judge of [`super::Options::authority`] says.
    pub authority: Verdict,
    /// No gap, and nothing behind what anchor and pins have seen.
    pub completeness: Verdict,
    /// Age of the newest receipt.
    pub freshness: Freshness,
    /// How old the checkpoints are that the run knows of; told, never judged.
    pub checkpoints: Vec<CheckpointAge>,
    /// Verdicts that are "not checked", or not of everything, each with the reason.
    pub not_checked: Vec<NotChecked>,
    /// The range that was asked for; `None` for everything.
    pub range: Option<Ranged>,
    /// What stands on an earlier run that was interrupted.
    pub resumed: Option<Resumed>,
    /// How much was looked at.
    pub counts: Counts,
    /// The logs, by machine and stream.
    pub logs: Vec<LogReport>,
    /// The first [`FINDINGS_MAX`] findings, in the order in which they were met.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub findings_total: u64,
    /// What is worth knowing and is no fault, such as the torn tail of a store that is being written.
    pub notes: Vec<String>,
    /// How long it took.
    #[serde(rename = "elapsed_ms", serialize_with = "as_ms")]
    pub elapsed: Duration,
}

fn as_ms<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_ms(elapsed))
}

fn whole_ms(elapsed: &Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    pub(super) fn new(path: PathBuf, full: bool) -> Self {
        Self {
            path,
            store: None,
            integrity: Verdict::Clean,
            signatures: if full { Verdict::Clean } else { Verdict::NotChecked },
            authority: Verdict::NotChecked,
            completeness: Verdict::Clean,
            freshness: Freshness {
                verdict: Verdict::NotChecked,
                max_age_ms: None,
                newest_unix_ms: None,
                age_ms: None,
            },
            checkpoints: Vec::new(),
            not_checked: Vec::new(),
            range: None,
            resumed: None,
            counts: Counts::default(),
            logs: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            notes: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn found(&mut self, finding: Finding) {
        let verdict = match finding.aspect {
            Aspect::Integrity => &mut self.integrity,
            Aspect::Signatures => &mut self.signatures,
            Aspect::Authority => &mut self.authority,
            Aspect::Completeness => &mut self.completeness,
            Aspect::Freshness => &mut self.freshness.verdict,
        };
        *verdict = Verdict::Found;
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    pub(super) fn note(&mut self, text: String) {
        if self.notes.len() < FINDINGS_MAX {
            self.notes.push(text);
        }
    }

    pub(super) fn set_freshness(&mut self, newest: Option<Hlc>, now_us: i64, max_age_ms: Option<u64>) {
        let newest_unix_ms = newest.map(Hlc::unix_ms);
        let age_ms = newest_unix_ms.map(|newest| crate::clock::unix_ms(now_us).saturating_sub(newest));
        self.freshness = Freshness {
            verdict: max_age_ms.map_or(Verdict::NotChecked, |_| Verdict::Clean),
            max_age_ms,
            newest_unix_ms,
            age_ms,
        };
        let Some(limit) = max_age_ms else {
            self.not_checked(Aspect::Freshness, "nobody said what would be too old");
            return;
        };
        if age_ms.is_none_or(|age| age > limit) {
            let text = match age_ms {
                Some(age) => format!(
                    "the newest receipt is {} s old, {} s are permitted",
                    age / 1000,
                    limit / 1000
                ),
                None => "no receipt tells its age".to_owned(),
            };
            self.found(Finding {
                code: "freshness.age",
                aspect: Aspect::Freshness,
                log: None,
                seq: None,
                id: None,
                position: None,
                text,
            });
        }
    }

    // Says what was in the range, what is left unchecked beside it, and what of it is not here; `next`: behind the newest
    // record of each log.
    pub(super) fn set_range(
        &mut self,
        range: Range,
        receipts: u64,
        full: bool,
        next: &[(LogId, Option<u64>)],
    ) {
        self.range = Some(Ranged { range, receipts });
        let outside = self.counts.receipts.saturating_sub(receipts);
        if full && outside > 0 {
            let why = format!("of {outside} receipts outside the range; all else was checked of them, too");
            self.not_checked(Aspect::Signatures, &why);
        }
        let Range::Seqs { first, last } = range else {
            return;
        };
        let seq = last.unwrap_or(first);
        for (log, next) in next {
            let text = match next {
                Some(next) if *next > seq => continue,
                Some(next) => format!("the range asks for seq {seq}, and seq {next} is not here"),
                None => format!("the range asks for seq {seq}, and nothing of this log is here"),
            };
            self.found(Finding {
                code: "range.missing",
                aspect: Aspect::Completeness,
                log: Some(*log),
                seq: Some(seq),
                id: None,
                position: None,
                text,
            });
        }
    }

    pub(super) fn not_checked(&mut self, aspect: Aspect, why: &str) {
        let why = why.to_owned();
        self.not_checked.push(NotChecked { aspect, why });
    }

    // The reasons that are the same for every kind of source.
    pub(super) fn tell_unchecked(&mut self) {
        if self.signatures == Verdict::NotChecked {
            let why = "the hash tier was asked for; a signed head that somebody else knows covers what is before it";
            self.not_checked(Aspect::Signatures, why);
        }
        let told = self
            .not_checked
            .iter()
            .any(|said| said.aspect == Aspect::Authority);
        if self.authority == Verdict::NotChecked && !told {
            self.not_checked(
                Aspect::Authority,
                "no order is at hand that says who may say what",
            );
        }
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings_total == 0
    }

    /// The detail of the receipt that records this run.
    pub fn to_detail(&self) -> VerifyCompleted {
        VerifyCompleted {
            full: self.signatures != Verdict::NotChecked,
            logs: u32::try_from(self.counts.logs).unwrap_or(u32::MAX),
            receipts: self.counts.receipts,
            payloads: self.counts.payloads,
            erased: self.counts.erased,
            findings: self.findings_total,
            integrity: self.integrity,
            signatures: self.signatures,
            authority: self.authority,
            completeness: self.completeness,
            freshness: self.freshness.verdict,
            elapsed_ms: whole_ms(&self.elapsed),
        }
    }
}
