//! What an embedder relies on: kinds of its own as types, appends in every shape, no runtime demanded.

use ledger::core::{Draft, Kind, ReceiptId, Stream, Subject};
use ledger::typed::{Codec, Content, Typed, TypedError, TypedKind};
use ledger::{CommitError, Ledger, LedgerError, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// How long anything here may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct V1 {
    name: String,
}

#[derive(Deserialize)]
struct V2 {
    first: String,
    last: String,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Person {
    names: Vec<String>,
    met: u32,
}

impl From<V1> for V2 {
    fn from(v1: V1) -> Self {
        let (first, last) = v1.name.split_once(' ').unwrap_or((&v1.name, ""));
        Self {
            first: first.to_owned(),
            last: last.to_owned(),
        }
    }
}

impl From<V2> for Person {
    fn from(v2: V2) -> Self {
        Self {
            names: vec![v2.first, v2.last],
            met: 0,
        }
    }
}

impl TypedKind for Person {
    const KIND: &'static str = "x.person";
    const SCHEMA: u16 = 3;

    fn upcast(older: &Content<'_>) -> Result<Self, TypedError> {
        match older.schema() {
            1 => Ok(V2::from(older.decode::<V1>()?).into()),
            2 => Ok(older.decode::<V2>()?.into()),
            _ => Err(older.unknown(Self::SCHEMA)),
        }
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Gauge(u32, i64);

impl TypedKind for Gauge {
    const KIND: &'static str = "x.gauge";
    const SCHEMA: u16 = 1;
    const CODEC: Codec = Codec::Postcard;
}

fn lone() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::lone(dir.path().join("log"), "agent").unwrap();
    (dir, ledger)
}

fn subject() -> Subject {
    Subject::new("demo/1").unwrap()
}

fn raw(kind: &str, media: &str, bytes: &[u8]) -> Draft {
    Draft::custom(Kind::new(kind).unwrap(), subject())
        .payload(media, bytes.to_vec())
        .unwrap()
}

fn person(names: [&str; 2], met: u32) -> Person {
    Person {
        names: names.map(str::to_owned).to_vec(),
        met,
    }
}

#[test]
fn a_typed_kind_reads_back_on_every_path_and_old_schemas_are_brought_up_to_date() {
    let (dir, ledger) = lone();
    let ada = person(["Ada", "Lovelace"], 7);
    let said = ledger.append(ada.draft(subject()).unwrap()).unwrap();
    let media = &said.statement().payload.as_ref().unwrap().media;
    assert_eq!(media, "application/json; schema=3");
    assert_eq!(said.statement().schema, 1, "the format's rule for custom kinds");
    ledger
        .append(raw("x.person", "application/json", br#"{"name":"Grace Hopper"}"#))
        .unwrap();
    ledger
        .append(raw(
            "x.person",
            "Application/JSON; charset=utf-8;SCHEMA=2",
            br#"{"first":"Mary","last":"Somerville"}"#,
        ))
        .unwrap();
    let gauge = Gauge(5, -1);
    let measured = ledger.append(gauge.draft(subject()).unwrap()).unwrap();
    assert_eq!(ledger.typed::<Gauge>(&measured).unwrap(), Typed::Value(gauge));

    let expected = [
        ada,
        person(["Grace", "Hopper"], 0),
        person(["Mary", "Somerville"], 0),
    ];
    let log = said.log();
    // Closed and opened: nothing of this lives in memory alone.
    ledger.close().unwrap();
    let ledger = Ledger::lone(dir.path().join("log"), "agent").unwrap();
    let value = |step: Result<(ledger::Receipt, Typed<Person>), TypedError>| step.unwrap().1.value().unwrap();
    let ranged: Vec<Person> = ledger.typed_range(&log, 0, u64::MAX).map(value).collect();
    assert_eq!(ranged, expected);
    let folded: Vec<Person> = ledger.typed_scan(Position::START).map(value).collect();
    assert_eq!(folded, expected);
    let mut tail = ledger.tail(Position::START);
    for expected in &expected {
        let (_, found) = tail.next_typed_within::<Person>(PATIENCE).unwrap().unwrap();
        assert_eq!(found.as_value(), Some(expected));
    }
    assert!(
        tail.next_typed_within::<Person>(Duration::ZERO)
            .unwrap()
            .is_none()
    );
    assert_eq!(tail.position(), measured.position, "other kinds are passed over");
}

#[test]
fn content_of_an_unknown_schema_keeps_its_bytes_and_stops_nothing() {
    let (_dir, ledger) = lone();
    let bytes = br#"{"from":"the future"}"#;
    let newer = ledger
        .append(raw("x.person", "application/json;schema=4", bytes))
        .unwrap();
    let broken = ledger
        .append(raw("x.person", "application/json;schema=3", b"{"))
        .unwrap();
    let bare = Draft::custom(Kind::new("x.person").unwrap(), subject());
    let bare = ledger.append(bare).unwrap();
    let last = ledger
        .append(person(["Ada", ""], 1).draft(subject()).unwrap())
        .unwrap();

    let error = ledger.typed::<Person>(&newer).unwrap_err();
    assert!(matches!(
        error,
        TypedError::Schema {
            schema: 4,
            newest: 3,
            ..
        }
    ));
    assert_eq!(
        (error.code(), error.content()),
        ("typed.schema", Some(&bytes[..]))
    );
    let error = ledger.typed::<Person>(&broken).unwrap_err();
    assert_eq!(
        (error.code(), error.content()),
        ("typed.malformed", Some(&b"{"[..]))
    );
    assert_eq!(ledger.typed::<Person>(&bare).unwrap_err().code(), "typed.empty");
    let error = ledger.typed::<Gauge>(&last).unwrap_err();
    assert!(matches!(error, TypedError::Kind { expected: "x.gauge", ref found } if found == "x.person"));

    let codes: Vec<&str> = ledger
        .typed_scan::<Person>(Position::START)
        .map(|step| step.map_or_else(|e| e.code(), |_| "value"))
        .collect();
    assert_eq!(codes, ["typed.schema", "typed.malformed", "typed.empty", "value"]);
    let mut tail = ledger.tail(Position::START);
    for code in ["typed.schema", "typed.malformed", "typed.empty"] {
        assert_eq!(
            tail.next_typed_within::<Person>(PATIENCE).unwrap_err().code(),
            code
        );
    }
    let (receipt, _) = tail.next_typed_within::<Person>(PATIENCE).unwrap().unwrap();
    assert_eq!(receipt, last);
}

#[test]
fn media_types_that_name_no_codec_or_no_schema_are_told() {
    for media in [
        "",
        "text/plain",
        "application/json;schema=0",
        "application/json;schema=65536",
        "application/json;schema=two",
        "application/json;schema=",
        "schema=1",
    ] {
        assert_eq!(
            Content::parse("x.person", media, b"1").unwrap_err().code(),
            "typed.media",
            "{media}"
        );
    }
    // Bytes behind a value are no value, in either codec.
    let postcard = Content::parse("x.gauge", "application/x-postcard", &[5, 1, 0]).unwrap();
    assert_eq!(
        postcard.into_value::<Gauge>().unwrap_err().code(),
        "typed.malformed"
    );
    let json = Content::parse("x.gauge", "application/json", b"[5,1] 7").unwrap();
    assert_eq!(json.into_value::<Gauge>().unwrap_err().code(), "typed.malformed");
}

#[test]
fn erased_content_is_a_state_and_no_error() {
    let (_dir, ledger) = lone();
    let ada = person(["Ada", "Lovelace"], 7);
    let said = ledger.append(ada.draft(subject()).unwrap()).unwrap();
    ledger.erase(&said, "asked to").unwrap();
    assert_eq!(ledger.typed::<Person>(&said).unwrap(), Typed::Erased);
    let all: Vec<_> = ledger
        .typed_scan::<Person>(Position::START)
        .map(|step| step.unwrap().1)
        .collect();
    assert_eq!(all, [Typed::Erased]);
}

// Wakes whoever blocks on a future: all that these tests have of an executor.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.ring.notify_all();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let rung = bell.rung.lock().unwrap();
        let (mut rung, waited) = bell
            .ring
            .wait_timeout_while(rung, PATIENCE, |rung| !*rung)
            .unwrap();
        assert!(!waited.timed_out(), "nobody woke the future");
        *rung = false;
    }
}

#[test]
fn a_ticket_is_a_future_for_any_executor() {
    let (_dir, ledger) = lone();
    let gauge = |n| Gauge(n, 0).draft(subject()).unwrap();
    let receipts = block_on(async {
        let first = ledger.append_ticket(Stream::Facts, gauge(1));
        let second = ledger.append_ticket(Stream::Facts, gauge(2));
        [first.await.unwrap(), second.await.unwrap()]
    });
    let seqs = receipts.map(|committed| ledger.settled(&committed).unwrap().seq());
    assert_eq!(seqs, [1, 2]);
    let refused = block_on(ledger.submit(|_| Err::<(), _>("no")));
    assert!(matches!(refused, Err(CommitError::Refused("no"))));
}

#[test]
fn a_tail_can_be_awaited_and_every_waiting_one_is_woken() {
    let (_dir, ledger) = lone();
    let gauge = |n| Gauge(n, 0).draft(subject()).unwrap();
    let (began, begun) = channel();
    let following: Vec<_> = (0..3)
        .map(|_| {
            let (mut tail, began) = (ledger.tail(Position::START), began.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let mut kinds = vec![tail.next_receipt().await.unwrap().kind().to_owned()];
                    began.send(()).unwrap();
                    for _ in 0..2 {
                        kinds.push(tail.next_receipt().await.unwrap().kind().to_owned());
                    }
                    kinds
                })
            })
        })
        .collect();
    for _ in &following {
        begun.recv_timeout(PATIENCE).unwrap();
    }
    ledger.append(gauge(1)).unwrap();
    ledger.append(gauge(2)).unwrap();
    for follower in following {
        assert_eq!(follower.join().unwrap(), ["log.genesis", "x.gauge", "x.gauge"]);
    }
    // A future that is dropped while it waits loses nothing.
    let mut tail = ledger.tail(ledger.snapshot().end);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(tail.next_receipt()).poll(&mut context).is_pending());
    let said = ledger.append(gauge(3)).unwrap();
    assert_eq!(block_on(tail.next_receipt()).unwrap(), said);
}

