//! A request is accepted whole, once, in time, from a known key, in this profile, or not at all.

use std::cell::Cell;
use std::sync::Mutex;

use data_encoding::BASE64;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::super::base::{Message, signature_base};
use super::super::field::SignatureInput;
use super::*;

#[test]
fn a_signed_request_is_accepted_with_and_without_a_body() {
    for body in [BODY, b""] {
        let (parts, signature) = signed(body, [7; NONCE_BYTES]);
        let verified = verify(&parts, body).expect("valid");
        assert_eq!((verified.known, verified.signature), ("studio", signature));
    }
    let mut bare = request_to("http://studio:80", b"");
    sign_request(&TestKey::rfc(), &mut bare, "studio", b"", BOOT, NOW_S, [7; 16]).expect("signs");
    assert_eq!(
        verify(&bare, b"").map(|verified| verified.known),
        Ok("studio"),
        "no path is `/`, port 80 is none"
    );
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    let mut tried = 0;
    let mut refused = |parts: &Parts, body: &[u8], what: &str| {
        tried += 1;
        assert!(verify(parts, body).is_err(), "accepted with a flipped {what}");
    };
    for method in flips(b"POST").filter_map(|bytes| Method::from_bytes(&bytes).ok()) {
        let mut changed = parts.clone();
        changed.method = method;
        refused(&changed, BODY, "method");
    }
    for target in flips(b"/v1/requests?wait=1").filter_map(|bytes| http::Uri::try_from(bytes).ok()) {
        let mut changed = parts.clone();
        changed.uri = target;
        refused(&changed, BODY, "target");
    }
    for body in flips(BODY) {
        refused(&parts, &body, "body");
    }
    // Signature-Input holds created, expires, nonce, keyid and tag. A host's letters may change their case.
    for name in [
        "host",
        "content-type",
        "content-digest",
        "ledger-boot",
        "signature-input",
        "signature",
    ] {
        let before = parts.headers[name].clone();
        for value in flips(before.as_bytes()) {
            let Ok(value) = HeaderValue::from_bytes(&value) else {
                continue;
            };
            if name == "host" && value.as_bytes().eq_ignore_ascii_case(before.as_bytes()) {
                continue;
            }
            let mut changed = parts.clone();
            changed.headers.insert(HeaderName::from_static(name), value);
            refused(&changed, BODY, name);
        }
    }
    assert!(tried > 3000, "only {tried} flips were tried");
    assert!(verify(&parts, BODY).is_ok(), "and unchanged it is accepted");
}

#[test]
fn a_replay_is_refused_and_a_refused_request_takes_no_nonce() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    let nonces = cache();
    let forged = verify_request(&parts, BODY, BOOT, WINDOW, &nonces, known, |_, _, _| false);
    assert_eq!(forged, Err(SignatureError::SignatureInvalid));
    assert!(nonces.lock().expect("whole").is_empty());
    assert!(verify_request(&parts, BODY, BOOT, WINDOW, &nonces, known, strict).is_ok());

    let calls = Cell::new(0);
    let again = verify_request(&parts, BODY, BOOT, WINDOW, &nonces, known, |_, _, _| {
        calls.set(calls.get() + 1);
        true
    });
    assert_eq!(again, Err(NonceError::Replayed.into()));
    assert_eq!(calls.get(), 0, "a replay costs no cryptography");
}

#[test]
fn a_replay_whose_head_passed_before_is_refused_at_its_body() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    let nonces = cache();
    let claim = || check_head(&parts, BOOT, WINDOW, &nonces, known).expect("head passes");
    let (first, second, slow) = (claim(), claim(), claim());
    assert!(first.verify(&parts, BODY, NOW_S, &nonces, strict).is_ok());
    let last_s = NOW_S + i64::from(SKEW_S) + BODY_S_MAX;
    let replayed = second.verify(&parts, BODY, last_s, &nonces, strict);
    assert_eq!(replayed, Err(NonceError::Replayed.into()));
    let late = slow
        .verify(&parts, BODY, last_s + 1, &nonces, strict)
        .expect_err("its nonce may be forgotten by now");
    assert_eq!(late.code(), "signature.expired");
}

#[test]
fn a_full_nonce_cache_says_too_many_requests_and_only_to_a_valid_caller() {
    let nonces = Mutex::new(NonceCache::with_bounds(1, 1));
    let (first, _) = signed(BODY, [7; NONCE_BYTES]);
    let (second, _) = signed(BODY, [8; NONCE_BYTES]);
    assert!(verify_request(&first, BODY, BOOT, WINDOW, &nonces, known, strict).is_ok());
    let full = verify_request(&second, BODY, BOOT, WINDOW, &nonces, known, strict).expect_err("full");
    assert_eq!(
        (full.code(), full.status()),
        ("signature.nonces_full", StatusCode::TOO_MANY_REQUESTS)
    );
    let forged =
        verify_request(&second, BODY, BOOT, WINDOW, &nonces, known, |_, _, _| false).expect_err("forged");
    assert_eq!(
        (forged.code(), forged.status()),
        ("signature.invalid", StatusCode::UNAUTHORIZED)
    );
}

