//! A disk in memory that fails, tears and forgets on demand, for the tests of everything that writes through `Storage`.
//!
//! What is written is seen at once and durable after a sync; names are durable after a sync of their folder. Every call that
//! changes something counts as one operation, and a fault hits one of them by its number. A power cut keeps of what was not
//! synced an arbitrary part, sector by sector.

use ledger::storage::{Access, Storage, StorageFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const SECTOR_BYTES: usize = 512;

/// What happens to an operation. Each comes in the two forms that matter: not done, and done all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// An error, and nothing was done. A failed sync drops what it should have synced, and forgets that it did.
    ErrorNotDone,
    /// An error, but it was done.
    ErrorDone,
    /// The disk is full for writes that make a file longer, from this operation on until [`Disk::heal`].
    Full,
    /// The disk is full in the middle of this one write, even inside a file.
    FullInside,
    /// The power goes: this operation and all after it fail, until [`Disk::power_cut`] and [`Disk::heal`].
    Power,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Gone(PathBuf),
    // From one path to another, in one step.
    Moved(PathBuf, PathBuf, usize),
}

#[derive(Debug, Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    names_durable: BTreeMap<PathBuf, usize>,
    names_pending: Vec<NameChange>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    full: bool,
    dead: bool,
    // Syncs claim to have succeeded and do nothing.
    lying: bool,
    // Handles from before a power cut are useless.
    life: u64,
}

/// The disk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct File {
    disk: Disk,
    inode: usize,
    life: u64,
}

enum Verdict {
    Do,
    DoThenFail,
    HalfThenFull,
}

fn eio() -> io::Error {
    io::Error::other("injected EIO")
}

fn apply(bytes: &mut Vec<u8>, change: &Pending) {
    match change {
        Pending::Write(offset, data) => {
            let end = offset + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(data);
        }
        Pending::Length(length) => bytes.resize(*length, 0),
    }
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Set(path, _) | Self::Gone(path) | Self::Moved(_, path, _)) = self;
        path.parent() == Some(dir)
    }
}

