//! A log replicated over a transport that loses, doubles, reorders and damages ends as a byte-exact copy, or says why not.

use crate::stores::{Counter, Numbers, assert_clean, copy, fact, fact_with, found, join, open, raw, temp};
use ledger::clock::SystemEntropy;
use ledger::core::{LogId, Record, Stream, canonical};
use ledger::sync::{
    CHUNK_BYTES, CHUNK_RECORDS_MAX, CONTEXT_MESSAGE, Chunk, MESSAGE_BYTES_MAX, Message, Reason, Refusal,
    Replica, Source, SyncError, VERSION, Want,
};
use ledger::{Ledger, PayloadState};
use std::collections::VecDeque;
use tempfile::TempDir;

/// Rounds after which a transport that delivers a third of everything has delivered enough.
const ROUNDS_MAX: usize = 5_000;

struct Pair {
    agent: Ledger<Counter>,
    mirror: Ledger<Counter>,
    log: LogId,
    dirs: [TempDir; 2],
}

/// An agent with so many facts, half of them with payloads and one in five by an actor, and an empty mirror.
fn pair(facts: u8) -> Pair {
    let dirs = [temp(), temp()];
    let mirror = found(dirs[1].path(), "mirror", true);
    let agent = join(dirs[0].path(), "agent", mirror.context().fleet);
    let log = agent.own_log(Stream::Facts).unwrap();
    say(&agent, facts);
    Pair {
        agent,
        mirror,
        log,
        dirs,
    }
}

fn say(agent: &Ledger<Counter>, facts: u8) {
    for number in 0..facts {
        let draft = match number % 2 {
            0 => fact_with("n", &[number; 40]),
            _ => fact("n"),
        };
        if number % 5 == 0 {
            let said = agent.sign_as_actor(draft, &SystemEntropy).unwrap();
            agent.append_signed(said).unwrap();
        } else {
            agent.append(draft).unwrap();
        }
    }
}

fn sync(source: &Source<Counter>, replica: &mut Replica<Counter>) -> Result<u64, SyncError> {
    let mut new = 0;
    loop {
        let progress = replica.hear(&source.reply(&replica.ask()?)?)?;
        new += progress.new;
        if progress.complete {
            return Ok(new);
        }
    }
}

fn assert_prefix(pair: &Pair) {
    let here = raw(&pair.mirror, &pair.log, 0, u64::MAX);
    let there = raw(&pair.agent, &pair.log, 0, u64::MAX);
    assert_eq!(here, there[..here.len()]);
}

fn assert_same(pair: &Pair) {
    assert_prefix(pair);
    assert_eq!(pair.mirror.head(&pair.log), pair.agent.head(&pair.log));
}

// What one direction does with a message: nothing, once, twice, later, cut, or with a bit turned.
fn carry(way: &mut VecDeque<Vec<u8>>, mut message: Vec<u8>, numbers: &mut Numbers) {
    let length = message.len() as u64;
    match numbers.below(8) {
        0 | 1 => {}
        2 => way.extend([message.clone(), message]),
        3 => way.push_front(message),
        4 => {
            message.truncate(numbers.below(length) as usize);
            way.push_back(message);
        }
        5 => {
            let bit = numbers.below(length * 8);
            message[(bit / 8) as usize] ^= 1 << (bit % 8);
            way.push_back(message);
        }
        _ => way.push_back(message),
    }
}

