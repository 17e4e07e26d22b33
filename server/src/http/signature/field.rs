//! Header fields as text and as structured fields (RFC 9651).
//!
//! Owns: taking exactly one bounded value of a header, and reading and writing `Signature-Input` and `Signature` with
//! exactly one member, our label. Contract: only the canonical serialisation is accepted (reading it and writing it
//! back gives the same text), so no two texts mean the same signature. Does not: know components or parameters.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, FieldType, InnerList, Item, ListEntry, Parser, key_ref};

use super::RequestSignature;
use super::error::SignatureError;
use super::profile::{LABEL, SIGNATURE, SIGNATURE_BYTES_MAX, SIGNATURE_INPUT, SIGNATURE_INPUT_BYTES_MAX};

/// The one value of header `name`, of at most `bytes_max` bytes, surrounding blanks removed.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    bytes_max: usize,
) -> Result<&'a str, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .ok_or_else(|| SignatureError::HeaderMissing { name: name.clone() })?;
    if values.next().is_some() {
        return Err(SignatureError::HeaderRepeated { name: name.clone() });
    }
    if value.len() > bytes_max {
        return Err(SignatureError::HeaderTooLong {
            name: name.clone(),
            bytes: value.len(),
            bytes_max,
        });
    }
    let text = value.to_str().map_err(|_| malformed(name, "visible ASCII"))?;
    Ok(text.trim_matches([' ', '\t']))
}

/// Sets header `name`, replacing what is there.
pub(super) fn set(headers: &mut HeaderMap, name: &HeaderName, text: &str) -> Result<(), SignatureError> {
    let value = HeaderValue::from_str(text).map_err(|_| malformed(name, "visible ASCII"))?;
    headers.insert(name, value);
    Ok(())
}

/// `Signature-Input` taken apart.
#[derive(Debug)]
pub(super) struct SignatureInput {
    /// Components and parameters.
    pub(super) list: InnerList,
    /// The same as text: the value of `@signature-params`.
    pub(super) text: String,
}

impl SignatureInput {
    /// From what is to be signed.
    pub(super) fn new(list: InnerList) -> Self {
        let line = member(ListEntry::InnerList(list.clone()));
        let text = line[LABEL.len() + 1..].to_owned();
        Self { list, text }
    }

    /// The header's value.
    pub(super) fn header_value(&self) -> String {
        format!("{LABEL}={}", self.text)
    }

    /// From a message's headers.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let raw = header(headers, &SIGNATURE_INPUT, SIGNATURE_INPUT_BYTES_MAX)?;
        let wrong = || malformed(&SIGNATURE_INPUT, "one canonical inner list under the label sig1");
        match only_member(raw) {
            Some(ListEntry::InnerList(list)) => {
                let input = Self::new(list);
                if input.header_value() == raw {
                    Ok(input)
                } else {
                    Err(wrong())
                }
            }
            _ => Err(wrong()),
        }
    }
}

/// The value of `Signature` for these bytes.
pub(super) fn signature_value(signature: &RequestSignature) -> String {
    format!("{LABEL}={}", signature_member(signature))
}

/// The same without the label: what `"signature";req;key="sig1"` stands for.
pub(super) fn signature_member(signature: &RequestSignature) -> String {
    format!(":{}:", BASE64.encode(&signature.0))
}

/// The 64 bytes in a message's `Signature`.
pub(super) fn read_signature(headers: &HeaderMap) -> Result<RequestSignature, SignatureError> {
    let raw = header(headers, &SIGNATURE, SIGNATURE_BYTES_MAX)?;
    let wrong = || {
        malformed(
            &SIGNATURE,
            "64 bytes as one canonical byte sequence under the label sig1",
        )
    };
    match only_member(raw) {
        Some(ListEntry::Item(Item {
            bare_item: BareItem::ByteSequence(bytes),
            ..
        })) => {
            let signature = RequestSignature(bytes.try_into().map_err(|_| wrong())?);
            if signature_value(&signature) == raw {
                Ok(signature)
            } else {
                Err(wrong())
            }
        }
        _ => Err(wrong()),
    }
}

fn only_member(raw: &str) -> Option<ListEntry> {
    let mut members: Dictionary = Parser::new(raw).parse().ok()?;
    if members.len() != 1 {
        return None;
    }
    members.swap_remove(LABEL)
}

fn member(entry: ListEntry) -> String {
    let members = Dictionary::from_iter([(key_ref(LABEL).to_owned(), entry)]);
    members
        .serialize()
        .expect("a dictionary of one member serialises")
}

fn malformed(name: &HeaderName, expected: &'static str) -> SignatureError {
    SignatureError::HeaderMalformed {
        name: name.clone(),
        expected,
    }
}
