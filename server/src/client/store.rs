//! The typed client's methods about what a store keeps and gives away: retention, the Vault, erasing, bundles, proofs, keys.

use super::api::with_query;
use super::{Api, ClientError};
use crate::http::wire::{
    Answer, Artifact, EraseBody, Erased, ExportBody, Exported, ImportBody, Imported, LogKey, Page, ProveBody,
    Proved, PublishBody, PublishedLog, Retention, RetentionBody, RetentionRun, RetentionSet, ScanBody,
    Scanned, VaultQuery,
};

impl Api {
    /// `GET /v1/retention`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retention(&self) -> Result<Answer<Retention>, ClientError> {
        self.get("/v1/retention").await
    }

    /// `POST /v1/retention`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_retention(&self, body: &RetentionBody) -> Result<Answer<RetentionSet>, ClientError> {
        self.post("/v1/retention", body).await
    }

    /// `POST /v1/retention/run`, at the local door.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_retention(&self) -> Result<Answer<Vec<RetentionRun>>, ClientError> {
        self.post_long::<(), _>("/v1/retention/run", None).await
    }

    /// `GET /v1/vault`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn vault(&self, query: &VaultQuery) -> Result<Page<Artifact>, ClientError> {
        self.get(&with_query("/v1/vault", query)).await
    }

    /// `POST /v1/vault/scan`. Takes as long as reading the files does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn scan_vault(&self, body: &ScanBody) -> Result<Answer<Scanned>, ClientError> {
        self.post_long("/v1/vault/scan", Some(body)).await
    }

    /// `POST /v1/receipts/{id}/erase`: at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn erase(&self, id: &str, body: &EraseBody) -> Result<Answer<Erased>, ClientError> {
        let path = format!("/v1/receipts/{id}/erase");
        self.post_long(&path, Some(body)).await
    }

    /// `POST /v1/export`: the machine writes the file; at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export(&self, body: &ExportBody) -> Result<Answer<Exported>, ClientError> {
        self.post_long("/v1/export", Some(body)).await
    }

    /// `POST /v1/verify`: the machine verifies its store and keeps the outcome as a receipt; at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify(&self) -> Result<Answer<serde_json::Value>, ClientError> {
        self.post_long::<(), _>("/v1/verify", None).await
    }

    /// `POST /v1/import`: at the local door alone. Takes as long as verifying the bundle does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn import(&self, body: &ImportBody) -> Result<Answer<Imported>, ClientError> {
        self.post_long("/v1/import", Some(body)).await
    }

    /// `POST /v1/prove`: at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prove(&self, body: &ProveBody) -> Result<Answer<Proved>, ClientError> {
        self.post_long("/v1/prove", Some(body)).await
    }

    /// `POST /v1/publish`: the machine writes the files; at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(&self, body: &PublishBody) -> Result<Answer<PublishedLog>, ClientError> {
        self.post_long("/v1/publish", Some(body)).await
    }

    /// `GET /v1/keys`: at the local door alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keys(&self) -> Result<Answer<Vec<LogKey>>, ClientError> {
        self.get("/v1/keys").await
    }
}
