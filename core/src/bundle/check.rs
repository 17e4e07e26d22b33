//! Verifies a bundle in one pass, with flat memory, and goes on after damage wherever the rest can still be checked.
//!
//! Owns the findings and their codes beyond those of `error` (`bundle.*`). Does no I/O, and does not decide whom to
//! trust: a bundle is checked against its own genesis, whose LogId the reader compares with what it knows.

use super::report::{BundleReport, FINDINGS_MAX, Finding};
use super::{Absent, Frame, FrameKind, FrameParser, Header, Start, Version};
use crate::canonical;
use crate::chain::{self, Chain};
use crate::checkpoint::Checkpoint;
use crate::error::{NoteError, RecordError};
use crate::limits::SEQ_MAX;
use crate::record::Record;
use crate::statement::PayloadRef;
use crate::tree::{self, Hash, Tree};

/// How far a record's seq may lie past the expected one to be taken for the log's continuation after a gap.
const GAP_MAX: u64 = 1 << 32;

/// What may come next.
#[derive(Debug)]
enum Expects {
    Header,
    /// What a range carries of the records before it.
    Start,
    Record,
    /// The payload of the record at this seq.
    Payload(u64, PayloadRef),
    /// The record could not be read, so a payload may follow or not.
    RecordOrPayload,
    /// The end of a range.
    End,
    /// The end was seen.
    Nothing,
    /// Nothing more can be read.
    Stopped,
}

/// Verifies a bundle in one pass: framing, chain, strict signatures, payload commitments, tree and checkpoint.
///
/// After damage it goes on wherever the rest can still be checked.
///
/// ```
/// let mut check = ledger_core::bundle::BundleCheck::new();
/// check.push(b"ledger bundle v1\n");
/// assert_eq!(check.finish().findings[0].code, "bundle.truncated");
/// ```
#[derive(Debug)]
pub struct BundleCheck {
    parser: FrameParser,
    expects: Expects,
    chain: Option<Chain>,
    // The seq that the next record should have, and whether the record before it was read.
    next_seq: u64,
    linked: bool,
    tree: Tree,
    // The proof from the tree of a range to that of the checkpoint.
    rest: Option<Vec<Hash>>,
    for_intake: bool,
    report: BundleReport,
}

impl Default for BundleCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl BundleCheck {
    /// A check at the beginning of a file.
    pub fn new() -> Self {
        Self {
            parser: FrameParser::new(),
            expects: Expects::Header,
            chain: None,
            next_seq: 0,
            linked: true,
            tree: Tree::new(),
            rest: None,
            for_intake: false,
            report: BundleReport::default(),
        }
    }

    /// The check of a bundle that is being taken in: the signatures of records are left to the caller, who verifies them in
    /// runs, and a payload that was not at the exporter's is counted, but no finding.
    pub fn for_intake() -> Self {
        Self {
            for_intake: true,
            ..Self::new()
        }
    }

    /// Checks a whole bundle in memory.
    pub fn of_bytes(bytes: &[u8]) -> BundleReport {
        let mut check = Self::new();
        check.push(bytes);
        check.finish()
    }

    /// Takes the file's next bytes; chunks of any size will do.
    pub fn push(&mut self, bytes: &[u8]) {
        self.feed(bytes);
        while self.step().is_some() {}
    }

