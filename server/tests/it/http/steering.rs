//! The doors of the queue: what a person does to jobs, handlers and limits, and the receipts of it.

use super::{SOON, Studio};
use futures_util::FutureExt;
use ledger::core::kinds::{Class, Detail, HandlerDeclared, HeldReason, JobHeld, JobId};
use ledger::core::{Draft, ReceiptId, SigningKey, Stream};
use ledger_projections::queue::decide;
use ledger_server::ServerError;
use ledger_server::client::{Api, ClientError};
use ledger_server::http::wire::{
    JobsQuery, LimitBody, PauseBody, RateView, ReceiptsQuery, RequestBody, RetryBody, WishBody,
};
use ledger_server::setup;
use serde_json::json;

const LATER: &str = "2999-01-01T00:00:00Z";

fn because(reason: &str) -> WishBody {
    WishBody {
        reason: reason.into(),
    }
}

fn code<T>(result: Result<T, ClientError>) -> String {
    match result.map(drop).unwrap_err() {
        ClientError::Problem(problem) => {
            assert!(!problem.detail.is_empty() && !problem.what_to_do.is_empty());
            problem.code
        }
        other => panic!("no problem: {other}"),
    }
}

impl Studio {
    /// Declares the studio's handlers, which nobody runs.
    async fn declare(&self, handlers: &[&str]) {
        let declared: Vec<HandlerDeclared> = handlers
            .iter()
            .map(|handler| HandlerDeclared {
                machine: self.machine.id().clone(),
                handler: (*handler).into(),
                class: Class::Light,
                labels: vec![],
                slots: 2,
            })
            .collect();
        let own = self.machine.id().clone();
        let said = self.machine.ledger.submit(move |tx| -> Result<(), ServerError> {
            for draft in decide::handler_declared(tx.state(), &own, &declared)? {
                tx.append(Stream::Order, draft)?;
            }
            Ok(())
        });
        said.await.unwrap();
    }

    async fn submit(&self, body: RequestBody) -> String {
        self.api().request(&body).await.unwrap().item.job
    }
}

fn request(handler: &str) -> RequestBody {
    RequestBody {
        handler: handler.into(),
        ..RequestBody::default()
    }
}

async fn state(api: &Api, job: &str) -> String {
    api.job(job).await.unwrap().item.job.state
}

#[tokio::test]
async fn a_job_is_held_and_released_and_discarded_by_receipts_of_the_operator() {
    let studio = Studio::found();
    studio.declare(&["count"]).await;
    let api = studio.api();
    let job = studio.submit(request("count")).await;
    let held = api
        .steer_job(&job, "hold", &because("not yet"))
        .await
        .unwrap()
        .item;
    assert_eq!(
        (held.job.state.as_str(), held.job.answer_code.as_str()),
        ("held", "held")
    );
    let receipt = held.receipt.unwrap();
    let actor = studio.machine.ledger.keyring().actor.public();
    assert_eq!(
        (
            receipt.kind.as_str(),
            receipt.author,
            receipt.detail["note"].as_str()
        ),
        ("job.held", actor.to_hex(), Some("not yet"))
    );
    // What is so already writes nothing.
    let again = api
        .steer_job(&job, "hold", &because("once more"))
        .await
        .unwrap()
        .item;
    assert_eq!((again.receipt, again.job.state.as_str()), (None, "held"));
    let released = api.steer_job(&job, "release", &because("")).await.unwrap().item;
    assert_eq!(released.job.state, "ready");
    assert_eq!(
        code(api.steer_job(&job, "release", &because("")).await),
        "job.state"
    );
    let given_up = api
        .steer_job(&job, "discard", &because("mistake"))
        .await
        .unwrap()
        .item;
    assert_eq!(
        (given_up.job.state.as_str(), given_up.job.is_final),
        ("discarded", true)
    );
    for act in ["hold", "release", "discard"] {
        assert_eq!(code(api.steer_job(&job, act, &because("")).await), "job.final");
        let nobody = "0190a7c4-1111-7222-8333-444444444444";
        assert_eq!(
            code(api.steer_job(nobody, act, &because("")).await),
            "job.unknown"
        );
    }
    let long = because(&"x".repeat(201));
    assert_eq!(code(api.steer_job(&job, "hold", &long).await), "request.spec");
}

