//! Importing: a bundle's log taken into a store as a replica, verbatim (`docs/FORMAT.md`, "Bundle").
//!
//! Reads once, with flat memory: the pure check of `core` looks at every frame, and whole runs of records whose signatures
//! were verified ([`VerifiedRun`]) go to the committer, one batch each. What is here already is compared byte for byte and
//! skipped, so a crash leaves a whole prefix, and the same import goes on behind it. The last run waits for the bundle's
//! end: a bundle of one run is taken in wholly or not at all. A log of this machine's own is compared and never written, an
//! erased payload never comes back ([`crate::Tx::intake`]). Which log to trust the caller decides, by the fleet.

use crate::Receipt;
use crate::commit::CommitError;
use crate::error::LedgerError;
use crate::intake::{RawRecord, VerifiedRun};
use crate::ledger::Ledger;
use crate::state::State;
use ledger_core::bundle::{BundleCheck, BundleReport, Frame, FrameKind, Header};
use ledger_core::error::ChainError;
use ledger_core::{FleetId, LogId, Stream};
use serde::Serialize;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Records of one run; each run is one batch of the journal.
const RUN_RECORDS: usize = 2048;
/// Bytes of records and payloads after which a run ends: half of what the committer puts into one batch.
const RUN_BYTES: usize = 4 << 20;

/// What an import took in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ImportReport {
    /// The log.
    pub log: LogId,
    /// The machine that writes it; `None` when nothing of it is here.
    pub machine: Option<String>,
    /// Which of its logs.
    pub stream: Option<Stream>,
    /// The seq of the bundle's first receipt.
    pub first: u64,
    /// Receipts of the bundle that were looked at: all, unless there was an error.
    pub receipts: u64,
    /// Receipts among them that were taken in; they are durable.
    pub new: u64,
    /// Receipts that were here already, byte for byte.
    pub known: u64,
    /// New receipts whose author signature is not valid: kept, since the log sealed them, and inert.
    pub inadmissible: u64,
    /// Payloads in the bundle, all of which match their commitments.
    pub payloads: u64,
    /// Payloads that the bundle says to be erased.
    pub erased: u64,
    /// Payloads that were not at the exporter's.
    pub absent: u64,
    /// Receipts of the log that are here now.
    pub size: u64,
}

/// Why a bundle was not taken in, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bundle could not be read.
    #[error("reading the bundle: {0}; what came before it is here, so say the same again")]
    Read(#[source] io::Error),
    /// Something in the bundle is not as it must be.
    #[error(
        "the bundle{}: {text}; {} of its receipts were taken in before, ask its owner for a whole one (`ledger verify` \
         names all that is wrong)",
        at(*seq),
        taken.new
    )]
    Bundle {
        /// The stable code of the finding.
        code: &'static str,
        /// The receipt, when it is about one.
        seq: Option<u64>,
        /// What differs.
        text: String,
        /// What was taken in before.
        taken: Box<ImportReport>,
    },
    /// A bundle of another fleet.
    #[error(
        "the bundle is of fleet {found}, this store of fleet {expected}: nothing was taken in; check it with `ledger \
         verify`, or import it where its fleet lives"
    )]
    OtherFleet {
        /// The store's.
        expected: FleetId,
        /// The bundle's.
        found: FleetId,
    },
    /// A range that does not continue what is here.
    #[error(
        "the bundle begins at seq {first} of log {log}, of which {here} receipts are here: nothing was taken in; import \
         what lies between first"
    )]
    Gap {
        /// The log.
        log: LogId,
        /// Where the bundle begins.
        first: u64,
        /// How many receipts are here.
        here: u64,
    },
    /// Another record stands here at a place of the bundle.
    #[error(
        "log {log} seq {seq}: another record stands here: a fork; nothing was overwritten, keep the bundle as evidence and \
         ask the machine's owner"
    )]
    Fork {
        /// The log.
        log: LogId,
        /// The place.
        seq: u64,
    },
    /// Receipts of this store's own log that the store does not have.
    #[error(
        "log {log} is this machine's own, and the bundle has its receipt {seq}, which the store lost: nothing was \
         overwritten; restore DIR/data from a newer copy"
    )]
    OwnLog {
        /// The log.
        log: LogId,
        /// The first one that is missing.
        seq: u64,
    },
    /// Whoever decides on what comes in refused.
    #[error("{text}")]
    Refused {
        /// Its stable code.
        code: &'static str,
        /// Why.
        text: String,
    },
    /// The store.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn at(seq: Option<u64>) -> String {
    seq.map_or_else(String::new, |seq| format!(", at seq {seq}"))
}

impl ImportError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read(_) => "import.read",
            Self::Bundle { code, .. } | Self::Refused { code, .. } => code,
            Self::OtherFleet { .. } => "import.other-fleet",
            Self::Gap { .. } => "import.gap",
            Self::Fork { .. } => "ledger.fork",
            Self::OwnLog { .. } => "import.own-log",
            Self::Ledger(e) => e.code(),
        }
    }
}

