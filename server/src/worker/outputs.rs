//! The files that a run leaves in its outputs folder: finding, digesting and keeping them by digest.
//!
//! Contract: the same folder gives the same list, sorted by path; whatever is not taken is named with its reason, nothing
//! is left out silently; links are never followed. Meant for a run that is over, when nobody writes there any more; a
//! file that changes between collecting and storing is an error, not a wrong digest.
//!
//! What a crash leaves: a temporary file beside the objects, never a wrong or partial object under a digest's name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{Mode, OFlags};

use super::error::WorkerError;
use super::files::{RunFiles, sync_dir};

/// Longest path of an output, relative to its folder, in bytes (the bound of a Vault path).
pub const OUTPUT_PATH_BYTES_MAX: usize = 1024;
/// Most outputs of one run.
pub const OUTPUTS_MAX: usize = 4096;
/// Most entries of the outputs folder that are looked at, folders included.
pub const ENTRIES_MAX: usize = 100_000;
/// Largest default total of one run's outputs, in bytes.
const TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Longest output pattern, in bytes.
const GLOB_BYTES_MAX: usize = 1024;
const COPY_BYTES: usize = 256 * 1024;

/// One output of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Path relative to the outputs folder, with `/`, at most [`OUTPUT_PATH_BYTES_MAX`] bytes.
    pub path: String,
    /// BLAKE3 of the file's bytes.
    pub digest: [u8; 32],
    /// Its size in bytes.
    pub bytes: u64,
}

impl Output {
    /// The digest as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn digest_hex(&self) -> String {
        HEXLOWER.encode(&self.digest)
    }
}

/// Why an entry of the outputs folder is not an output, though its path matches or cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// The path is longer than [`OUTPUT_PATH_BYTES_MAX`].
    PathTooLong,
    /// The path is not UTF-8.
    NotUtf8,
    /// It is a symbolic link.
    SymbolicLink,
    /// It is neither a file nor a folder nor a link (a pipe, a socket, a device).
    NotAFile,
    /// More outputs than [`OutputLimits::outputs_max`] came before it.
    TooMany,
    /// With it the outputs would exceed [`OutputLimits::total_bytes_max`].
    TooLarge,
}

impl SkipReason {
    /// The stable word for this reason.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            SkipReason::PathTooLong => "path-too-long",
            SkipReason::NotUtf8 => "not-utf8",
            SkipReason::SymbolicLink => "symbolic-link",
            SkipReason::NotAFile => "not-a-file",
            SkipReason::TooMany => "too-many",
            SkipReason::TooLarge => "too-large",
        }
    }
}

/// An entry that was not taken as an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path relative to the outputs folder; what is not UTF-8 is replaced.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// What a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The outputs, sorted by path.
    pub outputs: Vec<Output>,
    /// What was not taken, sorted by path.
    pub skipped: Vec<Skipped>,
}

/// Bounds on the outputs of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputLimits {
    /// Most outputs.
    pub outputs_max: usize,
    /// Most bytes of all outputs together.
    pub total_bytes_max: u64,
}

impl Default for OutputLimits {
    fn default() -> Self {
        OutputLimits {
            outputs_max: OUTPUTS_MAX,
            total_bytes_max: TOTAL_BYTES_MAX,
        }
    }
}

/// Checks one output pattern.
pub(super) fn check_glob(glob: &str) -> Result<globset::Glob, WorkerError> {
    let bad = |reason: String| WorkerError::BadGlob {
        glob: glob.to_owned(),
        reason,
    };
    if glob.is_empty() || glob.len() > GLOB_BYTES_MAX {
        return Err(bad(format!("expected 1 to {GLOB_BYTES_MAX} bytes")));
    }
    if glob.starts_with('/') || glob.split('/').any(|part| part == "..") {
        return Err(bad(
            "expected a path inside the outputs folder: no leading '/', no '..'".to_owned(),
        ));
    }
    GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map_err(|error| bad(error.kind().to_string()))
}

fn build_globs(globs: &[String]) -> Result<GlobSet, WorkerError> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(check_glob(glob)?);
    }
    builder.build().map_err(|error| WorkerError::BadGlob {
        glob: globs.join(" "),
        reason: error.kind().to_string(),
    })
}

