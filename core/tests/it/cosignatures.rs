//! Cosignatures are C2SP's, byte for byte, and no other bit passes.

use ledger_core::checkpoint::Checkpoint;
use ledger_core::cosignature::{self, add, line, verify, witnesses};
use ledger_core::note::{self, VerifierKey};
use ledger_core::{LogId, MachineId, NoteError, PublicKey, SigningKey, TreeRoot};
use proptest::prelude::*;

/// The example of the specification `tlog-cosignature`.
const EXAMPLE: &str = "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

/// A verifier of another implementation: `signed_note` finds the line by name and key id, ed25519-dalek checks the message as
/// the specification spells it.
struct Theirs(String, PublicKey);

impl signed_note::Verifier for Theirs {
    fn name(&self) -> &str {
        &self.0
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(&self.0, &[&[4], &self.1.0[..]].concat())
    }

    fn verify(&self, text: &[u8], blob: &[u8]) -> bool {
        let Some((time, signature)) = blob.split_first_chunk::<8>() else {
            return false;
        };
        let head = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.1.0).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(signature).unwrap();
        key.verify_strict(&[head.as_bytes(), text].concat(), &signature)
            .is_ok()
    }
}

fn checkpoint(seed: u8, size: u64) -> String {
    let head = Checkpoint {
        log: LogId([9; 32]),
        tree_size: size,
        root: TreeRoot([seed; 32]),
    };
    head.sign(&SigningKey::from_seed([5; 32]))
}

#[test]
fn the_specifications_example_has_the_time_that_it_shows_and_is_rebuilt_byte_for_byte() {
    let (_, blob) = EXAMPLE.trim_end().rsplit_once(' ').unwrap();
    let blob = data_encoding::BASE64.decode(blob.as_bytes()).unwrap();
    assert_eq!(blob.len(), 4 + 8 + 64);
    assert_eq!(u64::from_be_bytes(blob[4..12].try_into().unwrap()), 1_679_315_147);
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let unsigned = format!("{}\n", lines[..5].join("\n"));
    assert_eq!(add(&unsigned, &format!("{}\n", lines[5])).unwrap(), EXAMPLE);
    // Added again it takes the older one's place.
    assert_eq!(add(EXAMPLE, &format!("{}\n", lines[5])).unwrap(), EXAMPLE);
}

proptest! {
    #[test]
    fn other_programs_verify_our_cosignatures_and_we_theirs(seed in any::<[u8; 32]>(), size in any::<u64>(), unix_s in 0..=i64::MAX.unsigned_abs()) {
        let witness = SigningKey::from_seed(seed);
        let name = cosignature::witness_name(&MachineId::new("gateway").unwrap());
        let signed = checkpoint(1, size);
        let ours = line(&signed, &name, &witness, unix_s).unwrap();
        let cosigned = add(&signed, &ours).unwrap();
        let theirs = Theirs(name.clone(), witness.public());
        let known = signed_note::VerifierList::new(vec![Box::new(theirs)]);
        let read = signed_note::Note::from_bytes(cosigned.as_bytes()).unwrap();
        prop_assert_eq!(read.verify(&known).unwrap().0.len(), 1);
        prop_assert_eq!(read.to_bytes(), cosigned.as_bytes());
        let pin = VerifierKey::witness(&*name, witness.verifier());
        prop_assert_eq!(verify(&cosigned, &pin).unwrap().unix_s, unix_s);
        // Signed by their code, from the message as the specification has it.
        let message = format!("cosignature/v1\ntime {unix_s}\n{}", std::str::from_utf8(read.text()).unwrap());
        let by_them = ed25519_dalek::Signer::sign(&ed25519_dalek::SigningKey::from_bytes(&seed), message.as_bytes());
        let blob = [&pin.id()[..], &unix_s.to_be_bytes(), &by_them.to_bytes()].concat();
        prop_assert_eq!(ours, format!("\u{2014} {name} {}\n", data_encoding::BASE64.encode(&blob)));
        // The log's own signature stands beside it, and the key's text form is read back as a witness's.
        prop_assert!(Checkpoint::open(&cosigned, &LogId([9; 32]), &SigningKey::from_seed([5; 32]).verifier()).is_ok());
        let back = VerifierKey::parse(&pin.to_text()).unwrap();
        prop_assert!(back.is_witness() && back.to_text() == pin.to_text());
    }

    #[test]
    fn no_flipped_bit_of_a_cosigned_checkpoint_passes(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let witness = SigningKey::from_seed([8; 32]);
        let signed = checkpoint(1, 70);
        let cosigned = add(&signed, &line(&signed, "w.example", &witness, 1_700_000_000).unwrap()).unwrap();
        let pin = VerifierKey::witness("w.example", witness.verifier());
        let mut bytes = cosigned.clone().into_bytes();
        // The log's own line is another question.
        let own = cosigned.find('\u{2014}').unwrap()..cosigned.rfind('\u{2014}').unwrap();
        let at = at.index(bytes.len());
        prop_assume!(!own.contains(&at));
        bytes[at] ^= 1 << bit;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(verify(&text, &pin).is_err(), "{}", text);
        }
    }
}

#[test]
fn a_logs_own_key_is_no_witness_and_a_witness_no_log() {
    let key = SigningKey::from_seed([5; 32]);
    let signed = checkpoint(1, 70);
    let origin = signed.lines().next().unwrap();
    let own = VerifierKey::new(origin, key.verifier());
    assert!(matches!(verify(&signed, &own), Err(NoteError::Unsigned(_))));
    let witness = SigningKey::from_seed([8; 32]);
    let cosigned = add(&signed, &line(&signed, origin, &witness, 7).unwrap()).unwrap();
    assert!(note::open(&cosigned, origin, &witness.verifier()).is_err());
    let pins = [
        VerifierKey::witness(origin, witness.verifier()),
        VerifierKey::witness("by.another/name", witness.verifier()),
        VerifierKey::witness("nobody.example", SigningKey::from_seed([9; 32]).verifier()),
    ];
    let twice = add(&cosigned, &line(&signed, "by.another/name", &witness, 9).unwrap()).unwrap();
    assert_eq!(
        witnesses(&twice, &pins).unwrap().len(),
        1,
        "a key counts once, whatever it calls itself"
    );
    let other = checkpoint(2, 70);
    let moved = add(
        &other,
        cosigned
            .lines()
            .last()
            .map(|l| format!("{l}\n"))
            .unwrap()
            .as_str(),
    )
    .unwrap();
    assert!(
        matches!(witnesses(&moved, &pins), Err(NoteError::Signature(_))),
        "of another checkpoint"
    );
}
