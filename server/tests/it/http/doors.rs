//! Who gets in at the network door, and what strangers learn.

use super::{Studio, plain};
use ledger::core::kinds::{Credential, Role};
use ledger::core::{PublicKey, SigningKey};
use ledger_core::digest::secret_digest;
use ledger_server::client::{Api, ClientError, MachineSigner, Signed};
use ledger_server::http::wire::{Answer, AppendBody, EventsQuery, ReceiptsQuery, Status};
use ledger_server::setup;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

fn signed(base: &str, key: SigningKey, server: PublicKey) -> Signed {
    Signed::new(base, Arc::new(key), Some(server)).unwrap()
}

async fn status(client: &Signed) -> Result<Answer<Status>, ClientError> {
    let body = client
        .call(http::Method::GET, "/v1/status", "", Vec::new())
        .await?;
    Ok(serde_json::from_slice(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stranger_gets_the_same_401() {
    let studio = Studio::found();
    let fleet = studio.machine.ledger.context().fleet;
    let (token, ended) = setup::token(&studio.root, fleet, "ended", Some(1)).unwrap();
    studio.api().append_signed(&token).await.unwrap();
    let (token, revoked) = setup::token(&studio.root, fleet, "revoked", None).unwrap();
    studio.api().append_signed(&token).await.unwrap();
    let credential = Credential::Token(secret_digest(revoked.as_bytes()));
    let revocation = setup::revoke(&studio.root, fleet, credential, "test").unwrap();
    studio.api().append_signed(&revocation).await.unwrap();

    let door = studio.listen().await;
    let url = format!("{}/v1/status", door.base);
    let mut answers = vec![
        plain().get(&url).send().await.unwrap(),
        plain()
            .get(format!("{}/nowhere", door.base))
            .send()
            .await
            .unwrap(),
        plain().delete(&url).send().await.unwrap(),
        plain()
            .post(format!("{}/v1/requests", door.base))
            .body("{")
            .send()
            .await
            .unwrap(),
        plain()
            .get(&url)
            .header("authorization", "Basic YTpi")
            .send()
            .await
            .unwrap(),
        plain()
            .get(&url)
            .header("signature", "sig1=:AAAA:")
            .send()
            .await
            .unwrap(),
    ];
    for secret in ["unknown", &ended, &revoked] {
        answers.push(plain().get(&url).bearer_auth(secret).send().await.unwrap());
    }
    let mut bodies = Vec::new();
    for answer in answers {
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key("signature"));
        bodies.push(answer.text().await.unwrap());
    }
    let server = studio.machine.ledger.context().machine_key;
    let unknown = status(&signed(&door.base, key(9), server)).await.unwrap_err();
    bodies.push(serde_json::to_string(unknown.problem().unwrap()).unwrap());
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reads_and_does_nothing_else() {
    let studio = Studio::found();
    let fleet = studio.machine.ledger.context().fleet;
    let (token, secret) = setup::token(&studio.root, fleet, "page", None).unwrap();
    studio.api().append_signed(&token).await.unwrap();
    let door = studio.listen().await;
    let api = Api::network(&door.base, Some(secret)).unwrap();
    assert!(
        !api.receipts(&ReceiptsQuery::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let from_start = EventsQuery {
        after: Some("start".into()),
        ..EventsQuery::default()
    };
    let mut events = api.events(&from_start).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().receipt.seq, 0);
    drop(events);
    let refused = api
        .append(&AppendBody {
            kind: "x.a".into(),
            ..AppendBody::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "auth.forbidden");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_key_is_answered_with_a_signature_bound_to_its_request() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let server = studio.machine.ledger.context().machine_key;
    let machine = || Arc::new(MachineSigner(studio.machine.ledger.clone()));
    let client = Signed::new(&door.base, machine(), Some(server)).unwrap();
    assert_eq!(status(&client).await.unwrap().item.machine, "studio");
    let elsewhere = Signed::new(&door.base, machine(), Some(key(1).public())).unwrap();
    assert_eq!(
        status(&elsewhere).await.unwrap_err().code(),
        "signature.key_unexpected"
    );
    let tail = client
        .call(http::Method::GET, "/v1/events", "", Vec::new())
        .await
        .unwrap_err();
    assert_eq!(tail.code(), "events.needs-token");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_do_not_read_get_one_403_and_still_hand_in_what_they_signed() {
    let studio = Studio::found();
    let fleet = studio.machine.ledger.context().fleet;
    let agent = key(3);
    let grant = setup::grant(
        &studio.root,
        fleet,
        Credential::Key(agent.public()),
        "agent",
        Role::Agent,
        None,
    )
    .unwrap();
    studio.api().append_signed(&grant).await.unwrap();
    let said = setup::sign(&agent, fleet, Studio::note("from outside")).unwrap();
    let door = studio.listen().await;
    let server = studio.machine.ledger.context().machine_key;
    let client = signed(&door.base, key(3), server);
    assert_eq!(status(&client).await.unwrap_err().code(), "auth.forbidden");
    let beat = client.exchange("beat", vec![0], super::SOON).await.unwrap_err();
    assert_eq!(beat.code(), "auth.forbidden");

    let post = |body: serde_json::Value| {
        let client = &client;
        async move {
            let body = serde_json::to_vec(&body).unwrap();
            client
                .call(http::Method::POST, "/v1/receipts", "application/json", body)
                .await
        }
    };
    let unsigned = post(serde_json::json!({ "kind": "x.note" })).await.unwrap_err();
    assert_eq!(unsigned.code(), "request.body");
    let payload = said.payload.as_ref().unwrap();
    let body = serde_json::json!({
        "statement": data_encoding::BASE64.encode(&said.bytes),
        "signature": data_encoding::HEXLOWER.encode(&said.signature.0),
        "payload": {
            "salt": data_encoding::HEXLOWER.encode(&payload.salt.0),
            "bytes": data_encoding::BASE64.encode(&payload.bytes),
        },
    });
    let appended: serde_json::Value = serde_json::from_slice(&post(body.clone()).await.unwrap()).unwrap();
    assert_eq!(appended["item"]["repeated"], false);
    assert_eq!(appended["item"]["receipt"]["actor"], "agent");
    let again: serde_json::Value = serde_json::from_slice(&post(body).await.unwrap()).unwrap();
    assert_eq!(again["item"]["repeated"], true);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_has_a_larger_bound_than_the_rest() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let server = studio.machine.ledger.context().machine_key;
    let machine = Arc::new(MachineSigner(studio.machine.ledger.clone()));
    let client = Signed::new(&door.base, machine, Some(server)).unwrap();
    let code = |op: &'static str, bytes: usize| {
        let client = &client;
        async move {
            client
                .exchange(op, vec![0xff; bytes], super::SOON)
                .await
                .unwrap_err()
                .code()
                .to_owned()
        }
    };
    assert_eq!(code("push", 1024 * 1024).await, "exchange.malformed");
    assert_eq!(code("push", 1024 * 1024 + 1).await, "request.too-large");
    assert_eq!(code("hello", 128 * 1024 + 1).await, "request.too-large");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_anew_when_the_server_was_restarted() {
    let studio = Studio::found();
    let fleet = studio.machine.ledger.context().fleet;
    let credential = Credential::Key(key(4).public());
    let grant = setup::grant(&studio.root, fleet, credential, "page", Role::Reader, None).unwrap();
    studio.api().append_signed(&grant).await.unwrap();
    let door = studio.listen().await;
    let base = door.base.clone();
    let client = signed(&base, key(4), studio.machine.ledger.context().machine_key);
    let first = status(&client).await.unwrap().item.boot;
    door.close().await;
    let studio = studio.restart();
    let door = studio.listen_on(base.trim_start_matches("http://")).await;
    let second = status(&client).await.unwrap().item.boot;
    assert_ne!(first, second);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_place_is_taken_the_next_is_told_when_to_come_back() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let host = door.base.trim_start_matches("http://");
    let head = format!("POST /v1/fleet/join HTTP/1.1\r\nhost: {host}\r\ncontent-length: 10\r\n\r\n");
    let mut slow = Vec::new();
    for _ in 0..ledger_server::http::limits::JOINS_MAX {
        let mut stream = TcpStream::connect(host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let refused = tokio::time::timeout(super::SOON, async {
        loop {
            let answer = plain()
                .post(format!("{}/v1/fleet/join", door.base))
                .body("x")
                .send()
                .await
                .unwrap();
            if answer.status() == 503 {
                break answer;
            }
        }
    });
    let refused = refused.await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert!(refused.text().await.unwrap().contains("server.busy"));
    let other = plain()
        .get(format!("{}/healthz", door.base))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 200, "others are not held up");
    drop(slow);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_holds_all_its_long_polls_gets_no_more_of_them_and_is_served_otherwise() {
    use ledger_server::exchange::{Mark, Pull, encode};
    let studio = Studio::found();
    let door = studio.listen().await;
    let ledger = &studio.machine.ledger;
    let server = ledger.context().machine_key;
    let own = Arc::new(MachineSigner(ledger.clone()));
    let client = Arc::new(Signed::new(&door.base, own, Some(server)).unwrap());
    let order = ledger.own_log(ledger::core::Stream::Order).unwrap();
    let pull = |wait_ms: u32| {
        let head = ledger.head(&order).unwrap();
        let after = Some(Mark {
            seq: head.seq,
            seal: head.seal,
        });
        encode(&Pull {
            log: order,
            after,
            wait_ms,
        })
    };
    let held: Vec<_> = (0..ledger_server::http::limits::POLLS_OF_ONE_MAX)
        .map(|_| {
            let (client, body) = (Arc::clone(&client), pull(30_000));
            // One of these may be refused itself, while the one below stands in its place for a moment.
            tokio::spawn(async move {
                while client.exchange("pull", body.clone(), super::SOON).await.is_err() {
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let refused = tokio::time::timeout(super::SOON, async {
        loop {
            if let Err(error) = client.exchange("pull", pull(0), super::SOON).await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    let refused = refused.await.expect("one too many is refused");
    let problem = refused.problem().expect("with a reason");
    assert_eq!((problem.status, problem.code.as_str()), (429, "server.busy"));
    status(&client)
        .await
        .expect("other requests of the key are served");
    // Who goes away gives back what it held.
    held.iter().for_each(tokio::task::JoinHandle::abort);
    let served = tokio::time::timeout(super::SOON, async {
        while client.exchange("pull", pull(0), super::SOON).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
    served.await.expect("there is room again");
    door.close().await;
}