/// Finds the files below the run's outputs folder that match `globs`, and digests them.
///
/// # Errors
/// A pattern that is not valid, more than [`ENTRIES_MAX`] entries, or a file that cannot be read.
pub fn collect_outputs(
    run_dir: &Path,
    globs: &[String],
    limits: &OutputLimits,
) -> Result<Collected, WorkerError> {
    let globs = build_globs(globs)?;
    let out_dir = RunFiles::open(run_dir)?.out_dir();
    let mut collected = Collected::default();
    let mut candidates = walk(&out_dir, &globs, &mut collected.skipped)?;
    candidates.sort();
    let mut total_bytes = 0_u64;
    for path in candidates {
        let mut file = open_plain(&out_dir.join(&path))?;
        let size = file
            .metadata()
            .map_err(WorkerError::io("look at", Path::new(&path)))?
            .len();
        let reason = if collected.outputs.len() >= limits.outputs_max {
            Some(SkipReason::TooMany)
        } else if total_bytes.saturating_add(size) > limits.total_bytes_max {
            Some(SkipReason::TooLarge)
        } else {
            None
        };
        if let Some(reason) = reason {
            collected.skipped.push(Skipped { path, reason });
            continue;
        }
        let (digest, bytes) =
            copy_digesting(&mut file, &mut io::sink()).map_err(WorkerError::io("read", Path::new(&path)))?;
        total_bytes = total_bytes.saturating_add(bytes);
        collected.outputs.push(Output { path, digest, bytes });
    }
    collected.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(collected)
}

/// The relative paths of plain files that match; what matches and cannot be taken goes to `skipped`.
fn walk(out_dir: &Path, globs: &GlobSet, skipped: &mut Vec<Skipped>) -> Result<Vec<String>, WorkerError> {
    let mut candidates = Vec::new();
    let mut folders = vec![PathBuf::new()];
    let mut entries = 0_usize;
    while let Some(folder) = folders.pop() {
        let absolute = out_dir.join(&folder);
        let listing = fs::read_dir(&absolute).map_err(WorkerError::io("list", &absolute))?;
        for entry in listing {
            let entry = entry.map_err(WorkerError::io("list", &absolute))?;
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(WorkerError::TooManyEntries {
                    out_dir: out_dir.to_path_buf(),
                    entries_max: ENTRIES_MAX,
                });
            }
            let relative = folder.join(entry.file_name());
            let kind = entry
                .file_type()
                .map_err(WorkerError::io("look at", &entry.path()))?;
            if kind.is_dir() {
                folders.push(relative);
                continue;
            }
            let mut skip = |path: String, reason: SkipReason| skipped.push(Skipped { path, reason });
            let path = match relative.to_str() {
                Some(path) if globs.is_match(path) => path.to_owned(),
                Some(_) => continue,
                None => {
                    skip(relative.to_string_lossy().into_owned(), SkipReason::NotUtf8);
                    continue;
                }
            };
            if kind.is_symlink() {
                skip(path, SkipReason::SymbolicLink);
            } else if !kind.is_file() {
                skip(path, SkipReason::NotAFile);
            } else if path.len() > OUTPUT_PATH_BYTES_MAX {
                skip(path, SkipReason::PathTooLong);
            } else {
                candidates.push(path);
            }
        }
    }
    Ok(candidates)
}

/// Copies every output to `objects_dir/<2 hex digits>/<64 hex digits>`, durable when this returns. An object that is there
/// already is left as it is.
///
/// # Errors
/// [`WorkerError::OutputChanged`] if a file is not what was collected, and file errors; what was stored before stays.
pub fn store_outputs(run_dir: &Path, objects_dir: &Path, outputs: &[Output]) -> Result<(), WorkerError> {
    let out_dir = RunFiles::open(run_dir)?.out_dir();
    fs::create_dir_all(objects_dir).map_err(WorkerError::io("create the folder", objects_dir))?;
    for output in outputs {
        let hex = output.digest_hex();
        let folder = objects_dir.join(&hex[..2]);
        let object = folder.join(&hex);
        if object.exists() {
            continue;
        }
        fs::create_dir_all(&folder).map_err(WorkerError::io("create the folder", &folder))?;
        let source = open_plain(&out_dir.join(&output.path))?;
        let matches = store(source, output, &folder, &object).map_err(WorkerError::io("write", &object))?;
        if !matches {
            return Err(WorkerError::OutputChanged {
                path: output.path.clone(),
            });
        }
    }
    sync_dir(objects_dir).map_err(WorkerError::io("sync", objects_dir))
}

/// Returns whether the source still was what `output` says; if not, nothing is kept.
fn store(mut source: File, output: &Output, folder: &Path, object: &Path) -> io::Result<bool> {
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    let (digest, bytes) = copy_digesting(&mut source, temporary.as_file_mut())?;
    if digest != output.digest || bytes != output.bytes {
        return Ok(false);
    }
    temporary.as_file().sync_all()?;
    temporary.persist(object)?;
    sync_dir(folder)?;
    Ok(true)
}