#[test]
fn whoever_follows_a_store_that_is_closed_gets_what_is_left_and_is_then_told() {
    let (_dir, ledger) = lone();
    let last = ledger.append(Gauge(1, 0).draft(subject()).unwrap()).unwrap();
    let (began, begun) = channel();
    let code = |next: Result<(), LedgerError>| next.unwrap_err().code();
    let awaiting = {
        let (mut tail, began) = (ledger.tail(last.position), began.clone());
        std::thread::spawn(move || {
            block_on(async {
                let mut next = pin!(tail.next_receipt());
                let waits = poll_fn(|context| Poll::Ready(next.as_mut().poll(context).is_pending())).await;
                began.send(waits).unwrap();
                code(next.await.map(drop))
            })
        })
    };
    let blocked = {
        let mut tail = ledger.tail(last.position);
        std::thread::spawn(move || {
            began.send(true).unwrap();
            code(tail.next_within(PATIENCE * 1000).map(drop))
        })
    };
    for _ in 0..2 {
        assert!(begun.recv_timeout(PATIENCE).unwrap(), "nothing was there yet");
    }
    let mut late = ledger.tail(Position::START);
    ledger.close().unwrap();
    assert_eq!(awaiting.join().unwrap(), "ledger.closed");
    assert_eq!(blocked.join().unwrap(), "ledger.closed");
    // Who comes later reads on to the end.
    let mut kinds = Vec::new();
    while let Ok(receipt) = block_on(late.next_receipt()) {
        kinds.push(receipt.kind().to_owned());
    }
    assert_eq!(kinds, ["log.genesis", "x.gauge"]);
    let told = late.next_within(Duration::ZERO).map(drop);
    assert_eq!(code(told), "ledger.closed");
}

