//! The live tail: nothing lost, nothing twice, over a real socket.

use super::{SOON, Studio};
use ledger_server::client::{Api, Events};
use ledger_server::http::wire::EventsQuery;
use ledger_server::http::{Door, bind_unix, router, serve_unix};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;

async fn next_ids(events: &mut Events, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let event = timeout(SOON, events.next()).await.unwrap().unwrap().unwrap();
        ids.push(event.receipt.id);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_tail_loses_nothing_and_repeats_nothing() {
    let studio = Arc::new(Studio::found());
    let socket = studio.dir.path().join("api.sock");
    let (stop, stopped) = oneshot::channel::<()>();
    let (path, app) = (socket.clone(), router(Arc::clone(&studio.machine), Door::Local));
    let serving = tokio::spawn(async move {
        serve_unix(bind_unix(&path).unwrap(), &path, app, async {
            drop(stopped.await);
        })
        .await
    });
    let api = Api::unix(&socket);
    timeout(SOON, async {
        while api.healthz().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    let query = EventsQuery {
        kind: vec!["x.note".into()],
        ..EventsQuery::default()
    };
    let mut events = api.events(&query).await.unwrap();
    let mut said = Vec::new();
    for n in 0..3 {
        said.push(studio.append(&format!("note {n}")).await);
    }
    let mut heard = next_ids(&mut events, 3).await;
    let after = events.cursor().map(str::to_owned);
    drop(events);

    let others = Arc::clone(&studio);
    let saying = tokio::spawn(async move {
        let mut said = Vec::new();
        for n in 0..300 {
            said.push(others.append(&format!("meanwhile {n}")).await);
        }
        said
    });
    let mut after = after;
    while heard.len() < 303 {
        let mut events = api
            .events(&EventsQuery {
                after: after.clone(),
                ..query.clone()
            })
            .await
            .unwrap();
        let part = 50.min(303 - heard.len());
        heard.extend(next_ids(&mut events, part).await);
        after = events.cursor().map(str::to_owned);
    }
    said.extend(saying.await.unwrap());
    assert_eq!(heard, said);

    let mut whole = api
        .events(&EventsQuery {
            after: Some("start".into()),
            ..query
        })
        .await
        .unwrap();
    assert_eq!(next_ids(&mut whole, 303).await, said);
    stop.send(()).unwrap();
    assert!(
        timeout(SOON, whole.next()).await.unwrap().is_none(),
        "the tail ends when the server does"
    );
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_cursor_of_another_store_is_gone_and_a_malformed_one_is_refused() {
    let (studio, other) = (Studio::found(), Studio::found());
    let from_start = EventsQuery {
        after: Some("start".into()),
        ..EventsQuery::default()
    };
    let mut events = other.api().events(&from_start).await.unwrap();
    let cursor = timeout(SOON, events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .cursor;
    let code = |after: String| {
        let api = studio.api();
        async move {
            let query = EventsQuery {
                after: Some(after),
                ..EventsQuery::default()
            };
            api.events(&query).await.err().unwrap().code().to_owned()
        }
    };
    assert_eq!(code(cursor).await, "events.cursor-gone");
    assert_eq!(code("x".into()).await, "request.query");
}