/// Takes a verified run in durably, and says how many of its records were new.
pub type TakeRun<'a> = dyn FnMut(VerifiedRun) -> Result<u64, ImportError> + 'a;

impl<S: State> Ledger<S> {
    /// Takes a bundle's log into this store as a replica, exactly as it is, and blocks until that is durable. Reads the
    /// bundle once, so that any stream will do; what is here already is compared and skipped.
    ///
    /// # Errors
    /// [`ImportError::OtherFleet`], [`ImportError::Gap`], [`ImportError::Fork`], [`ImportError::OwnLog`];
    /// [`ImportError::Bundle`] with the finding's own code for whatever is wrong with the bundle. After an error the
    /// store has a whole, verified prefix of the log.
    ///
    /// ```
    /// use ledger::core::{MachineId, Stream};
    /// use ledger::{Fleet, Ledger, NewStore, OpenOptions, Paths};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let studio = Ledger::lone(dir.path().join("studio"), "studio")?;
    /// let mut bundle = Vec::new();
    /// studio.export(&studio.own_log(Stream::Facts).ok_or("facts")?, &mut bundle)?;
    ///
    /// let new = NewStore {
    ///     machine: MachineId::new("archive")?,
    ///     streams: vec![Stream::Facts],
    ///     fleet: Fleet::Join(studio.context().fleet),
    /// };
    /// let archive: Ledger = Ledger::create(&Paths::new(dir.path().join("archive")), &new, OpenOptions::default())?;
    /// assert_eq!(archive.import(&mut bundle.as_slice())?.new, 1); // the genesis
    /// assert_eq!(archive.import(&mut bundle.as_slice())?.known, 1);
    /// # Ok(()) }
    /// ```
    pub fn import(&self, from: &mut dyn Read) -> Result<ImportReport, ImportError> {
        self.import_with(from, &mut |run| {
            let committed = self.commit(move |tx| tx.intake(&run));
            let intake = committed.map_err(CommitError::into_ledger)?.value;
            Ok(u64::try_from(intake.new.len()).unwrap_or(u64::MAX))
        })
    }

    /// The same, where more follows from what is taken in than being kept: `take` gets each run in order and commits it.
    ///
    /// # Errors
    /// As [`Ledger::import`], and what `take` says.
    pub fn import_with(
        &self,
        from: &mut dyn Read,
        take: &mut TakeRun<'_>,
    ) -> Result<ImportReport, ImportError> {
        let mut import = Import {
            ledger: self,
            take,
            check: BundleCheck::for_intake(),
            log: None,
            run: Vec::new(),
            run_bytes: 0,
            skips: false,
            new: 0,
            known: 0,
            inadmissible: 0,
        };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ImportError::Read(error)),
            };
            if count == 0 {
                return import.finish();
            }
            import.check.feed(&buffer[..count]);
            while let Some(frame) = import.check.step() {
                import.expect_sound(import.check.so_far())?;
                import.take_frame(frame)?;
            }
            import.expect_sound(import.check.so_far())?;
        }
    }
}

// The bundle's log, and how much of it was here at the beginning.
struct Known<'a, S: State> {
    header: Header,
    size: u64,
    // Ours, from the bundle's first seq on.
    ours: std::iter::Peekable<crate::read::Range<'a, S>>,
}

impl<'a, S: State> Known<'a, S> {
    // Our record at a seq, which is never asked for twice; none where it was pruned.
    fn at(&mut self, ledger: &'a Ledger<S>, seq: u64) -> Result<Option<Receipt>, LedgerError> {
        loop {
            match self.ours.peek() {
                Some(Ok(ours)) if ours.seq() > seq => return Ok(None),
                Some(Err(LedgerError::Pruned { first, .. })) if seq < *first => return Ok(None),
                Some(Err(LedgerError::Pruned { first, .. })) => {
                    self.ours = ledger.range(&self.header.log, *first, u64::MAX).peekable();
                }
                Some(Ok(ours)) if ours.seq() < seq => drop(self.ours.next()),
                _ => return self.ours.next().transpose(),
            }
        }
    }
}

struct Import<'a, 'b, S: State> {
    ledger: &'a Ledger<S>,
    take: &'b mut TakeRun<'b>,
    check: BundleCheck,
    log: Option<Known<'a, S>>,
    run: Vec<RawRecord>,
    run_bytes: usize,
    // Whether the record that was read last is here already.
    skips: bool,
    new: u64,
    known: u64,
    inadmissible: u64,
}

