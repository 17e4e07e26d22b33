//! An agent that records its tool calls: what it is about to run, then what came of it.
//!
//! Run it with `cargo run -p ledger --example tool_calls`; pass a directory to keep the log. The call is durable before the
//! tool starts, the result names the call as its cause, and both have ids derived from conversation and step. So an agent
//! that crashed takes its plan up again from the start: what has a result is not run twice, what only has a call was cut
//! short and is run again. Run it twice in one directory to see it.

use ledger::core::{ReceiptId, Subject, digest};
use ledger::typed::{Content, Typed, TypedError, TypedKind};
use ledger::{Ledger, Position};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const CONVERSATION: &str = "conversation/42";
/// What the agent wants to do, in this order. The third one fails, which is a result as well.
const PLAN: [&[&str]; 3] = [
    &["uname", "-s"],
    &["echo", "hello"],
    &["ls", "/no/such/directory"],
];

/// Said before the tool runs.
#[derive(Serialize, Deserialize)]
struct Call {
    argv: Vec<String>,
}

impl TypedKind for Call {
    const KIND: &'static str = "x.tool.call";
    const SCHEMA: u16 = 1;
}

/// Said when it has run. Schema 1 knew milliseconds; logs from then still read.
#[derive(Serialize, Deserialize, Debug)]
struct Done {
    exit: Option<i32>,
    stdout: String,
    took_us: u64,
}

#[derive(Deserialize)]
struct DoneV1 {
    exit: Option<i32>,
    stdout: String,
    took_ms: u64,
}

impl TypedKind for Done {
    const KIND: &'static str = "x.tool.done";
    const SCHEMA: u16 = 2;

    fn upcast(older: &Content<'_>) -> Result<Self, TypedError> {
        match older.schema() {
            1 => older.decode().map(|v1: DoneV1| Self {
                exit: v1.exit,
                stdout: v1.stdout,
                took_us: v1.took_ms.saturating_mul(1000),
            }),
            _ => Err(older.unknown(Self::SCHEMA)),
        }
    }
}

struct Agent {
    ledger: Ledger,
    subject: Subject,
}

impl Agent {
    // The same step of the same conversation has the same ids for ever.
    fn id(&self, step: usize, part: &str) -> ReceiptId {
        let step = step.to_string();
        digest::derived_id(&[self.subject.as_str().as_bytes(), step.as_bytes(), part.as_bytes()])
    }

    /// The result of a step, and whether the tool ran for it now.
    fn call(&self, step: usize, argv: &[&str]) -> Result<(Done, bool), Box<dyn Error>> {
        let done_id = self.id(step, "done");
        if let Some(done) = self.ledger.find(&done_id)?.first() {
            let done = self.ledger.typed(done)?.value();
            return Ok((done.ok_or("the result was erased")?, false));
        }
        // Said before it is done. Saying it again after a crash gives the first receipt.
        let call = Call {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
        };
        let call = call.draft(self.subject.clone())?.id(self.id(step, "call"));
        let call = self.ledger.append(call)?;
        let began = Instant::now();
        let output = Command::new(argv[0]).args(&argv[1..]).output()?;
        let done = Done {
            exit: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            took_us: u64::try_from(began.elapsed().as_micros())?,
        };
        let draft = done.draft(self.subject.clone())?.id(done_id).cause(call.id());
        self.ledger.append(draft)?;
        Ok((done, true))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let kept = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = kept.unwrap_or_else(|| temporary.path().join("log"));
    let agent = Agent {
        ledger: Ledger::lone(&dir, "my-agent")?,
        subject: Subject::new(CONVERSATION)?,
    };

    // The second round is what happens after a restart: everything is known, nothing runs.
    for round in ["first", "again"] {
        for (step, argv) in PLAN.iter().enumerate() {
            let (result, ran) = agent.call(step, argv)?;
            let how = if ran { "ran" } else { "known" };
            println!("{round}: {how:<5} {} -> {result:?}", argv.join(" "));
            assert!(!ran || round == "first", "nothing is run twice");
        }
    }

    // What happened, from the log alone: each result leads to its call.
    let mut results = 0;
    for step in agent.ledger.typed_scan::<Done>(Position::START) {
        let (receipt, done) = step?;
        let cause = receipt.statement().cause.ok_or("a result names its call")?;
        let calls = agent.ledger.find(&cause)?;
        let call = agent
            .ledger
            .typed::<Call>(calls.first().ok_or("the call is in the log")?)?;
        if let (Typed::Value(call), Typed::Value(done)) = (call, done) {
            println!("seq {}: {:?} gave {:?}", receipt.seq(), call.argv, done.exit);
        }
        results += 1;
    }
    assert_eq!(results, PLAN.len());
    agent.ledger.close()?;
    let report = ledger::verify::verify_store(&dir, &ledger::verify::Options::default(), &mut |_| {})?;
    assert!(report.is_clean(), "{report}");
    println!("verified: {} receipts", report.counts.receipts);
    Ok(())
}
