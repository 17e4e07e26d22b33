//! The client of machines: every request signed with the machine's key, every answer checked against the gateway's.
//!
//! Owns: the server's boot id as last heard. Contract: an answer is handed out only when the pinned key signed it for this
//! very request; without a pinned key (joining) nothing is signed and the proofs are in the bodies. A server that was
//! restarted refuses the old boot id; then it is fetched and the request signed once more, which is safe because every
//! exchange is idempotent. Does not: retry otherwise, follow redirects, use a proxy.

use super::ClientError;
use super::transport::{check_base, failed, plain_client};
use crate::exchange::MEDIA;
use crate::http::signature::{
    BOOT_BYTES_MAX, NONCE_BYTES, RequestSigner, SKEW_S, Window, sign_request, verify_base, verify_response,
};
use crate::http::wire::{Boot, Problem};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use ledger::Ledger;
use ledger::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use ledger::core::PublicKey;
use ledger_projections::FleetState;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest answer, in bytes: a run of records and one more above its bound, and room.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the boot id may take.
const BOOT_WITHIN: Duration = Duration::from_secs(10);

/// Signs as the machine whose store this is.
pub struct MachineSigner(pub Ledger<FleetState>);

impl RequestSigner for MachineSigner {
    fn public_key(&self) -> [u8; 32] {
        self.0.keyring().machine.public_key()
    }

    fn sign(&self, base: &[u8]) -> [u8; 64] {
        RequestSigner::sign(&self.0.keyring().machine, base)
    }
}

/// A client that signs. Share it by reference or [`Arc`].
pub struct Signed {
    client: reqwest::Client,
    base: String,
    authority: String,
    signer: Arc<dyn RequestSigner + Send + Sync>,
    server_key: Option<PublicKey>,
    boot: Mutex<Option<String>>,
}

/// What the gate answers before it has verified who asks; every other answer must be signed.
const UNSIGNED: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// One answer, whole.
struct Whole {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Signed {
    /// A client for `http://host:port` whose answers `server_key` signs; without it nothing is signed either way.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(
        base_url: &str,
        signer: Arc<dyn RequestSigner + Send + Sync>,
        server_key: Option<PublicKey>,
    ) -> Result<Self, ClientError> {
        let base = check_base(base_url)?;
        let authority = base.trim_start_matches("http://").to_owned();
        let client = plain_client().build().expect("a plain client can be built");
        Ok(Self {
            client,
            base,
            authority,
            signer,
            server_key,
            boot: Mutex::default(),
        })
    }

