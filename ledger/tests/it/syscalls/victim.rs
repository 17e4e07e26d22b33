//! The process that is hurt: a fixed script on a real store, and a file that says what was acknowledged.

use super::{CHILD, SWEEPS, Script, Thread, lone, options};
use crate::stores::{Counter, fact_with};
use ledger::core::Stream;
use ledger::{Ledger, LedgerError, Paths};
use std::io::Write;
use std::path::PathBuf;

// A payload that cannot be mistaken for another.
pub(super) fn told(number: u64) -> Vec<u8> {
    let mut text = format!("<payload {number:04} of the script>").into_bytes();
    let line = text.clone();
    while text.len() < 1500 {
        text.extend_from_slice(&line);
    }
    text
}

/// The process that is hurt.
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

    fn append(&mut self, ledger: &Ledger<Counter>, number: u64) -> Result<ledger::Receipt, LedgerError> {
        let stream = if number.is_multiple_of(3) {
            Stream::Work
        } else {
            Stream::Facts
        };
        let receipt = ledger.append_to(stream, fact_with(&format!("t/{}", number % 4), &told(number)))?;
        self.tell(&format!(
            "receipt {} {} {} {number}",
            receipt.id(),
            receipt.log(),
            receipt.seq()
        ));
        Ok(receipt)
    }

    fn create(&mut self) -> Result<(), LedgerError> {
        self.wait_for_the_tracer(Thread::Caller);
        let ledger = Ledger::create(&Paths::new(self.work.join("store")), &lone(), options())?;
        for number in 0..3 {
            self.append(&ledger, number)?;
        }
        ledger.close()
    }

    fn use_it(&mut self) -> Result<(), LedgerError> {
        self.wait_for_the_tracer(Thread::Caller);
        let ledger = Ledger::open(&Paths::new(self.work.join("store")), options())?;
        self.wait_for_the_tracer(Thread::Committer);
        self.wait_for_the_tracer(Thread::Housekeeper);
        let facts = ledger.own_log(Stream::Facts).unwrap();
        let mut receipts = Vec::new();
        for number in 100..112 {
            receipts.push((number, self.append(&ledger, number)?));
        }
        // One in a segment that is sealed, one in that which is being written.
        for (number, receipt) in [&receipts[0], &receipts[11]] {
            self.tell(&format!("erasing {number}"));
            let erased = ledger.erase(receipt, "the script says so")?.erased;
            self.tell(&format!(
                "receipt {} {} {} -",
                erased.id(),
                erased.log(),
                erased.seq()
            ));
            self.tell(&format!("erased {number}"));
        }
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
        self.append(&ledger, 112)?;
        ledger.close()
    }
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
    };
    if let Err(e) = &ended {
        victim.tell(&format!("error {} {e}", e.code()));
    }
    // At once: the harness would write its own lines, which are not the subject.
    std::process::exit(if ended.is_ok() { 0 } else { 2 });
}