#[tokio::test]
async fn a_released_job_still_waits_for_its_time_and_a_discarded_one_takes_its_dependants_along() {
    let studio = Studio::found();
    studio.declare(&["count"]).await;
    let api = studio.api();
    let early = studio
        .submit(RequestBody {
            not_before: Some(LATER.into()),
            ..request("count")
        })
        .await;
    assert_eq!(state(&api, &early).await, "scheduled");
    api.steer_job(&early, "hold", &because("")).await.unwrap();
    let released = api.steer_job(&early, "release", &because("")).await.unwrap().item;
    assert_eq!(
        (released.job.state.as_str(), released.job.answer.as_str()),
        ("held", "held, until its time comes")
    );
    let after = |hold| RequestBody {
        depends_on: vec![early.clone()],
        hold_on_failed_dependency: hold,
        ..request("count")
    };
    let (gone, waits) = (
        studio.submit(after(false)).await,
        studio.submit(after(true)).await,
    );
    api.steer_job(&early, "discard", &because("")).await.unwrap();
    assert_eq!(state(&api, &gone).await, "cancelled");
    assert!(
        api.job(&waits)
            .await
            .unwrap()
            .item
            .job
            .answer
            .contains("ended without success")
    );
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_once_with_its_input_and_under_the_callers_own_id() {
    let studio = Studio::found();
    let api = studio.api();
    let parked = studio
        .submit(RequestBody {
            input: Some(json!({"n": 7})),
            unique_key: Some("only".into()),
            ..request("nobody")
        })
        .await;
    assert_eq!(state(&api, &parked).await, "parked");
    let own = RetryBody {
        id: Some("0190a7c4-1111-7222-8333-444444444444".into()),
    };
    let first = api.retry_job(&parked, &own).await.unwrap().item;
    let again = api.retry_job(&parked, &own).await.unwrap().item;
    assert_eq!((first.repeated, again.repeated), (false, true));
    assert_eq!(first.job, again.job);
    let job = api.job(&first.job).await.unwrap().item;
    assert_eq!(job.input.unwrap().json, Some(json!({"n": 7})));
    assert_eq!(job.spec["retry_of"], parked.as_str());
    assert_eq!(state(&api, &parked).await, "discarded");
    assert_eq!(
        code(api.retry_job(&parked, &RetryBody::default()).await),
        "job.no-retry"
    );
    studio.declare(&["count"]).await;
    let ready = studio.submit(request("count")).await;
    assert_eq!(
        code(api.retry_job(&ready, &RetryBody::default()).await),
        "job.no-retry"
    );
}

#[tokio::test]
async fn a_paused_handler_says_so_to_whoever_submits_until_it_is_resumed() {
    let studio = Studio::found();
    studio.declare(&["render"]).await;
    let api = studio.api();
    let pause = PauseBody {
        reason: "no licence".into(),
        until: Some(LATER.into()),
    };
    let paused = api.pause_handler("render", &pause).await.unwrap().item;
    assert_eq!(paused.handler.paused.unwrap().reason, "no licence");
    let answer = api.request(&request("render")).await.unwrap().item.answer;
    assert!(
        answer.contains("paused until 2999-01-01") && answer.contains("no licence"),
        "{answer}"
    );
    let again = api.pause_handler("render", &pause).await.unwrap().item;
    assert_eq!(again.receipt, None);
    let without = PauseBody::default();
    assert_eq!(code(api.pause_handler("render", &without).await), "request.spec");
    let past = PauseBody {
        reason: "x".into(),
        until: Some("2020-01-01T00:00:00Z".into()),
    };
    assert_eq!(code(api.pause_handler("render", &past).await), "queue.steering");
    let resumed = api
        .resume_handler("render", &because("bought"))
        .await
        .unwrap()
        .item;
    assert_eq!(
        (resumed.handler.paused, resumed.receipt.unwrap().kind.as_str()),
        (None, "handler.resumed")
    );
    let rows = api.handlers().await.unwrap().items;
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (row.handler.as_str(), row.ready, row.machines[0].machine.as_str()),
        ("render", 1, "studio")
    );
}

