//! Exporting to files and importing from them, at the local door.

use super::{Studio, private_dir};
use ledger::core::kinds::Role;
use ledger::core::{MachineId, Stream};
use ledger_server::http::wire::{ExportBody, ImportBody};
use ledger_server::{Config, Machine, setup};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn into(log: String, path: &Path) -> ExportBody {
    ExportBody {
        log,
        path: path.display().to_string(),
        ..ExportBody::default()
    }
}

fn from(path: &Path) -> ImportBody {
    ImportBody {
        path: path.display().to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_appears_under_its_name_when_it_is_whole_and_never_over_another_file() {
    let studio = Studio::found();
    for number in 0..5 {
        studio.append(&number.to_string()).await;
    }
    let api = studio.api();
    let log = studio.machine.ledger.own_log(Stream::Order).unwrap().to_hex();
    let dir = private_dir();
    let (file, part) = (dir.path().join("o.bundle"), dir.path().join("o.bundle.part"));
    // What a killed export left.
    std::fs::write(&part, vec![7; 100_000]).unwrap();
    let exported = api.export(&into(log.clone(), &file)).await.unwrap().item;
    assert_eq!(std::fs::metadata(&file).unwrap().len(), exported.bytes);
    assert!(!part.exists());
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(
        mode & 0o777,
        0o600,
        "whatever was left there could be read by others"
    );
    let again = api.export(&into(log.clone(), &file)).await.unwrap_err();
    assert_eq!(again.code(), "input.exists");
    assert!(!part.exists());
    // Nothing is left of one that fails.
    let other = dir.path().join("other.bundle");
    let beyond = ExportBody {
        from: Some(2),
        to: Some(999),
        ..into(log.clone(), &other)
    };
    assert_eq!(api.export(&beyond).await.unwrap_err().code(), "receipt.unknown");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    // Nobody leads it elsewhere.
    let (link, target) = (dir.path().join("link.bundle.part"), dir.path().join("target"));
    std::fs::write(&target, b"mine").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let led = api
        .export(&into(log.clone(), &dir.path().join("link.bundle")))
        .await;
    assert_eq!(led.unwrap_err().code(), "server.io");
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    // Two at once do not mix.
    let held = std::fs::File::create(dir.path().join("other.bundle.part")).unwrap();
    held.lock().unwrap();
    let busy = api.export(&into(log.clone(), &other)).await.unwrap_err();
    assert_eq!(busy.code(), "input.exists");
    drop(held);
    let range = ExportBody {
        from: Some(1),
        to: Some(3),
        ..into(log.clone(), &other)
    };
    let exported = api.export(&range).await.unwrap().item;
    assert_eq!((exported.first, exported.receipts), (1, 3));
    let never = ExportBody {
        since: Some("2999-01-01T00:00:00Z".into()),
        ..into(log, &dir.path().join("never.bundle"))
    };
    assert_eq!(api.export(&never).await.unwrap_err().code(), "receipt.unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_could_not_push_the_gateway_takes_from_its_bundle_and_pins() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let fleet = studio.machine.ledger.context().fleet;
    let (said, line) = setup::invitation(
        &studio.root,
        fleet,
        Role::Node,
        None,
        Duration::from_secs(600),
        &door.base,
    )
    .unwrap();
    studio.api().append_signed(&said).await.unwrap();
    let dir = private_dir();
    let node_dir = dir.path().join("node");
    setup::join(&node_dir, &line, &MachineId::new("laptop").unwrap())
        .await
        .unwrap();
    let node = Machine::open(&node_dir, Config::default()).unwrap();
    let said = node
        .sign_as_actor(Studio::note("said while nobody listened"))
        .unwrap();
    node.append(said).await.unwrap();
    let log = node.ledger.own_log(Stream::Facts).unwrap();
    let path = dir.path().join("facts.bundle");
    let mut bundle = Vec::new();
    node.ledger.export(&log, &mut bundle).unwrap();
    std::fs::write(&path, &bundle).unwrap();

    let api = studio.api();
    let imported = api.import(&from(&path)).await.unwrap().item;
    assert_eq!(imported.machine.as_deref(), Some("laptop"));
    assert!(imported.new > 0 && imported.receipts == imported.new + imported.known);
    let snapshot = studio.machine.ledger.snapshot();
    let head = node.ledger.head(&log).unwrap();
    assert_eq!(studio.machine.ledger.head(&log), Some(head));
    assert_eq!(
        snapshot.state.pin(&log).map(|pin| pin.seq),
        Some(head.seq),
        "pinned as by a push"
    );
    let again = api.import(&from(&path)).await.unwrap().item;
    assert_eq!((again.new, again.known), (0, head.seq + 1));

    let mut bad = bundle.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let refused = api.import(&from(&path)).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 422, "{refused}");
    let stranger = private_dir();
    setup::init(stranger.path(), &MachineId::new("other").unwrap()).unwrap();
    let stranger = Machine::open(stranger.path(), Config::default()).unwrap();
    let mut other = Vec::new();
    let order = stranger.ledger.own_log(Stream::Order).unwrap();
    stranger.ledger.export(&order, &mut other).unwrap();
    std::fs::write(&path, &other).unwrap();
    assert_eq!(
        api.import(&from(&path)).await.unwrap_err().code(),
        "import.other-fleet"
    );
    std::fs::write(&path, b"no bundle at all").unwrap();
    assert_eq!(api.import(&from(&path)).await.unwrap_err().code(), "bundle.magic");
    door.close().await;
}