impl<S: State> Import<'_, '_, S> {
    fn take_frame(&mut self, frame: Frame) -> Result<(), ImportError> {
        match frame.kind {
            FrameKind::Header => self.begin(),
            FrameKind::Record => self.take_record(frame.bytes),
            FrameKind::Payload if !self.skips => {
                let payload = frame.payload();
                self.run_bytes += frame.bytes.len();
                if let Some((_, missing)) = self.run.last_mut() {
                    *missing = payload;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), ImportError> {
        let Some(header) = self.check.so_far().header else {
            return Ok(());
        };
        let (expected, found) = (self.ledger.context().fleet, header.fleet);
        if expected != found {
            return Err(ImportError::OtherFleet { expected, found });
        }
        let (log, first) = (header.log, header.first);
        let size = self.size_of(&log);
        if first > size {
            return Err(ImportError::Gap {
                log,
                first,
                here: size,
            });
        }
        let ours = self.ledger.range(&log, first, u64::MAX).peekable();
        self.log = Some(Known { header, size, ours });
        Ok(())
    }

    fn size_of(&self, log: &LogId) -> u64 {
        let chain = self.ledger.shared().chain(log);
        chain.map_or(0, |chain| chain.tree().size())
    }

    // The check has let it pass: it is dense, and of the header's log.
    fn take_record(&mut self, bytes: Vec<u8>) -> Result<(), ImportError> {
        let Some(known) = &mut self.log else {
            return Ok(());
        };
        let log = known.header.log;
        let seq = known.header.first + self.check.so_far().records - 1;
        self.skips = seq < known.size;
        if self.skips {
            let ours = known.at(self.ledger, seq)?;
            if ours.is_some_and(|ours| ours.record.bytes() != bytes) {
                return Err(ImportError::Fork { log, seq });
            }
            self.known += 1;
            return Ok(());
        }
        if self.ledger.shared().is_own(&log) {
            return Err(ImportError::OwnLog { log, seq });
        }
        if self.run.len() >= RUN_RECORDS || self.run_bytes >= RUN_BYTES {
            self.flush()?;
        }
        self.run_bytes += bytes.len();
        self.run.push((bytes, None));
        Ok(())
    }

    // Verifies what was gathered and takes it in.
    fn flush(&mut self) -> Result<(), ImportError> {
        let Some(log) = self.log.as_ref().map(|known| known.header.log) else {
            return Ok(());
        };
        let run = std::mem::take(&mut self.run);
        self.run_bytes = 0;
        let chain = self.ledger.shared().chain(&log);
        let verified = VerifiedRun::verify(run, chain.as_deref());
        let Some(run) = verified.map_err(|error| self.refused(error))? else {
            return Ok(());
        };
        let inadmissible = run.inadmissible().len();
        self.new += (self.take)(run).map_err(|error| match error {
            ImportError::Ledger(error) => self.refused(error),
            other => other,
        })?;
        self.inadmissible += u64::try_from(inadmissible).unwrap_or(u64::MAX);
        Ok(())
    }

    // Why a run was not taken in: what is wrong with its records is told as a finding of the bundle.
    fn refused(&self, error: LedgerError) -> ImportError {
        let (code, text) = (error.code(), error.to_string());
        let seq = match error {
            LedgerError::Fork { log, seq } => return ImportError::Fork { log, seq },
            LedgerError::Chain(ChainError::Prev { log, seq, .. }) => {
                let seq = seq.saturating_sub(1);
                return ImportError::Fork { log, seq };
            }
            LedgerError::Chain(
                ChainError::LogSignature { seq, .. }
                | ChainError::AuthorSignature { seq, .. }
                | ChainError::Time { seq, .. },
            ) => Some(seq),
            LedgerError::Chain(_) | LedgerError::Record(_) | LedgerError::Statement(_) => None,
            other => return ImportError::Ledger(other),
        };
        let taken = Box::new(self.report(self.check.so_far()));
        ImportError::Bundle {
            code,
            seq,
            text,
            taken,
        }
    }

    fn expect_sound(&self, found: &BundleReport) -> Result<(), ImportError> {
        let Some(finding) = found.findings.first() else {
            return Ok(());
        };
        Err(ImportError::Bundle {
            code: finding.code,
            seq: finding.seq,
            text: finding.text.clone(),
            taken: Box::new(self.report(found)),
        })
    }

    fn finish(mut self) -> Result<ImportReport, ImportError> {
        let found = std::mem::take(&mut self.check).finish();
        self.expect_sound(&found)?;
        self.flush()?;
        Ok(self.report(&found))
    }

    fn report(&self, found: &BundleReport) -> ImportReport {
        let (log, first) = found
            .header
            .map_or((LogId([0; 32]), 0), |header| (header.log, header.first));
        let chain = self.ledger.shared().chain(&log);
        let genesis = chain.as_ref().map(|chain: &Arc<_>| chain.genesis());
        ImportReport {
            log,
            machine: genesis.map(|genesis| genesis.machine.to_string()),
            stream: genesis.map(|genesis| genesis.stream),
            first,
            receipts: found.records,
            new: self.new,
            known: self.known,
            inadmissible: self.inadmissible,
            payloads: found.payloads,
            erased: found.erased,
            absent: found.absent,
            size: self.size_of(&log),
        }
    }
}
