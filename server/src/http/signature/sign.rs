//! Signing: requests by whoever sends them, answers by the server.
//!
//! Owns: setting the headers that the profile demands and signing over them. Contract: what is signed is what is sent,
//! if the caller changes neither body nor covered headers afterwards. Time and nonce are arguments. Does not: hold keys;
//! it asks a [`RequestSigner`].

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use sfv::{BareItem, InnerList, Integer, Key, Parameters, StringRef, key_ref};

use super::base::{Message, check_target, normal_authority, request_authority, signature_base};
use super::digest::content_digest;
use super::error::SignatureError;
use super::field::{SignatureInput, header as one_header, set, signature_value};
use super::nonce::NONCE_BYTES;
use super::profile::{
    ALGORITHM, BOOT_BYTES_MAX, CONTENT_DIGEST, CONTENT_TYPE_BYTES_MAX, LEDGER_BOOT, LIFETIME_S_MAX,
    SIGNATURE, SIGNATURE_INPUT, TAG_ANSWER, TAG_REQUEST, answer_components, request_components,
};
use super::{RequestSignature, RequestSigner};

/// Signs a request to `authority` (`host` or `host:port`) for the server whose boot id is `boot`.
///
/// Sets `Host` where it is absent, `Content-Digest`, `Ledger-Boot`, `Signature-Input` and `Signature`. With a body the
/// caller has set `Content-Type`; without one it is removed. `now_s` is in seconds since 1970; `nonce` is random and
/// never used twice. Keep the returned signature: the answer is bound to it.
///
/// # Errors
/// When a bound is exceeded, `Content-Type` is missing, `authority` contradicts `Host` or the target, or a value cannot
/// stand in a header. Nothing was sent, and `parts` is of no further use.
pub fn sign_request<S: RequestSigner + ?Sized>(
    signer: &S,
    parts: &mut Parts,
    authority: &str,
    body: &[u8],
    boot: &str,
    now_s: i64,
    nonce: [u8; NONCE_BYTES],
) -> Result<RequestSignature, SignatureError> {
    check_target(&parts.uri)?;
    let authority = normal_authority(authority)?;
    if !parts.headers.contains_key(header::HOST) {
        set(&mut parts.headers, &header::HOST, &authority)?;
    }
    if request_authority(parts)? != authority {
        return Err(SignatureError::Authority);
    }
    set_content(&mut parts.headers, body)?;
    set(&mut parts.headers, &LEDGER_BOOT, boot)?;
    one_header(&parts.headers, &LEDGER_BOOT, BOOT_BYTES_MAX)?;

    let mut parameters = Parameters::new();
    parameters.insert(name("created"), seconds(now_s, "created")?);
    parameters.insert(
        name("expires"),
        seconds(now_s.saturating_add(LIFETIME_S_MAX), "expires")?,
    );
    parameters.insert(name("nonce"), text(&BASE64URL_NOPAD.encode(&nonce)));
    parameters.insert(name("keyid"), text(&HEXLOWER.encode(&signer.public_key())));
    parameters.insert(name("tag"), text(TAG_REQUEST));
    parameters.insert(name("alg"), text(ALGORITHM));
    let components = request_components(!body.is_empty());
    let input = SignatureInput::new(InnerList::with_params(components, parameters));
    let base = signature_base(
        &Message::Request {
            parts,
            authority: &authority,
        },
        &input,
    )?;
    let signature = RequestSignature(signer.sign(&base));
    write(&mut parts.headers, &input, &signature)?;
    Ok(signature)
}

/// Signs the answer to the request that bore the signature `request`.
///
/// Sets `Content-Digest`, `Signature-Input` and `Signature`. With a body the caller has set `Content-Type`; without one
/// it is removed. `now_s` is in seconds since 1970.
///
/// # Errors
/// When `Content-Type` is missing, repeated or too long, or the time is outside what a structured field can hold.
pub fn sign_response<S: RequestSigner + ?Sized>(
    signer: &S,
    status: StatusCode,
    headers: &mut HeaderMap,
    body: &[u8],
    request: &RequestSignature,
    now_s: i64,
) -> Result<(), SignatureError> {
    set_content(headers, body)?;
    let mut parameters = Parameters::new();
    parameters.insert(name("created"), seconds(now_s, "created")?);
    parameters.insert(name("keyid"), text(&HEXLOWER.encode(&signer.public_key())));
    parameters.insert(name("tag"), text(TAG_ANSWER));
    let components = answer_components(!body.is_empty());
    let input = SignatureInput::new(InnerList::with_params(components, parameters));
    let base = signature_base(
        &Message::Answer {
            status,
            headers,
            request,
        },
        &input,
    )?;
    let signature = RequestSignature(signer.sign(&base));
    write(headers, &input, &signature)
}

fn set_content(headers: &mut HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
    if body.is_empty() {
        headers.remove(header::CONTENT_TYPE);
    } else {
        one_header(headers, &header::CONTENT_TYPE, CONTENT_TYPE_BYTES_MAX)?;
    }
    set(headers, &CONTENT_DIGEST, &content_digest(body))
}

fn write(
    headers: &mut HeaderMap,
    input: &SignatureInput,
    signature: &RequestSignature,
) -> Result<(), SignatureError> {
    set(headers, &SIGNATURE_INPUT, &input.header_value())?;
    set(headers, &SIGNATURE, &signature_value(signature))
}

fn name(name: &'static str) -> Key {
    key_ref(name).to_owned()
}

fn text(value: &str) -> BareItem {
    BareItem::String(
        StringRef::from_str(value)
            .expect("hex, base64url and our constants are ASCII")
            .to_owned(),
    )
}

fn seconds(value: i64, name: &'static str) -> Result<BareItem, SignatureError> {
    Integer::try_from(value)
        .map(BareItem::Integer)
        .map_err(|_| SignatureError::Parameter {
            name,
            expected: "seconds since 1970 in at most 15 digits",
        })
}
