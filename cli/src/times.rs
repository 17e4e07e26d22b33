//! Times as people write them: `2h`, `90m`, `yesterday`, `2026-11-20`, RFC 3339, `@seq`.
//!
//! Owns the reading and the showing of times. The clock and the zone come in as one argument; nothing here asks for them. A
//! date means its first moment where the reader is, as journalctl takes it.

use crate::error::CliError;
use jiff::civil::DateTime;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// A bound of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// A time, microseconds since 1970.
    At(i64),
    /// A seq of the order.
    Seq(u64),
}

impl Moment {
    /// As the HTTP interface takes it.
    pub(crate) fn to_query(self) -> String {
        match self {
            Self::At(us) => rfc3339(us),
            Self::Seq(seq) => format!("@{seq}"),
        }
    }

    /// As RFC 3339, where a place of the order will not do.
    ///
    /// # Errors
    /// `time.malformed`.
    pub(crate) fn at(self) -> Result<String, CliError> {
        match self {
            Self::At(us) => Ok(rfc3339(us)),
            Self::Seq(seq) => Err(CliError::new(
                "time.malformed",
                format!("@{seq} is a place of the order, and a time is expected"),
                "write a length of time (2h) or a time (2026-11-20, 2026-11-20T18:00)",
            )),
        }
    }
}

/// Reads a time of a query (`--since`, `--until`).
///
/// # Errors
/// `time.malformed`.
pub(crate) fn parse(text: &str, now: &Zoned) -> Result<Moment, CliError> {
    let text = text.trim();
    if let Some(seq) = text.strip_prefix('@') {
        return seq.parse().map(Moment::Seq).map_err(|_| malformed(text));
    }
    let day = |days: i64| {
        now.checked_add(Span::new().days(days))
            .and_then(|zoned| zoned.start_of_day())
            .map(|zoned| zoned.timestamp())
    };
    let at = match text {
        "now" => Ok(now.timestamp()),
        "today" => day(0),
        "yesterday" => day(-1),
        "tomorrow" => day(1),
        _ => return parse_other(text, now),
    };
    at.map(|t| Moment::At(t.as_microsecond()))
        .map_err(|_| malformed(text))
}

fn parse_other(text: &str, now: &Zoned) -> Result<Moment, CliError> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(Moment::At(timestamp.as_microsecond()));
    }
    // A date alone is its first moment.
    let civil = text.parse::<DateTime>();
    if let Ok(civil) = civil {
        let zoned = civil
            .to_zoned(now.time_zone().clone())
            .map_err(|_| malformed(text))?;
        return Ok(Moment::At(zoned.timestamp().as_microsecond()));
    }
    let back = parse_span(text)?;
    now.timestamp()
        .checked_sub(back)
        .map(|t| Moment::At(t.as_microsecond()))
        .map_err(|_| malformed(text))
}

/// The same for `--since`, which lies in the past.
///
/// # Errors
/// `time.malformed`, and `time.future` for a time that has not come.
pub(crate) fn parse_since(text: &str, now: &Zoned) -> Result<Moment, CliError> {
    let moment = parse(text, now)?;
    match moment {
        Moment::At(us) if us > now.timestamp().as_microsecond() => Err(CliError::new(
            "time.future",
            format!("--since {text} is {}, which lies in the future", local(us, now)),
            "nothing can have happened since then; give a time that has passed, such as 2h, yesterday or @120",
        )),
        _ => Ok(moment),
    }
}

/// Reads a time of what is to come, as RFC 3339: a length of time is one from now on.
///
/// # Errors
/// `time.malformed`.
pub(crate) fn parse_ahead(text: &str, now: &Zoned) -> Result<String, CliError> {
    match parse_span(text.trim()) {
        Ok(span) => now
            .timestamp()
            .checked_add(span)
            .map(|end| end.to_string())
            .map_err(|_| malformed(text)),
        Err(_) => parse(text, now)?.at(),
    }
}

/// Reads a length of time: `10m`, `2h 30m`, `30d` (a day is 24 hours).
///
/// # Errors
/// `time.malformed`.
pub(crate) fn parse_span(text: &str) -> Result<SignedDuration, CliError> {
    let span: Span = text.parse().map_err(|_| malformed(text))?;
    let span = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| malformed(text))?;
    if span.is_negative() || span.is_zero() {
        return Err(malformed(text));
    }
    Ok(span)
}

fn malformed(text: &str) -> CliError {
    CliError::new(
        "time.malformed",
        format!("{text:?} is not a time that is understood"),
        "write a length of time (90m, 2h, 3d), today, yesterday, a date (2026-11-20), RFC 3339 \
         (2026-11-20T15:04:05Z), or @seq for a place in the order",
    )
}

