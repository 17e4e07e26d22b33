//! What Central refused stays refused when it starts anew.

use crate::collecting::PutBack;

use ledger::core::kinds::{
    Costs, Credential, Fence, JobId, JobSpec, Outputs, RequestReceived, Role, RunSucceeded,
};
use ledger::core::{
    ContentDigest, Draft, FleetId, ReceiptId, Record, SealDigest, SigningKey, Stream, Subject,
};
use ledger_server::client::Api;
use ledger_server::http::wire::{JobsQuery, ReceiptsQuery};
use ledger_server::setup;
use std::path::Path;
use std::time::Duration;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);

fn agent() -> SigningKey {
    SigningKey::from_seed([8; 32])
}

async fn permit_agent(api: &Api, gateway: &Path) {
    let root = setup::load_root_key(gateway, None).unwrap();
    let credential = Credential::Key(agent().public());
    let grant = setup::grant(&root, fleet(api).await, credential, "agent", Role::Agent, None).unwrap();
    api.append_signed(&grant).await.unwrap();
}

async fn fleet(api: &Api) -> FleetId {
    FleetId::from_hex(&api.status().await.unwrap().item.fleet).unwrap()
}

// The job that the agent asks for.
async fn agent_asks(api: &Api) -> ledger_server::http::wire::Requested {
    let spec = JobSpec {
        handler: "nobody-runs-it".into(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 1,
        not_before: None,
        deadline: None,
        unique_key: None,
        concurrency_key: None,
        depends_on: Vec::new(),
        hold_on_failed_dependency: false,
        retry_of: None,
        input: None,
    };
    let draft = Draft::of(&RequestReceived { spec }, Subject::new("request").unwrap());
    let said = setup::sign(&agent(), fleet(api).await, draft).unwrap();
    api.request_signed(&said).await.unwrap().item
}

async fn jobs(api: &Api) -> Vec<String> {
    let listed = api.jobs(&JobsQuery::default()).await.unwrap().items;
    listed.into_iter().map(|job| job.id).collect()
}

async fn verdicts(api: &Api) -> Vec<String> {
    let query = ReceiptsQuery {
        kind: vec!["job.late-result".into()],
        ..ReceiptsQuery::default()
    };
    let found = api.receipts(&query).await.unwrap().items;
    found.into_iter().map(|receipt| format!("{receipt:?}")).collect()
}

fn as_it_is(record: &Record) -> Vec<u8> {
    record.bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_central_refused_stays_refused_after_a_restart_though_it_would_be_permitted_now() {
    let all = async {
        // An agent is permitted something and asks for it, behind what the gateway is put back to.
        let mut refused = String::new();
        let fleet = PutBack::with(async |api: &Api, gateway: &Path| {
            permit_agent(api, gateway).await;
            let asked = agent_asks(api).await;
            refused = asked.job;
            asked.receipt
        })
        .await;
        fleet.hello_until(false, |answer| answer.collecting).await;
        fleet
            .hello_until(true, |answer| answer.orphan && !answer.healing)
            .await;
        for (log, before) in fleet.logs.clone() {
            let kept = fleet.raw(log, before.seq + 1, |record, _| as_it_is(record));
            fleet.push(log, kept).await.unwrap();
        }
        // A hello is answered when the branch is settled.
        fleet.hello_until(false, |answer| !answer.orphan).await;
        let here = jobs(&fleet.api).await;
        assert!(
            here.contains(&fleet.job),
            "what the gateway's actor asked for is offered again: {here:?}"
        );
        assert!(
            !here.contains(&refused),
            "nobody permits it in this epoch: {here:?}"
        );

        // The result of a run that nobody was given.
        let fence = Fence::of_claim(1, 5, &SealDigest([3; 32]));
        let job = JobId(ReceiptId::parse(&fleet.job).unwrap());
        let done = RunSucceeded {
            job,
            fence,
            result: ContentDigest([7; 32]),
            outputs: Outputs::default(),
            costs: Costs::default(),
        };

        fleet
            .node
            .append_to(Stream::Work, Draft::of(&done, job.subject()))
            .unwrap();
        let work = fleet.node.own_log(Stream::Work).unwrap();
        let report = |fleet: &PutBack| fleet.raw(work, 0, |record, _| as_it_is(record));
        fleet.push(work, report(&fleet)).await.unwrap();
        let before = verdicts(&fleet.api).await;
        assert_eq!(before.len(), 1, "{before:?}");

        // It is permitted now, and the claim is as unknown as ever.
        permit_agent(&fleet.api, &fleet.home.path().join("g")).await;
        let accepted = agent_asks(&fleet.api).await.job;
        let fleet = fleet.restart().await;
        fleet.hello_until(false, |answer| !answer.healing).await;
        // What was there before is looked at by the first hello that Central answers while it decides.
        fleet.hello(false).await.unwrap();
        fleet.push(work, report(&fleet)).await.unwrap();
        let here = jobs(&fleet.api).await;
        assert!(here.contains(&accepted) && here.contains(&fleet.job), "{here:?}");
        assert!(!here.contains(&refused), "it was refused once: {here:?}");
        assert_eq!(verdicts(&fleet.api).await, before);
        fleet.stop().await;
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}