    /// Takes the file's next bytes without looking at them: [`BundleCheck::step`] does, frame by frame.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.expects, Expects::Stopped) {
            self.parser.push(bytes);
        }
    }

    /// Checks the next whole frame and hands it out; `None` when more bytes are needed or nothing more can be read.
    pub fn step(&mut self) -> Option<Frame> {
        if matches!(self.expects, Expects::Stopped) {
            return None;
        }
        match self.parser.next_frame() {
            Ok(Some(frame)) => {
                self.take_frame(&frame);
                Some(frame)
            }
            Ok(None) => None,
            Err(error) => {
                self.found(None, error.code(), &error);
                self.expects = Expects::Stopped;
                None
            }
        }
    }

    /// What was found so far.
    pub fn so_far(&self) -> &BundleReport {
        &self.report
    }

    /// What the first line says; `None` before it was read.
    pub fn version(&self) -> Option<Version> {
        self.parser.version()
    }

    fn is_range(&self) -> bool {
        self.version() == Some(Version::Range)
    }

    /// Ends the check.
    pub fn finish(mut self) -> BundleReport {
        match self.expects {
            Expects::Stopped => {}
            Expects::Nothing if self.parser.is_at_boundary() => {}
            Expects::Nothing => self.found(None, "bundle.after-end", &"bytes follow the end"),
            _ => self.found(
                None,
                "bundle.truncated",
                &"the file ends before the signed checkpoint at its end",
            ),
        }
        self.report.root = Some(self.tree.root());
        self.report
    }

    fn found(&mut self, seq: Option<u64>, code: &'static str, text: &dyn std::fmt::Display) {
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding {
                seq,
                code,
                text: text.to_string(),
            });
        }
    }

    fn take_frame(&mut self, frame: &Frame) {
        match (frame.kind, std::mem::replace(&mut self.expects, Expects::Record)) {
            (_, Expects::Nothing | Expects::Stopped) => {
                self.found(None, "bundle.after-end", &"a frame follows the end");
                self.expects = Expects::Stopped;
            }
            (FrameKind::Header, Expects::Header) => self.take_header(frame),
            (_, Expects::Header) => {
                self.found(None, "bundle.order", &"the first frame is not the header");
                self.expects = Expects::Stopped;
            }
            (FrameKind::Start, Expects::Start) => self.take_start(frame),
            (_, Expects::Start) => {
                self.found(
                    None,
                    "bundle.order",
                    &"what stands for the records before the range is not there",
                );
                self.expects = Expects::Stopped;
            }
            (FrameKind::Payload | FrameKind::Absent, Expects::Payload(seq, wanted)) => {
                self.take_payload(frame, seq, &wanted);
            }
            (FrameKind::Payload | FrameKind::Absent, Expects::RecordOrPayload) => {}
            (FrameKind::End, Expects::End) => self.take_end(&frame.bytes),
            (FrameKind::Record, expects) if !matches!(expects, Expects::End) => {
                self.found_missing_payload(&expects);
                self.take_record(&frame.bytes);
            }
            (FrameKind::Rest, expects) if !matches!(expects, Expects::End) && self.report.records > 0 => {
                self.found_missing_payload(&expects);
                self.rest = frame.rest().map(<[Hash]>::to_vec);
                self.expects = Expects::End;
            }
            (FrameKind::End, expects) if !self.is_range() => {
                self.found_missing_payload(&expects);
                self.take_end(&frame.bytes);
            }
            (_, expects) => {
                let text = format!("the frame at byte {} is out of place", frame.offset);
                self.found(self.next_seq.checked_sub(1), "bundle.order", &text);
                self.expects = expects;
            }
        }
    }

    fn found_missing_payload(&mut self, expects: &Expects) {
        if let Expects::Payload(seq, _) = expects {
            self.found(
                Some(*seq),
                "bundle.order",
                &"neither its payload nor a frame for its absence follows",
            );
        }
    }

    fn take_header(&mut self, frame: &Frame) {
        match canonical::decode::<Header>("bundle header", &frame.bytes) {
            Ok(header) => {
                match (self.is_range(), header.first) {
                    (_, 0) => {}
                    (true, _) => self.expects = Expects::Start,
                    (false, _) => {
                        self.found(None, "bundle.header", &"a bundle of version 1 begins at seq 0");
                    }
                }
                self.report.header = Some(header);
            }
            Err(error) => {
                self.found(None, "bundle.header", &error);
                self.expects = Expects::Stopped;
            }
        }
    }

    fn take_start(&mut self, frame: &Frame) {
        let first = self.report.header.map_or(0, |header| header.first);
        let start = Start::decode(first, &frame.bytes);
        let Some((start, tree)) = start.and_then(|start| start.tree(first).map(|tree| (start, tree))) else {
            let text = "it does not hold a genesis and the hashes that the range's first seq demands";
            self.found(None, "bundle.start", &text);
            self.expects = Expects::Stopped;
            return;
        };
        if !start.proves_genesis(first) {
            let text = "the genesis is not the first record under the hashes before the range";
            self.found(Some(0), "bundle.start", &text);
        }
        match Record::parse(&start.genesis) {
            Ok(genesis) => {
                self.start(&genesis);
                self.check_signatures(0, &genesis);
            }
            Err(error) => self.found_in_record(0, &error),
        }
        self.tree = tree;
        self.next_seq = first;
        // What the first record of the range links to is not here.
        self.linked = false;
    }

    fn take_record(&mut self, bytes: &[u8]) {
        let seq = self.next_seq;
        if self.tree.size() > SEQ_MAX {
            self.found(
                Some(seq),
                "bundle.tree-size",
                &"no log has so many records that this could be one of them",
            );
            self.expects = Expects::Stopped;
            return;
        }
        self.report.records += 1;
        let leaf = tree::leaf_hash(bytes);
        self.tree.push(leaf);
        self.next_seq = seq.saturating_add(1);
        let record = match Record::parse(bytes) {
            Ok(record) => record,
            Err(error) => {
                self.linked = false;
                self.expects = Expects::RecordOrPayload;
                return self.found_in_record(seq, &error);
            }
        };
        self.report.newest = self.report.newest.max(Some(record.seal().time));
        self.place(seq, &record, leaf);
        self.check_signatures(seq, &record);
        if let Some(payload) = &record.statement().payload {
            self.expects = Expects::Payload(seq, payload.clone());
        }
    }

    fn check_signatures(&mut self, seq: u64, record: &Record) {
        if self.for_intake {
            return;
        }
        let machine = self.chain.as_ref().map(Chain::machine_verifier);
        match machine.map(|machine| chain::verify_signatures(record, machine)) {
            Some(Ok(())) => self.report.author_signatures += u64::from(record.author_signature().is_some()),
            Some(Err(error)) => self.found(Some(seq), error.code(), &error),
            None => {}
        }
    }

    fn found_in_record(&mut self, seq: u64, error: &RecordError) {
        self.found(Some(seq), error.code(), error);
        if seq == 0 {
            self.found(
                Some(0),
                "chain.genesis",
                &"without its genesis no link and no signature can be checked",
            );
        }
    }

    // Checks where the record stands, and stays at it when it does not follow, so that what comes next is told apart.
    fn place(&mut self, seq: u64, record: &Record, leaf: Hash) {
        let Some(chain) = &mut self.chain else {
            if seq == 0 {
                self.start(record);
            }
            return;
        };
        let followed = if self.linked {
            chain.follow_prepared(record, leaf)
        } else {
            chain.resume_prepared(record, seq, leaf)
        };
        self.linked = true;
        if let Err(error) = followed {
            let found = record.seal().seq;
            let is_ahead = (seq..=seq.saturating_add(GAP_MAX).min(SEQ_MAX)).contains(&found);
            if record.seal().log == chain.log() && is_ahead {
                chain.extend_prepared(record, leaf);
                self.next_seq = found + 1;
            } else {
                self.linked = false;
                // A repeated or foreign record takes no place of its own.
                self.next_seq = seq;
            }
            self.found(Some(seq), error.code(), &error);
        }
    }

    fn start(&mut self, record: &Record) {
        match Chain::start(record) {
            Ok(chain) => {
                let said = |header: Header| {
                    let first = header.first;
                    header
                        == Header {
                            first,
                            ..Header::of(&chain)
                        }
                };
                if !self.report.header.is_some_and(said) {
                    self.found(
                        Some(0),
                        "bundle.header",
                        &"the header does not say what the genesis says",
                    );
                }
                self.report.genesis = Some(chain.genesis().clone());
                self.chain = Some(chain);
            }
            Err(error) => self.found(Some(0), error.code(), &error),
        }
    }

    fn take_payload(&mut self, frame: &Frame, seq: u64, wanted: &PayloadRef) {
        match (frame.payload(), frame.absent()) {
            (Some(payload), _) if payload.matches(wanted) => self.report.payloads += 1,
            (_, Some(Absent::Erased)) => self.report.erased += 1,
            (_, Some(Absent::NotPresent)) => {
                self.report.absent += 1;
                if !self.for_intake {
                    let text = "its payload is absent and was not erased";
                    self.found(Some(seq), "bundle.payload-absent", &text);
                }
            }
            (Some(_), _) => {
                self.found(
                    Some(seq),
                    "statement.payload",
                    &"its payload does not match the commitment",
                );
            }
            (None, None) => {
                self.found(
                    Some(seq),
                    "bundle.absent-reason",
                    &"the reason of its payload's absence is unknown",
                );
            }
        }
    }

    fn take_end(&mut self, bytes: &[u8]) {
        self.expects = Expects::Nothing;
        match self.check_end(bytes) {
            Ok(tree_size) => self.report.tree_size = Some(tree_size),
            Err((code, text)) => self.found(None, code, &text),
        }
    }

    // How many records the checkpoint covers.
    fn check_end(&self, bytes: &[u8]) -> Result<u64, (&'static str, String)> {
        let Some(chain) = &self.chain else {
            return Err((
                "bundle.checkpoint",
                "without its genesis the checkpoint cannot be checked".into(),
            ));
        };
        let note = |error: NoteError| (error.code(), error.to_string());
        let signed =
            std::str::from_utf8(bytes).map_err(|_| note(NoteError::Malformed("a signed note is UTF-8")))?;
        let key = chain
            .genesis()
            .checkpoint_key
            .verifier()
            .map_err(|e| (e.code(), e.to_string()))?;
        let checkpoint = Checkpoint::open(signed, &chain.log(), &key).map_err(note)?;
        // A note may carry others' signatures; in a bundle their bits would be covered by nothing.
        if signed.lines().count() != 5 {
            return Err(note(NoteError::Malformed(
                "the checkpoint of a bundle has exactly one signature",
            )));
        }
        let (size, root) = (self.tree.size(), self.tree.root());
        let covered = if self.is_range() {
            checkpoint.tree_size >= size
        } else {
            checkpoint.tree_size == size
        };
        if !covered {
            let covers = checkpoint.tree_size;
            let text = format!("the checkpoint covers {covers} records, those here end with number {size}");
            return Err(("bundle.tree-size", text));
        }
        let proof = self.rest.as_deref().unwrap_or_default();
        if !tree::verify_consistency(size, root, checkpoint.tree_size, checkpoint.root, proof) {
            let text = format!(
                "the checkpoint's root is {}, to which that of the records, {root}, does not lead",
                checkpoint.root
            );
            return Err(("bundle.root", text));
        }
        Ok(checkpoint.tree_size)
    }
}