/// RFC 3339 in UTC, from microseconds since 1970.
pub(crate) fn rfc3339(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |t| t.to_string())
}

/// `2026-11-20 15:04:05` where the reader is.
pub(crate) fn local(us: i64, now: &Zoned) -> String {
    format_local(us, now, "%Y-%m-%d %H:%M:%S")
}

/// `15:04:05.123`, with the date before it when it is not today's.
pub(crate) fn clock(us: i64, now: &Zoned) -> String {
    let zoned = Timestamp::from_microsecond(us).map(|t| t.to_zoned(now.time_zone().clone()));
    let pattern = match zoned {
        Ok(zoned) if zoned.date() == now.date() => "%H:%M:%S%.3f",
        _ => "%Y-%m-%d %H:%M:%S%.3f",
    };
    format_local(us, now, pattern)
}

fn format_local(us: i64, now: &Zoned, pattern: &str) -> String {
    Timestamp::from_microsecond(us).map_or_else(
        |_| us.to_string(),
        |t| t.to_zoned(now.time_zone().clone()).strftime(pattern).to_string(),
    )
}

/// How long ago something was, in words.
pub(crate) fn ago(us: i64, now: &Zoned) -> String {
    let elapsed_ms = now.timestamp().as_microsecond().saturating_sub(us) / 1000;
    match u64::try_from(elapsed_ms) {
        Ok(ms) => format!("{} ago", crate::output::span_ms(ms)),
        Err(_) => "just now".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Zoned {
        "2026-11-20T15:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn every_form_means_what_people_mean() {
        for (text, expected) in [
            ("2h", "2026-11-20T12:00:00Z"),
            ("90m", "2026-11-20T12:30:00Z"),
            ("1h 30m", "2026-11-20T12:30:00Z"),
            ("3d", "2026-11-17T14:00:00Z"),
            ("now", "2026-11-20T14:00:00Z"),
            ("today", "2026-11-19T23:00:00Z"),
            ("yesterday", "2026-11-18T23:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 09:30", "2026-11-20T08:30:00Z"),
            ("2026-11-20T09:30:00Z", "2026-11-20T09:30:00Z"),
            ("2026-11-20T09:30:00+02:00", "2026-11-20T07:30:00Z"),
        ] {
            assert_eq!(parse(text, &now()).unwrap(), Moment::At(at(expected)), "{text}");
        }
        assert_eq!(parse("@120", &now()).unwrap(), Moment::Seq(120));
    }

    #[test]
    fn a_day_begins_where_the_reader_is_even_when_the_clocks_change() {
        let now: Zoned = "2026-10-25T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(
            parse("today", &now).unwrap(),
            Moment::At(at("2026-10-24T22:00:00Z"))
        );
        assert_eq!(parse("1d", &now).unwrap(), Moment::At(at("2026-10-24T11:00:00Z")));
    }

    #[test]
    fn since_tomorrow_is_refused_with_its_code() {
        for text in ["tomorrow", "2030-01-01", "2026-11-20T14:00:01Z"] {
            assert_eq!(
                parse_since(text, &now()).unwrap_err().code,
                "time.future",
                "{text}"
            );
        }
        assert_eq!(
            parse_since("now", &now()).unwrap(),
            Moment::At(at("2026-11-20T14:00:00Z"))
        );
    }

    #[test]
    fn a_length_of_time_ahead_is_one_from_now_on() {
        for (text, expected) in [
            ("2h", "2026-11-20T16:00:00Z"),
            (" 1h 30m", "2026-11-20T15:30:00Z"),
            ("tomorrow", "2026-11-20T23:00:00Z"),
            ("2026-11-20 18:00", "2026-11-20T17:00:00Z"),
            ("yesterday", "2026-11-18T23:00:00Z"),
        ] {
            assert_eq!(at(&parse_ahead(text, &now()).unwrap()), at(expected), "{text}");
        }
        for text in ["@3", "-2h", "soon", "300000000d"] {
            assert_eq!(
                parse_ahead(text, &now()).unwrap_err().code,
                "time.malformed",
                "{text}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_code() {
        for text in [
            "",
            "@",
            "@x",
            "two hours",
            "-2h",
            "0s",
            "2026-13-01",
            "25:00",
            "2 fortnights",
        ] {
            assert_eq!(
                parse(text, &now()).unwrap_err().code,
                "time.malformed",
                "{text:?}"
            );
        }
    }
}
