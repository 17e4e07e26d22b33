//! Times as the API writes and reads them: RFC 3339 in UTC with microseconds.

use super::problem::Problem;
use jiff::Timestamp;
use ledger::core::Hlc;

/// Microseconds since 1970 as text.
pub(crate) fn text(us: i64) -> String {
    let time =
        Timestamp::from_microsecond(us).unwrap_or(if us < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{time:.6}")
}

/// The wall time of a hybrid time, in microseconds since 1970.
pub(crate) fn hlc_us(time: Hlc) -> i64 {
    i64::try_from(time.unix_ms())
        .expect("48 bits fit")
        .saturating_mul(1000)
}

/// From one time to a later one, both in microseconds since 1970, as milliseconds; none when it is not later.
pub(crate) fn ms_between(earlier_us: i64, later_us: i64) -> u64 {
    u64::try_from(later_us.saturating_sub(earlier_us).max(0) / 1000).expect("not negative")
}

/// Reads a parameter's time.
pub(crate) fn parse(name: &str, text: &str) -> Result<i64, Problem> {
    let time: Timestamp = text.parse().map_err(|_| {
        Problem::query(format!(
            "expected `{name}` as RFC 3339, like 2026-01-31T23:59:59Z, found {text:?}"
        ))
    })?;
    Ok(time.as_microsecond())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for us in [0, 1, 1_767_225_599_999_999] {
            assert_eq!(parse("since", &text(us)).unwrap(), us);
        }
        assert!(parse("since", "tomorrow").is_err());
    }
}
