//! What opening a journal does about the end of its newest segment: a decision table, kept as data.
//!
//! Recovery is the ordinary path, taken at every open. The examination (in `journal/open`) finds facts, `decide` looks
//! them up in `TABLE`, and the opener acts. The principle: damage that nothing proves durable is the torn end of a write
//! that nobody was told had succeeded, or that was told just before the power went; it is set aside, never destroyed.
//! Damage below what a later batch, a footer, a later segment or the anchor proves durable is damage to acknowledged
//! receipts, and never heals silently.
//!
//! What a crash during recovery leaves: the same journal as before, and perhaps copies under names that do not matter.
//! The one step that changes anything is the rename of a segment that is complete and durable.

use crate::Position;

/// The header of the newest segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderFound {
    /// One copy at least is sound.
    Sound,
    /// Neither copy is sound, and nothing but zeros follows: no batch was ever in it.
    Blank,
    /// Neither copy is sound, and there is something behind.
    Lost,
}

/// What stands behind the last good batch of the newest segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndFound {
    /// Zeros, or nothing.
    Zeros,
    /// A sound footer.
    Footer,
    /// Anything else.
    Damage,
}

/// What the examination of the newest segment found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) header: HeaderFound,
    pub(crate) end: EndFound,
    /// A batch or footer behind the last good batch proves that more was durable.
    pub(crate) proof_behind: bool,
    /// The anchor knows more to be durable than the good batches.
    pub(crate) anchor_beyond: bool,
    /// Good batches with entries stand behind the last proven place.
    pub(crate) unproven: bool,
}

/// What the opener does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Go on in this segment; nothing is written.
    Continue,
    /// The segment is full; the next append begins a new one.
    BeginNext,
    /// Copy what was not proven into a fresh segment, sync it, and go on there. Damage behind it is set aside first.
    Heal,
    /// Set the whole file aside: a segment that was being made. Then look at the one before it.
    SetAsideWhole,
    /// Refuse: acknowledged receipts are damaged or gone.
    Corrupt(&'static str),
}

/// One row: conditions, where `None` means any, and the action. The first row that fits counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) header: Option<HeaderFound>,
    pub(crate) end: Option<EndFound>,
    pub(crate) proof_behind: Option<bool>,
    pub(crate) anchor_beyond: Option<bool>,
    pub(crate) unproven: Option<bool>,
    pub(crate) action: Action,
}

const ANY: Row = Row {
    header: None,
    end: None,
    proof_behind: None,
    anchor_beyond: None,
    unproven: None,
    action: Action::Continue,
};

/// The decision table.
pub(crate) const TABLE: [Row; 9] = [
    Row {
        header: Some(HeaderFound::Lost),
        action: Action::Corrupt("both copies of the segment header are damaged, and batches follow"),
        ..ANY
    },
    Row {
        header: Some(HeaderFound::Blank),
        anchor_beyond: Some(true),
        action: Action::Corrupt("the segment is empty, but the anchor knows of durable batches in it"),
        ..ANY
    },
    Row {
        header: Some(HeaderFound::Blank),
        action: Action::SetAsideWhole,
        ..ANY
    },
    Row {
        anchor_beyond: Some(true),
        action: Action::Corrupt("the good batches end before the place that the anchor knows to be durable"),
        ..ANY
    },
    Row {
        end: Some(EndFound::Damage),
        proof_behind: Some(true),
        action: Action::Corrupt("damaged, and a later batch or footer proves that it was durable"),
        ..ANY
    },
    Row {
        end: Some(EndFound::Damage),
        action: Action::Heal,
        ..ANY
    },
    Row {
        end: Some(EndFound::Footer),
        action: Action::BeginNext,
        ..ANY
    },
    Row {
        end: Some(EndFound::Zeros),
        unproven: Some(true),
        action: Action::Heal,
        ..ANY
    },
    Row {
        end: Some(EndFound::Zeros),
        unproven: Some(false),
        action: Action::Continue,
        ..ANY
    },
];

