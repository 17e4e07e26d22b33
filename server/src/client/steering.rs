//! The typed client's methods that steer the queue: jobs by hand, handlers, limits.

use super::api::escape;
use super::{Api, ClientError};
use crate::http::statement_body;
use crate::http::wire::{
    Answer, Drained, HandlerRow, HandlerSteered, LimitBody, LimitView, Limited, Page, PauseBody, Requested,
    RetryBody, Steered, WishBody,
};
use ledger::core::SignedStatement;

impl Api {
    /// `POST /v1/jobs/{id}/{act}`, signed by the machine's local actor; `act` is `hold`, `release` or `discard`.
    ///
    /// # Errors
    /// [`ClientError`], here and in every method below: the server's problem, or why there was no answer.
    pub async fn steer_job(
        &self,
        job: &str,
        act: &str,
        body: &WishBody,
    ) -> Result<Answer<Steered>, ClientError> {
        self.post(&format!("/v1/jobs/{}/{act}", escape(job)), body).await
    }

    /// The same with a statement that its author signed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn steer_job_signed(
        &self,
        job: &str,
        act: &str,
        said: &SignedStatement,
    ) -> Result<Answer<Steered>, ClientError> {
        self.post(&format!("/v1/jobs/{}/{act}", escape(job)), &statement_body(said))
            .await
    }

    /// `POST /v1/jobs/{id}/retry`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retry_job(&self, job: &str, body: &RetryBody) -> Result<Answer<Requested>, ClientError> {
        self.post(&format!("/v1/jobs/{}/retry", escape(job)), body).await
    }

    /// `GET /v1/handlers`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn handlers(&self) -> Result<Page<HandlerRow>, ClientError> {
        self.get("/v1/handlers").await
    }

    /// `POST /v1/handlers/{handler}/pause`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pause_handler(
        &self,
        handler: &str,
        body: &PauseBody,
    ) -> Result<Answer<HandlerSteered>, ClientError> {
        self.post(&format!("/v1/handlers/{}/pause", escape(handler)), body)
            .await
    }

    /// `POST /v1/handlers/{handler}/resume`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume_handler(
        &self,
        handler: &str,
        body: &WishBody,
    ) -> Result<Answer<HandlerSteered>, ClientError> {
        self.post(&format!("/v1/handlers/{}/resume", escape(handler)), body)
            .await
    }

    /// `POST /v1/handlers/{handler}/drain`: at the local door alone. Takes as long as its backlog does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drain_handler(
        &self,
        handler: &str,
        body: &WishBody,
    ) -> Result<Answer<Drained>, ClientError> {
        self.post_long(&format!("/v1/handlers/{}/drain", escape(handler)), Some(body))
            .await
    }

    /// `GET /v1/limits`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn limits(&self) -> Result<Page<LimitView>, ClientError> {
        self.get("/v1/limits").await
    }

    /// `POST /v1/limits`, signed by the machine's local actor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_limit(&self, body: &LimitBody) -> Result<Answer<Limited>, ClientError> {
        self.post("/v1/limits", body).await
    }
}
