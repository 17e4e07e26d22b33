//! The process that is hurt: a fixed script on a real store, and a file that says what was acknowledged.

use super::{CHILD, PATIENCE, SWEEPS, Script, Thread, lone, options};
use crate::stores::{Counter, fact_with};
use ledger::anchor::Anchor;
use ledger::core::Stream;
use ledger::storage::DiskStorage;
use ledger::{CommitError, Ledger, LedgerError, Paths, Receipt};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

// A payload that cannot be mistaken for another.
pub(super) fn told(number: u64) -> Vec<u8> {
    let mut text = format!("<payload {number:04} of the script>").into_bytes();
    let line = text.clone();
    while text.len() < 1500 {
        text.extend_from_slice(&line);
    }
    text
}

struct Victim {
    work: PathBuf,
    thread: Thread,
    acknowledged: std::fs::File,
}

impl Victim {
    // One write for each line; again where it is this one that was hurt.
    fn tell(&mut self, line: &str) {
        let line = format!("{line}\n");
        let mut tell = || self.acknowledged.write_all(line.as_bytes());
        tell().or_else(|_| tell()).unwrap();
    }

    // Names a thread of this process to the tracer, and waits for it.
    fn wait_for_the_tracer(&self, thread: Thread) {
        if thread != self.thread {
            return;
        }
        let name = match thread {
            Thread::Caller => None,
            Thread::Committer => Some("ledger-commit"),
            Thread::Writer => Some("ledger-write"),
            Thread::Housekeeper => Some("ledger-housekee"),
        };
        let id = match name {
            None => {
                let own = std::fs::read_link("/proc/thread-self").unwrap();
                own.file_name().unwrap().to_str().unwrap().to_owned()
            }
            // A thread names itself, so that its name may be a moment away.
            Some(name) => loop {
                let named = std::fs::read_dir("/proc/self/task").unwrap().find_map(|entry| {
                    let path = entry.ok()?.path();
                    let is = std::fs::read_to_string(path.join("comm")).ok()?.trim() == name;
                    is.then(|| path.file_name().unwrap().to_str().unwrap().to_owned())
                });
                match named {
                    Some(id) => break id,
                    None => std::thread::yield_now(),
                }
            },
        };
        println!("\ntrace {id}");
        let mut go = String::new();
        std::io::stdin().read_line(&mut go).unwrap();
        if go.is_empty() {
            // Whoever was to trace it is gone.
            std::process::exit(1);
        }
    }

    fn tell_of(&mut self, number: u64, receipt: &Receipt) {
        let (id, log, seq) = (receipt.id(), receipt.log(), receipt.seq());
        self.tell(&format!("receipt {id} {log} {seq} {number}"));
    }

    // On the thread that is hurt: a caller who is alone commits by itself, a lone ticket is the committer's, and several at
    // once, but for the first, are the writer's.
    fn append(
        &mut self,
        ledger: &Ledger<Counter>,
        numbers: Range<u64>,
    ) -> Result<Vec<(u64, Receipt)>, LedgerError> {
        let at_once = match self.thread {
            Thread::Writer => numbers.clone().count(),
            Thread::Caller | Thread::Committer | Thread::Housekeeper => 1,
        };
        let said = |number: u64| {
            let stream = if number.is_multiple_of(3) {
                Stream::Work
            } else {
                Stream::Facts
            };
            (stream, fact_with(&format!("t/{}", number % 4), &told(number)))
        };
        let mut receipts = Vec::new();
        for numbers in numbers.collect::<Vec<_>>().chunks(at_once) {
            if matches!(self.thread, Thread::Caller | Thread::Housekeeper) {
                let (stream, draft) = said(numbers[0]);
                let receipt = ledger.append_to(stream, draft)?;
                self.tell_of(numbers[0], &receipt);
                receipts.push((numbers[0], receipt));
                continue;
            }
            let tickets: Vec<_> = numbers
                .iter()
                .map(|number| said(*number))
                .map(|(stream, draft)| ledger.append_ticket(stream, draft))
                .collect();
            for (number, ticket) in numbers.iter().zip(tickets) {
                let committed = ticket.wait().map_err(CommitError::into_ledger)?;
                let receipt = ledger.settled(&committed)?;
                self.tell_of(*number, &receipt);
                receipts.push((*number, receipt));
            }
        }
        Ok(receipts)
    }

    fn erase(
        &mut self,
        ledger: &Ledger<Counter>,
        (number, receipt): &(u64, Receipt),
    ) -> Result<(), LedgerError> {
        self.tell(&format!("erasing {number}"));
        let erased = ledger.erase(receipt, "the script says so")?.erased;
        let (id, log, seq) = (erased.id(), erased.log(), erased.seq());
        self.tell(&format!("receipt {id} {log} {seq} -"));
        self.tell(&format!("erased {number}"));
        Ok(())
    }

