//! Opening a journal: examine, decide by the table in [`crate::recovery`], act.
//!
//! The segments before the newest are read by their headers and footers only. The newest is read whole. What a crash leaves
//! is told in `recovery`: every step here can be repeated.

use super::catalog::{Catalog, Segment};
use super::error::JournalError;
use super::examine::{Examined, examine, tally_to};
use super::footer::{FOOTER_BYTES_MAX, Footer};
use super::format::{BATCHES_START, HeaderFault, PreviousKind, SEGMENT_BYTES_MAX, SegmentHeader, StoreId};
use super::heal::{heal, set_aside_whole};
use super::writer::WriterStart;
use super::{Journal, JournalOptions, JournalReader, segment};
use crate::Position;
use crate::recovery::{self, Action, EndFound, Finding, HeaderFound, RecoveryReport};
use crate::storage::{Access, Storage, StorageFile};
use std::path::Path;
use std::sync::Arc;

/// What the opener knows from elsewhere.
#[derive(Clone, Debug)]
pub struct OpenContext {
    /// The store that the anchor names; `None` when there is no anchor.
    pub store: Option<StoreId>,
    /// Behind what the anchor knows to be durable; `None` when there is no anchor.
    pub durable: Option<Position>,
    /// How to write.
    pub options: JournalOptions,
}

/// An opened journal.
#[derive(Debug)]
pub struct Opened {
    /// The writing end.
    pub journal: Journal,
    /// The reading end.
    pub reader: JournalReader,
    /// What was found and done.
    pub report: RecoveryReport,
}

impl Journal {
    /// Opens a journal for writing, and heals what a crash left. Whoever calls it holds the store's lock.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when acknowledged entries are damaged or gone, [`JournalError::Missing`] when there is no
    /// journal, [`JournalError::OtherStore`], [`JournalError::Version`], and what the disk says.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, context: OpenContext) -> Result<Opened, JournalError> {
        let options = context.options.clone().clamped();
        let mut report = RecoveryReport::default();
        let (_, unfinished) = segment::list(storage.as_ref(), dir)?;
        for name in unfinished {
            let path = dir.join(name);
            storage.remove(&path).map_err(JournalError::io("remove", path))?;
        }
        let newest = loop {
            let newest = Newest::read(storage.as_ref(), dir, context.durable)?;
            match newest.decide() {
                Action::SetAsideWhole => set_aside_whole(storage.as_ref(), dir, &newest, &mut report)?,
                Action::Corrupt(what) => return Err(newest.corrupt(what)),
                action => break (newest, action),
            }
        };
        let (newest, action) = newest;
        let (header, examined) = newest
            .sound
            .as_ref()
            .expect("the table acts on sound headers only");
        let mut segments = earlier(
            storage.as_ref(),
            dir,
            newest.number,
            header,
            context.durable,
            &mut report,
        )?;
        check_store(dir, context.store, header.store)?;
        if !newest.both_headers {
            report.header_copies_damaged.push(newest.number);
        }
        let start = match action {
            Action::Heal => {
                let healed = heal(storage.as_ref(), dir, &options, &newest, &mut report)?;
                let cut = report.cut.expect("healing cuts").offset;
                let samples = tally_to(header, &newest.bytes, cut).samples().to_vec();
                segments.push(Segment::new(header.clone(), cut, samples));
                healed
            }
            _ => {
                report.unclean = !newest.is_clean() || !report.torn.is_empty();
                let file = segment::open(storage.as_ref(), dir, newest.number, Access::Write)?;
                newest.write_again(storage.as_ref(), file.as_ref(), dir)?;
                let length = u32::try_from(newest.bytes.len()).unwrap_or(examined.end);
                WriterStart {
                    file,
                    header: header.clone(),
                    tally: examined.tally.clone(),
                    end: examined.end,
                    filled: length.max(examined.end),
                    confirmed: examined.confirmed,
                    ending: action == Action::BeginNext,
                }
            }
        };
        segments.push(Segment::new(
            start.header.clone(),
            start.end,
            start.tally.samples().to_vec(),
        ));
        let store = start.header.store;
        let catalog = Arc::new(Catalog::new(storage, dir, store, segments));
        let mut journal = Journal::start(catalog.clone(), options, start);
        match journal.confirm() {
            // A full disk keeps nobody from reading: the next append, or the next opening, proves the tail as well.
            Ok(()) | Err(JournalError::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        if report.unclean {
            let (torn, moved) = (report.torn.len(), report.moved.len());
            tracing::info!(dir = %dir.display(), torn, moved, "the journal had not been closed; it is recovered");
        }
        Ok(Opened {
            journal,
            reader: JournalReader::new(catalog),
            report,
        })
    }
}

/// Opens for reading only.
pub(super) fn read_only(storage: Arc<dyn Storage>, dir: &Path) -> Result<Arc<Catalog>, JournalError> {
    let mut report = RecoveryReport::default();
    let newest = Newest::read(storage.as_ref(), dir, None)?;
    let newest = match newest.decide() {
        Action::Corrupt(what) => return Err(newest.corrupt(what)),
        Action::SetAsideWhole if newest.number > 1 => {
            Newest::read_number(storage.as_ref(), dir, newest.number - 1, None)?
        }
        Action::SetAsideWhole => return Err(JournalError::Missing { dir: dir.to_owned() }),
        _ => newest,
    };
    if let Action::Corrupt(what) = newest.decide() {
        return Err(newest.corrupt(what));
    }
    let Some((header, examined)) = &newest.sound else {
        return Err(newest.corrupt("both copies of the segment header are damaged"));
    };
    let mut segments = earlier(storage.as_ref(), dir, newest.number, header, None, &mut report)?;
    segments.push(Segment::new(
        header.clone(),
        examined.end,
        examined.tally.samples().to_vec(),
    ));
    let store = header.store;
    Ok(Arc::new(Catalog::new(storage, dir, store, segments)))
}

// The newest segment, read whole.
pub(super) struct Newest {
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
    both_headers: bool,
    pub(super) sound: Option<(SegmentHeader, Examined)>,
    durable: Option<Position>,
}

impl Newest {
    fn read(storage: &dyn Storage, dir: &Path, durable: Option<Position>) -> Result<Self, JournalError> {
        let (numbers, _) = segment::list(storage, dir)?;
        let Some(last) = numbers.last() else {
            return Err(JournalError::Missing { dir: dir.to_owned() });
        };
        Self::read_number(storage, dir, *last, durable)
    }

