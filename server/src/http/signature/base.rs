//! The signature base (RFC 9421 section 2.5): the exact bytes that a signature is over.
//!
//! Owns: the value of each component, and the lines. Contract: byte-exact to the RFC for the derived components
//! `@method`, `@authority`, `@path`, `@query`, `@status`, for fields that stand once, and for a request's own signature
//! in its answer. Does not: know which components the profile wants.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use sfv::{BareItem, FieldType, Item};

use super::RequestSignature;
use super::error::SignatureError;
use super::field::{SignatureInput, header as one_header, signature_member};
use super::profile::{HOST_BYTES_MAX, TARGET_BYTES_MAX};

/// Longest field value in a signature base, in bytes; each header of the profile has a tighter bound of its own.
const FIELD_BYTES_MAX: usize = 8192;

/// The message that components are taken from.
pub(super) enum Message<'a> {
    /// A request and the normal form of its authority.
    Request { parts: &'a Parts, authority: &'a str },
    /// An answer and the signature of the request that it answers.
    Answer {
        status: StatusCode,
        headers: &'a HeaderMap,
        request: &'a RequestSignature,
    },
}

/// The bytes to sign or verify.
pub(super) fn signature_base(
    message: &Message<'_>,
    input: &SignatureInput,
) -> Result<Vec<u8>, SignatureError> {
    let mut base = String::with_capacity(1024);
    for component in &input.list.items {
        let value = component_value(message, component).unwrap_or(Err(SignatureError::Components {
            found: input.list.items.len(),
        }))?;
        base.push_str(&component.serialize());
        base.push_str(": ");
        base.push_str(&value);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(&input.text);
    Ok(base.into_bytes())
}

/// The value of one component; nothing when this message has no such component.
fn component_value(message: &Message<'_>, component: &Item) -> Option<Result<String, SignatureError>> {
    let BareItem::String(name) = &component.bare_item else {
        return None;
    };
    let plain = component.params.is_empty();
    let (headers, value) = match message {
        Message::Request { parts, authority } => (
            &parts.headers,
            match name.as_str() {
                "@method" => Some(parts.method.as_str().to_owned()),
                "@authority" => Some((*authority).to_owned()),
                "@path" => Some(path(&parts.uri).to_owned()),
                "@query" => Some(format!("?{}", parts.uri.query().unwrap_or(""))),
                _ => None,
            },
        ),
        Message::Answer { request, .. } if component == &request_signature_component() => {
            return Some(Ok(signature_member(request)));
        }
        Message::Answer { status, headers, .. } => (
            *headers,
            match name.as_str() {
                "@status" => Some(status.as_str().to_owned()),
                _ => None,
            },
        ),
    };
    match value {
        Some(value) if plain => Some(Ok(value)),
        None if plain => {
            let field = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            Some(one_header(headers, &field, FIELD_BYTES_MAX).map(str::to_owned))
        }
        _ => None,
    }
}

fn request_signature_component() -> Item {
    super::profile::answer_components(false)
        .pop()
        .expect("the answer's last component is the request's signature")
}

/// An absolute path; RFC 9421 section 2.2.6 wants the empty one as `/`.
fn path(uri: &Uri) -> &str {
    if uri.path().is_empty() { "/" } else { uri.path() }
}

/// The normal form of an authority (RFC 9421 section 2.2.3): lower case, and no port where it is http's own.
///
/// # Errors
/// [`SignatureError::Authority`] when it is no `host` or `host:port`.
pub fn normal_authority(text: &str) -> Result<String, SignatureError> {
    if text.len() > HOST_BYTES_MAX || text.contains('@') {
        return Err(SignatureError::Authority);
    }
    let authority: Authority = text.parse().map_err(|_| SignatureError::Authority)?;
    let normal = match authority.port_u16() {
        Some(80) => authority.host(),
        _ => authority.as_str(),
    };
    Ok(normal.to_ascii_lowercase())
}

/// The authority that a request is addressed to: its one `Host`, which an absolute target must not contradict.
pub(super) fn request_authority(parts: &Parts) -> Result<String, SignatureError> {
    let host = normal_authority(one_header(&parts.headers, &header::HOST, HOST_BYTES_MAX)?)?;
    match parts.uri.authority() {
        Some(target) if normal_authority(target.as_str())? != host => Err(SignatureError::Authority),
        _ => Ok(host),
    }
}

/// That path and query keep their bound.
pub(super) fn check_target(uri: &Uri) -> Result<(), SignatureError> {
    let bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if bytes > TARGET_BYTES_MAX {
        return Err(SignatureError::TargetTooLong {
            bytes,
            bytes_max: TARGET_BYTES_MAX,
        });
    }
    Ok(())
}