#[test]
fn a_batch_is_said_whole_or_not_at_all_and_repetitions_in_it_give_the_first_receipt() {
    let (_dir, ledger) = lone();
    let log = ledger.own_log(Stream::Facts).unwrap();
    let id = ReceiptId::v7(1_700_000_000_000, *b"batch-id-1");
    let gauge = |n| Gauge(n, 0).draft(subject()).unwrap();
    let said = ledger
        .append_batch(
            Stream::Facts,
            vec![gauge(1), gauge(2).id(id), gauge(2).id(id), gauge(3)],
        )
        .unwrap();
    let seqs: Vec<u64> = said.iter().map(|receipt| receipt.seq()).collect();
    assert_eq!(seqs, [1, 2, 2, 3]);
    for receipt in &said {
        assert_eq!(Some(receipt), ledger.get(&log, receipt.seq()).unwrap().as_ref());
    }
    // Other content under a known id: the draft before it is not said either.
    let refused = ledger.append_batch(Stream::Facts, vec![gauge(4), gauge(5).id(id)]);
    assert!(matches!(refused, Err(LedgerError::IdTaken { .. })));
    assert_eq!(ledger.head(&log).unwrap().seq, 3);
    assert!(ledger.append_batch(Stream::Facts, Vec::new()).unwrap().is_empty());
    // A stream that this store does not write.
    assert!(ledger.append_batch(Stream::Order, vec![gauge(6)]).is_err());

    assert_eq!(
        ledger.append_expecting(Stream::Facts, 3, gauge(7)).unwrap().seq(),
        4
    );
    let moved = ledger.append_expecting(Stream::Facts, 3, gauge(8)).unwrap_err();
    assert!(matches!(
        moved,
        LedgerError::HeadMoved {
            expected: 3,
            found: 4,
            ..
        }
    ));
}

