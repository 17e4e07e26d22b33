//! Lists come in pages that together are the whole, while others append.

use super::Studio;
use ledger_server::http::wire::{
    JobsQuery, NoticesQuery, ReceiptsQuery, RequestBody, ScanBody, SeenBody, VaultQuery,
};
use std::collections::BTreeSet;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_receipt_exactly_once_while_others_append() {
    let studio = Arc::new(Studio::found());
    let mut first = BTreeSet::new();
    for n in 0..40 {
        first.insert(studio.append(&format!("before {n}")).await);
    }
    let others = Arc::clone(&studio);
    let appending = tokio::spawn(async move {
        let mut during = BTreeSet::new();
        for n in 0..60 {
            during.insert(others.append(&format!("during {n}")).await);
        }
        during
    });
    let api = studio.api();
    let mut seen = Vec::new();
    let mut query = ReceiptsQuery {
        kind: vec!["x.*".into()],
        limit: Some(7),
        ..ReceiptsQuery::default()
    };
    loop {
        let page = api.receipts(&query).await.unwrap();
        assert!(page.items.len() <= 7);
        assert!(page.as_of.age_ms.is_some() && page.as_of.standing == "central");
        seen.extend(
            page.items
                .into_iter()
                .map(|receipt| (receipt.hlc.parse::<u64>().unwrap(), receipt.id)),
        );
        query.cursor = page.next_cursor;
        if query.cursor.is_none() && appending.is_finished() {
            break;
        }
        if query.cursor.is_none() {
            // The end was reached before the others were done: begin anew, the whole is still what counts.
            seen.clear();
        }
    }
    let all: BTreeSet<String> = first.into_iter().chain(appending.await.unwrap()).collect();
    assert!(seen.is_sorted(), "oldest first, and no receipt twice");
    let ids: BTreeSet<String> = seen.iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(ids.len(), seen.len());
    assert!(ids.is_subset(&all) && ids.len() >= 40);

    query.cursor = None;
    query.limit = Some(1000);
    let whole = api.receipts(&query).await.unwrap();
    assert_eq!(whole.items.len(), 100);
    assert_eq!(whole.next_cursor, None);
}

#[tokio::test]
async fn filters_choose_by_kind_actor_machine_subject_and_time() {
    let studio = Studio::found();
    let api = studio.api();
    let id = studio.append("one").await;
    let of = |query: ReceiptsQuery| {
        let api = api.clone();
        async move { api.receipts(&query).await.unwrap().items }
    };
    let all = of(ReceiptsQuery {
        limit: Some(1000),
        ..ReceiptsQuery::default()
    })
    .await;
    let note = all.iter().find(|receipt| receipt.id == id).unwrap().clone();
    for query in [
        ReceiptsQuery {
            kind: vec!["x.note".into()],
            ..ReceiptsQuery::default()
        },
        ReceiptsQuery {
            actor: Some(note.author.clone()),
            ..ReceiptsQuery::default()
        },
        ReceiptsQuery {
            subject: Some("not".into()),
            ..ReceiptsQuery::default()
        },
        ReceiptsQuery {
            machine: Some("studio".into()),
            since: Some(note.time.clone()),
            kind: vec!["x.*".into()],
            ..ReceiptsQuery::default()
        },
    ] {
        let found = of(query.clone()).await;
        assert_eq!(
            found.iter().map(|r| &r.id).collect::<Vec<_>>(),
            [&id],
            "{query:?}"
        );
    }
    assert_eq!(
        of(ReceiptsQuery {
            machine: Some("mini".into()),
            ..ReceiptsQuery::default()
        })
        .await,
        []
    );
    let before = of(ReceiptsQuery {
        until: Some(note.time.clone()),
        limit: Some(1000),
        ..ReceiptsQuery::default()
    })
    .await;
    assert!(before.iter().all(|receipt| receipt.time < note.time));
    let from_start = of(ReceiptsQuery {
        since: Some("@0".into()),
        limit: Some(1000),
        ..ReceiptsQuery::default()
    })
    .await;
    assert!(
        from_start
            .iter()
            .any(|receipt| receipt.stream == "order" && receipt.seq == 0)
    );
}

