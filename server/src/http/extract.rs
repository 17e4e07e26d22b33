//! Reading requests: query strings and JSON bodies, refused as problems.
//!
//! Contract: an unknown or repeated parameter, an unknown field, a wrong media type are errors, told by name. Bodies are
//! whole and bounded already when they get here; the gate read them. Does not: know what the values mean.

use super::limits::REPEATS_MAX;
use super::problem::Problem;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::request::Parts;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use ledger::core::ReceiptId;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The parameters that may stand more than once.
const REPEATABLE: [&str; 2] = ["kind", "state"];
/// The parameters that are numbers.
const NUMBERS: [&str; 1] = ["limit"];

/// The query string as a type of [`super::wire`].
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(parts.uri.query().unwrap_or("")).map(Self)
    }
}

fn read_query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut values = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if REPEATABLE.contains(&name.as_ref()) {
            let list = values
                .entry(name.as_ref())
                .or_insert_with(|| Value::Array(Vec::new()));
            let list = list.as_array_mut().expect("made as a list");
            if list.len() == REPEATS_MAX {
                return Err(Problem::query(format!(
                    "expected at most {REPEATS_MAX} of `{name}`, found more"
                )));
            }
            list.push(Value::from(value.as_ref()));
            continue;
        }
        let value = if NUMBERS.contains(&name.as_ref()) {
            let number: u32 = value.parse().map_err(|_| {
                Problem::query(format!("expected `{name}` to be a whole number, found {value:?}"))
            })?;
            Value::from(number)
        } else {
            Value::from(value.as_ref())
        };
        if values.insert(name.clone().into_owned(), value).is_some() {
            return Err(Problem::query(format!("expected `{name}` once, found it again")));
        }
    }
    serde_json::from_value(Value::Object(values)).map_err(|e| Problem::query(e.to_string()))
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.split(';').next())
            .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "request.media-type",
                "expected a body of `application/json`, found another media type or none",
                "set Content-Type: application/json",
            ));
        }
        let body = request
            .into_body()
            .collect()
            .await
            .map_err(|e| Problem::body(e.to_string()))?
            .to_bytes();
        // A doubled key would leave open which of the two is meant. That and an unknown field are told with line and column.
        serde_json::from_slice::<KeysOnce>(&body).map_err(|e| Problem::body(e.to_string()))?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|e| Problem::body(e.to_string()))
    }
}

/// Any JSON whose objects have each key once.
struct KeysOnce;

impl<'de> Deserialize<'de> for KeysOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeysOnce)
    }
}

impl<'de> Visitor<'de> for KeysOnce {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if let Some(doubled) = seen.replace(key) {
                return Err(serde::de::Error::custom(format_args!(
                    "expected the key {doubled:?} once, found it again"
                )));
            }
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

/// The path's last id.
pub(crate) struct PathId(pub(crate) ReceiptId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let id = params
            .ok()
            .and_then(|params| params.iter().next().and_then(|(_, text)| ReceiptId::parse(text)));
        id.map(Self).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "request.id",
                "expected a UUID in the path, found something else",
                "send the whole id, as lists show it",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::wire::ReceiptsQuery;

    #[test]
    fn a_key_that_stands_twice_anywhere_is_an_error_that_names_it() {
        let read = |text: &str| serde_json::from_str::<KeysOnce>(text).map(drop);
        assert!(read(r#"{"a": [{"b": null}, {"b": 1.5, "c": -1}], "d": {"a": true}}"#).is_ok());
        for bad in [r#"{"a": 1, "a": 1}"#, r#"[{"n": {"a": 1, "\u0061": 2}}]"#] {
            assert!(read(bad).unwrap_err().to_string().contains("\"a\" once"), "{bad}");
        }
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_errors() {
        let query: ReceiptsQuery = read_query("kind=job.*&kind=x.a&limit=5&subject=job%2F1").unwrap();
        assert_eq!(
            (query.kind.len(), query.limit, query.subject.as_deref()),
            (2, Some(5), Some("job/1"))
        );
        for bad in ["kinds=a", "limit=x", "limit=-1", "machine=a&machine=b"] {
            assert_eq!(
                read_query::<ReceiptsQuery>(bad).unwrap_err().code(),
                "request.query",
                "{bad}"
            );
        }
    }
}