// Holds the committer inside a command, so that what is submitted meanwhile shares the next batch.
fn hold(ledger: &Ledger) -> (std::sync::mpsc::Sender<()>, Receiver<()>) {
    let (release, wait) = channel();
    let (entered, is_in) = channel();
    drop(ledger.submit(move |_| {
        entered.send(()).unwrap();
        wait.recv_timeout(PATIENCE).map_err(|e| e.to_string())
    }));
    (release, is_in)
}

#[test]
fn a_repetition_in_the_same_batch_gets_the_signed_receipt() {
    let (_dir, ledger) = lone();
    let id = ReceiptId::v7(1_700_000_000_000, *b"same-batch");
    let draft = || Gauge(1, 0).draft(subject()).unwrap().id(id);
    let (release, is_in) = hold(&ledger);
    is_in.recv_timeout(PATIENCE).unwrap();
    let first = ledger.append_ticket(Stream::Facts, draft());
    let again = ledger.append_ticket(Stream::Facts, draft());
    release.send(()).unwrap();
    let first = ledger.settled(&first.wait().unwrap()).unwrap();
    let again = again.wait().unwrap();
    assert!(again.value.is_repetition());
    assert_eq!(ledger.settled(&again).unwrap(), first);
}

// Every literal in a `fn code(&self)` below a folder.
fn codes_in(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for body in text.split("fn code(&self)").skip(1) {
                let body = &body[..body.find("\n    }").unwrap()];
                found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
}

#[test]
fn every_error_code_has_its_row_in_the_guide_and_every_row_its_code() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut coded = BTreeSet::new();
    codes_in(&here.join("src"), &mut coded);
    codes_in(&here.join("../core/src"), &mut coded);
    let guide = std::fs::read_to_string(here.join("../docs/EMBEDDING.md")).unwrap();
    let (_, tables) = guide.split_once("\n## Errors\n").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| `"));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<String> = first
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert!(coded.len() > 90, "{}", coded.len());
    assert_eq!(
        coded.difference(&told).collect::<Vec<_>>(),
        [] as [&String; 0],
        "codes without a row"
    );
    assert_eq!(
        told.difference(&coded).collect::<Vec<_>>(),
        [] as [&String; 0],
        "rows without a code"
    );
}
