//! The reserve of the disk: how much of it is to stay free for heartbeats, results and notices.
//!
//! Below it a machine takes no new work and nothing of other people's, says so, and goes on with what it has. Does not: look at
//! the disk; heartbeats do.

use serde::{Deserialize, Serialize};

/// The reserve where none is configured: a hundredth of the disk, but no more than this many bytes.
const DEFAULT_BYTES_MAX: u64 = 1 << 30;
/// A part of the disk at most, in per cent.
const PER_CENT_MAX: u64 = 50;

/// The disk that holds the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// What is to stay free: bytes (`500000000`, `512MiB`, `2GiB`) or a part of the disk (`5%`); `0` for no bound. One per
    /// cent, at most 1 GiB, where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<String>,
}

impl DiskConfig {
    /// What is wrong with it, as a sentence.
    pub(crate) fn wrong(&self) -> Option<String> {
        let text = self.reserve.as_ref()?;
        parse(text, 0).is_none().then(|| {
            format!(
                "disk.reserve = {text:?}: bytes, as in \"512MiB\" or \"2GiB\", or up to {PER_CENT_MAX} per cent of the disk, as in \
                 \"5%\", are expected"
            )
        })
    }

    /// How many bytes of a disk of `total` bytes are to stay free; 0 for no bound.
    pub fn reserve_bytes(&self, total: u64) -> u64 {
        match &self.reserve {
            Some(text) => parse(text, total).unwrap_or(0),
            None => (total / 100).min(DEFAULT_BYTES_MAX),
        }
    }
}

fn parse(text: &str, total: u64) -> Option<u64> {
    let text = text.trim();
    if let Some(part) = text.strip_suffix('%') {
        let part: u64 = part.trim().parse().ok().filter(|part| *part <= PER_CENT_MAX)?;
        return Some(total / 100 * part);
    }
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: u64 = number.trim().parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reserve(text: &str) -> DiskConfig {
        DiskConfig {
            reserve: Some(text.to_owned()),
        }
    }

    #[test]
    fn a_reserve_is_bytes_or_a_part_of_the_disk() {
        let total = 1000 << 30;
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512MiB", 512 << 20),
            ("2 GiB", 2 << 30),
            ("5%", 50 << 30),
        ] {
            assert_eq!(reserve(text).reserve_bytes(total), bytes, "{text}");
            assert_eq!(reserve(text).wrong(), None, "{text}");
        }
        assert_eq!(DiskConfig::default().reserve_bytes(total), 1 << 30);
        assert_eq!(DiskConfig::default().reserve_bytes(1 << 20), (1 << 20) / 100);
    }

    #[test]
    fn what_is_no_reserve_is_refused_with_what_is_expected() {
        for text in ["", "some", "-1", "51%", "5 %%", "99999999TiB", "1.5GiB"] {
            let wrong = reserve(text).wrong();
            assert!(wrong.is_some_and(|why| why.contains("are expected")), "{text}");
        }
    }
}
