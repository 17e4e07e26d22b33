//! The parsers of the server hold what they promise for the corpus of the fuzz targets and for mutations of it.
//!
//! As ledger/tests/it/fuzz.rs, which has those of the engine. `LEDGER_BLESS=1` makes the seeds of the corpus again.

#[path = "../../../fixtures/fuzz/targets/server.rs"]
mod server;
#[path = "../../../fixtures/fuzz/targets/smoke.rs"]
mod smoke;

use ledger::core::{LogId, SealDigest};
use ledger_server::exchange::{Beat, Claim, Claimed, Declared, Hello, Join, Mark, Pull, Push, Raw, encode};

#[test]
fn every_parser_of_the_server_holds_its_promises_for_the_corpus_and_mutations_of_it() {
    if std::env::var_os("LEDGER_BLESS").is_some() {
        for (target, seeds) in [("config", configs()), ("exchange", exchanges())] {
            std::fs::create_dir_all(smoke::folder(target)).unwrap();
            for (number, bytes) in seeds.iter().enumerate() {
                std::fs::write(smoke::folder(target).join(format!("seed-{number:02}")), bytes).unwrap();
            }
        }
    }
    smoke::run(server::TARGETS);
}

fn configs() -> Vec<Vec<u8>> {
    let full = "listen = \"127.0.0.1:0\"\nhosts = [\"gateway\"]\ngateway = \"http://127.0.0.1:4000\"\n[timing]\n\
                pulse_ms = 200\nbeat_ms = 150\nterm_ms = 1000\n[limits]\nlosses_max = 0\n[verify]\nenabled = false\n\
                at = \"03:30\"\n[[handler]]\nname = \"light\"\nargv = [\"sh\", \"-c\", \"echo 42\"]\nclass = \"light\"\n\
                slots = 2\n";
    vec![Vec::new(), full.into(), full[..80].into()]
}

fn exchanges() -> Vec<Vec<u8>> {
    let log = LogId([7; 32]);
    let mark = Mark {
        seq: 300,
        seal: SealDigest([3; 32]),
    };
    let raw = Raw {
        record: vec![5; 40],
        payload: None,
    };
    let hello = Hello {
        process: [4; 16],
        incarnation: 1,
        logs: vec![(log, Some(mark)), (LogId([8; 32]), None)],
        order: Some((1, log, mark, vec![1; 30])),
        fences: Vec::new(),
        handlers: vec![Declared {
            handler: "light".into(),
            class: ledger::core::kinds::Class::Light,
            labels: vec!["arm".into()],
            slots: 2,
        }],
        offered: false,
        now: 1_700_000_000_000_000,
    };
    let push = Push {
        process: [4; 16],
        log,
        records: vec![raw.clone(), raw.clone()],
    };
    let pull = Pull {
        log,
        after: Some(mark),
        wait_ms: 1000,
    };
    let claim = Claim {
        claim: [9; 16],
        incarnation: 1,
        free: vec![("light".into(), 2)],
        wait_ms: 0,
    };
    let claimed = Claimed {
        claimed: raw.clone(),
        accepted: raw.clone(),
        request: Some(raw.clone()),
        progress: None,
    };
    let bodies = [
        encode(&hello),
        encode(&push),
        encode(&pull),
        encode(&claim),
        encode(&claimed),
        encode(&Beat { fences: Vec::new() }),
        encode(&Join::Look { code: [1; 16] }),
    ];
    (0..)
        .zip(bodies)
        .map(|(which, body)| [vec![which], body].concat())
        .collect()
}
