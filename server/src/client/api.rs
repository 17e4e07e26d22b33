//! The typed client: one method for each endpoint, for the CLI, the demo and programs on the machine.

use super::transport::{Incoming, Outgoing, Transport};
use super::{ClientError, Events};
use crate::http::statement_body;
use crate::http::wire::{
    Answer, AppendBody, Appended, Boot, CancelBody, Cancelled, CostsQuery, CostsTold, EventsQuery, Health,
    Job, JobFull, JobsQuery, Node, Notice, NoticesQuery, Page, Problem, Ready, Receipt, ReceiptFull,
    ReceiptsQuery, RequestBody, Requested, RestBody, Rested, Schedule, ScheduleBody, ScheduleFull,
    ScheduleSet, Seen, SeenBody, Status, Uptime, UptimeQuery, WishBody, Wished,
};
use axum::Router;
use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ledger::core::SignedStatement;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// The longest that an ordinary call may take: longer than the server allows itself.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// Longest answer, in bytes: a page of 1,000 receipts with the largest details.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A machine's API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    transport: Transport,
}

impl Api {
    /// Through the unix socket of the machine's daemon.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self {
            transport: Transport::unix(path.as_ref()),
        }
    }

    /// Without a daemon: a router in this process, for commands that hold the store themselves.
    pub fn in_process(router: Router) -> Self {
        Self {
            transport: Transport::Process(router),
        }
    }

    /// Over the network, reading with a bearer token (or, without one, only what is open to anybody).
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn network(base_url: &str, bearer: Option<String>) -> Result<Self, ClientError> {
        Ok(Self {
            transport: Transport::network(base_url, bearer)?,
        })
    }

    /// The unix socket that this client talks to, if it does.
    pub fn socket(&self) -> Option<&Path> {
        self.transport.socket()
    }

    /// `GET /v1/receipts`.
    ///
    /// # Errors
    /// [`ClientError`], here and in every method below: the server's problem, or why there was no answer.
    pub async fn receipts(&self, query: &ReceiptsQuery) -> Result<Page<Receipt>, ClientError> {
        self.get(&with_query("/v1/receipts", query)).await
    }

    /// `GET /v1/receipts/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(&self, id: &str) -> Result<Answer<Vec<ReceiptFull>>, ClientError> {
        self.get(&format!("/v1/receipts/{}", escape(id))).await
    }

    /// `GET /v1/jobs`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self, query: &JobsQuery) -> Result<Page<Job>, ClientError> {
        self.get(&with_query("/v1/jobs", query)).await
    }

    /// `GET /v1/jobs/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, id: &str) -> Result<Answer<JobFull>, ClientError> {
        self.get(&format!("/v1/jobs/{}", escape(id))).await
    }

    /// `GET /v1/jobs/{id}?evidence=no`: how it stands, as this machine knows it; its gateway is not asked for more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job_here(&self, id: &str) -> Result<Answer<JobFull>, ClientError> {
        self.get(&format!("/v1/jobs/{}?evidence=no", escape(id))).await
    }

    /// `GET /v1/nodes`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn nodes(&self) -> Result<Page<Node>, ClientError> {
        self.get("/v1/nodes").await
    }

    /// `GET /v1/uptime`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn uptime(&self, query: &UptimeQuery) -> Result<Page<Uptime>, ClientError> {
        self.get(&with_query("/v1/uptime", query)).await
    }

    /// `POST /v1/nodes/{machine}/{wish}`, signed by the machine's local actor; `wish` is `drain`, `resume` or `quarantine`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wish(
        &self,
        machine: &str,
        wish: &str,
        body: &WishBody,
    ) -> Result<Answer<Wished>, ClientError> {
        self.post(&format!("/v1/nodes/{}/{wish}", escape(machine)), body)
            .await
    }

    /// The same with a statement that its author signed: an operator elsewhere, or the root.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wish_signed(
        &self,
        machine: &str,
        wish: &str,
        said: &SignedStatement,
    ) -> Result<Answer<Wished>, ClientError> {
        self.post(
            &format!("/v1/nodes/{}/{wish}", escape(machine)),
            &statement_body(said),
        )
        .await
    }

    /// `POST /v1/rest`: at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rest(&self, body: &RestBody) -> Result<Answer<Rested>, ClientError> {
        self.post("/v1/rest", body).await
    }

    /// `GET /v1/notices`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn notices(&self, query: &NoticesQuery) -> Result<Page<Notice>, ClientError> {
        self.get(&with_query("/v1/notices", query)).await
    }

    /// `POST /v1/notices/{id}/acknowledge`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge(&self, id: &str, body: &SeenBody) -> Result<Answer<Seen>, ClientError> {
        self.post(&format!("/v1/notices/{}/acknowledge", escape(id)), body)
            .await
    }

    /// `GET /v1/costs`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn costs(&self, query: &CostsQuery) -> Result<Answer<CostsTold>, ClientError> {
        self.get(&with_query("/v1/costs", query)).await
    }

    /// `GET /v1/schedules`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn schedules(&self) -> Result<Page<Schedule>, ClientError> {
        self.get("/v1/schedules").await
    }

    /// `GET /v1/schedules/{name}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn schedule(&self, name: &str) -> Result<Answer<ScheduleFull>, ClientError> {
        self.get(&format!("/v1/schedules/{}", escape(name))).await
    }

    /// `POST /v1/schedules`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn define_schedule(&self, body: &ScheduleBody) -> Result<Answer<ScheduleSet>, ClientError> {
        self.post("/v1/schedules", body).await
    }

    /// `DELETE /v1/schedules/{name}`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_schedule(
        &self,
        name: &str,
        body: &WishBody,
    ) -> Result<Answer<ScheduleSet>, ClientError> {
        let target = format!("/v1/schedules/{}", escape(name));
        self.within(async {
            self.read(self.send(Method::DELETE, &target, Some(body)).await?)
                .await
        })
        .await
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Answer<Status>, ClientError> {
        self.get("/v1/status").await
    }

    /// `POST /v1/requests`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request(&self, body: &RequestBody) -> Result<Answer<Requested>, ClientError> {
        self.post("/v1/requests", body).await
    }

    /// `POST /v1/requests` with a statement that its author signed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request_signed(&self, said: &SignedStatement) -> Result<Answer<Requested>, ClientError> {
        self.post("/v1/requests", &statement_body(said)).await
    }

    /// `POST /v1/receipts`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn append(&self, body: &AppendBody) -> Result<Answer<Appended>, ClientError> {
        self.post("/v1/receipts", body).await
    }

    /// `POST /v1/receipts` with a statement that its author signed: an agent's own, or the root's grant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn append_signed(&self, said: &SignedStatement) -> Result<Answer<Appended>, ClientError> {
        self.post("/v1/receipts", &statement_body(said)).await
    }

    /// `POST /v1/jobs/{id}/cancel`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel(&self, job: &str, body: &CancelBody) -> Result<Answer<Cancelled>, ClientError> {
        self.post(&format!("/v1/jobs/{}/cancel", escape(job)), body).await
    }

    /// `GET /v1/events`: receipts as they come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, query: &EventsQuery) -> Result<Events, ClientError> {
        let incoming = self
            .within(self.send::<()>(Method::GET, &with_query("/v1/events", query), None))
            .await?;
        if incoming.status != StatusCode::OK {
            return Err(self.problem(incoming).await);
        }
        Ok(Events::new(self.transport.name().to_owned(), incoming.chunks))
    }

    /// `GET /healthz`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn healthz(&self) -> Result<Health, ClientError> {
        self.get("/healthz").await
    }

    /// `GET /readyz`: the answer, also when it is "not ready".
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn readyz(&self) -> Result<Ready, ClientError> {
        self.within(async {
            let mut incoming = self.send::<()>(Method::GET, "/readyz", None).await?;
            if incoming.status == StatusCode::SERVICE_UNAVAILABLE && !is_problem(&incoming.headers) {
                incoming.status = StatusCode::OK;
            }
            self.read(incoming).await
        })
        .await
    }

    /// `GET /v1/boot`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn boot(&self) -> Result<Boot, ClientError> {
        self.get("/v1/boot").await
    }

    /// `GET /openapi.json`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/openapi.json").await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.within(async { self.read(self.send::<()>(Method::GET, target, None).await?).await })
            .await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.within(async {
            self.read(self.send(Method::POST, target, Some(body)).await?)
                .await
        })
        .await
    }

    /// The same for what takes as long as the disk does, with a body or without.
    pub(super) async fn post_long<B: Serialize, T: DeserializeOwned>(
        &self,
        target: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        self.read(self.send(Method::POST, target, body).await?).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let elapsed = |_| ClientError::Timeout {
            to: self.transport.name().to_owned(),
            after: CALL_WITHIN,
        };
        tokio::time::timeout(CALL_WITHIN, call).await.map_err(elapsed)?
    }

    async fn send<B: Serialize>(
        &self,
        method: Method,
        target: &str,
        body: Option<&B>,
    ) -> Result<Incoming, ClientError> {
        let mut headers = HeaderMap::new();
        let body = match body {
            None => Vec::new(),
            Some(body) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                serde_json::to_vec(body).expect("wire types are JSON")
            }
        };
        self.transport
            .send(Outgoing {
                method,
                target,
                headers,
                body,
            })
            .await
    }

    async fn read<T: DeserializeOwned>(&self, incoming: Incoming) -> Result<T, ClientError> {
        if !incoming.status.is_success() {
            return Err(self.problem(incoming).await);
        }
        let bytes = incoming.bytes(self.transport.name(), ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|e| self.malformed(&e.to_string()))
    }

    async fn problem(&self, incoming: Incoming) -> ClientError {
        let status = incoming.status;
        if !is_problem(&incoming.headers) {
            return self.malformed(&format!("status {status} without a problem"));
        }
        match incoming.bytes(self.transport.name(), ANSWER_BYTES_MAX).await {
            Ok(bytes) => match serde_json::from_slice::<Problem>(&bytes) {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(error) => self.malformed(&format!("status {status} with a malformed problem: {error}")),
            },
            Err(error) => error,
        }
    }

    fn malformed(&self, why: &str) -> ClientError {
        ClientError::Malformed {
            to: self.transport.name().to_owned(),
            why: why.to_owned(),
        }
    }
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|media| media.as_bytes() == b"application/problem+json")
}

pub(super) fn escape(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A path with a query's parameters: those that are there, lists repeated.
pub(super) fn with_query(path: &str, query: &impl Serialize) -> String {
    let mut serializer = Serializer::new(String::new());
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields {
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::Array(values) => {
                    for value in values {
                        serializer.append_pair(&name, value.as_str().unwrap_or_default());
                    }
                }
                serde_json::Value::String(text) => {
                    serializer.append_pair(&name, &text);
                }
                other => {
                    serializer.append_pair(&name, &other.to_string());
                }
            }
        }
    }
    match serializer.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