#[test]
fn a_replica_over_a_lossy_doubling_reordering_transport_converges_to_a_byte_exact_copy() {
    for seed in [1, 0xfeed, 0x00de_cade] {
        let pair = pair(60);
        let source = Source::new(pair.agent.clone()).chunk_records(7);
        let mut replica = Replica::new(pair.mirror.clone(), pair.log).unwrap();
        let mut numbers = Numbers(seed);
        let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
        let mut refused = 0;
        let mut rounds = 0;
        while replica.mark().is_none_or(|mark| mark.seq < 60) || !replica.is_complete() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "seed {seed}: it does not converge");
            carry(&mut there, replica.ask().unwrap(), &mut numbers);
            // Some wait, so that old answers meet a replica that is further.
            while there.len() > numbers.below(4) as usize {
                match source.reply(&there.pop_front().unwrap()) {
                    Ok(answer) => carry(&mut back, answer, &mut numbers),
                    Err(e) => assert!(e.is_delivery(), "seed {seed}: {e}"),
                }
            }
            while back.len() > numbers.below(6) as usize {
                if let Err(e) = replica.hear(&back.pop_front().unwrap()) {
                    assert!(e.is_delivery(), "seed {seed}: {e}");
                    refused += 1;
                }
            }
            if rounds % 16 == 0 {
                assert_prefix(&pair);
            }
        }
        assert!(refused > 0, "seed {seed}: the transport did no harm");
        assert_same(&pair);
        drop((source, replica));
        pair.mirror.close().unwrap();
        assert_clean(pair.dirs[1].path());
    }
}

#[test]
fn a_replica_goes_on_after_a_reopen_and_follows_what_comes() {
    let mut pair = pair(20);
    let source = Source::new(pair.agent.clone()).chunk_records(8);
    let mut replica = Replica::new(pair.mirror.clone(), pair.log).unwrap();
    let progress = replica
        .take(source.answer(&replica.want().unwrap()).unwrap())
        .unwrap();
    assert_eq!((progress.new, progress.known, progress.complete), (8, 0, false));
    assert_eq!(progress.head.unwrap().seq, 7);
    drop(replica);
    pair.mirror.close().unwrap();
    pair.mirror = open(pair.dirs[1].path());
    let mut replica = Replica::new(pair.mirror.clone(), pair.log).unwrap();
    assert_eq!(replica.mark(), progress.head);
    assert_eq!(sync(&source, &mut replica).unwrap(), 13);
    assert_same(&pair);
    assert_eq!(sync(&source, &mut replica).unwrap(), 0);
    say(&pair.agent, 10);
    assert_eq!(sync(&source, &mut replica).unwrap(), 10);
    assert_same(&pair);
}