/// Opens a file that is no link; never blocks on a pipe.
fn open_plain(path: &Path) -> Result<File, WorkerError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| WorkerError::io("open", path)(errno.into()))
}

fn copy_digesting(source: &mut impl Read, target: &mut impl Write) -> io::Result<([u8; 32], u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0_u8; COPY_BYTES];
    let mut bytes = 0_u64;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok((*hasher.finalize().as_bytes(), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
        bytes = bytes.saturating_add(count as u64);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn run_dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("out").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn collect(run: &tempfile::TempDir, globs: &[&str]) -> Collected {
        let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
        collect_outputs(run.path(), &globs, &OutputLimits::default()).unwrap()
    }

    fn paths(collected: &Collected) -> Vec<&str> {
        collected
            .outputs
            .iter()
            .map(|output| output.path.as_str())
            .collect()
    }

    #[test]
    fn outputs_are_sorted_and_carry_the_digest_that_b3sum_would_print() {
        let run = run_dir(&[
            ("b/deep/x.txt", "abc"),
            ("a.txt", ""),
            ("b.md", "no"),
            (".hidden.txt", "h"),
        ]);
        let collected = collect(&run, &["**/*.txt"]);
        assert_eq!(paths(&collected), [".hidden.txt", "a.txt", "b/deep/x.txt"]);
        assert_eq!(collected.outputs[2].bytes, 3);
        assert_eq!(
            collected.outputs[2].digest_hex(),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        assert_eq!(paths(&collect(&run, &["*.txt"])), [".hidden.txt", "a.txt"]);
        assert_eq!(collect(&run, &["**"]).outputs.len(), 4);
        assert_eq!(collect(&run, &[]), Collected::default());
    }

    #[test]
    fn whatever_is_not_taken_is_named_with_its_reason() {
        let run = run_dir(&[("a", "12345"), ("b", "12345"), ("c", "12345")]);
        let out = run.path().join("out");
        std::os::unix::fs::symlink("/etc/passwd", out.join("link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap());
        fs::write(out.join(std::ffi::OsStr::from_bytes(b"bad\xff")), "").unwrap();
        let deep = out.join(["d".repeat(250), "e".repeat(250), "f".repeat(250), "g".repeat(250)].join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("0".repeat(100)), "").unwrap();
        let reasons = |limits: OutputLimits| {
            let collected = collect_outputs(run.path(), &["**".to_owned()], &limits).unwrap();
            let mut reasons: Vec<_> = collected
                .skipped
                .iter()
                .map(|skipped| skipped.reason.code())
                .collect();
            reasons.sort_unstable();
            (collected.outputs.len(), reasons)
        };
        let always = ["not-a-file", "not-utf8", "path-too-long", "symbolic-link"];
        assert_eq!(reasons(OutputLimits::default()), (3, always.to_vec()));
        let two = OutputLimits {
            outputs_max: 2,
            ..OutputLimits::default()
        };
        assert_eq!(reasons(two), (2, [&always[..], &["too-many"]].concat()));
        let ten_bytes = OutputLimits {
            total_bytes_max: 10,
            ..OutputLimits::default()
        };
        assert_eq!(reasons(ten_bytes), (2, [&always[..], &["too-large"]].concat()));
    }

    #[test]
    fn stored_outputs_lie_under_their_digest_and_storing_twice_changes_nothing() {
        let run = run_dir(&[("a", "same"), ("b/c", "same"), ("d", "other")]);
        let objects = run.path().join("objects");
        let collected = collect(&run, &["**"]);
        for _ in 0..2 {
            store_outputs(run.path(), &objects, &collected.outputs).unwrap();
            for output in &collected.outputs {
                let hex = output.digest_hex();
                let stored = fs::read(objects.join(&hex[..2]).join(&hex)).unwrap();
                assert_eq!(blake3::hash(&stored).as_bytes(), &output.digest);
            }
        }
        let stored = fs::read_dir(&objects).unwrap().flatten();
        let count: usize = stored
            .map(|folder| fs::read_dir(folder.path()).unwrap().count())
            .sum();
        assert_eq!(count, 2, "two distinct contents, and no temporary file");
    }

    #[test]
    fn an_output_that_changed_after_collecting_is_not_stored() {
        let run = run_dir(&[("a", "before")]);
        let collected = collect(&run, &["**"]);
        fs::write(run.path().join("out/a"), "after!").unwrap();
        let objects = run.path().join("objects");
        let error = store_outputs(run.path(), &objects, &collected.outputs).unwrap_err();
        assert_eq!(error.code(), "worker.output-changed");
        let hex = collected.outputs[0].digest_hex();
        assert_eq!(fs::read_dir(objects.join(&hex[..2])).unwrap().count(), 0);
    }
}