#[tokio::test]
async fn a_receipt_is_shown_with_its_payload_and_its_bytes() {
    let studio = Studio::found();
    let id = studio.append("what was said").await;
    let shown = studio.api().receipt(&id).await.unwrap();
    let [full] = shown.item.as_slice() else {
        panic!("one receipt has this id")
    };
    assert_eq!(
        (full.receipt.kind.as_str(), full.payload_state.as_str()),
        ("x.note", "present")
    );
    assert_eq!(
        full.content.as_ref().unwrap().text.as_deref(),
        Some("what was said")
    );
    let bytes = data_encoding::BASE64.decode(full.record.as_bytes()).unwrap();
    assert_eq!(
        ledger_core::Record::parse(&bytes).unwrap().seal_digest().to_hex(),
        full.receipt.seal
    );
}

#[tokio::test]
async fn jobs_nodes_and_files_are_listed() {
    let studio = Studio::found();
    let api = studio.api();
    let mut asked = Vec::new();
    for n in 0..5 {
        let body = RequestBody {
            handler: format!("count-{n}"),
            ..RequestBody::default()
        };
        asked.push(api.request(&body).await.unwrap().item.job);
    }
    let mut listed = Vec::new();
    let mut query = JobsQuery {
        limit: Some(2),
        ..JobsQuery::default()
    };
    loop {
        let page = api.jobs(&query).await.unwrap();
        listed.extend(page.items.into_iter().map(|job| job.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    asked.reverse();
    assert_eq!(listed, asked, "the newest first, each once");
    let parked = JobsQuery {
        state: vec!["parked".into()],
        ..JobsQuery::default()
    };
    assert_eq!(
        api.jobs(&parked).await.unwrap().items.len(),
        5,
        "nobody declares these handlers"
    );

    let nodes = api.nodes().await.unwrap().items;
    assert_eq!(
        nodes
            .iter()
            .map(|node| (node.machine.as_str(), node.is_central))
            .collect::<Vec<_>>(),
        [("studio", true)]
    );

    let files = tempfile::tempdir().unwrap();
    for name in ["b.txt", "a.txt", "c/d.txt"] {
        let path = files.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let dir = files.path().to_str().unwrap().to_owned();
    let scanned = api.scan_vault(&ScanBody { dir: Some(dir) }).await.unwrap().item;
    assert_eq!((scanned.files, scanned.recorded), (3, 3));
    let one = VaultQuery {
        limit: Some(2),
        ..VaultQuery::default()
    };
    let page = api.vault(&one).await.unwrap();
    let paths: Vec<&str> = page.items.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.txt", "b.txt"]);
    let rest = api
        .vault(&VaultQuery {
            cursor: page.next_cursor,
            ..one
        })
        .await
        .unwrap();
    assert_eq!(
        rest.items
            .iter()
            .map(|file| file.path.as_str())
            .collect::<Vec<_>>(),
        ["c/d.txt"]
    );
    assert_eq!(rest.next_cursor, None);
}

#[tokio::test]
async fn notices_come_in_pages_the_newest_first_and_each_once() {
    use ledger_projections::notices::raise;
    let studio = Studio::found();
    for n in 0..5_u32 {
        let raised = studio
            .machine
            .ledger
            .submit(move |tx| -> Result<(), ledger_server::ServerError> {
                let topic = ledger::core::kinds::NoticeTopic::JobParked;
                for draft in raise(
                    tx.state(),
                    topic,
                    None,
                    &format!("notice {n}"),
                    &[&n.to_be_bytes()],
                ) {
                    tx.append(ledger::core::Stream::Order, draft)?;
                }
                Ok(())
            });
        raised.await.unwrap();
    }
    let api = studio.api();
    let seen = api.notices(&NoticesQuery::default()).await.unwrap().items[1]
        .id
        .clone();
    api.acknowledge(&seen, &SeenBody::default()).await.unwrap();
    for (only, expected) in [(None, 5), (Some("open"), 4)] {
        let mut query = NoticesQuery {
            only: only.map(str::to_owned),
            limit: Some(2),
            cursor: None,
        };
        let mut told = Vec::new();
        loop {
            let page = api.notices(&query).await.unwrap();
            assert!((1..=2).contains(&page.items.len()));
            told.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(told.len(), expected, "{told:?}");
        assert!(
            told.windows(2)
                .all(|two| (&two[0].raised_at, &two[0].id) > (&two[1].raised_at, &two[1].id))
        );
        assert!(told.iter().all(|notice| notice.open == (notice.id != seen)));
    }
    let wrong = NoticesQuery {
        limit: Some(0),
        ..NoticesQuery::default()
    };
    assert!(api.notices(&wrong).await.is_err());
}
