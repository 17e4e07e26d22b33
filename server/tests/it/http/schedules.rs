//! The doors of schedules and costs: who reads them, and whose word defines and removes.

use super::Studio;
use http::Method;
use ledger::core::kinds::{
    Credential, Detail, JobSpec, Misfire, Overlap, Role, ScheduleDefined, ScheduleRemoved,
};
use ledger::core::{Draft, SigningKey, Subject};
use ledger_server::client::{Api, ClientError, Signed};
use ledger_server::http::wire::{CostsQuery, ScheduleBody, WishBody};
use ledger_server::setup;
use serde_json::Value;
use std::sync::Arc;

fn body(name: &str) -> ScheduleBody {
    ScheduleBody {
        name: name.into(),
        cron: "30 3 * * *".into(),
        handler: "backup".into(),
        ..ScheduleBody::default()
    }
}

fn defined(name: &str) -> ScheduleDefined {
    ScheduleDefined {
        schedule: name.into(),
        cron: "30 3 * * *".into(),
        zone: "UTC".into(),
        overlap: Overlap::Forbid,
        misfire: Misfire::RunOnce,
        job: JobSpec {
            handler: "backup".into(),
            machine: None,
            labels: vec![],
            priority: 0,
            attempts_max: 1,
            not_before: None,
            deadline: None,
            unique_key: None,
            concurrency_key: None,
            depends_on: vec![],
            hold_on_failed_dependency: false,
            retry_of: None,
            input: None,
        },
        deadline_ms: None,
        project: None,
    }
}

fn code<T>(result: Result<T, ClientError>) -> String {
    result.map(drop).unwrap_err().code().to_owned()
}

/// A key with a role, and its calls at a door.
struct Member {
    key: Arc<SigningKey>,
    client: Signed,
}

impl Member {
    async fn of(studio: &Studio, base: &str, seed: u8, role: Role) -> Self {
        let key = Arc::new(SigningKey::from_seed([seed; 32]));
        let fleet = studio.machine.ledger.context().fleet;
        let credential = Credential::Key(key.public());
        let name = format!("member-{seed}");
        let grant = setup::grant(&studio.root, fleet, credential, &name, role, None).unwrap();
        studio.api().append_signed(&grant).await.unwrap();
        let server = studio.machine.ledger.context().machine_key;
        let client = Signed::new(base, key.clone(), Some(server)).unwrap();
        Self { key, client }
    }

    async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let body = self.client.call(Method::GET, path, "", Vec::new()).await?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    /// What this key signed, handed in.
    async fn say<D: Detail>(
        &self,
        studio: &Studio,
        method: Method,
        path: &str,
        said: D,
    ) -> Result<(), ClientError> {
        let fleet = studio.machine.ledger.context().fleet;
        let draft = Draft::of(&said, Subject::new("schedule/nightly").unwrap());
        let said = setup::sign(&self.key, fleet, draft).unwrap();
        let body = serde_json::json!({
            "statement": data_encoding::BASE64.encode(&said.bytes),
            "signature": data_encoding::HEXLOWER.encode(&said.signature.0),
        });
        let body = serde_json::to_vec(&body).unwrap();
        let said = self.client.call(method, path, "application/json", body);
        said.await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_and_costs_are_read_by_members_and_set_by_an_operators_signature_alone() {
    let studio = Studio::found();
    let fleet = studio.machine.ledger.context().fleet;
    let (grant, secret) = setup::token(&studio.root, fleet, "page", None).unwrap();
    studio.api().append_signed(&grant).await.unwrap();
    studio.api().define_schedule(&body("nightly")).await.unwrap();
    let door = studio.listen().await;
    let paths = [
        "/v1/schedules",
        "/v1/schedules/nightly",
        "/v1/costs",
        "/v1/costs?by=day",
    ];

    // A token reads both, and sets nothing.
    let token = Api::network(&door.base, Some(secret)).unwrap();
    assert_eq!(token.schedules().await.unwrap().items.len(), 1);
    assert_eq!(
        token.costs(&CostsQuery::default()).await.unwrap().item.by,
        "handler"
    );
    assert_eq!(
        code(token.define_schedule(&body("other")).await),
        "auth.forbidden"
    );
    let because = WishBody {
        reason: String::new(),
    };
    let gone = token.remove_schedule("nightly", &because);
    assert_eq!(code(gone.await), "auth.forbidden");
    // Without one nothing is told, not even what there is.
    let nobody = Api::network(&door.base, None).unwrap();
    let refused = code(nobody.schedules().await);
    assert_eq!(code(nobody.schedule("no-such").await), refused);
    assert_eq!(code(nobody.costs(&CostsQuery::default()).await), refused);
    assert_eq!(code(nobody.define_schedule(&body("other")).await), refused);

    // A machine of the fleet and a reader read, an agent does not, and the word of none of them sets anything.
    for (seed, role, reads) in [
        (41, Role::Node, true),
        (42, Role::Reader, true),
        (43, Role::Agent, false),
    ] {
        let member = Member::of(&studio, &door.base, seed, role).await;
        for path in paths {
            let answer = member.get(path).await.map_err(|e| e.code().to_owned());
            let told = answer.map(drop);
            let expected = if reads {
                Ok(())
            } else {
                Err("auth.forbidden".to_owned())
            };
            assert_eq!(told, expected, "{role:?} {path}");
        }
        let said = member.say(&studio, Method::POST, "/v1/schedules", defined("nightly"));
        assert_eq!(code(said.await), "auth.forbidden", "{role:?}");
        let removed = ScheduleRemoved {
            schedule: "nightly".into(),
            reason: String::new(),
        };
        let said = member.say(&studio, Method::DELETE, "/v1/schedules/nightly", removed);
        assert_eq!(code(said.await), "auth.forbidden", "{role:?}");
    }
    assert_eq!(studio.api().schedules().await.unwrap().items.len(), 1);

    // An operator's does, over the network too; and only what the path names.
    let operator = Member::of(&studio, &door.base, 44, Role::Operator).await;
    let plain = serde_json::to_vec(&body("other")).unwrap();
    let unsigned = operator
        .client
        .call(Method::POST, "/v1/schedules", "application/json", plain);
    assert_eq!(code(unsigned.await), "request.body");
    operator
        .say(&studio, Method::POST, "/v1/schedules", defined("nightly"))
        .await
        .unwrap();
    let removed = ScheduleRemoved {
        schedule: "another".into(),
        reason: String::new(),
    };
    let said = operator.say(&studio, Method::DELETE, "/v1/schedules/nightly", removed);
    assert_eq!(code(said.await), "request.body");
    let removed = ScheduleRemoved {
        schedule: "nightly".into(),
        reason: "moved".into(),
    };
    operator
        .say(&studio, Method::DELETE, "/v1/schedules/nightly", removed)
        .await
        .unwrap();
    assert!(token.schedules().await.unwrap().items.is_empty());
    door.close().await;
}

#[tokio::test]
async fn a_question_about_costs_that_makes_no_sense_is_named() {
    let studio = Studio::found();
    let api = studio.api();
    let asked = |by: Option<&str>, since: Option<&str>, until: Option<&str>| {
        let query = CostsQuery {
            by: by.map(str::to_owned),
            since: since.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        let api = &api;
        async move { code(api.costs(&query).await) }
    };
    assert_eq!(asked(Some("colour"), None, None).await, "request.query");
    assert_eq!(asked(None, Some("yesterday"), None).await, "request.query");
    let (since, until) = (Some("2025-02-02T00:00:00Z"), Some("2025-02-01T00:00:00Z"));
    assert_eq!(asked(None, since, until).await, "request.query");
}
