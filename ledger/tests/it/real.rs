//! Records that other people's tools wrote, taken in as they are: 891 commits of four repositories.

use ledger::core::{Draft, Grade, Kind, Subject};
use ledger::verify::{Options, verify_store};
use ledger::{Ledger, PayloadState};
use std::path::Path;

#[test]
fn real_commits_read_back_as_they_were_and_verify() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/git-history/what-changed.jsonl");
    let Ok(text) = std::fs::read_to_string(&data) else {
        eprintln!("SKIPPED: the real records are not beside this checkout");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("log");
    let ledger = Ledger::lone(&home, "importer").unwrap();
    let commits: Vec<(Subject, &str)> = text
        .lines()
        .map(|line| {
            let commit: serde_json::Value = serde_json::from_str(line).unwrap();
            let subject = format!(
                "git/{}/{}",
                commit["repo"].as_str().unwrap(),
                commit["commit"].as_str().unwrap()
            );
            (Subject::new(&subject).unwrap(), line)
        })
        .collect();
    assert_eq!(commits.len(), 891);
    for part in commits.chunks(64) {
        let drafts: Vec<Draft> = part
            .iter()
            .map(|(subject, line)| {
                let draft = Draft::custom(Kind::new("x.git.commit").unwrap(), subject.clone());
                let draft = draft.grade(Grade::Imported);
                // A commit that touches more files than a payload holds is told by its beginning.
                let bytes = line.as_bytes()[..line.len().min(65_536)].to_vec();
                draft.payload("application/json", bytes).unwrap()
            })
            .collect();
        let all = move |tx: &mut ledger::Tx<'_, ()>| -> Result<(), ledger::LedgerError> {
            for draft in drafts {
                tx.append(ledger::core::Stream::Facts, draft)?;
            }
            Ok(())
        };
        assert_eq!(ledger.commit(all).unwrap().receipts.len(), part.len());
    }
    for (subject, line) in &commits {
        let found = ledger.by_subject(subject).unwrap();
        assert_eq!(found.len(), 1, "{subject}");
        let PayloadState::Present(payload) = ledger.payload(&found[0]).unwrap() else {
            panic!("{subject}")
        };
        assert!(line.as_bytes().starts_with(&payload.bytes));
    }
    ledger.close().unwrap();
    let report = verify_store(&home, &Options::default(), &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.counts.receipts, report.counts.payloads), (892, 891));
}
