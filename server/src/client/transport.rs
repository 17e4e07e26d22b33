//! How the typed client reaches a machine: its unix socket, its address, or its router in this very process.
//!
//! Contract: no redirects, no proxies, nothing kept between calls but connections. Does not: sign; see [`super::Signed`].

use super::ClientError;
use axum::Router;
use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, Method, Request, StatusCode, header};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower::ServiceExt;

/// How long to wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: shorter than the server keeps it.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// Chunks of a body.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, ClientError>>;

/// An answer whose body is still to come.
pub(super) struct Incoming {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) chunks: Chunks,
}

/// A request.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// One way to one machine.
#[derive(Clone)]
pub(super) enum Transport {
    Http {
        client: reqwest::Client,
        base: String,
        bearer: Option<String>,
        name: String,
        socket: Option<PathBuf>,
    },
    Process(Router),
}

/// A client that follows nothing and asks nobody else.
pub(crate) fn plain_client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_WITHIN)
        .pool_idle_timeout(IDLE_FOR)
        .http1_only()
}

impl Transport {
    pub(super) fn unix(path: &Path) -> Self {
        // Nothing of the host's configuration is read, so building it cannot fail.
        let client = plain_client()
            .unix_socket(path)
            .build()
            .expect("a plain client can be built");
        Self::Http {
            client,
            base: "http://localhost".to_owned(),
            bearer: None,
            name: path.display().to_string(),
            socket: Some(path.to_owned()),
        }
    }

    pub(super) fn network(base: &str, bearer: Option<String>) -> Result<Self, ClientError> {
        let base = check_base(base)?;
        let client = plain_client().build().expect("a plain client can be built");
        Ok(Self::Http {
            client,
            name: base.clone(),
            base,
            bearer,
            socket: None,
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Http { name, .. } => name,
            Self::Process(_) => "this process",
        }
    }

    pub(super) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Http { socket, .. } => socket.as_deref(),
            Self::Process(_) => None,
        }
    }

    pub(super) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Incoming, ClientError> {
        match self {
            Self::Http {
                client,
                base,
                bearer,
                name,
                ..
            } => {
                let mut request = client
                    .request(outgoing.method, format!("{base}{}", outgoing.target))
                    .headers(outgoing.headers)
                    .body(outgoing.body);
                if let Some(token) = bearer {
                    request = request.bearer_auth(token);
                }
                let response = request.send().await.map_err(|error| failed(name, &error))?;
                let to = name.clone();
                Ok(Incoming {
                    status: response.status(),
                    headers: response.headers().clone(),
                    chunks: response
                        .bytes_stream()
                        .map(move |chunk| chunk.map_err(|error| failed(&to, &error)))
                        .boxed(),
                })
            }
            Self::Process(router) => {
                let mut request = Request::new(Body::from(outgoing.body));
                *request.method_mut() = outgoing.method;
                *request.uri_mut() =
                    outgoing
                        .target
                        .parse()
                        .map_err(|e: http::uri::InvalidUri| ClientError::Address {
                            address: outgoing.target.to_owned(),
                            why: e.to_string(),
                        })?;
                *request.headers_mut() = outgoing.headers;
                request
                    .headers_mut()
                    .insert(header::HOST, http::HeaderValue::from_static("localhost"));
                let Ok(response) = router.clone().oneshot(request).await;
                let (parts, body) = response.into_parts();
                let chunks = body.into_data_stream().map(|chunk| {
                    chunk.map_err(|e| ClientError::Malformed {
                        to: "this process".to_owned(),
                        why: e.to_string(),
                    })
                });
                Ok(Incoming {
                    status: parts.status,
                    headers: parts.headers,
                    chunks: chunks.boxed(),
                })
            }
        }
    }
}

impl Incoming {
    /// The whole body, within a bound.
    pub(super) async fn bytes(mut self, to: &str, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > bytes_max {
                return Err(ClientError::TooLong {
                    to: to.to_owned(),
                    bytes_max,
                });
            }
        }
        Ok(bytes)
    }
}

/// An `http://host:port` without path, and without a slash at its end.
pub(super) fn check_base(base: &str) -> Result<String, ClientError> {
    let wrong = |why: &str| ClientError::Address {
        address: base.to_owned(),
        why: why.to_owned(),
    };
    let base_text = base.trim_end_matches('/');
    let uri: http::Uri = base_text.parse().map_err(|_| wrong("it is no URL"))?;
    match (uri.scheme_str(), uri.authority(), uri.path(), uri.query()) {
        (Some("http"), Some(_), "/" | "", None) => Ok(base_text.to_owned()),
        (Some("http"), Some(_), ..) => Err(wrong("it has a path")),
        _ => Err(wrong("it does not begin with http:// and a host")),
    }
}

/// What a failed call means.
pub(super) fn failed(to: &str, error: &reqwest::Error) -> ClientError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    if error.is_timeout() && !error.is_connect() {
        return ClientError::Timeout {
            to: to.to_owned(),
            after: CONNECT_WITHIN,
        };
    }
    ClientError::Unreachable {
        to: to.to_owned(),
        why,
    }
}
