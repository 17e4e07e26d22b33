//! A proof or a published log convinces whoever has nothing but a key that was pinned before.

use crate::{bad, folder, founded, good, json, ledger, said};
use std::fs;
use std::path::Path;

/// A stranger: no store, no daemon.
fn nobody() -> tempfile::TempDir {
    folder()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_receipt_is_proven_to_a_stranger_and_a_flipped_bit_is_told() {
    let (studio, stranger) = (founded(), nobody());
    let said_so = good(
        studio.path(),
        &[
            "append",
            "--kind",
            "x.note",
            "--subject",
            "project/site",
            "--payload",
            r#"{"live":true}"#,
        ],
    );
    let id = said_so["receipt"]["id"].as_str().unwrap();
    let keys = stranger.path().join("studio.keys");
    let listed = ledger(studio.path()).arg("keys").output().unwrap();
    fs::write(&keys, &listed.stdout).unwrap();
    let proof = stranger.path().join("live.tlog-proof");
    let proved = good(studio.path(), &["prove", id, "--out", text(&proof)]);
    assert_eq!((&proved["seq"], &proved["payload"]), (&1.into(), &true.into()));
    let by_place = ledger(studio.path())
        .args(["prove", "@1", "--log", "facts"])
        .output()
        .unwrap();
    assert_eq!(by_place.stdout, fs::read(&proof).unwrap(), "{}", said(&by_place));
    // Another process, elsewhere, with the key alone.
    let said_file = stranger.path().join("said.json");
    let check = [
        "check",
        text(&proof),
        "--key",
        text(&keys),
        "--payload-out",
        text(&said_file),
    ];
    let checked = good(stranger.path(), &check);
    assert_eq!(checked["id"], id);
    assert_eq!(
        (&checked["machine"], &checked["stream"]),
        (&"mini".into(), &"facts".into())
    );
    assert_eq!(fs::read(&said_file).unwrap(), br#"{"live":true}"#);
    let key = proved["key"].as_str().unwrap();
    good(stranger.path(), &["check", text(&proof), "--key", key]);
    let order = proved["key"].as_str().unwrap().replace("+A", "+B");
    bad(
        stranger.path(),
        &["check", text(&proof), "--key", &order],
        "usage.key",
        2,
    );
    assert_eq!(
        json(stranger.path(), &["check", text(&proof)]).0,
        2,
        "a key must be pinned"
    );
    bad(
        stranger.path(),
        &["check", "absent", "--key", key],
        "input.not-found",
        66,
    );
    // Whatever is flipped, the status is 1.
    let whole = fs::read(&proof).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 24) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&proof, &flipped).unwrap();
        let (status, envelope) = json(stranger.path(), &["check", text(&proof), "--key", key]);
        assert_eq!(
            (status, &envelope["ok"]),
            (1, &false.into()),
            "byte {at}: {envelope}"
        );
    }
    fs::write(&proof, &whole).unwrap();
    let others = good(studio.path(), &["keys", "--own"]);
    let other = others
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["stream"] == "order")
        .unwrap();
    let other = other["key"].as_str().unwrap();
    bad(
        stranger.path(),
        &["check", text(&proof), "--key", other],
        "proof.not-pinned",
        1,
    );
}

#[test]
fn what_cannot_be_proven_is_told() {
    let studio = founded();
    bad(
        studio.path(),
        &["prove", "@99", "--log", "facts"],
        "receipt.unknown",
        66,
    );
    bad(studio.path(), &["prove", "@1"], "usage.log", 2);
    bad(
        studio.path(),
        &["prove", "@one", "--log", "facts"],
        "usage.seq",
        2,
    );
    bad(
        studio.path(),
        &["prove", "0199f3c2-0000-7000-8000-000000000000"],
        "receipt.unknown",
        66,
    );
    let there = studio.path().join("there");
    fs::write(&there, "x").unwrap();
    bad(
        studio.path(),
        &["prove", "@0", "--log", "facts", "--out", text(&there)],
        "input.exists",
        65,
    );
}

