//! The hybrid logical clock: 48 bits of Unix milliseconds, 16 bits of counter (Kulkarni et al., 2014).
//!
//! It gives "in order" for a person's eyes across machines. It never runs backwards, and a full counter carries into the
//! milliseconds, which adding one to the whole number does by itself.

use std::fmt;

/// A time of the hybrid logical clock.
///
/// ```
/// use ledger_core::Hlc;
/// let first = Hlc::default().tick(1000);
/// let second = first.tick(900); // the wall clock was set back; time rises all the same
/// assert!(second > first && second.unix_ms() == 1000 && second.counter() == 1);
/// ```
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Hlc(pub u64);

/// The last millisecond that 48 bits hold, in the year 10889.
pub const UNIX_MS_MAX: u64 = (1 << 48) - 1;

impl Hlc {
    /// The first instant of a millisecond; later ones than [`UNIX_MS_MAX`] are taken as that.
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms.min(UNIX_MS_MAX) << 16)
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The counter within the millisecond.
    pub fn counter(self) -> u16 {
        u16::try_from(self.0 & 0xffff).expect("masked to 16 bits")
    }

    /// The next time after `self` on a machine whose wall clock shows `wall_ms`: strictly later than `self`.
    #[must_use]
    pub fn tick(self, wall_ms: u64) -> Self {
        Self(self.0.saturating_add(1).max(Self::from_unix_ms(wall_ms).0))
    }

    /// What our clock knows after it saw `remote`, pulled at most `drift_max_ms` past our own wall clock.
    #[must_use]
    pub fn merge(self, remote: Hlc, wall_ms: u64, drift_max_ms: u64) -> Self {
        let bound = Self(Self::from_unix_ms(wall_ms.saturating_add(drift_max_ms)).0 | 0xffff);
        self.max(remote.min(bound))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hlc({}ms+{})", self.unix_ms(), self.counter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let full = Hlc((5 << 16) | 0xffff);
        assert_eq!(full.tick(3), Hlc(6 << 16));
    }

    proptest! {
        #[test]
        fn ticks_rise_whatever_the_wall_clock_does(start in 0u64..1 << 60, walls in prop::collection::vec(0u64..1 << 48, 1..50)) {
            let mut clock = Hlc(start);
            for wall in walls {
                let next = clock.tick(wall);
                prop_assert!(next > clock && next >= Hlc::from_unix_ms(wall));
                clock = next;
            }
        }

        #[test]
        fn a_foreign_clock_pulls_no_further_than_the_drift(own in 0u64..1 << 62, remote in 0u64..1 << 62, wall in 0u64..1 << 46) {
            let merged = Hlc(own).merge(Hlc(remote), wall, 60_000);
            prop_assert!(merged >= Hlc(own));
            prop_assert!(merged == Hlc(own) || merged.unix_ms() <= wall + 60_000);
        }
    }
}