#[test]
fn repeated_overlapping_and_late_chunks_change_nothing_and_a_gap_is_told() {
    let pair = pair(12);
    let (log, all) = (pair.log, raw(&pair.agent, &pair.log, 0, u64::MAX));
    let mut replica = Replica::new(pair.mirror.clone(), log).unwrap();
    let chunk = |first: usize, last: usize, complete| Chunk {
        log,
        after: None,
        records: all[first..=last].to_vec(),
        complete,
    };
    let gap = |result: Result<_, SyncError>| match result {
        Err(SyncError::Gap { expected, found, .. }) => (expected, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(gap(replica.take(chunk(3, 5, false))), (0, 3));
    let mut counts = |first, last, complete| {
        let progress = replica.take(chunk(first, last, complete)).unwrap();
        (progress.new, progress.known, progress.complete)
    };
    assert_eq!(counts(0, 4, false), (5, 0, false));
    assert_eq!(counts(0, 4, false), (0, 5, false));
    assert_eq!(counts(2, 7, false), (3, 3, false));
    // Late: when it was made, the log ended there.
    assert_eq!(counts(0, 4, true), (0, 5, false));
    assert_eq!(gap(replica.take(chunk(9, 12, true))), (8, 9));
    let late = Chunk {
        records: Vec::new(),
        ..chunk(0, 0, true)
    };
    assert!(!replica.take(late.clone()).unwrap().complete);
    let endless = Chunk {
        complete: false,
        ..late
    };
    assert_eq!(replica.take(endless).unwrap_err().code(), "sync.empty");
    assert!(replica.take(chunk(8, 12, true)).unwrap().complete);
    assert_same(&pair);
}

#[test]
fn a_fork_is_told_with_the_record_that_proves_it_and_stops_the_replica() {
    let pair = pair(4);
    let log = pair.log;
    pair.agent.close().unwrap();
    // A cloned disk: two go on from the same head.
    let twin_dir = temp();
    copy(pair.dirs[0].path(), &twin_dir.path().join("c"));
    let (agent, twin) = (open(pair.dirs[0].path()), open(&twin_dir.path().join("c")));
    for number in 0..3 {
        agent.append(fact(&format!("agent {number}"))).unwrap();
        twin.append(fact(&format!("twin {number}"))).unwrap();
    }
    let before = raw(&agent, &log, 0, u64::MAX);
    let theirs = raw(&twin, &log, 0, u64::MAX);
    let source = Source::new(twin.clone());
    let fork = |error: SyncError| match error {
        SyncError::Fork(fork) => *fork,
        other => panic!("{other}"),
    };
    let mut first = Replica::new(pair.mirror.clone(), log).unwrap();
    sync(&Source::new(agent.clone()), &mut first).unwrap();
    let cases: [(&str, Result<_, SyncError>, u64, usize); 4] = {
        let take = |from: usize, to: usize| {
            let mut replica = Replica::new(pair.mirror.clone(), log).unwrap();
            let chunk = Chunk {
                log,
                after: None,
                records: theirs[from..=to].to_vec(),
                complete: true,
            };
            let taken = replica.take(chunk);
            assert_eq!(replica.ask().unwrap_err().code(), "sync.fork");
            taken
        };
        let overlap = take(2, 7);
        let at_head = take(7, 7);
        let mut replica = Replica::new(pair.mirror.clone(), log).unwrap();
        let refusal = replica.hear(&source.reply(&replica.ask().unwrap()).unwrap());
        assert!(!replica.is_complete());
        twin.append(fact("one more")).unwrap();
        let more = raw(&twin, &log, 8, 8);
        let chunk = Chunk {
            log,
            after: None,
            records: more,
            complete: true,
        };
        let behind = Replica::new(pair.mirror.clone(), log).unwrap().take(chunk);
        [
            ("an overlap", overlap, 5, 5),
            ("at the head", at_head, 7, 7),
            ("by refusal", refusal, 7, 7),
            ("behind the head", behind, 7, 8),
        ]
    };
    let theirs = raw(&twin, &log, 0, u64::MAX);
    for (name, told, seq, evidence) in cases {
        let fork = fork(told.unwrap_err());
        assert_eq!((fork.log, fork.seq), (log, seq), "{name}");
        let seal = |records: &[ledger::intake::RawRecord]| {
            Record::parse(&records[seq as usize].0).unwrap().seal_digest()
        };
        assert_eq!((fork.ours, fork.theirs), (seal(&before), seal(&theirs)), "{name}");
        assert_eq!(fork.evidence.as_deref(), Some(&theirs[evidence].0[..]), "{name}");
    }
    // The source tells it too, and a refusal that proves nothing is not believed.
    let told = fork(source.answer(&first.want().unwrap()).unwrap_err());
    assert_eq!((told.seq, told.evidence), (7, None));
    let mut forged = theirs[7].0.clone();
    *forged.last_mut().unwrap() ^= 1;
    for record in [forged, before[7].0.clone(), theirs[6].0.clone(), Vec::new()] {
        let reason = Reason::Fork { seq: 7, record };
        let error = first.refused(&Refusal { log, reason });
        assert_eq!(error.code(), "sync.unproven");
    }
    assert_eq!(sync(&Source::new(agent.clone()), &mut first).unwrap(), 0);
    assert_eq!(raw(&pair.mirror, &log, 0, u64::MAX), before);
}

#[test]
fn a_flipped_bit_in_any_message_is_refused_and_nothing_is_kept() {
    let pair = pair(2);
    let source = Source::new(pair.agent.clone());
    let mut replica = Replica::new(pair.mirror.clone(), pair.log).unwrap();
    let asked = replica.ask().unwrap();
    let answered = source.reply(&asked).unwrap();
    let reason = Reason::Behind { newest: Some(3) };
    let refused = Message::Refusal(Refusal {
        log: pair.log,
        reason,
    })
    .encode();
    for message in [asked, answered.clone(), refused] {
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let code = match bit / 8 {
                0 => "sync.version",
                _ => "sync.damaged",
            };
            assert_eq!(Message::decode(&flipped).unwrap_err().code(), code, "bit {bit}");
            assert_eq!(source.reply(&flipped).unwrap_err().code(), code, "bit {bit}");
            assert_eq!(replica.hear(&flipped).unwrap_err().code(), code, "bit {bit}");
        }
        for length in 0..message.len() {
            let cut = replica.hear(&message[..length]).unwrap_err();
            assert_eq!(cut.code(), "sync.damaged", "{length} bytes");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(Message::decode(&longer).unwrap_err().code(), "sync.damaged");
    }
    assert_eq!(replica.mark(), None);
    replica.hear(&answered).unwrap();
    assert_same(&pair);
}

// A message whose digest fits what was made of its body.
fn whole(body: &[u8]) -> Vec<u8> {
    let digest = blake3::derive_key(CONTEXT_MESSAGE, body);
    [&[VERSION], &digest[..], body].concat()
}

#[test]
fn a_body_that_is_whole_and_cut_changed_or_too_large_gives_a_typed_error() {
    let pair = pair(0);
    pair.agent.append(fact_with("n", b"content")).unwrap();
    let source = Source::new(pair.agent.clone());
    let want = Want {
        log: pair.log,
        after: None,
    };
    let chunk = source.answer(&want).unwrap();
    let body = canonical::encode(&Message::Chunk(chunk.clone()));
    assert_eq!(Chunk::decode(&whole(&body)).unwrap(), chunk);
    for length in 0..body.len() {
        let error = Message::decode(&whole(&body[..length])).unwrap_err();
        assert_eq!(error.code(), "sync.malformed", "{length} bytes");
    }
    let longer = [&body[..], &[0]].concat();
    assert_eq!(
        Message::decode(&whole(&longer)).unwrap_err().code(),
        "sync.malformed"
    );
    // Whoever makes the digest anew still cannot change a record: the log's key signs it, and it commits to its payload.
    let mut replica = Replica::new(pair.mirror.clone(), pair.log).unwrap();
    for at in 0..body.len() {
        let mut changed = body.clone();
        changed[at] ^= 0x10;
        match Message::decode(&whole(&changed)) {
            Ok(Message::Chunk(changed)) if changed.records != chunk.records => {
                let error = replica.take(changed).unwrap_err();
                assert!(
                    matches!(error, SyncError::Ledger(_) | SyncError::Gap { .. }),
                    "{error}"
                );
            }
            Ok(_) => {}
            Err(e) => assert!(["sync.malformed", "sync.too-large"].contains(&e.code()), "{e}"),
        }
    }
    assert_eq!(replica.mark(), None);
    // The one thing that the log's key does not sign is told.
    say(&pair.agent, 1);
    let mut spoilt = source.answer(&want).unwrap();
    let bytes = &mut spoilt.records[2].0;
    let statement = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2 + statement + 1] ^= 1;
    assert_eq!(replica.take(spoilt).unwrap().inadmissible, [2]);
}

#[test]
fn messages_are_bounded_in_bytes_and_records_and_go_to_the_side_that_takes_them() {
    let pair = pair(0);
    let log = pair.log;
    let large = vec![7; 60_000];
    for _ in 0..12 {
        pair.agent.append(fact_with("large", &large)).unwrap();
    }
    let source = Source::new(pair.agent.clone());
    let mut replica = Replica::new(pair.mirror.clone(), log).unwrap();
    let answered = source.reply(&replica.ask().unwrap()).unwrap();
    assert!(answered.len() > CHUNK_BYTES && answered.len() < MESSAGE_BYTES_MAX);
    assert!(!replica.hear(&answered).unwrap().complete);
    sync(&source, &mut replica).unwrap();
    assert_same(&pair);

    let code = |result: Result<_, SyncError>| result.map(drop as fn(Message)).unwrap_err().code();
    assert_eq!(
        code(Message::decode(&vec![0; MESSAGE_BYTES_MAX + 1])),
        "sync.too-large"
    );
    let many = Chunk {
        log,
        after: None,
        records: vec![(Vec::new(), None); CHUNK_RECORDS_MAX + 1],
        complete: true,
    };
    assert_eq!(code(Message::decode(&many.clone().encode())), "sync.too-large");
    assert_eq!(replica.take(many).unwrap_err().code(), "sync.too-large");
    let asked = replica.ask().unwrap();
    assert_eq!(source.reply(&answered).unwrap_err().code(), "sync.unexpected");
    assert_eq!(replica.hear(&asked).unwrap_err().code(), "sync.unexpected");

    // Logs that are not there, not asked for, or not to be taken in.
    let other = LogId([9; 32]);
    let mut stray = Replica::new(pair.mirror.clone(), other).unwrap();
    assert_eq!(stray.hear(&answered).unwrap_err().code(), "sync.other-log");
    let unknown = source.reply(&stray.ask().unwrap()).unwrap();
    assert_eq!(stray.hear(&unknown).unwrap_err().code(), "sync.unknown-log");
    let own = pair.mirror.own_log(Stream::Facts).unwrap();
    let error = Replica::new(pair.mirror.clone(), own).map(drop).unwrap_err();
    assert_eq!(error.code(), "sync.own-log");
    // A source that lost what it had, or lags.
    let newer = Source::new(pair.mirror.clone());
    let late_dir = temp();
    let late = join(late_dir.path(), "late", pair.mirror.context().fleet);
    let mut lagging = Replica::new(late.clone(), log).unwrap();
    lagging
        .take(
            newer
                .clone()
                .chunk_records(1)
                .answer(&lagging.want().unwrap())
                .unwrap(),
        )
        .unwrap();
    let behind = Source::new(late).reply(&replica.ask().unwrap()).unwrap();
    assert_eq!(replica.hear(&behind).unwrap_err().code(), "sync.behind");
    // A mirror serves as a source in its turn.
    sync(&newer, &mut lagging).unwrap();
    assert_eq!(lagging.mark(), replica.mark());
}

#[test]
fn erased_payloads_stay_absent_on_both_sides() {
    let pair = pair(0);
    let log = pair.log;
    let early = pair.agent.append(fact_with("early", b"a name")).unwrap();
    let late = pair.agent.append(fact_with("late", b"another")).unwrap();
    let source = Source::new(pair.agent.clone());
    let full = source.answer(&Want { log, after: None }).unwrap();
    assert!(full.records[1].1.is_some() && full.records[2].1.is_some());
    pair.agent.erase(&early, "asked for").unwrap();
    let mut replica = Replica::new(pair.mirror.clone(), log).unwrap();
    sync(&source, &mut replica).unwrap();
    let state = |seq| {
        pair.mirror
            .payload(&pair.mirror.get(&log, seq).unwrap().unwrap())
            .unwrap()
    };
    assert_eq!(state(early.seq()), PayloadState::Erased);
    assert!(matches!(state(late.seq()), PayloadState::Present(_)));
    // The order to erase reaches a copy that has the payload, and an old chunk does not bring it back.
    pair.agent.erase(&late, "asked for as well").unwrap();
    sync(&source, &mut replica).unwrap();
    assert_eq!(state(late.seq()), PayloadState::Erased);
    assert_eq!(replica.take(full).unwrap().known, 3);
    assert_eq!(state(late.seq()), PayloadState::Erased);
    assert_same(&pair);
    drop(replica);
    pair.mirror.close().unwrap();
    assert_clean(pair.dirs[1].path());
}
