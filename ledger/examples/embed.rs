//! The first file to read when you embed a ledger in an agent: open, append, read back, follow, verify.
//!
//! Run it with `cargo run -p ledger --example embed`. It founds a log of its own in a temporary directory; pass a
//! directory to keep it and run it again to go on in the same log.

use ledger::core::{Draft, Kind, ReceiptId, Subject};
use ledger::{Ledger, PayloadState, Position};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kept = std::env::args().nth(1);
    let temporary = tempfile::tempdir()?;
    let dir = kept.map_or_else(|| temporary.path().join("log"), std::path::PathBuf::from);

    // Open it, or found it at the first time. One process has it open; clones of the handle are cheap.
    let ledger = Ledger::lone(&dir, "my-agent")?;

    // Say something. Kinds of your own begin with "x."; the content is the payload, which can be erased later.
    let call = serde_json::json!({ "tool": "search", "query": "what changed?", "took_ms": 12 });
    let draft = Draft::custom(Kind::new("x.tool.call")?, Subject::new("conversation/42")?)
        .payload("application/json", serde_json::to_vec(&call)?)?;
    let receipt = ledger.append(draft)?; // returns when it is durable
    println!(
        "appended {} as seq {} of log {}",
        receipt.id(),
        receipt.seq(),
        receipt.log().short()
    );

    // The same thing under an id of your own is said once, however often you try.
    let id = ReceiptId::v7(1_700_000_000_000, *b"tool-call1");
    let again = || -> Result<Draft, Box<dyn std::error::Error>> {
        Ok(
            Draft::custom(Kind::new("x.tool.done")?, Subject::new("conversation/42")?)
                .id(id)
                .cause(receipt.id()),
        )
    };
    let first = ledger.append(again()?)?;
    assert_eq!(ledger.append(again()?)?.seq(), first.seq());

    // Read it back: by id, by place, by subject.
    let found = ledger.find(&receipt.id())?;
    let PayloadState::Present(payload) = ledger.payload(&found[0])? else {
        return Err("the payload is here".into());
    };
    println!("it says {}", String::from_utf8_lossy(&payload.bytes));
    println!(
        "{} receipts about conversation/42",
        ledger.by_subject(&Subject::new("conversation/42")?)?.len()
    );

    // Follow the log. The position of the last receipt seen is all that is needed to resume.
    let mut tail = ledger.tail(Position::START);
    while let Some(receipt) = tail.next_within(Duration::from_millis(10))? {
        println!(
            "{:>4}  {:<14} {}",
            receipt.seq(),
            receipt.kind(),
            receipt.statement().subject
        );
    }

    // Close, then verify from disk: chain, tree, payloads, every signature. Needs neither keys nor a running process.
    ledger.close()?;
    let report = ledger::verify::verify_store(&dir, &ledger::verify::Options::default(), &mut |_| {})?;
    println!("{report}");
    assert!(report.is_clean());
    Ok(())
}
