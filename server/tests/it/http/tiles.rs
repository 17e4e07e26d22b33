//! A log over HTTP is what any client of C2SP `tlog-tiles` reads, and nothing for whoever may not read.

use super::{Listening, Studio, plain};
use ledger::core::{LogId, Stream, tiles};
use ledger::verify::{Options, verify_tiles};
use ledger::{CommitError, LedgerError};
use ledger_server::setup;
use reqwest::Response;
use std::collections::BTreeMap;
use tlog_tiles::{TileHashReader, TileReader};

/// Reads over HTTP what another program asks for by its own names.
struct Client {
    base: String,
    secret: String,
}

impl Client {
    async fn at(studio: &Studio, door: &Listening, log: &LogId) -> Self {
        let fleet = studio.machine.ledger.context().fleet;
        let (token, secret) = setup::token(&studio.root, fleet, "mirror", None).unwrap();
        studio.api().append_signed(&token).await.unwrap();
        Self {
            base: format!("{}/v1/logs/{log}", door.base),
            secret,
        }
    }

    async fn ask(&self, name: &str) -> Response {
        let url = format!("{}/{name}", self.base);
        plain().get(url).bearer_auth(&self.secret).send().await.unwrap()
    }

    async fn get(&self, name: &str, media: &str) -> Vec<u8> {
        let answer = self.ask(name).await;
        assert_eq!(answer.status(), 200, "{name}");
        assert_eq!(answer.headers()["content-type"], media, "{name}");
        answer.bytes().await.unwrap().to_vec()
    }

    async fn checkpoint(&self) -> (Vec<u8>, tlog_tiles::Checkpoint) {
        let note = self.get("checkpoint", "text/plain; charset=utf-8").await;
        let text = String::from_utf8(note.clone()).unwrap();
        let end = text.find("\n\n").unwrap() + 1;
        let read = tlog_tiles::Checkpoint::from_bytes(&text.as_bytes()[..end]).unwrap();
        (note, read)
    }
}

/// What was fetched, by C2SP's names.
#[derive(Default)]
struct Fetched(BTreeMap<String, Vec<u8>>);

/// Their names have the height in them; C2SP fixed it at 8.
fn c2sp(path: &str) -> String {
    path.replacen("tile/8/", "tile/", 1)
        .replace("tile/data/", "tile/entries/")
}

impl TileReader for Fetched {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &tlog_tiles::Tile| self.0.get(&c2sp(&tile.path())).cloned();
        tiles
            .iter()
            .map(|tile| read(tile).ok_or(tlog_tiles::Error::InvalidTile))
            .collect()
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn append_many(studio: &Studio, count: u64) {
    let call = move |tx: &mut ledger::Tx<'_, _>| -> Result<(), LedgerError> {
        for number in 0..count {
            tx.append(Stream::Facts, Studio::note(&number.to_string()))?;
        }
        Ok(())
    };
    let committed = studio.machine.ledger.commit(call);
    committed.map_err(CommitError::into_ledger).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_fetched_by_a_plain_walk_over_its_tiles_and_verifies() {
    let studio = Studio::found();
    let log = studio.machine.ledger.own_log(Stream::Facts).unwrap();
    let door = studio.listen().await;
    let client = Client::at(&studio, &door, &log).await;
    let binary = "application/octet-stream";
    let mut fetched = Fetched::default();
    let mut before = 0;
    // Ends with partial tiles, then with full ones.
    for grow in [3, 296, 600] {
        append_many(&studio, grow);
        let (note, checkpoint) = client.checkpoint().await;
        let size = checkpoint.size();
        assert!(size >= before + grow, "{size}");
        // Which tiles are new, the other program says.
        for tile in tlog_tiles::Tile::new_tiles(8, before, size) {
            let name = c2sp(&tile.path());
            let bytes = client.get(&name, binary).await;
            fetched.0.insert(name, bytes);
        }
        for index in 0..size.div_ceil(256) {
            let width = u32::try_from((size - index * 256).min(256)).unwrap();
            let tile = tlog_tiles::Tile::new(8, 0, index, width, true);
            let name = c2sp(&tile.path());
            let bytes = client.get(&name, binary).await;
            fetched.0.insert(name, bytes);
        }
        fetched.0.insert("checkpoint".to_owned(), note);
        let reader = TileHashReader::new(size, *checkpoint.hash(), &fetched);
        for index in [0, 1, size / 2, size - 1] {
            let proof = tlog_tiles::prove_record(size, index, &reader).unwrap();
            let entries = (0_u16..=256).find_map(|width| {
                let width = (width > 0).then_some(width)?;
                let bytes = fetched.0.get(&tiles::entries_path(index / 256, width))?;
                tiles::decode_entries(index / 256, width, bytes).ok()
            });
            let offset = usize::try_from(index % 256).unwrap();
            let entry = entries.into_iter().flatten().nth(offset);
            let Some(entry) = entry else { continue };
            let leaf = tlog_tiles::record_hash(entry);
            tlog_tiles::check_record(&proof, size, *checkpoint.hash(), index, leaf).unwrap();
        }
        before = size;
    }
    // What was fetched is a published log.
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in &fetched.0 {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Partial ones of earlier sizes lie beside the full ones, in folders of their own.
        std::fs::write(path, bytes).unwrap();
    }
    let options = Options {
        keys: vec![studio.machine.ledger.verifier_key(&log).unwrap()],
        ..Options::default()
    };
    let report = verify_tiles(dir.path(), &options, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.counts.receipts, before);
    // A reader with an older checkpoint still gets its partial tiles.
    for (name, bytes) in fetched.0.iter().filter(|(name, _)| name.contains(".p/")) {
        assert_eq!(&client.get(name, binary).await, bytes, "{name}");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_read_learns_nothing_and_other_names_are_not_there() {
    let studio = Studio::found();
    let log = studio.machine.ledger.own_log(Stream::Facts).unwrap();
    let door = studio.listen().await;
    let stranger = plain()
        .get(format!("{}/nowhere", door.base))
        .send()
        .await
        .unwrap();
    let nothing = stranger.text().await.unwrap();
    for name in ["checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1", "tile/9/9"] {
        for log in [log, LogId([1; 32])] {
            let url = format!("{}/v1/logs/{log}/{name}", door.base);
            let answer = plain().get(url).send().await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(answer.text().await.unwrap(), nothing, "{name}");
        }
    }
    let client = Client::at(&studio, &door, &log).await;
    let size = client.checkpoint().await.1.size();
    for name in [
        "tile/0/001".to_owned(),
        "tile/0/000".to_owned(),
        format!("tile/0/000.p/{}", size + 1),
        format!("tile/entries/000.p/{}", size + 1),
        "tile/0/000.p/0".to_owned(),
        "tile/0/000.p/01".to_owned(),
        "tile/0/x000/000.p/1".to_owned(),
        "tile/8/000.p/1".to_owned(),
        "tile/entries/../000".to_owned(),
        "tile/entries/%2e%2e/000.p/1".to_owned(),
        "tile/0/18446744073709551616".to_owned(),
    ] {
        let answer = client.ask(&name).await;
        assert_eq!(answer.status(), 404, "{name}");
    }
    let elsewhere = Client {
        base: format!("{}/v1/logs/{}", door.base, LogId([1; 32])),
        secret: client.secret.clone(),
    };
    let answer = elsewhere.ask("checkpoint").await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().contains("ledger.unknown-log"));
    door.close().await;
}
