//! Verifying: requests by the server, answers by whoever asked.
//!
//! Owns: the order of the checks, cheapest first: headers there and bounded, their form, the profile, boot id, times,
//! key known, nonce fresh; then, with the body, its digest, the signature, the nonce kept. Contract: no cryptography for
//! a stranger; a refused request leaves no trace in the nonce cache, an accepted one always does, before the caller
//! learns of it. Checking a head needs no body, so a stranger's body need never be read. Does not: allow-list hosts, know
//! what a key may do, or read a clock.

use std::sync::{Mutex, PoisonError};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use sfv::Parameters;

use super::RequestSignature;
use super::base::{Message, check_target, request_authority, signature_base};
use super::digest::check_content_digest;
use super::error::SignatureError;
use super::field::{SignatureInput, header as one_header, read_signature};
use super::nonce::{NONCE_BYTES, NonceCache};
use super::profile::{
    ALGORITHM, BODY_S_MAX, BOOT_BYTES_MAX, CONTENT_DIGEST, CONTENT_DIGEST_BYTES_MAX, CONTENT_TYPE_BYTES_MAX,
    LEDGER_BOOT, LIFETIME_S_MAX, PARAMETERS_ANSWER, PARAMETERS_REQUEST, TAG_ANSWER, TAG_REQUEST,
    answer_components, request_components,
};

/// The verifier's clock and how far another's may be from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Now, seconds since 1970.
    pub now_s: i64,
    /// Allowed difference either way, seconds; see [`SKEW_S`](super::SKEW_S).
    pub skew_s: u32,
}

impl Window {
    fn check(self, created_s: i64) -> Result<(), SignatureError> {
        if self.now_s.abs_diff(created_s) > u64::from(self.skew_s) {
            return Err(SignatureError::OutOfWindow {
                created_s,
                now_s: self.now_s,
                skew_s: self.skew_s,
            });
        }
        Ok(())
    }
}

/// A request that is whose it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<T> {
    /// The key that signed it.
    pub key: [u8; 32],
    /// What the lookup said of that key.
    pub known: T,
    /// When it was signed by the caller's clock, seconds since 1970.
    pub created_s: i64,
    /// Its signature, to bind the answer to.
    pub signature: RequestSignature,
}

/// A request whose head passed every check that needs neither body nor cryptography. Not yet proof of anything.
#[derive(Debug)]
pub struct Claim<T> {
    key: [u8; 32],
    known: T,
    created_s: i64,
    /// Last second in which the head could be accepted.
    until_s: i64,
    nonce: [u8; NONCE_BYTES],
    with_body: bool,
    authority: String,
    input: SignatureInput,
    signature: RequestSignature,
}

/// Checks a request's head; `boot` is this server's boot id, `lookup` says what is known of a key.
///
/// # Errors
/// The first check that fails, in the order of this module; [`SignatureError::KeyUnknown`] when `lookup` gives nothing.
pub fn check_head<T>(
    parts: &Parts,
    boot: &str,
    window: Window,
    nonces: &Mutex<NonceCache>,
    lookup: impl FnOnce(&[u8; 32]) -> Option<T>,
) -> Result<Claim<T>, SignatureError> {
    check_target(&parts.uri)?;
    let authority = request_authority(parts)?;
    let found_boot = one_header(&parts.headers, &LEDGER_BOOT, BOOT_BYTES_MAX)?;
    one_header(&parts.headers, &CONTENT_DIGEST, CONTENT_DIGEST_BYTES_MAX)?;
    let signature = read_signature(&parts.headers)?;
    let input = SignatureInput::read(&parts.headers)?;
    let with_body = covers_body(&input, request_components)?;
    check_content_type(&parts.headers, with_body)?;

    let parameters = &input.list.params;
    expect_count(parameters, PARAMETERS_REQUEST)?;
    expect_text(parameters, "tag", TAG_REQUEST)?;
    expect_text(parameters, "alg", ALGORITHM)?;
    let created_s = integer(parameters, "created")?;
    let expires_s = integer(parameters, "expires")?;
    let nonce = nonce(parameters)?;
    let key = key(parameters)?;
    if !(1..=LIFETIME_S_MAX).contains(&expires_s.saturating_sub(created_s)) {
        return Err(SignatureError::Parameter {
            name: "expires",
            expected: "1 to 60 s after `created`",
        });
    }

    if found_boot != boot {
        return Err(SignatureError::BootUnknown);
    }
    window.check(created_s)?;
    if window.now_s > expires_s {
        return Err(SignatureError::Expired {
            expires_s,
            now_s: window.now_s,
        });
    }
    let known = lookup(&key).ok_or_else(|| SignatureError::KeyUnknown {
        key: HEXLOWER.encode(&key),
    })?;
    lock(nonces).check(&key, &nonce)?;
    let until_s = expires_s.min(created_s.saturating_add(i64::from(window.skew_s)));
    Ok(Claim {
        key,
        known,
        created_s,
        until_s,
        nonce,
        with_body,
        authority,
        input,
        signature,
    })
}

impl<T> Claim<T> {
    /// What the lookup said of the key that this request claims, so that limits can be applied before its body is read.
    #[must_use]
    pub fn known(&self) -> &T {
        &self.known
    }

