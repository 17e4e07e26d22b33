//! An agent that records its tool calls: what it is about to run, then what came of it.
//!
//! Run it with `cargo run -p ledger --example tool_calls`; pass a directory to keep the log. The call is durable before the
//! tool starts, the result names the call as its cause, and both have ids derived from conversation and step. So an agent
//! that crashed takes its plan up again from the start: what has a result is not run twice, what only has a call was cut
//! short and is run again. Run it twice in one directory to see it.

use ledger::core::{Draft, Kind, ReceiptId, Subject, digest};
use ledger::{Ledger, PayloadState, Receipt};
use serde_json::{Value, json};
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

    fn draft(&self, kind: &str, id: ReceiptId, content: &Value) -> Result<Draft, Box<dyn Error>> {
        let draft = Draft::custom(Kind::new(kind)?, self.subject.clone()).id(id);
        Ok(draft.payload("application/json", serde_json::to_vec(content)?)?)
    }

    fn content(&self, receipt: &Receipt) -> Result<Value, Box<dyn Error>> {
        match self.ledger.payload(receipt)? {
            PayloadState::Present(payload) => Ok(serde_json::from_slice(&payload.bytes)?),
            other => Err(format!("the result has no content here: {other:?}").into()),
        }
    }

    /// The result of a step, and whether the tool ran for it now.
    fn call(&self, step: usize, argv: &[&str]) -> Result<(Value, bool), Box<dyn Error>> {
        let done_id = self.id(step, "done");
        if let Some(done) = self.ledger.find(&done_id)?.first() {
            return Ok((self.content(done)?, false));
        }
        // Said before it is done. Saying it again after a crash gives the first receipt.
        let call = self.draft("x.tool.call", self.id(step, "call"), &json!({ "argv": argv }))?;
        let call = self.ledger.append(call)?;
        let began = Instant::now();
        let result = match Command::new(argv[0]).args(&argv[1..]).output() {
            Ok(output) => json!({
                "exit": output.status.code(),
                "stdout": String::from_utf8_lossy(&output.stdout).trim_end(),
                "took_us": u64::try_from(began.elapsed().as_micros())?,
            }),
            Err(e) => json!({ "error": e.to_string() }),
        };
        let done = self.draft("x.tool.done", done_id, &result)?.cause(call.id());
        self.ledger.append(done)?;
        Ok((result, true))
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
            println!("{round}: {how:<5} {} -> {result}", argv.join(" "));
            assert!(!ran || round == "first", "nothing is run twice");
        }
    }

    // What happened, from the log alone: each result leads to its call.
    let receipts = agent.ledger.by_subject(&agent.subject)?;
    assert_eq!(receipts.len(), 2 * PLAN.len());
    for done in receipts.iter().filter(|receipt| receipt.kind() == "x.tool.done") {
        let cause = done.statement().cause.ok_or("a result names its call")?;
        let calls = agent.ledger.find(&cause)?;
        let call = calls.first().ok_or("the call is in the log")?;
        println!(
            "seq {} is the result of seq {}: {}",
            done.seq(),
            call.seq(),
            agent.content(call)?
        );
    }
    agent.ledger.close()?;
    let report = ledger::verify::verify_store(&dir, &ledger::verify::Options::default(), &mut |_| {})?;
    assert!(report.is_clean(), "{report}");
    println!("verified: {} receipts", report.counts.receipts);
    Ok(())
}