/// Looks a finding up.
pub(crate) fn decide(finding: Finding) -> Action {
    TABLE
        .iter()
        .find(|row| row.fits(finding))
        .expect("the table covers every combination; a test walks them all")
        .action
}

impl Row {
    fn fits(&self, finding: Finding) -> bool {
        self.header.is_none_or(|wanted| wanted == finding.header)
            && self.end.is_none_or(|wanted| wanted == finding.end)
            && self
                .proof_behind
                .is_none_or(|wanted| wanted == finding.proof_behind)
            && self
                .anchor_beyond
                .is_none_or(|wanted| wanted == finding.anchor_beyond)
            && self.unproven.is_none_or(|wanted| wanted == finding.unproven)
    }
}

/// A part of a segment that was set aside at opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The segment.
    pub segment: u32,
    /// Where in it the damage begins, in bytes.
    pub offset: u32,
    /// How many bytes were set aside; zeros at the end do not count.
    pub bytes: u64,
    /// The name of the file in the journal's folder that holds them now.
    pub file: String,
    /// What was wrong, in words.
    pub what: String,
}

/// What opening a journal found and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the journal had not been closed.
    pub unclean: bool,
    /// What was set aside.
    pub torn: Vec<TornTail>,
    /// Where the newest segment was cut: positions in that segment at or behind this one mean nothing any more.
    pub cut: Option<Position>,
    /// The entries of the unproven tail, which stand in a fresh segment now: old place, new place, in the journal's order.
    pub moved: Vec<(Position, Position)>,
    /// Segments of which one copy of the header is damaged; nothing is lost.
    pub header_copies_damaged: Vec<u32>,
}

impl RecoveryReport {
    /// Where an entry stands now that stood at `position` before the opening; `None` when nothing stands there any more.
    pub fn translate(&self, position: Position) -> Option<Position> {
        match self.cut {
            Some(cut) if position.segment == cut.segment && position.offset >= cut.offset => self
                .moved
                .iter()
                .find(|(old, _)| *old == position)
                .map(|(_, new)| *new),
            _ => Some(position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_finding() -> impl Iterator<Item = Finding> {
        let flags = [false, true];
        let headers = [HeaderFound::Sound, HeaderFound::Blank, HeaderFound::Lost];
        let ends = [EndFound::Zeros, EndFound::Footer, EndFound::Damage];
        headers.into_iter().flat_map(move |header| {
            ends.into_iter().flat_map(move |end| {
                flags.into_iter().flat_map(move |proof_behind| {
                    flags.into_iter().flat_map(move |anchor_beyond| {
                        flags.into_iter().map(move |unproven| Finding {
                            header,
                            end,
                            proof_behind,
                            anchor_beyond,
                            unproven,
                        })
                    })
                })
            })
        })
    }

    #[test]
    fn every_combination_has_a_row_and_every_row_a_combination() {
        let mut used = [false; TABLE.len()];
        for finding in every_finding() {
            let row = TABLE.iter().position(|row| row.fits(finding));
            used[row.unwrap_or_else(|| panic!("no row for {finding:?}"))] = true;
        }
        assert_eq!(used, [true; TABLE.len()]);
    }

    #[test]
    fn proven_damage_is_never_healed_and_unproven_damage_is_never_refused() {
        for finding in every_finding() {
            let lost = finding.header == HeaderFound::Lost;
            let proven = finding.anchor_beyond
                || (finding.header == HeaderFound::Sound
                    && finding.end == EndFound::Damage
                    && finding.proof_behind);
            let refused = matches!(decide(finding), Action::Corrupt(_));
            assert_eq!(refused, lost || proven, "{finding:?}");
        }
    }

    #[test]
    fn a_journal_is_continued_in_place_only_when_all_of_it_is_proven() {
        for finding in every_finding() {
            if decide(finding) == Action::Continue {
                assert!(finding.header == HeaderFound::Sound && finding.end == EndFound::Zeros);
                assert!(!finding.unproven && !finding.anchor_beyond);
            }
        }
    }
}