    fn read_number(
        storage: &dyn Storage,
        dir: &Path,
        number: u32,
        durable: Option<Position>,
    ) -> Result<Self, JournalError> {
        let bytes = read_segment(storage, dir, number)?;
        let (sound, both_headers) = match segment::decode_header(&bytes) {
            Err(HeaderFault::Version(found)) => {
                return Err(JournalError::Version {
                    segment: number,
                    found,
                });
            }
            Err(HeaderFault::Damaged) => (None, false),
            Ok((header, _)) if header.segment != number => {
                let what = format!("the header is that of segment {}", header.segment);
                return Err(JournalError::corrupt(number, 0, what));
            }
            Ok((header, both)) => {
                let here = durable
                    .filter(|durable| durable.segment == number)
                    .map(|durable| durable.offset);
                let examined = examine(&header, &bytes, here);
                (Some((header, examined)), both)
            }
        };
        Ok(Self {
            number,
            bytes,
            both_headers,
            sound,
            durable,
        })
    }

    fn decide(&self) -> Action {
        let end = self.sound.as_ref().map_or(0, |(_, examined)| examined.end);
        let known = Position {
            segment: self.number,
            offset: end,
        };
        let anchor_beyond = self.durable.is_some_and(|durable| durable > known);
        let behind = self.bytes.get(BATCHES_START as usize..).unwrap_or(&[]);
        recovery::decide(match &self.sound {
            Some((_, examined)) => Finding {
                header: HeaderFound::Sound,
                end: examined.found,
                proof_behind: examined.proof_behind,
                anchor_beyond,
                unproven: examined.has_unproven_entries(),
            },
            None => Finding {
                header: if behind.iter().all(|b| *b == 0) {
                    HeaderFound::Blank
                } else {
                    HeaderFound::Lost
                },
                end: EndFound::Damage,
                proof_behind: false,
                anchor_beyond,
                unproven: false,
            },
        })
    }

    fn corrupt(&self, what: &str) -> JournalError {
        let Some((_, examined)) = &self.sound else {
            return JournalError::corrupt(self.number, 0, what);
        };
        let what = match (examined.fault, self.durable) {
            ("", Some(durable)) => format!("{what} (durable up to {durable})"),
            ("", None) => what.to_owned(),
            (fault, _) => format!("{fault}: {what}"),
        };
        JournalError::corrupt(self.number, examined.end, what)
    }

    // The confirming batch and the footer behind the last proven place, and the segment's name, may have been read from a
    // cache that never reached the disk, when the process before met a failed sync, perhaps even in closing. What comes
    // next builds on them, so they are written again, as they are, and synced. So is a damaged copy of the header.
    fn write_again(
        &self,
        storage: &dyn Storage,
        file: &dyn StorageFile,
        dir: &Path,
    ) -> Result<(), JournalError> {
        let Some((header, examined)) = &self.sound else {
            return Ok(());
        };
        let io = |doing| JournalError::io(doing, segment::path(dir, self.number));
        if !self.both_headers {
            file.write_at(0, &header.encode().repeat(2))
                .map_err(io("write the header again in"))?;
        }
        let end = if examined.found == EndFound::Footer {
            self.bytes.len()
        } else {
            examined.end as usize
        };
        let again = self.bytes.get(examined.proven as usize..end).unwrap_or(&[]);
        file.write_at(u64::from(examined.proven), again)
            .and_then(|()| file.sync_data())
            .and_then(|()| storage.sync_dir(dir))
            .map_err(io("write the end again in"))
    }

