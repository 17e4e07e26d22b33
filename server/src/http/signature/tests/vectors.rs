//! Published and frozen bytes of signature bases, headers and signatures.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{Method, Request, header};
use sfv::{Dictionary, ListEntry, Parser};

use super::super::base::{Message, signature_base};
use super::super::field::SignatureInput;
use super::*;

#[test]
fn base_and_signature_are_those_of_rfc_9421_b_2_6() {
    let parts = Request::builder()
        .method(Method::POST)
        .uri("/foo?param=Value&Pet=dog")
        .header(header::HOST, "example.com")
        .header(header::DATE, "Tue, 20 Apr 2021 02:07:55 GMT")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, "18")
        .body(())
        .expect("a request")
        .into_parts()
        .0;
    let header = "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                  ;created=1618884473;keyid=\"test-key-ed25519\"";
    let mut members: Dictionary = Parser::new(header).parse().expect("a dictionary");
    let Some(ListEntry::InnerList(list)) = members.swap_remove("sig-b26") else {
        panic!("an inner list")
    };
    let input = SignatureInput::new(list);
    let base = signature_base(
        &Message::Request {
            parts: &parts,
            authority: "example.com",
        },
        &input,
    )
    .expect("a base");
    let published = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
                     \"@method\": POST\n\
                     \"@path\": /foo\n\
                     \"@authority\": example.com\n\
                     \"content-type\": application/json\n\
                     \"content-length\": 18\n\
                     \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                     \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    assert_eq!(String::from_utf8(base.clone()).expect("ASCII"), published);

    let signature = BASE64
        .decode(b"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==");
    let signature: [u8; 64] = signature.expect("base64").try_into().expect("64 bytes");
    let key = BASE64URL_NOPAD
        .decode(b"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
        .expect("base64url");
    let key: [u8; 32] = key.try_into().expect("32 bytes");
    assert!(strict(&key, &base, &signature));
    assert_eq!(TestKey::rfc().public_key(), key);
    assert_eq!(TestKey::rfc().sign(&base), signature, "Ed25519 is deterministic");

    let core = ledger_core::key::SigningKey::from_seed(TestKey::rfc().0.to_bytes());
    assert_eq!(
        (core.public_key(), RequestSigner::sign(&core, &base)),
        (key, signature),
        "and core's is the same"
    );
    assert!(verify_base(&key, &base, &signature));
    assert!(!verify_base(&key, &base[1..], &signature));
    assert!(
        !verify_base(&[0; 32], &base, &signature),
        "a weak key verifies nothing"
    );
}

#[test]
fn our_own_request_is_frozen_byte_for_byte() {
    let (parts, signature) = signed(BODY, [7; NONCE_BYTES]);
    assert_eq!(parts.headers[header::HOST], "studio:7878");
    assert_eq!(parts.headers["ledger-boot"], BOOT);
    assert_eq!(
        parts.headers["content-digest"],
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    );
    let params = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\" \"content-type\" \"ledger-boot\")\
                  ;created=1700000000;expires=1700000060;nonce=\"BwcHBwcHBwcHBwcHBwcHBw\"\
                  ;keyid=\"26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb\"\
                  ;tag=\"ledger-v1\";alg=\"ed25519\"";
    assert_eq!(parts.headers["signature-input"], format!("sig1={params}"));
    let base = format!(
        "\"@method\": POST\n\"@authority\": studio:7878\n\"@path\": /v1/requests\n\"@query\": ?wait=1\n\
         \"content-digest\": sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:\n\
         \"content-type\": application/json\n\"ledger-boot\": 0190a7c4\n\"@signature-params\": {params}"
    );
    assert_eq!(TestKey::rfc().sign(base.as_bytes()), signature.0);
    assert_eq!(
        parts.headers["signature"],
        format!("sig1=:{}:", BASE64.encode(&signature.0))
    );
}