#[test]
fn an_unknown_key_costs_no_cryptography() {
    let mut parts = request_to("/v1/jobs", b"");
    sign_request(&TestKey::other(), &mut parts, "studio", b"", BOOT, NOW_S, [7; 16]).expect("signs");
    let calls = Cell::new(0);
    let refused = verify_request(&parts, b"", BOOT, WINDOW, &cache(), known, |_, _, _| {
        calls.set(calls.get() + 1);
        true
    });
    assert_eq!(
        refused.map_err(|error| error.code()),
        Err("signature.key_unknown")
    );
    assert_eq!(calls.get(), 0);
}

#[test]
fn time_and_boot_bound_a_request() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    let at = |now_s: i64, boot: &str| {
        let window = Window {
            now_s,
            skew_s: SKEW_S,
        };
        verify_request(&parts, BODY, boot, window, &cache(), known, strict).map_err(|error| error.code())
    };
    for now_s in [NOW_S - 30, NOW_S + 30] {
        assert!(at(now_s, BOOT).is_ok(), "30 s are allowed");
    }
    for now_s in [i64::MIN, NOW_S - 31, NOW_S + 31, i64::MAX] {
        assert_eq!(at(now_s, BOOT), Err("signature.out_of_window"));
    }
    assert_eq!(at(NOW_S, "0190a7c5"), Err("signature.boot_unknown"));
    let generous = Window {
        now_s: NOW_S + 61,
        skew_s: 600,
    };
    let ended = verify_request(&parts, BODY, BOOT, generous, &cache(), known, strict);
    assert_eq!(
        ended.map_err(|error| error.code()),
        Err("signature.expired"),
        "its own end holds whatever the skew"
    );
}

/// Signs again, validly, after `change` of Signature-Input: what a caller with a key but another profile would send.
fn resigned(body: &[u8], change: impl Fn(&str) -> String) -> Parts {
    let (mut parts, _) = signed(body, [7; NONCE_BYTES]);
    let text = parts.headers["signature-input"]
        .to_str()
        .expect("ASCII")
        .to_owned();
    parts
        .headers
        .insert("signature-input", change(&text).parse().expect("a header"));
    let input = SignatureInput::read(&parts.headers).expect("canonical");
    let base = signature_base(
        &Message::Request {
            parts: &parts,
            authority: "studio:7878",
        },
        &input,
    )
    .expect("a base");
    let signature = BASE64.encode(&TestKey::rfc().sign(&base));
    parts.headers.insert(
        "signature",
        format!("sig1=:{signature}:").parse().expect("a header"),
    );
    parts
}

#[test]
fn any_other_profile_is_refused_however_well_signed() {
    let cases = [
        (" \"ledger-boot\"", "", "signature.components"),
        (
            "\"@path\" \"@query\"",
            "\"@query\" \"@path\"",
            "signature.components",
        ),
        (" \"content-type\"", "", "signature.body_presence"),
        ("ledger-v1", "ledger-v2", "signature.parameter"),
        (";alg=\"ed25519\"", "", "signature.parameters"),
        (";alg=\"ed25519\"", ";alg=\"ed25519\";x", "signature.parameters"),
        ("alg=\"ed25519\"", "alg=\"hmac-sha256\"", "signature.parameter"),
        ("expires=1700000060", "expires=1700000061", "signature.parameter"),
        ("expires=1700000060", "expires=1700000000", "signature.parameter"),
        (
            "expires=1700000060",
            "expires=-999999999999999",
            "signature.parameter",
        ),
        ("\"BwcHBwcHBwcHBwcHBwcHBw\"", "\"BwcH\"", "signature.parameter"),
        ("keyid=\"26b4", "keyid=\"26B4", "signature.parameter"),
    ];
    for (from, to, code) in cases {
        let parts = resigned(BODY, |text| text.replace(from, to));
        assert_eq!(
            verify(&parts, BODY).map_err(|error| error.code()),
            Err(code),
            "{from} -> {to}"
        );
    }
    let reordered = resigned(BODY, |text| {
        text.replace(";alg=\"ed25519\"", "")
            .replace(";created", ";alg=\"ed25519\";created")
    });
    assert!(
        verify(&reordered, BODY).is_ok(),
        "parameters may stand in any order"
    );
}