    fn create(&mut self) -> Result<(), LedgerError> {
        self.wait_for_the_tracer(Thread::Caller);
        let ledger = Ledger::create(&Paths::new(self.work.join("store")), &lone(), options())?;
        self.append(&ledger, 0..3)?;
        ledger.close()
    }

    // Pauses until nothing more happens by itself: the last batch is proven, which takes a second, and the anchor knows
    // of it; or either has failed and said so.
    fn idle(&mut self) -> Result<(), LedgerError> {
        let paths = Paths::new(self.work.join("store"));
        let ledger = Ledger::open(&paths, options())?;
        self.wait_for_the_tracer(Thread::Committer);
        self.wait_for_the_tracer(Thread::Writer);
        self.wait_for_the_tracer(Thread::Housekeeper);
        let facts = ledger.own_log(Stream::Facts).unwrap();
        let receipts = self.append(&ledger, 100..101)?;
        let end = ledger.snapshot().end;
        let is_proven = || {
            let bytes = newest_segment(&paths);
            bytes
                .get(end.offset as usize..)
                .is_some_and(|behind| behind.starts_with(b"LBAT"))
        };
        let is_anchored = || {
            let anchor = Anchor::load(&DiskStorage, &paths.anchor()).unwrap().unwrap();
            anchor.durable == end
        };
        let until = Instant::now() + PATIENCE;
        while !(is_proven() || ledger.closed().is_some())
            || !(is_anchored() || ledger.falling_behind().is_some())
        {
            assert!(Instant::now() < until, "nothing happens by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.append(&ledger, 101..102)?;
        self.erase(&ledger, &receipts[0])?;
        ledger.prove(&facts, 1)?;
        self.append(&ledger, 102..103)?;
        ledger.close()
    }

    fn use_it(&mut self) -> Result<(), LedgerError> {
        self.wait_for_the_tracer(Thread::Caller);
        let ledger = Ledger::open(&Paths::new(self.work.join("store")), options())?;
        self.wait_for_the_tracer(Thread::Committer);
        self.wait_for_the_tracer(Thread::Writer);
        self.wait_for_the_tracer(Thread::Housekeeper);
        let facts = ledger.own_log(Stream::Facts).unwrap();
        let receipts = self.append(&ledger, 100..112)?;
        // One in a segment that is sealed, one in that which is being written.
        self.erase(&ledger, &receipts[0])?;
        self.erase(&ledger, &receipts[11])?;
        let out = self.work.join("facts.bundle");
        let io = |source| LedgerError::Io {
            what: "making",
            path: out.clone(),
            source,
        };
        let mut bundle = std::fs::File::create(&out).map_err(io)?;
        let exported = ledger.export(&facts, &mut bundle)?;
        self.tell(&format!(
            "exported {facts} {} {}",
            exported.receipts, exported.root
        ));
        ledger.prove(&facts, 1)?;
        self.append(&ledger, 112..113)?;
        ledger.close()
    }
}

// Bytes of a store's newest segment; which file that is changes while it rotates.
fn newest_segment(paths: &Paths) -> Vec<u8> {
    let mut names: Vec<_> = std::fs::read_dir(paths.journal())
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    names.sort_unstable();
    std::fs::read(names.last().unwrap()).unwrap()
}

// Not a test of its own: the process that the next one hurts.
#[test]
fn child_that_is_hurt_at_a_system_call() {
    let Ok(asked) = std::env::var(CHILD) else {
        return;
    };
    let mut words = asked.splitn(3, ' ');
    let (script, thread) = (words.next().unwrap(), words.next().unwrap());
    let work = PathBuf::from(words.next().unwrap());
    let (script, thread) = *SWEEPS
        .iter()
        .find(|(s, t)| format!("{s:?}") == script && format!("{t:?}") == thread)
        .unwrap();
    // Where only an ancestor may trace by itself.
    rustix::process::set_ptracer(rustix::process::PTracer::Any).ok();
    let acknowledged = std::fs::File::create(work.join("acknowledged")).unwrap();
    let mut victim = Victim {
        work,
        thread,
        acknowledged,
    };
    let ended = match script {
        Script::Create => victim.create(),
        Script::Use | Script::Recover => victim.use_it(),
        Script::Idle => victim.idle(),
    };
    if let Err(e) = &ended {
        victim.tell(&format!("error {} {e}", e.code()));
    }
    // At once: the harness would write its own lines, which are not the subject.
    std::process::exit(if ended.is_ok() { 0 } else { 2 });
}
