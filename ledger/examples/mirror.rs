//! A mirror of a log over a pipe: two processes, and nothing between them but standard input and output.
//!
//! Run it with `cargo run -p ledger --example mirror`. It keeps a log in a temporary directory and starts itself as a child,
//! which replicates that log into a store of its own; then more is said, and a second child goes on where the first
//! ended. Each frame is its length (u32 big-endian) and a sync message; the pipe could as well be ssh, a socket or a
//! modem. An empty frame says that the mirror is done; then each side sends its head, and both compare.

use ledger::core::{Draft, FleetId, Head, Kind, LogId, Stream, Subject, canonical};
use ledger::sync::{MESSAGE_BYTES_MAX, Replica, Source};
use ledger::{Ledger, NewStore, OpenOptions, Paths};
use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn send(out: &mut impl Write, frame: &[u8]) -> Outcome<()> {
    out.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
    out.write_all(frame)?;
    Ok(out.flush()?)
}

// The bound is checked before anything is allocated: whoever is at the other end does not decide how much memory we use.
fn receive(from: &mut impl Read) -> Outcome<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MESSAGE_BYTES_MAX {
        return Err(format!("a frame of {length} bytes; at most {MESSAGE_BYTES_MAX} are taken").into());
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn compare(ours: Head, theirs: &[u8]) -> Outcome<()> {
    let theirs: Head = canonical::decode("head", theirs)?;
    if ours == theirs {
        Ok(())
    } else {
        Err(format!("the heads differ: ours {ours:?}, theirs {theirs:?}").into())
    }
}

/// The child: a store that asks on its standard output and hears on its standard input.
fn mirror(dir: &str, fleet: &str, log: &str) -> Outcome<()> {
    let fleet = FleetId::from_hex(fleet).ok_or("a fleet is 64 hex characters")?;
    let log = LogId::from_hex(log).ok_or("a log is 64 hex characters")?;
    let new = NewStore::join("mirror", fleet)?;
    let store: Ledger = Ledger::open_or_create(&Paths::new(dir), &new, OpenOptions::default())?;
    let mut replica = Replica::new(store.clone(), log)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let began = replica.mark().map_or(0, |mark| mark.seq + 1);
    let (mut answers, mut taken) = (0, 0);
    while !replica.is_complete() {
        send(&mut output, &replica.ask()?)?;
        taken += replica.hear(&receive(&mut input)?)?.new;
        answers += 1;
    }
    eprintln!("mirror: had {began} receipts, took {taken} more in {answers} answers");
    let head = store.head(&log).ok_or("the log is here now")?;
    send(&mut output, &[])?;
    send(&mut output, &canonical::encode(&head))?;
    compare(head, &receive(&mut input)?)?;
    drop(replica);
    Ok(store.close()?)
}

/// The parent: has the log, starts a mirror of it and answers until the mirror is done.
fn serve(ledger: &Ledger, log: LogId, dir: &Path) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--mirror".as_ref(), dir.as_os_str()])
        .args([ledger.context().fleet.to_hex(), log.to_hex()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut to = child.stdin.take().ok_or("the child's input is a pipe")?;
    let mut from = child.stdout.take().ok_or("the child's output is a pipe")?;
    let source = Source::new(ledger.clone()).chunk_records(64);
    let served = (|| {
        loop {
            let asked = receive(&mut from)?;
            if asked.is_empty() {
                break;
            }
            send(&mut to, &source.reply(&asked)?)?;
        }
        let theirs = receive(&mut from)?;
        let ours = ledger.head(&log).ok_or("the log is here")?;
        send(&mut to, &canonical::encode(&ours))?;
        compare(ours, &theirs)?;
        println!("both have {} receipts, root {}", ours.seq + 1, ours.root);
        Ok(())
    })();
    // A closed pipe ends a child that still waits.
    drop((to, from));
    let ended = child.wait()?;
    served.and_then(|()| {
        if ended.success() {
            Ok(())
        } else {
            Err(format!("the mirror {ended}").into())
        }
    })
}

fn say(ledger: &Ledger, count: u32) -> Outcome<()> {
    let mut tickets = Vec::new();
    for number in 0..count {
        let draft = Draft::custom(Kind::new("x.note")?, Subject::new("demo/1")?)
            .payload("text/plain", format!("note {number}").into_bytes())?;
        tickets.push(ledger.submit(move |tx| tx.append(Stream::Facts, draft)));
    }
    for ticket in tickets {
        ticket.wait()?;
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--mirror", dir, fleet, log] => return mirror(dir, fleet, log),
        [] => {}
        _ => return Err("this example takes no arguments".into()),
    }
    let temporary = tempfile::tempdir()?;
    let ledger = Ledger::lone(temporary.path().join("log"), "my-agent")?;
    let log = ledger.own_log(Stream::Facts).ok_or("a lone log has facts")?;
    let copy = temporary.path().join("mirror");
    for count in [300, 100] {
        say(&ledger, count)?;
        serve(&ledger, log, &copy)?;
    }
    let report = ledger::verify::verify_store(&copy, &ledger::verify::Options::default(), &mut |_| {})?;
    assert!(report.is_clean(), "{report}");
    println!("the mirror verifies: {} receipts", report.counts.receipts);
    Ok(ledger.close()?)
}
