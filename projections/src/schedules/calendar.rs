//! When a schedule is due: a cron expression in a time zone, as a pure function of the time before.
//!
//! The rules of zones are those compiled into the program, never the machine's, so that the same expression gives the same times
//! everywhere. A wall time that a zone leaves out (its clock is put forward): an expression of fixed hours and minutes fires at
//! the first moment after the gap, one with a `*`, a step or a range in a field of the time of day fires at those of its times
//! that exist. A wall time that comes twice (the clock is put back): the former fires the first time alone, the latter both times.

use super::ScheduleRefusal;
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use ledger_core::limits::{CRON_BYTES_MAX, NAME_BYTES_MAX};
use std::str::FromStr;
use std::sync::LazyLock;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const SECOND_US: i64 = 1_000_000;

/// The nominal times of a schedule.
#[derive(Clone, Debug)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Reads a cron expression (5 fields, 6 with seconds in front, 7 with years at the end) and the IANA name of a zone.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Expression`], [`ScheduleRefusal::Zone`].
    ///
    /// ```
    /// use ledger_projections::schedules::Calendar;
    /// let nightly = Calendar::new("30 3 * * *", "Europe/Berlin").unwrap();
    /// // 2026-01-31T12:00:00Z; the next is 2026-02-01T02:30:00Z.
    /// assert_eq!(nightly.next(1_769_860_800_000_000), Some(1_769_913_000_000_000));
    /// assert_eq!(Calendar::new("30 25 * * *", "UTC").unwrap_err().code(), "schedule.expression");
    /// ```
    pub fn new(expression: &str, zone: &str) -> Result<Self, ScheduleRefusal> {
        let expected = |why: String| ScheduleRefusal::Expression {
            found: expression.chars().take(CRON_BYTES_MAX).collect(),
            why,
        };
        if expression.len() > CRON_BYTES_MAX {
            return Err(expected(format!("it has more than {CRON_BYTES_MAX} bytes")));
        }
        let cron = Cron::from_str(expression).map_err(|e| expected(e.to_string()))?;
        let known = (zone.len() <= NAME_BYTES_MAX).then(|| ZONES.get(zone).ok());
        let zone = known.flatten().ok_or_else(|| ScheduleRefusal::Zone {
            found: zone.chars().take(NAME_BYTES_MAX).collect(),
        })?;
        Ok(Self { cron, zone })
    }

    /// The first nominal time after a time, both in microseconds since 1970; none when there is none before the year 5000.
    pub fn next(&self, after: i64) -> Option<i64> {
        let second = after.div_euclid(SECOND_US);
        let from = Timestamp::from_second(second).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        let next = next.timestamp().as_second();
        // Time goes on, whatever a zone's rules say.
        (next > second).then(|| next.saturating_mul(SECOND_US))
    }
}