#[tokio::test]
async fn a_limit_is_set_listed_and_lifted() {
    let studio = Studio::found();
    let api = studio.api();
    let rate = RateView {
        claims: 10,
        period_ms: 60_000,
    };
    for (scope, name) in [
        ("handler", "render"),
        ("machine", "studio"),
        ("key", "api.example"),
    ] {
        let body = LimitBody {
            scope: scope.into(),
            name: name.into(),
            running_max: Some(2),
            rate: Some(rate),
            reason: "two licences".into(),
        };
        let set = api.set_limit(&body).await.unwrap().item;
        let limit = set.limit.unwrap();
        assert_eq!(
            (
                limit.scope.as_str(),
                limit.name.as_str(),
                limit.running_max,
                limit.rate
            ),
            (scope, name, Some(2), Some(rate))
        );
        assert_eq!(set.receipt.unwrap().kind, "queue.limited");
        assert_eq!(api.set_limit(&body).await.unwrap().item.receipt, None);
    }
    assert_eq!(api.limits().await.unwrap().items.len(), 3);
    let of = |running_max| LimitBody {
        scope: "handler".into(),
        name: "render".into(),
        running_max,
        ..LimitBody::default()
    };
    assert_eq!(code(api.set_limit(&of(Some(0))).await), "queue.steering");
    let other = LimitBody {
        scope: "planet".into(),
        ..of(Some(1))
    };
    assert_eq!(code(api.set_limit(&other).await), "request.body");
    assert_eq!(api.set_limit(&of(None)).await.unwrap().item.limit, None);
    assert_eq!(api.limits().await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_drain_that_nobody_waits_for_any_more_comes_to_its_end() {
    let studio = Studio::found();
    studio.declare(&["thumbs"]).await;
    let api = studio.api();
    let job = studio.submit(request("thumbs")).await;
    let asked = api
        .drain_handler("thumbs", &because("stale"))
        .now_or_never()
        .is_some();
    assert!(!asked, "it is given up before it has an answer");
    let ended = async {
        while state(&api, &job).await != "discarded" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.unwrap();
}

#[tokio::test]
async fn a_backlog_is_drained_with_a_reason_alone_and_each_job_has_its_receipt() {
    let studio = Studio::found();
    studio.declare(&["thumbs", "other"]).await;
    let api = studio.api();
    let mut jobs = Vec::new();
    for n in 0..5 {
        let not_before = (n == 0).then(|| LATER.to_owned());
        jobs.push(
            studio
                .submit(RequestBody {
                    not_before,
                    ..request("thumbs")
                })
                .await,
        );
    }
    api.steer_job(&jobs[1], "hold", &because("")).await.unwrap();
    let kept = studio.submit(request("other")).await;
    assert_eq!(
        code(api.drain_handler("thumbs", &because("")).await),
        "request.spec"
    );
    assert_eq!(state(&api, &jobs[0]).await, "scheduled");
    let drained = api.drain_handler("thumbs", &because("stale")).await.unwrap().item;
    assert_eq!(
        (drained.discarded, drained.handler.ready, drained.handler.waiting),
        (5, 0, 0)
    );
    for job in &jobs {
        assert_eq!(state(&api, job).await, "discarded");
    }
    assert_eq!(state(&api, &kept).await, "ready");
    let query = ReceiptsQuery {
        kind: vec!["job.discarded".into()],
        ..ReceiptsQuery::default()
    };
    let said = api.receipts(&query).await.unwrap().items;
    assert_eq!(said.len(), 5);
    assert!(
        said.iter()
            .all(|receipt| receipt.detail["reason"] == "drained" && receipt.detail["note"] == "stale")
    );
    assert_eq!(
        api.drain_handler("thumbs", &because("stale"))
            .await
            .unwrap()
            .item
            .discarded,
        0
    );
}

#[tokio::test]
async fn what_could_not_stand_is_refused_also_when_it_comes_signed() {
    let studio = Studio::found();
    studio.declare(&["count"]).await;
    let api = studio.api();
    let job = studio.submit(request("count")).await;
    let id = JobId(ReceiptId::parse(&job).unwrap());
    let held = |reason| JobHeld {
        job: id,
        reason,
        note: String::new(),
    };
    let fleet = studio.machine.ledger.context().fleet;
    let stranger = SigningKey::from_seed([9; 32]);
    let sign = |detail: &JobHeld| {
        studio
            .machine
            .sign_as_actor(Draft::of(detail, id.subject()))
            .unwrap()
    };
    // A reason that only Central gives; a statement about another act; a key without a grant.
    let said = sign(&held(HeldReason::Dependencies));
    assert_eq!(
        code(api.steer_job_signed(&job, "hold", said.signed()).await),
        "request.spec"
    );
    let said = sign(&held(HeldReason::ByHand));
    assert_eq!(
        code(api.steer_job_signed(&job, "release", said.signed()).await),
        "request.body"
    );
    let unknown = setup::sign(
        &stranger,
        fleet,
        Draft::of(&held(HeldReason::ByHand), id.subject()),
    )
    .unwrap();
    assert_eq!(
        code(api.steer_job_signed(&job, "hold", &unknown).await),
        "auth.forbidden"
    );
    assert_eq!(state(&api, &job).await, "ready");
    let done = api
        .steer_job_signed(&job, "hold", said.signed())
        .await
        .unwrap()
        .item;
    assert_eq!(done.receipt.unwrap().kind, JobHeld::KIND);
    assert_eq!(done.job.state, "held");
}

#[tokio::test]
async fn a_list_of_jobs_is_narrowed_and_its_pages_join() {
    let studio = Studio::found();
    studio.declare(&["count"]).await;
    let api = studio.api();
    let mut jobs = Vec::new();
    for n in 0..7 {
        let handler = if n % 2 == 0 { "count" } else { "nobody" };
        let machine = (n == 4).then(|| "studio".to_owned());
        jobs.push(
            studio
                .submit(RequestBody {
                    machine,
                    ..request(handler)
                })
                .await,
        );
    }
    let of = |handler: Option<&str>, machine: Option<&str>| JobsQuery {
        handler: handler.map(str::to_owned),
        machine: machine.map(str::to_owned),
        limit: Some(2),
        ..JobsQuery::default()
    };
    let all = async |mut query: JobsQuery| {
        let mut found = Vec::new();
        loop {
            let page = api.jobs(&query).await.unwrap();
            found.extend(page.items.into_iter().map(|job| job.id));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return found;
            }
        }
    };
    let newest_first = |jobs: &[&String]| jobs.iter().rev().map(|job| (*job).clone()).collect::<Vec<_>>();
    assert_eq!(
        all(of(Some("count"), None)).await,
        newest_first(&[&jobs[0], &jobs[2], &jobs[4], &jobs[6]])
    );
    assert_eq!(all(of(None, Some("studio"))).await, vec![jobs[4].clone()]);
    let parked = JobsQuery {
        state: vec!["parked".into()],
        ..of(None, None)
    };
    assert_eq!(all(parked).await, newest_first(&[&jobs[1], &jobs[3], &jobs[5]]));
    let accepted = api.job(&jobs[3]).await.unwrap().item.job.accepted_at;
    let since = JobsQuery {
        since: Some(accepted),
        ..of(None, None)
    };
    let since = all(since).await;
    assert!(since.contains(&jobs[3]) && since.contains(&jobs[6]) && since.len() <= 7);
    let none = JobsQuery {
        since: Some(LATER.into()),
        ..of(None, None)
    };
    assert_eq!(all(none).await, Vec::<String>::new());
    let wrong = JobsQuery {
        state: vec!["sleeping".into()],
        ..JobsQuery::default()
    };
    assert_eq!(code(api.jobs(&wrong).await), "request.query");
}