#[test]
fn a_published_log_grows_verifies_and_shows_damage() {
    let (studio, stranger) = (founded(), nobody());
    let out = stranger.path().join("facts");
    let publish = ["publish", text(&out), "--log", "facts"];
    let first = good(studio.path(), &publish);
    good(
        studio.path(),
        &["append", "--kind", "x.note", "--subject", "project/site"],
    );
    let second = good(studio.path(), &publish);
    assert_eq!(second["receipts_before"], first["receipts"]);
    assert!(second["receipts"].as_u64() > first["receipts"].as_u64());
    let key = second["key"].as_str().unwrap();
    let verify = ["verify", text(&out), "--key", key];
    let report = good(stranger.path(), &verify);
    assert_eq!(report["counts"]["receipts"], second["receipts"]);
    bad(
        studio.path(),
        &["publish", text(&out), "--log", "order"],
        "ledger.publish",
        65,
    );
    let entries = fs::read_dir(out.join("tile/entries/000.p")).unwrap();
    let newest = entries.map(|e| e.unwrap().path()).max().unwrap();
    let whole = fs::read(&newest).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&newest, flipped).unwrap();
    let (status, envelope) = json(stranger.path(), &verify);
    assert_eq!((status, &envelope["ok"]), (1, &false.into()), "{envelope}");
    fs::write(&newest, whole).unwrap();
    let others = good(studio.path(), &["keys"]);
    let other = others
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["stream"] == "order")
        .unwrap();
    let (status, envelope) = json(
        stranger.path(),
        &["verify", text(&out), "--key", other["key"].as_str().unwrap()],
    );
    assert_eq!(status, 1, "{envelope}");
    assert_eq!(envelope["result"]["findings"][0]["code"], "note.not-pinned");
    good(stranger.path(), &verify);
}

#[test]
fn a_range_stands_alone_and_a_bundle_is_taken_in_or_refused_with_its_reason() {
    let (studio, stranger) = (founded(), nobody());
    for _ in 0..4 {
        good(
            studio.path(),
            &["append", "--kind", "x.note", "--subject", "project/site"],
        );
    }
    let keys = good(studio.path(), &["keys", "--own"]);
    let mut keys = keys.as_array().unwrap().iter();
    let key = keys.find(|key| key["stream"] == "facts").unwrap()["key"]
        .as_str()
        .unwrap();
    let (whole, range) = (stranger.path().join("f.bundle"), stranger.path().join("r.bundle"));
    let exported = good(
        studio.path(),
        &["export", "--log", "facts", "--out", text(&whole)],
    );
    let part = [
        "export",
        "--log",
        "facts",
        "--from",
        "2",
        "--to",
        "3",
        "--out",
        text(&range),
    ];
    let ranged = good(studio.path(), &part);
    assert_eq!((&ranged["first"], &ranged["receipts"]), (&2.into(), &2.into()));
    assert_eq!(ranged["root"], exported["root"], "of one checkpoint");
    for file in [&whole, &range] {
        good(stranger.path(), &["verify", text(file), "--key", key]);
    }
    let news = stranger.path().join("news.bundle");
    let since = ["export", "--log", "facts", "--since", "1h", "--out", text(&news)];
    assert_eq!(good(studio.path(), &since)["first"], 0);
    bad(studio.path(), &part, "input.exists", 65);
    let beyond = stranger.path().join("beyond.bundle");
    let beyond = ["export", "--log", "facts", "--from", "99", "--out", text(&beyond)];
    bad(studio.path(), &beyond, "receipt.unknown", 66);

    // Into the store that wrote it: compared, and found to be there.
    let known = good(studio.path(), &["import", text(&whole)]);
    assert_eq!(
        (&known["new"], &known["known"]),
        (&0.into(), &exported["receipts"])
    );
    let other = founded();
    bad(other.path(), &["import", text(&whole)], "import.other-fleet", 65);
    bad(other.path(), &["import", "nowhere.bundle"], "input.not-found", 66);
    let bytes = fs::read(&range).unwrap();
    let mut flipped = bytes.clone();
    let middle = bytes.len() - 40;
    // Within the note's last signature, which stays base64.
    flipped[middle] = if bytes[middle] == b'B' { b'C' } else { b'B' };
    fs::write(&range, &flipped).unwrap();
    let (status, envelope) = json(stranger.path(), &["verify", text(&range)]);
    assert_eq!((status, &envelope["ok"]), (1, &false.into()), "{envelope}");
    bad(studio.path(), &["import", text(&range)], "note.signature", 1);
    fs::write(&range, &bytes[..bytes.len() / 2]).unwrap();
    bad(studio.path(), &["import", text(&range)], "bundle.truncated", 1);
}
