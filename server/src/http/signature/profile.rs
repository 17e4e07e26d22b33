//! The profile: which components and parameters a signature has here, and its bounds.
//!
//! Owns: names, tags and limits, and the two fixed lists of covered components. Contract: a message has exactly these,
//! components in this order, parameters in any; everything else is refused. Changing any of it is a new tag.
//! Does not: build or check anything.

use http::HeaderName;
use sfv::{BareItem, Item, Parameters, key_ref, string_ref};

/// The header with the body's digest.
pub static CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// The header with the covered components and the parameters.
pub static SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The header with the signature itself.
pub static SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// The header with the boot id of the server that a request is meant for.
pub static LEDGER_BOOT: HeaderName = HeaderName::from_static("ledger-boot");

/// The one label under which a message is signed.
pub const LABEL: &str = "sig1";
/// The tag of a request's signature.
pub const TAG_REQUEST: &str = "ledger-v1";
/// The tag of an answer's signature.
pub const TAG_ANSWER: &str = "ledger-v1-answer";
/// The one algorithm.
pub const ALGORITHM: &str = "ed25519";

/// Longest life of a request, from `created` to `expires`, in seconds.
pub const LIFETIME_S_MAX: i64 = 60;
/// How long the body of a request may take to arrive once its head was accepted, in seconds. Nonces are kept for that
/// much longer.
pub const BODY_S_MAX: i64 = 30;
/// Usual allowed difference between two clocks, in seconds.
pub const SKEW_S: u32 = 30;

/// Longest `Signature-Input`, in bytes; the profile's own has about 290.
pub const SIGNATURE_INPUT_BYTES_MAX: usize = 512;
/// Longest `Signature`, in bytes; the profile's own has 95.
pub const SIGNATURE_BYTES_MAX: usize = 128;
/// Longest `Content-Digest`, in bytes; the profile's own has 54, a refused one beside SHA-512 some 150.
pub const CONTENT_DIGEST_BYTES_MAX: usize = 256;
/// Longest `Content-Type`, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Longest boot id, in bytes.
pub const BOOT_BYTES_MAX: usize = 64;
/// Longest `Host`, in bytes: a DNS name and a port.
pub const HOST_BYTES_MAX: usize = 261;
/// Longest path and query together, in bytes.
pub const TARGET_BYTES_MAX: usize = 8192;

/// How many parameters a request's signature has: created, expires, nonce, keyid, tag, alg.
pub(super) const PARAMETERS_REQUEST: usize = 6;
/// How many parameters an answer's signature has: created, keyid, tag.
pub(super) const PARAMETERS_ANSWER: usize = 3;

/// What the signature of a request covers, in order.
pub(super) fn request_components(with_body: bool) -> Vec<Item> {
    let mut components = vec![
        named("@method"),
        named("@authority"),
        named("@path"),
        named("@query"),
        named("content-digest"),
    ];
    if with_body {
        components.push(named("content-type"));
    }
    components.push(named("ledger-boot"));
    components
}

/// What the signature of an answer covers, in order. The last is the request's signature (RFC 9421 section 2.4), which
/// itself covers that request, nonce included.
pub(super) fn answer_components(with_body: bool) -> Vec<Item> {
    let mut components = vec![named("@status"), named("content-digest")];
    if with_body {
        components.push(named("content-type"));
    }
    let mut parameters = Parameters::new();
    parameters.insert(key_ref("req").to_owned(), BareItem::Boolean(true));
    parameters.insert(
        key_ref("key").to_owned(),
        BareItem::String(string_ref(LABEL).to_owned()),
    );
    components.push(Item::with_params(string_ref("signature").to_owned(), parameters));
    components
}

fn named(name: &'static str) -> Item {
    Item::new(string_ref(name).to_owned())
}