fn rename_in(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Set(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Gone(path) => {
            names.remove(path);
        }
        NameChange::Moved(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

impl State {
    // Counts an operation and says what becomes of it.
    fn operation(&mut self) -> io::Result<Verdict> {
        let number = self.operations;
        self.operations += 1;
        if self.dead {
            return Err(eio());
        }
        match self.fault {
            Some((at, fault)) if at == number => match fault {
                Fault::ErrorNotDone => Err(eio()),
                Fault::ErrorDone => Ok(Verdict::DoThenFail),
                Fault::FullInside => Ok(Verdict::HalfThenFull),
                Fault::Full => {
                    self.full = true;
                    Ok(Verdict::Do)
                }
                Fault::Power => {
                    self.dead = true;
                    Err(eio())
                }
            },
            _ => Ok(Verdict::Do),
        }
    }

    fn names_changed(&mut self, change: NameChange) -> io::Result<()> {
        let verdict = self.operation()?;
        rename_in(&mut self.names, &change);
        self.names_pending.push(change);
        finish(&verdict)
    }
}

fn finish(verdict: &Verdict) -> io::Result<()> {
    match verdict {
        Verdict::Do => Ok(()),
        Verdict::DoThenFail | Verdict::HalfThenFull => Err(eio()),
    }
}

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A disk of its own with the same content.
    pub(crate) fn fork(&self) -> Disk {
        Disk(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Lets the operation with this number (from 0, counted from the disk's beginning) go wrong.
    pub(crate) fn set_fault(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on syncs of files do nothing and say that they did.
    pub(crate) fn lie(&self) {
        self.state().lying = true;
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.fault, state.full, state.dead) = (None, false, false);
    }

    /// Forgets what was not synced, except for an arbitrary part of it that the seed picks.
    pub(crate) fn power_cut(&self, seed: u64) {
        let mut state = self.state();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut coin = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random & 0x100 != 0
        };
        let changes = std::mem::take(&mut state.names_pending);
        let mut names = state.names_durable.clone();
        changes
            .iter()
            .take_while(|_| coin())
            .for_each(|change| rename_in(&mut names, change));
        (state.names, state.names_durable) = (names.clone(), names);
        for inode in &mut state.inodes {
            for change in std::mem::take(&mut inode.pending) {
                let Pending::Write(offset, data) = &change else {
                    if coin() {
                        apply(&mut inode.durable, &change);
                    }
                    continue;
                };
                let (mut at, end) = (*offset, offset + data.len());
                while at < end {
                    let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                    if coin() {
                        let part = data[at - offset..next - offset].to_vec();
                        apply(&mut inode.durable, &Pending::Write(at, part));
                    }
                    at = next;
                }
            }
            inode.now = inode.durable.clone();
        }
        state.life += 1;
    }

    /// The content of a file.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[path]].now.clone()
    }

    /// Puts a file there, durably.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let (now, durable) = (bytes.to_vec(), bytes.to_vec());
        state.inodes.push(Inode {
            now,
            durable,
            pending: Vec::new(),
        });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        state.names_durable.insert(path.to_owned(), inode);
    }
}

impl File {
    fn state(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(eio())
        }
    }

    fn change(&self, change: Pending) -> io::Result<()> {
        let mut state = self.state()?;
        let verdict = state.operation()?;
        let length = state.inodes[self.inode].now.len();
        let change = match (change, &verdict) {
            (Pending::Write(offset, data), Verdict::HalfThenFull) => {
                Pending::Write(offset, data[..data.len() / 2].to_vec())
            }
            (Pending::Write(offset, data), _) if state.full && offset + data.len() > length => {
                let fits = length.saturating_sub(offset);
                let part = Pending::Write(offset.min(length), data[..fits].to_vec());
                apply(&mut state.inodes[self.inode].now, &part);
                state.inodes[self.inode].pending.push(part);
                return Err(io::ErrorKind::StorageFull.into());
            }
            (change, _) => change,
        };
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.now, &change);
        inode.pending.push(change);
        if matches!(verdict, Verdict::HalfThenFull) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        finish(&verdict)
    }
}

impl StorageFile for File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        let bytes = &state.inodes[self.inode].now;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let count = into.len().min(bytes.len() - from);
        into[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Pending::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        if state.lying {
            return Ok(());
        }
        match state.operation() {
            Ok(verdict) => {
                let inode = &mut state.inodes[self.inode];
                for change in std::mem::take(&mut inode.pending) {
                    apply(&mut inode.durable, &change);
                }
                finish(&verdict)
            }
            Err(error) => {
                if !state.dead {
                    state.inodes[self.inode].pending.clear();
                }
                Err(error)
            }
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(Pending::Length(usize::try_from(bytes).unwrap()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[self.inode].now.len() as u64)
    }
}

impl Storage for Disk {
    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn StorageFile>> {
        let state = self.state();
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let life = state.life;
        drop(state);
        Ok(Arc::new(File {
            disk: self.clone(),
            inode,
            life,
        }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.inodes.push(Inode::default());
        let (inode, life) = (state.inodes.len() - 1, state.life);
        state.names_changed(NameChange::Set(path.to_owned(), inode))?;
        drop(state);
        Ok(Arc::new(File {
            disk: self.clone(),
            inode,
            life,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.names_changed(NameChange::Moved(from.to_owned(), to.to_owned(), inode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.names_changed(NameChange::Gone(path.to_owned()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        // A folder is there when something is in it.
        Ok(self.state().names.keys().any(|name| name.starts_with(path)))
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let verdict = state.operation()?;
        let changes = std::mem::take(&mut state.names_pending);
        let (here, elsewhere) = changes.into_iter().partition(|change| change.is_in(dir));
        state.names_pending = elsewhere;
        let here: Vec<NameChange> = here;
        for change in &here {
            rename_in(&mut state.names_durable, change);
        }
        finish(&verdict)
    }
}
