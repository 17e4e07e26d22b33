//! Erasing through the API: who may, what is left, and that it is gone.

use super::Studio;
use ledger::core::kinds::{Credential, Role};
use ledger::core::{ReceiptId, SigningKey};
use ledger_server::http::wire::{AppendBody, EraseBody, ReceiptsQuery};
use ledger_server::setup;
use std::path::Path;

const SECRET: &str = "the customer is called Xanthippe Quackenbush-Zylberstein";

fn because(reason: &str) -> EraseBody {
    EraseBody {
        reason: reason.to_owned(),
    }
}

fn holds(dir: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return holds(&entry.path(), needle);
        }
        let text = kind.is_file().then(|| std::fs::read(entry.path()).unwrap());
        text.is_some_and(|bytes| {
            String::from_utf8_lossy(&bytes).contains(std::str::from_utf8(needle).unwrap())
        })
    })
}

#[tokio::test]
async fn what_the_gateway_erases_is_gone_and_the_order_says_who_and_why() {
    let studio = Studio::found();
    let api = studio.api();
    let id = studio.append(SECRET).await;
    let other = studio.append("something else").await;
    assert!(holds(studio.dir.path(), SECRET.as_bytes()));
    let jobs = studio.machine.ledger.snapshot().state.clone();
    let done = api
        .erase(&id, &because("the customer asked for it"))
        .await
        .unwrap()
        .item;
    assert!(!holds(studio.dir.path(), SECRET.as_bytes()));
    assert!(!done.repeated);
    let said = &done.erased_by[0];
    assert_eq!((said.stream.as_str(), said.kind.as_str()), ("order", "erased"));
    assert_eq!(said.actor, "operator");
    assert_eq!(said.detail["reason"], "the customer asked for it");
    assert!(said.line.contains("the customer asked for it"), "{}", said.line);
    let shown = &api.receipt(&id).await.unwrap().item[0];
    assert_eq!((shown.payload_state.as_str(), &shown.content), ("erased", &None));
    assert!(
        shown.receipt.payload.is_some(),
        "what the statement says of it stays"
    );
    assert_eq!(
        api.receipt(&other).await.unwrap().item[0].payload_state,
        "present"
    );
    // Again is no second receipt.
    let again = api.erase(&id, &because("again")).await.unwrap().item;
    assert!(again.repeated && again.erased_by[0].id == said.id);
    let query = ReceiptsQuery {
        kind: vec!["erased".into()],
        ..ReceiptsQuery::default()
    };
    assert_eq!(api.receipts(&query).await.unwrap().items.len(), 1);
    // No projection has changed: the queue and its like are as they were.
    let now = studio.machine.ledger.snapshot().state.clone();
    assert!(now.jobs().count() == jobs.jobs().count() && now.handlers().eq(jobs.handlers()));
    drop(api);
    let studio = studio.restart();
    assert_eq!(studio.machine.ledger.snapshot().state, now);
    assert_eq!(
        studio.api().receipt(&id).await.unwrap().item[0].payload_state,
        "erased"
    );
}

#[tokio::test]
async fn saying_again_what_was_erased_gives_the_first_receipt_and_brings_nothing_back() {
    let studio = Studio::found();
    let api = studio.api();
    let body = AppendBody {
        kind: "x.note".into(),
        subject: "chat/7".into(),
        media: Some("text/plain".into()),
        payload: Some(SECRET.into()),
        id: Some(ReceiptId::v7(1_700_000_000_000, [7; 10]).to_string()),
        ..AppendBody::default()
    };
    let first = api.append(&body).await.unwrap().item;
    api.erase(&first.receipt.id, &because("asked")).await.unwrap();
    let again = api.append(&body).await.unwrap().item;
    assert!(again.repeated && again.receipt.seq == first.receipt.seq);
    assert!(!holds(studio.dir.path(), SECRET.as_bytes()));
    let other = AppendBody {
        subject: "chat/8".into(),
        ..body
    };
    assert_eq!(api.append(&other).await.unwrap_err().code(), "ledger.id-taken");
}

#[tokio::test]
async fn what_cannot_be_erased_says_why() {
    let studio = Studio::found();
    let api = studio.api();
    let unknown = ReceiptId::v7(1, [1; 10]).to_string();
    let code = |result: Result<_, ledger_server::client::ClientError>| {
        result.map(drop).unwrap_err().code().to_owned()
    };
    let reason = because("asked");
    assert_eq!(code(api.erase(&unknown, &reason).await), "server.not-found");
    assert_eq!(code(api.erase("nonsense", &reason).await), "request.id");
    let id = studio.append("text").await;
    assert_eq!(code(api.erase(&id, &because("")).await), "ledger.erasure-reason");
    assert_eq!(
        code(api.erase(&id, &because(&"r".repeat(201))).await),
        "ledger.erasure-reason"
    );
    let genesis = api.receipts(&ReceiptsQuery::default()).await.unwrap().items[0]
        .id
        .clone();
    assert_eq!(
        code(api.erase(&genesis, &reason).await),
        "ledger.nothing-to-erase"
    );
    assert_eq!(api.receipt(&id).await.unwrap().item[0].payload_state, "present");
}

#[tokio::test]
async fn an_agent_erases_what_it_said_itself_and_nothing_else() {
    let studio = Studio::found();
    let api = studio.api();
    let fleet = studio.machine.ledger.context().fleet;
    let agent = SigningKey::from_seed([3; 32]);
    let key = Credential::Key(agent.public());
    let grant = setup::grant(&studio.root, fleet, key, "agent", Role::Agent, None).unwrap();
    api.append_signed(&grant).await.unwrap();
    let own = setup::sign(&agent, fleet, Studio::note(SECRET)).unwrap();
    let own = api.append_signed(&own).await.unwrap().item.receipt.id;
    let others = studio.append("not the agent's").await;
    for (id, may) in [(&others, false), (&own, true)] {
        let target = studio
            .machine
            .ledger
            .find(&ReceiptId::parse(id).unwrap())
            .unwrap()
            .remove(0);
        let draft = ledger::erase::draft(&target, "mine").unwrap();
        let said = setup::sign(&agent, fleet, draft).unwrap();
        let answer = api.append_signed(&said).await;
        assert_eq!(answer.is_ok(), may, "{answer:?}");
        let state = &api.receipt(id).await.unwrap().item[0].payload_state;
        assert_eq!(state, if may { "erased" } else { "present" });
        if let Err(refused) = answer {
            assert_eq!(refused.code(), "ledger.may-not-erase");
        }
    }
    assert!(!holds(studio.dir.path(), SECRET.as_bytes()));
}