    // Closed: a segment that ends with its last batch. One with a footer was left by a crash, or closed when full.
    fn is_clean(&self) -> bool {
        self.sound.as_ref().is_some_and(|(_, examined)| {
            examined.found == EndFound::Zeros && self.bytes.len() == examined.end as usize
        })
    }
}

fn read_segment(storage: &dyn Storage, dir: &Path, number: u32) -> Result<Vec<u8>, JournalError> {
    let file = segment::open(storage, dir, number, Access::Read)?;
    let path = segment::path(dir, number);
    let bytes = segment::read_whole(file.as_ref(), u64::from(SEGMENT_BYTES_MAX))
        .map_err(JournalError::io("read", path))?;
    bytes.ok_or_else(|| {
        let what = format!("the file is larger than the {SEGMENT_BYTES_MAX} bytes that a segment may have");
        JournalError::corrupt(number, 0, what)
    })
}

fn check_store(dir: &Path, expected: Option<StoreId>, found: StoreId) -> Result<(), JournalError> {
    match expected {
        Some(expected) if expected != found => Err(JournalError::OtherStore {
            dir: dir.to_owned(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}

// The segments before the newest, by their headers and footers; each must be there and lead to the next.
fn earlier(
    storage: &dyn Storage,
    dir: &Path,
    newest: u32,
    newest_header: &SegmentHeader,
    durable: Option<Position>,
    report: &mut RecoveryReport,
) -> Result<Vec<Segment>, JournalError> {
    let mut segments = Vec::new();
    let mut next = newest_header.clone();
    for number in (1..newest).rev() {
        let path = segment::path(dir, number);
        if !storage
            .exists(&path)
            .map_err(JournalError::io("look for", &path))?
        {
            return Err(JournalError::corrupt(number, 0, "the segment's file is missing"));
        }
        let opened = segment::open_mapped(storage, dir, number, Access::Read)?;
        let file = opened.file;
        let (header, both) =
            match segment::read_header(file.as_ref()).map_err(JournalError::io("read", &path))? {
                Ok(found) => found,
                Err(HeaderFault::Version(found)) => {
                    return Err(JournalError::Version {
                        segment: number,
                        found,
                    });
                }
                Err(HeaderFault::Damaged) => {
                    return Err(JournalError::corrupt(
                        number,
                        0,
                        "both copies of the segment header are damaged",
                    ));
                }
            };
        if !both || opened.fault.is_some() {
            report.header_copies_damaged.push(number);
        }
        if header.segment != number || header.store != next.store {
            return Err(JournalError::corrupt(
                number,
                0,
                "the header names another segment or store",
            ));
        }
        let end = next.previous.end;
        if durable.is_some_and(|durable| durable.segment == number && durable.offset > end) {
            let what = "the segment ends before the place that the anchor knows to be durable";
            return Err(JournalError::corrupt(number, end, what));
        }
        let samples = match next.previous.kind {
            PreviousKind::Sealed => read_footer(file.as_ref(), &path, &header, &next)?.samples,
            _ => Vec::new(),
        };
        if file.len().map_err(JournalError::io("measure", &path))? < u64::from(end) {
            return Err(JournalError::corrupt(
                number,
                end,
                "the file ends before its last acknowledged batch",
            ));
        }
        let segment = Segment::new(header.clone(), end, samples);
        if let Some(map) = opened.map {
            segment.shrink(|offset| map.has(offset));
        }
        segments.push(segment);
        next = header;
    }
    segments.reverse();
    Ok(segments)
}

fn read_footer(
    file: &dyn StorageFile,
    path: &Path,
    header: &SegmentHeader,
    next: &SegmentHeader,
) -> Result<Footer, JournalError> {
    let (number, end) = (header.segment, next.previous.end);
    let mut bytes = vec![0; FOOTER_BYTES_MAX];
    let read = file
        .read_at(u64::from(end), &mut bytes)
        .map_err(JournalError::io("read", path))?;
    let place = Position {
        segment: number,
        offset: end,
    };
    let corrupt = |what| JournalError::corrupt(number, end, what);
    let (footer, _) = Footer::decode(&header.key, place, &bytes[..read])
        .ok_or_else(|| corrupt("the footer of this sealed segment is damaged"))?;
    if footer.link.digest != next.previous.digest || footer.link.number != next.first_batch {
        return Err(corrupt(
            "the footer and the next segment disagree about the last batch",
        ));
    }
    Ok(footer)
}
