//! Verification of a store's journal, item by item, and of what the anchor beside it knows.

use super::check::Check;
use super::cosigned::CosignedNotes;
use super::cover::Cover;
use super::pruned::PrunedLogs;
use super::report::{Aspect, Finding, Report};
use super::resume::{self, ResumeError, State, options_digest};
use super::scope::Scope;
use super::suspect::Suspect;
use super::work::{Done, Work};
use super::{Options, Progress};
use crate::Position;
use crate::anchor::Anchor;
use crate::error::LedgerError;
use crate::evidence::{EXTENSION, ForkEvidence};
use crate::journal::{StoreId, WalkItem, walk};
use crate::options::{COSIGNED_DIR, Paths};
use crate::storage::Access;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Readings of a store that is being written: a segment that changes while it is read can look damaged once.
const READINGS_MAX: u32 = 3;
/// Proofs of forks that are told at most.
const FORKS_MAX: usize = 100;

// Where the journal lies, and what the anchor says.
pub(super) struct Place {
    pub(super) journal: PathBuf,
    anchor_path: Option<PathBuf>,
    evidence: Option<PathBuf>,
    cosigned: Option<PathBuf>,
}

/// Verifies the store in a directory: a machine's directory, its `data`, a journal folder, or a copy of any of them.
///
/// # Errors
/// [`LedgerError::NoStore`] when there is no journal, [`LedgerError::Journal`] and [`LedgerError::Io`] when it cannot be
/// read, [`LedgerError::Anchor`] when neither slot of the anchor is sound; [`LedgerError::Resume`] when a file to go on from does
/// not fit, and when the run was stopped. Whatever is wrong with the content is a finding.
pub fn verify_store(
    dir: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, LedgerError> {
    let started = Instant::now();
    let place = locate(dir, options)?;
    let mut reading = 1;
    let mut earlier = earlier(options, &place)?;
    let mut anew = None;
    // Whether what is known of pruned logs is read from the journal, since the file is not there.
    let mut unknown_gaps = false;
    loop {
        let anchor = load_anchor(&place, options)?;
        let from = earlier.clone();
        let began = (from, unknown_gaps);
        let Some(mut report) = run(dir, &place, anchor.as_ref(), began, options, progress)? else {
            earlier = None;
            anew = options.resume.as_ref().map(|resume| {
                format!(
                    "the journal is not what it was when {} was written, so nothing of the earlier run counts: all of it was \
                     checked anew",
                    resume.file.display()
                )
            });
            continue;
        };
        let has_gap = report.findings.iter().any(|finding| finding.code == "chain.gap");
        if has_gap && !unknown_gaps && !PrunedLogs::is_known(options.storage.as_ref(), &place.journal)? {
            unknown_gaps = true;
            continue;
        }
        report.notes.extend(anew.clone());
        tell_forks(&place, &mut report);
        if let Some(path) = &place.anchor_path
            && let Some(oddity) = Anchor::oddity(options.storage.as_ref(), path)?
        {
            report
                .notes
                .push(format!("the anchor: {oddity}; the other one counts"));
        }
        let writing = anchor.as_ref().is_some_and(|anchor| !anchor.clean);
        let changed = anchor.is_some() && load_anchor(&place, options)? != anchor;
        if report.is_clean() || reading == READINGS_MAX || !(writing || changed) {
            report.elapsed = started.elapsed();
            forget(options)?;
            return Ok(report);
        }
        reading += 1;
    }
}

fn locate(dir: &Path, options: &Options) -> Result<Place, LedgerError> {
    let paths = Paths::new(dir);
    let exists = |path: &Path| {
        options.storage.exists(path).map_err(|source| LedgerError::Io {
            what: "looking for",
            path: path.to_owned(),
            source,
        })
    };
    if exists(&paths.journal())? {
        return Ok(Place {
            journal: paths.journal(),
            anchor_path: Some(paths.anchor()),
            evidence: Some(paths.evidence()),
            cosigned: Some(paths.cosigned()),
        });
    }
    for (journal, cosigned) in [
        (dir.join("journal"), Some(dir.join(COSIGNED_DIR))),
        (dir.to_owned(), None),
    ] {
        let names = options.storage.list(&journal).unwrap_or_default();
        if names.iter().any(|name| name.ends_with(".seg")) {
            return Ok(Place {
                journal,
                anchor_path: None,
                evidence: None,
                cosigned,
            });
        }
    }
    Err(LedgerError::NoStore(dir.to_owned()))
}

fn load_anchor(place: &Place, options: &Options) -> Result<Option<Anchor>, LedgerError> {
    match &place.anchor_path {
        Some(path) => Ok(Anchor::load(options.storage.as_ref(), path)?),
        None => Ok(None),
    }
}

fn run(
    dir: &Path,
    place: &Place,
    anchor: Option<&Anchor>,
    (earlier, unknown_gaps): (Option<State>, bool),
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Report>, LedgerError> {
    if let (Some(state), Some(resume)) = (&earlier, &options.resume)
        && state.options != options_digest(options, anchor.is_some())
    {
        let (path, what) = (
            resume.file.clone(),
            "other options, or with an anchor that is not here now",
        );
        return Err(ResumeError::Other { path, what }.into());
    }
    let told = Progress {
        bytes_total: journal_bytes(place, options)?,
        ..Progress::default()
    };
    let mut scope = Scope::new(options);
    let cover = Cover::new(options.resume.is_some(), earlier, &mut scope);
    let report = Report::new(dir.to_owned(), options.full);
    let mut check = Check::new(options, report, (scope, cover))?;
    check.pruned = PrunedLogs::load(&options.storage, &place.journal, unknown_gaps, &mut check.report)?;
    check.cosigned = CosignedNotes::load(place.cosigned.as_deref(), options, &mut check.report)?;
    check.expect(anchor);
    let done = Work::new(options, place, anchor, check, told)?.run(progress)?;
    if done.differs {
        return Ok(None);
    }
    let Done {
        mut check,
        store,
        bytes,
        ..
    } = done;
    check.report.store = store.map(|store| store.to_string());
    check.report.counts.bytes = bytes;
    foreign_anchor(&mut check, anchor, store);
    heads(&mut check, place, options)?;
    if check.report.counts.receipts == 0 && options.logs.is_empty() {
        let text =
            "the journal holds no receipt that can be read; a store begins with the genesis of its logs";
        check.found(about(
            Position::START,
            "store.empty",
            Aspect::Completeness,
            text.to_owned(),
        ));
    }
    let report = check.finish();
    progress(Progress {
        bytes: report.counts.bytes,
        bytes_total: told.bytes_total.max(report.counts.bytes),
        receipts: report.counts.receipts,
        findings: report.findings_total,
    });
    Ok(Some(report))
}

// What an earlier run left to go on from.
fn earlier(options: &Options, place: &Place) -> Result<Option<State>, LedgerError> {
    let Some(resume) = &options.resume else {
        return Ok(None);
    };
    if !options.full {
        let what = "the hash tier reads everything, and an earlier run spares it nothing";
        return Err(ResumeError::Useless { what }.into());
    }
    // A verification writes nothing into a store.
    let folder = |path: &Path| path.parent().map(std::fs::canonicalize).and_then(Result::ok);
    let journal = std::fs::canonicalize(&place.journal).ok();
    if journal.is_some() && folder(&resume.file) == journal {
        let what = "the file to go on from must not lie in the journal";
        return Err(ResumeError::Useless { what }.into());
    }
    State::read(options.storage.as_ref(), &resume.file)
}

// A run that has ended leaves nothing to go on from.
fn forget(options: &Options) -> Result<(), LedgerError> {
    let Some(resume) = &options.resume else {
        return Ok(());
    };
    resume::remove(options.storage.as_ref(), &resume.file).map_err(|source| LedgerError::Io {
        what: "removing",
        path: resume.file.clone(),
        source,
    })
}

fn about(position: Position, code: &'static str, aspect: Aspect, text: String) -> Finding {
    Finding {
        code,
        aspect,
        log: None,
        seq: None,
        id: None,
        position: (position != Position::START).then_some(position),
        text,
    }
}

pub(super) fn damaged(
    check: &mut Check<'_>,
    place: &Place,
    options: &Options,
    at: Position,
    code: &'static str,
    what: String,
) {
    let mut finding = about(at, code, Aspect::Integrity, what);
    // Findings about one entry can often be given the receipt's name.
    let suspect = (code == "journal.records")
        .then(|| Suspect::read(options.storage.as_ref(), &place.journal, at.segment, at.offset))
        .flatten();
    if let Some(suspect) = suspect
        && let Some((log, seq)) = check.name(&suspect)
    {
        finding.log = Some(log);
        finding.seq = Some(seq);
        finding.id = suspect.id();
    }
    check.found(finding);
}

// A torn tail is what a crash, or a daemon that is writing just now, leaves; but not in a store that was closed, and never
// where the anchor knows more to be durable.
pub(super) fn torn(check: &mut Check<'_>, anchor: Option<&Anchor>, at: Position, bytes: u64, what: &str) {
    let acknowledged = anchor.is_some_and(|anchor| anchor.durable > at);
    let closed = anchor.is_some_and(|anchor| anchor.clean);
    if acknowledged || closed {
        let why = if acknowledged {
            "the anchor knows of acknowledged receipts behind it"
        } else {
            "the store was closed, so nothing may be torn"
        };
        let text = format!("{what} ({bytes} bytes); {why}");
        check.found(about(at, "journal.torn", Aspect::Integrity, text));
    } else {
        check.report.note(format!(
            "the journal ends with {bytes} bytes at {at} that nothing proves acknowledged ({what}): a batch being written \
             just now, or what a crash left; the next opening sets it aside"
        ));
    }
}

fn foreign_anchor(check: &mut Check<'_>, anchor: Option<&Anchor>, store: Option<StoreId>) {
    match (anchor, store) {
        (Some(anchor), Some(store)) if anchor.store != store => {
            let text = format!(
                "the anchor in DIR/keys belongs to store {}, the data to store {store}",
                anchor.store
            );
            check.found(about(
                Position::START,
                "store.foreign-anchor",
                Aspect::Integrity,
                text,
            ));
        }
        (None, _) => check.report.note(
            "no anchor lies beside the data, so a tail that is missing altogether would not be noticed"
                .to_owned(),
        ),
        _ => {}
    }
}

// What anchor, pins, citations and cosigned checkpoints say must be here, and could not be compared along the way.
fn heads(check: &mut Check<'_>, place: &Place, options: &Options) -> Result<(), LedgerError> {
    let mut late = check.book.take_late(check.pruned.floors());
    if !late.is_done() {
        for item in walk(Arc::clone(&options.storage), &place.journal)? {
            if let WalkItem::Entry { entry, .. } = item? {
                for finding in late.take(&entry.record) {
                    check.found(finding);
                }
            }
            if late.is_done() {
                break;
            }
        }
    }
    check.report.counts.heads_compared += late.compared;
    let mut book = std::mem::take(&mut check.book);
    let ends = check.ends();
    let is_lost = |order: &_, log: &_, seq| check.is_lost(&ends, order, log, seq);
    let (missing, ahead) = book.missing(|log| check.is_own(log), is_lost);
    let (dropped, pruned) = (book.dropped(), book.pruned());
    check.book = book;
    missing.into_iter().for_each(|finding| check.found(finding));
    if ahead > 0 {
        check.report.note(format!(
            "{ahead} pins and citations of other machines' logs, or of an earlier epoch, are ahead of the copies here, or of logs that \
             are not here"
        ));
    }
    if pruned > 0 {
        check.report.note(format!(
            "{pruned} heads that were pinned, cited or cosigned lie in what was pruned, and could not be compared"
        ));
    }
    if dropped > 0 {
        let why = format!("of {dropped} pins, which were too many to compare in one run");
        check.report.not_checked(Aspect::Completeness, &why);
    }
    Ok(())
}

// What proves that a machine's key was used in two places: nobody says "verified" beside it.
fn tell_forks(place: &Place, report: &mut Report) {
    let files = place
        .evidence
        .as_ref()
        .and_then(|dir| std::fs::read_dir(dir).ok());
    let is_proof = |path: &PathBuf| path.extension().is_some_and(|found| found == EXTENSION);
    let mut paths: Vec<PathBuf> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path())
        .collect();
    paths.retain(is_proof);
    paths.sort();
    for path in paths.iter().take(FORKS_MAX) {
        let proven = std::fs::read_to_string(path)
            .map_err(|e| e.to_string())
            .and_then(|text| ForkEvidence::parse(&text).map_err(|e| e.to_string()))
            .and_then(|evidence| evidence.check().map_err(|e| e.to_string()));
        match proven {
            Ok(fork) => report.found(Finding {
                code: "fork.evidence",
                aspect: Aspect::Integrity,
                log: Some(fork.log),
                seq: Some(fork.seq),
                id: None,
                position: None,
                text: format!("{} {}; {} proves it", fork.machine, fork.what(), path.display()),
            }),
            Err(why) => report.note(format!("{} proves nothing: {why}", path.display())),
        }
    }
}

fn journal_bytes(place: &Place, options: &Options) -> Result<u64, LedgerError> {
    let names = options
        .storage
        .list(&place.journal)
        .map_err(|source| LedgerError::Io {
            what: "listing",
            path: place.journal.clone(),
            source,
        })?;
    let segments = names
        .iter()
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok());
    segments
        .map(|segment| segment_bytes(place, options, segment))
        .sum()
}

fn segment_bytes(place: &Place, options: &Options, segment: u32) -> Result<u64, LedgerError> {
    let path = place.journal.join(format!("{segment:08}.seg"));
    options
        .storage
        .open(&path, Access::Read)
        .and_then(|file| file.len())
        .map_err(|source| LedgerError::Io {
            what: "measuring",
            path,
            source,
        })
}