    /// Checks the body, then the signature, then takes the nonce; `parts` are those whose head was checked, unchanged.
    ///
    /// `verify` answers whether a signature over a base is the key's, strictly; it is called at most once.
    ///
    /// # Errors
    /// When the body is absent where one is covered or the reverse, differs from its digest, or took longer than
    /// [`BODY_S_MAX`](super::BODY_S_MAX) past the request's end; when the signature is not valid; when the nonce was
    /// taken meanwhile or there is no room for it.
    pub fn verify(
        self,
        parts: &Parts,
        body: &[u8],
        now_s: i64,
        nonces: &Mutex<NonceCache>,
        verify: impl FnOnce(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<Verified<T>, SignatureError> {
        let keep_until_s = self.until_s.saturating_add(BODY_S_MAX);
        if now_s > keep_until_s {
            return Err(SignatureError::Expired {
                expires_s: keep_until_s,
                now_s,
            });
        }
        if self.with_body == body.is_empty() {
            return Err(SignatureError::BodyPresence);
        }
        check_content_digest(&parts.headers, body)?;
        let base = signature_base(
            &Message::Request {
                parts,
                authority: &self.authority,
            },
            &self.input,
        )?;
        if !verify(&self.key, &base, &self.signature.0) {
            return Err(SignatureError::SignatureInvalid);
        }
        lock(nonces).insert(&self.key, &self.nonce, keep_until_s, now_s)?;
        Ok(Verified {
            key: self.key,
            known: self.known,
            created_s: self.created_s,
            signature: self.signature,
        })
    }
}

/// Checks a whole request: [`check_head`], then [`Claim::verify`], for where the body is at hand.
///
/// # Errors
/// As those two.
pub fn verify_request<T>(
    parts: &Parts,
    body: &[u8],
    boot: &str,
    window: Window,
    nonces: &Mutex<NonceCache>,
    lookup: impl FnOnce(&[u8; 32]) -> Option<T>,
    verify: impl FnOnce(&[u8; 32], &[u8], &[u8; 64]) -> bool,
) -> Result<Verified<T>, SignatureError> {
    check_head(parts, boot, window, nonces, lookup)?.verify(parts, body, window.now_s, nonces, verify)
}

/// Checks an answer: signed by the pinned `server_key`, whole, and to the request that bore the signature `request`.
///
/// # Errors
/// The first check that fails; an answer without a signature is [`SignatureError::HeaderMissing`].
pub fn verify_response(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    request: &RequestSignature,
    server_key: &[u8; 32],
    window: Window,
    verify: impl FnOnce(&[u8; 32], &[u8], &[u8; 64]) -> bool,
) -> Result<(), SignatureError> {
    let signature = read_signature(headers)?;
    let input = SignatureInput::read(headers)?;
    let with_body = covers_body(&input, answer_components)?;
    check_content_type(headers, with_body)?;
    let parameters = &input.list.params;
    expect_count(parameters, PARAMETERS_ANSWER)?;
    expect_text(parameters, "tag", TAG_ANSWER)?;
    let key = key(parameters)?;
    window.check(integer(parameters, "created")?)?;
    if &key != server_key {
        return Err(SignatureError::KeyUnexpected {
            key: HEXLOWER.encode(&key),
        });
    }
    if with_body == body.is_empty() {
        return Err(SignatureError::BodyPresence);
    }
    check_content_digest(headers, body)?;
    let base = signature_base(
        &Message::Answer {
            status,
            headers,
            request,
        },
        &input,
    )?;
    if !verify(&key, &base, &signature.0) {
        return Err(SignatureError::SignatureInvalid);
    }
    Ok(())
}

/// Nothing here panics while it holds the lock, so the cache behind a poisoned one is whole.
fn lock(nonces: &Mutex<NonceCache>) -> std::sync::MutexGuard<'_, NonceCache> {
    nonces.lock().unwrap_or_else(PoisonError::into_inner)
}

fn covers_body(input: &SignatureInput, profile: fn(bool) -> Vec<sfv::Item>) -> Result<bool, SignatureError> {
    let found = &input.list.items;
    [true, false]
        .into_iter()
        .find(|with_body| &profile(*with_body) == found)
        .ok_or(SignatureError::Components { found: found.len() })
}

/// A media type that is not covered could be changed on the way, so it must not be there at all.
fn check_content_type(headers: &HeaderMap, with_body: bool) -> Result<(), SignatureError> {
    if with_body {
        one_header(headers, &header::CONTENT_TYPE, CONTENT_TYPE_BYTES_MAX)?;
    } else if headers.contains_key(header::CONTENT_TYPE) {
        return Err(SignatureError::BodyPresence);
    }
    Ok(())
}

fn expect_count(parameters: &Parameters, expected: usize) -> Result<(), SignatureError> {
    if parameters.len() != expected {
        return Err(SignatureError::Parameters {
            expected,
            found: parameters.len(),
        });
    }
    Ok(())
}

fn string<'a>(parameters: &'a Parameters, name: &'static str) -> Option<&'a str> {
    parameters.get(name)?.as_string().map(|text| text.as_str())
}

fn expect_text(
    parameters: &Parameters,
    name: &'static str,
    expected: &'static str,
) -> Result<(), SignatureError> {
    if string(parameters, name) != Some(expected) {
        return Err(SignatureError::Parameter { name, expected });
    }
    Ok(())
}

fn integer(parameters: &Parameters, name: &'static str) -> Result<i64, SignatureError> {
    parameters
        .get(name)
        .and_then(|value| value.as_integer())
        .map(i64::from)
        .ok_or(SignatureError::Parameter {
            name,
            expected: "seconds since 1970",
        })
}

fn nonce(parameters: &Parameters) -> Result<[u8; NONCE_BYTES], SignatureError> {
    string(parameters, "nonce")
        .and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SignatureError::Parameter {
            name: "nonce",
            expected: "16 bytes in base64url without padding",
        })
}

fn key(parameters: &Parameters) -> Result<[u8; 32], SignatureError> {
    string(parameters, "keyid")
        .and_then(|text| HEXLOWER.decode(text.as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SignatureError::Parameter {
            name: "keyid",
            expected: "a public key in 64 lower-case hex digits",
        })
}