#[test]
fn malformed_oversized_and_repeated_headers_are_refused() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    for name in [
        "host",
        "content-type",
        "content-digest",
        "ledger-boot",
        "signature-input",
        "signature",
    ] {
        let code = |change: &dyn Fn(&mut HeaderMap, HeaderValue)| {
            let mut changed = parts.clone();
            change(&mut changed.headers, parts.headers[name].clone());
            verify(&changed, BODY).map_err(|error| error.code())
        };
        assert_eq!(
            code(&|headers, _| drop(headers.remove(name))),
            Err("signature.header_missing"),
            "{name}"
        );
        let repeated = code(&|headers, value| assert!(headers.append(name, value)));
        assert_eq!(repeated, Err("signature.header_repeated"), "{name}");
        let long = HeaderValue::from_str(&"a".repeat(600)).expect("ASCII");
        let oversized = code(&|headers, _| drop(headers.insert(name, long.clone())));
        assert_eq!(oversized, Err("signature.header_too_long"), "{name}");
    }
    for (name, value) in [
        ("signature-input", "sig1=()".to_owned()),
        ("signature-input", "sig1=1".to_owned()),
        ("signature-input", "sig1=(\"@method\"".to_owned()),
        ("signature", "sig1=:AAAA:".to_owned()),
        (
            "signature",
            format!(
                "{}, sig2=:AA==:",
                parts.headers["signature"].to_str().expect("ASCII")
            ),
        ),
        (
            "signature",
            parts.headers["signature"]
                .to_str()
                .expect("ASCII")
                .replace("=:", "=  :"),
        ),
    ] {
        let mut changed = parts.clone();
        changed.headers.insert(name, value.parse().expect("a header"));
        assert!(verify(&changed, BODY).is_err(), "{name}: {value}");
    }
    let input = parts.headers["signature-input"].to_str().expect("ASCII");
    for end in 0..input.len() {
        let mut cut = parts.clone();
        cut.headers
            .insert("signature-input", input[..end].parse().expect("a header"));
        assert!(verify(&cut, BODY).is_err(), "cut at {end}");
    }
}

#[test]
fn a_target_that_contradicts_host_is_refused() {
    let (parts, _) = signed(BODY, [7; NONCE_BYTES]);
    let mut absolute = parts.clone();
    absolute.uri = "http://mini:7878/v1/requests?wait=1".parse().expect("a target");
    assert_eq!(verify(&absolute, BODY), Err(SignatureError::Authority));
    absolute.uri = "http://STUDIO:7878/v1/requests?wait=1".parse().expect("a target");
    assert!(verify(&absolute, BODY).is_ok());
    let mut typed = signed(b"", [7; NONCE_BYTES]).0;
    typed
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
    assert_eq!(
        verify(&typed, b""),
        Err(SignatureError::BodyPresence),
        "an uncovered media type is not tolerated"
    );
}

#[test]
fn signing_refuses_what_could_not_be_verified() {
    let sign = |parts: &mut Parts, authority: &str, boot: &str, now_s: i64| {
        sign_request(&TestKey::rfc(), parts, authority, BODY, boot, now_s, [7; 16])
            .map_err(|error| error.code())
    };
    let mut untyped = request_to("/v1/jobs", b"");
    assert_eq!(
        sign(&mut untyped, "studio", BOOT, NOW_S),
        Err("signature.header_missing")
    );
    let mut parts = request_to("http://studio:7878/v1/jobs", BODY);
    assert_eq!(
        sign(&mut parts.clone(), "mini:7878", BOOT, NOW_S),
        Err("signature.authority")
    );
    assert_eq!(
        sign(&mut parts.clone(), "ann@studio:7878", BOOT, NOW_S),
        Err("signature.authority")
    );
    assert_eq!(
        sign(&mut parts.clone(), "studio:7878", &"b".repeat(65), NOW_S),
        Err("signature.header_too_long")
    );
    assert_eq!(
        sign(&mut parts.clone(), "studio:7878", "a\nb", NOW_S),
        Err("signature.header_malformed")
    );
    assert_eq!(
        sign(&mut parts.clone(), "studio:7878", BOOT, i64::MAX),
        Err("signature.parameter")
    );
    let long = format!("http://studio:7878/{}", "a".repeat(TARGET_BYTES_MAX));
    assert_eq!(
        sign(&mut request_to(&long, BODY), "studio:7878", BOOT, NOW_S),
        Err("signature.target_too_long")
    );
    assert!(sign(&mut parts, "studio:7878", BOOT, NOW_S).is_ok());
}
