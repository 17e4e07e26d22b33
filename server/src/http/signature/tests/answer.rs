//! An answer is accepted whole, from the pinned key, for its own request, or not at all.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::*;

fn answer(body: &[u8], request: &RequestSignature) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    sign_response(
        &TestKey::rfc(),
        StatusCode::OK,
        &mut headers,
        body,
        request,
        NOW_S,
    )
    .expect("signs");
    headers
}

fn verify_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    request: &RequestSignature,
) -> Result<(), SignatureError> {
    verify_response(
        status,
        headers,
        body,
        request,
        &TestKey::rfc().public_key(),
        WINDOW,
        strict,
    )
}

#[test]
fn an_answer_is_accepted_for_its_own_request_alone() {
    let (_, mine) = signed(BODY, [7; NONCE_BYTES]);
    let (_, another) = signed(BODY, [8; NONCE_BYTES]);
    for body in [BODY, b""] {
        let headers = answer(body, &mine);
        assert_eq!(verify_answer(StatusCode::OK, &headers, body, &mine), Ok(()));
        let swapped = verify_answer(StatusCode::OK, &headers, body, &another);
        assert_eq!(swapped, Err(SignatureError::SignatureInvalid));
        let status = verify_answer(StatusCode::CREATED, &headers, body, &mine);
        assert_eq!(status, Err(SignatureError::SignatureInvalid));
    }
}

#[test]
fn an_answer_is_frozen_and_one_flipped_bit_of_it_is_refused() {
    let (_, mine) = signed(BODY, [7; NONCE_BYTES]);
    let headers = answer(BODY, &mine);
    let params = "(\"@status\" \"content-digest\" \"content-type\" \"signature\";req;key=\"sig1\")\
                  ;created=1700000000\
                  ;keyid=\"26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb\"\
                  ;tag=\"ledger-v1-answer\"";
    assert_eq!(headers["signature-input"], format!("sig1={params}"));
    let base = format!(
        "\"@status\": 200\n\"content-digest\": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:\n\
         \"content-type\": application/json\n\"signature\";req;key=\"sig1\": :{}:\n\"@signature-params\": {params}",
        BASE64.encode(&mine.0)
    );
    let signature = BASE64.encode(&TestKey::rfc().sign(base.as_bytes()));
    assert_eq!(headers["signature"], format!("sig1=:{signature}:"));

    for name in ["content-type", "content-digest", "signature-input", "signature"] {
        for value in flips(headers[name].as_bytes()) {
            let Ok(value) = HeaderValue::from_bytes(&value) else {
                continue;
            };
            let mut changed = headers.clone();
            changed.insert(HeaderName::from_static(name), value);
            assert!(
                verify_answer(StatusCode::OK, &changed, BODY, &mine).is_err(),
                "flipped {name}"
            );
        }
    }
    for body in flips(BODY) {
        assert_eq!(
            verify_answer(StatusCode::OK, &headers, &body, &mine),
            Err(SignatureError::DigestMismatch)
        );
    }
}

#[test]
fn an_answer_of_another_key_or_another_time_is_refused() {
    let (parts, mine) = signed(BODY, [7; NONCE_BYTES]);
    let headers = answer(BODY, &mine);
    let other = TestKey::other().public_key();
    let error = verify_response(StatusCode::OK, &headers, BODY, &mine, &other, WINDOW, strict)
        .expect_err("not pinned");
    assert_eq!(error.code(), "signature.key_unexpected");
    let late = Window {
        now_s: NOW_S + 31,
        skew_s: SKEW_S,
    };
    let key = TestKey::rfc().public_key();
    let error = verify_response(StatusCode::OK, &headers, BODY, &mine, &key, late, strict).expect_err("late");
    assert_eq!(error.code(), "signature.out_of_window");
    let error =
        verify_answer(StatusCode::OK, &parts.headers, BODY, &mine).expect_err("a request is no answer");
    assert_eq!(error.code(), "signature.components");
}