    /// One exchange between machines; `timeout` covers all of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exchange(&self, op: &str, body: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, ClientError> {
        let target = format!("/v1/fleet/{op}");
        let call = self.call(Method::POST, &target, MEDIA, body);
        let elapsed = |_| ClientError::Timeout {
            to: self.base.clone(),
            after: timeout,
        };
        tokio::time::timeout(timeout, call).await.map_err(elapsed)?
    }

    /// One signed request with a body of a media type (none when the body is empty); the answer's body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(
        &self,
        method: Method,
        target: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ClientError> {
        let Some(server_key) = self.server_key else {
            let answer = self.send(self.request(method, target, media, body)?).await?;
            return self.taken(answer);
        };
        let known = self.boot();
        let boot = match &known {
            Some(boot) => boot.clone(),
            None => self.fetch_boot().await?,
        };
        match self
            .signed(&method, target, media, &body, &boot, server_key)
            .await
        {
            // A stranger's 401 is not signed, so it proves nothing but is worth one look at the boot id.
            Err(error) if known.is_some() && is_unauthorized(&error) => {
                let fresh = self.fetch_boot().await?;
                if fresh == boot {
                    return Err(error);
                }
                self.signed(&method, target, media, &body, &fresh, server_key)
                    .await
            }
            answer => answer,
        }
    }

    async fn signed(
        &self,
        method: &Method,
        target: &str,
        media: &str,
        body: &[u8],
        boot: &str,
        server_key: PublicKey,
    ) -> Result<Vec<u8>, ClientError> {
        let request = self.request(method.clone(), target, media, body.to_vec())?;
        let (mut parts, body) = request.into_parts();
        let mut nonce = [0; NONCE_BYTES];
        SystemEntropy.fill(&mut nonce);
        let wrong = |source| ClientError::Signature {
            to: self.base.clone(),
            source,
        };
        let signature = sign_request(
            &*self.signer,
            &mut parts,
            &self.authority,
            &body,
            boot,
            now_s(),
            nonce,
        )
        .map_err(wrong)?;
        let answer = self.send(Request::from_parts(parts, body)).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return self.taken(answer);
        }
        let window = Window {
            now_s: now_s(),
            skew_s: SKEW_S,
        };
        let checked = verify_response(
            answer.status,
            &answer.headers,
            &answer.body,
            &signature,
            &server_key.0,
            window,
            verify_base,
        );
        match checked {
            Ok(()) => self.taken(answer),
            // Refused before the gateway knew who asked: nobody to sign for, and nothing in it is acted upon but waiting.
            Err(_) if UNSIGNED.contains(&answer.status) && is_problem(&answer) => self.taken(answer),
            Err(source) => Err(wrong(source)),
        }
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        media: &str,
        body: Vec<u8>,
    ) -> Result<Request<Vec<u8>>, ClientError> {
        let wrong = |why: String| ClientError::Address {
            address: format!("{}{target}", self.base),
            why,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base));
        if !body.is_empty() {
            request = request.header(
                header::CONTENT_TYPE,
                HeaderValue::from_str(media).map_err(|e| wrong(e.to_string()))?,
            );
        }
        request.body(body).map_err(|e| wrong(e.to_string()))
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Whole, ClientError> {
        let request = reqwest::Request::try_from(request).map_err(|error| failed(&self.base, &error))?;
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| failed(&self.base, &error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut chunks = response.bytes_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|error| failed(&self.base, &error))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong {
                    to: self.base.clone(),
                    bytes_max: ANSWER_BYTES_MAX,
                });
            }
        }
        Ok(Whole {
            status,
            headers,
            body,
        })
    }

    fn taken(&self, answer: Whole) -> Result<Vec<u8>, ClientError> {
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) if is_problem(&answer) => Err(ClientError::Problem(Box::new(problem))),
            _ => Err(self.malformed(&format!("status {} without a problem", answer.status))),
        }
    }

    async fn fetch_boot(&self) -> Result<String, ClientError> {
        let request = self.request(Method::GET, "/v1/boot", "", Vec::new())?;
        let elapsed = |_| ClientError::Timeout {
            to: self.base.clone(),
            after: BOOT_WITHIN,
        };
        let answer = tokio::time::timeout(BOOT_WITHIN, self.send(request))
            .await
            .map_err(elapsed)??;
        let Boot { boot } =
            serde_json::from_slice(&self.taken(answer)?).map_err(|e| self.malformed(&e.to_string()))?;
        if boot.len() > BOOT_BYTES_MAX {
            return Err(self.malformed("its boot id is too long"));
        }
        *self.boot.lock().unwrap_or_else(PoisonError::into_inner) = Some(boot.clone());
        Ok(boot)
    }

    fn boot(&self) -> Option<String> {
        self.boot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn malformed(&self, why: &str) -> ClientError {
        ClientError::Malformed {
            to: self.base.clone(),
            why: why.to_owned(),
        }
    }
}

fn is_problem(answer: &Whole) -> bool {
    answer
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|media| media.as_bytes() == b"application/problem+json")
}

fn is_unauthorized(error: &ClientError) -> bool {
    error
        .problem()
        .is_some_and(|problem| problem.status == StatusCode::UNAUTHORIZED.as_u16())
}

fn now_s() -> i64 {
    SystemClock.now_us().div_euclid(1_000_000)
}
