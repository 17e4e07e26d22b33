//! Verification by the daemon: every night at a configured local time, and whenever somebody asks. Its outcome is a
//! receipt, from which a notice follows when something is found.

use crate::error::ServerError;
use crate::machine::Machine;
use jiff::civil::Time;
use jiff::{ToSpan, Zoned};
use ledger::core::kinds::VerifyCompleted;
use ledger::core::{Draft, Stream, Subject};
use ledger::verify::{AuthorityMaker, Options, Report, verify_store};
use ledger_projections::authority::FleetAuthority;
use std::sync::Arc;
use std::time::Duration;

/// The longest sleep before the clock is looked at again: a laptop that slept over the hour still runs it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Reads `HH:MM`.
pub fn parse_at(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<i8>().ok()).flatten();
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

/// The first moment after `now` at that time of day, in its time zone. A time that a change of the clocks skips is taken
/// as the moment after the gap.
pub fn next_run(now: &Zoned, at: Time) -> Result<Zoned, jiff::Error> {
    let today = now.date().to_datetime(at).to_zoned(now.time_zone().clone())?;
    if today > *now {
        return Ok(today);
    }
    now.date()
        .checked_add(1.day())?
        .to_datetime(at)
        .to_zoned(now.time_zone().clone())
}

/// Runs the verification at its time until it is told to stop.
pub(crate) async fn verify_nightly(machine: Arc<Machine>, mut stop: tokio::sync::watch::Receiver<bool>) {
    let Some(at) = parse_at(&machine.config.verify.at).filter(|_| machine.config.verify.enabled) else {
        return;
    };
    let next = |now: &Zoned| match next_run(now, at) {
        Ok(next) => Some(next),
        Err(e) => {
            tracing::error!(error = %e, "the time of the nightly verification cannot be computed");
            None
        }
    };
    let Some(mut due) = next(&Zoned::now()) else {
        return;
    };
    loop {
        let until = Zoned::now().duration_until(&due).unsigned_abs();
        tokio::select! {
            () = tokio::time::sleep(until.min(LOOK_EVERY)) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let now = Zoned::now();
        if now < due {
            continue;
        }
        if let Err(e) = verify_now(&machine).await {
            tracing::error!(code = e.code(), error = %e, "the nightly verification could not run");
        }
        let Some(following) = next(&now) else { return };
        due = following;
    }
}

/// What judges, during a verification, whether keys were permitted to say what they said.
pub fn authority() -> AuthorityMaker {
    FleetAuthority::maker()
}

/// What came of a verification.
#[derive(Debug)]
pub struct Verified {
    /// What it found.
    pub report: Report,
    /// Whether the outcome is a receipt; a gateway that may be an old copy of itself says nothing.
    pub kept: bool,
}

/// Verifies this machine's store from disk, fully, and says what came of it.
///
/// # Errors
/// [`ServerError::Ledger`] when it could not run or be recorded; what it finds is in the report.
pub async fn verify_now(machine: &Arc<Machine>) -> Result<Verified, ServerError> {
    let dir = machine.ledger.paths().dir().to_owned();
    // One thread leaves the other cores to the work.
    let options = Options {
        threads: 1,
        authority: Some(authority()),
        ..Options::default()
    };
    let run = tokio::task::spawn_blocking(move || verify_store(&dir, &options, &mut |_| {})).await;
    let report = run.map_err(|e| ServerError::Malformed(e.to_string()))??;
    let detail: VerifyCompleted = report.to_detail();
    if !report.is_clean() {
        tracing::error!(
            findings = report.findings_total,
            "the verification of this store found faults; run `ledger verify`"
        );
    }
    let subject = Subject::new(&format!("node/{}", machine.id()))?;
    // So that a notice can follow.
    let may = match machine.is_gateway() && machine.central.healing() {
        true => machine.central.wait_until_serving().await,
        false => Ok(()),
    };
    let said = match may {
        Ok(()) => {
            machine
                .say(Stream::Facts, vec![Draft::of(&detail, subject)])
                .await
        }
        Err(e) => Err(e),
    };
    let kept = match said {
        Ok(said) => {
            if let Some(receipt) = said.into_iter().next() {
                machine.set_verified(receipt);
            }
            true
        }
        Err(ServerError::NotServing(why)) => {
            tracing::warn!(
                why,
                "the outcome of a verification is not kept: this machine may say nothing"
            );
            false
        }
        Err(e) => return Err(e),
    };
    Ok(Verified { report, kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_is_later_today_or_tomorrow_and_survives_the_change_of_clocks() {
        let at = parse_at("03:30").unwrap();
        let before: Zoned = "2026-06-01T01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(
            next_run(&before, at).unwrap().to_string(),
            "2026-06-01T03:30:00+02:00[Europe/Berlin]"
        );
        let after: Zoned = "2026-06-01T03:30[Europe/Berlin]".parse().unwrap();
        assert_eq!(
            next_run(&after, at).unwrap().to_string(),
            "2026-06-02T03:30:00+02:00[Europe/Berlin]"
        );
        let night: Zoned = "2026-03-29T00:00[Europe/Berlin]".parse().unwrap();
        let skipped = next_run(&night, parse_at("02:30").unwrap()).unwrap();
        assert_eq!(skipped.to_string(), "2026-03-29T03:30:00+02:00[Europe/Berlin]");
        assert!(parse_at("3:30").is_none() && parse_at("24:00").is_none());
    }
}
