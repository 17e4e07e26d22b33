//! The table of transitions is total, leaves no final state, and is what the document shows.

use ledger_projections::queue::table::{Event, Outcome, Phase, TABLE, markdown, outcome};

#[test]
fn every_cell_has_an_outcome_and_indexes_match_the_lists() {
    for (row, phase) in Phase::ALL.into_iter().enumerate() {
        assert_eq!(phase as usize, row);
        for (column, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, column);
            assert_eq!(TABLE[row][column], outcome(phase, event));
        }
    }
}

#[test]
fn nothing_leads_out_of_a_final_state_and_something_out_of_every_other() {
    for phase in Phase::ALL {
        let leaves = Event::ALL
            .into_iter()
            .any(|event| matches!(outcome(phase, event), Outcome::To(to) if to != phase));
        assert_eq!(leaves, !phase.is_final(), "{phase}");
    }
}

#[test]
fn no_event_leads_back_to_absent_or_accepted() {
    for phase in Phase::ALL {
        for event in Event::ALL {
            let to = outcome(phase, event);
            assert_ne!(to, Outcome::To(Phase::Absent));
            assert!(to != Outcome::To(Phase::Accepted) || phase == Phase::Absent);
        }
    }
}

#[test]
fn every_unfinished_job_can_be_cancelled_and_expire_and_a_late_result_is_always_in_order() {
    for phase in Phase::ALL {
        assert_eq!(outcome(phase, Event::LateResult), Outcome::Note, "{phase}");
        if phase != Phase::Absent && !phase.is_final() {
            assert_eq!(
                outcome(phase, Event::Cancelled),
                Outcome::To(Phase::Cancelled),
                "{phase}"
            );
            assert_eq!(
                outcome(phase, Event::Expired),
                Outcome::To(Phase::Expired),
                "{phase}"
            );
        }
    }
}

/// `UPDATE=1 cargo test -p ledger-projections` writes the table into the document.
#[test]
fn the_document_shows_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/QUEUE.md");
    let text = std::fs::read_to_string(path).expect("docs/QUEUE.md is there");
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let from = text.find(begin).expect("the table's beginning is marked") + begin.len();
    let to = text.find(end).expect("the table's end is marked");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{}{}{}", &text[..from], markdown(), &text[to..])).unwrap();
        return;
    }
    assert_eq!(
        &text[from..to],
        markdown(),
        "run with UPDATE=1 to write the table into docs/QUEUE.md"
    );
}
