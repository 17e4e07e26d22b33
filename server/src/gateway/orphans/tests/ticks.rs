//! Ticks of schedules that a branch tells of.

use super::*;

impl Gateway {
    pub(super) async fn define(&self, name: &str, misfire: Misfire) {
        let defined = ScheduleDefined {
            schedule: name.into(),
            cron: "* * * * * *".into(),
            zone: "UTC".into(),
            overlap: Overlap::Allow,
            misfire,
            job: spec("render"),
            deadline_ms: None,
            project: None,
        };
        let subject = Subject::new("schedule").unwrap();
        let said = self.0.sign_as_actor(Draft::of(&defined, subject)).unwrap();
        self.0.append(said).await.unwrap();
    }

    /// Has a schedule decide what is due, until something is.
    pub(super) async fn fire(&self, name: &'static str) {
        let row = || self.0.ledger.snapshot().state.schedule(name).cloned().unwrap();
        let before = row().decided_until;
        while row().decided_until == before {
            let (policy, defined) = (self.0.config.policy(), row().defined);
            let firing = self.0.ledger.submit(move |tx| -> Result<(), ServerError> {
                fire(tx, name, &defined, &Input::None, &policy)?;
                Ok(())
            });
            firing.await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The job of a schedule's last tick, and its nominal time.
    pub(super) fn fired(&self, name: &str) -> (JobId, i64) {
        let snapshot = self.0.ledger.snapshot();
        let last = snapshot.state.schedule(name).unwrap().last_fired.unwrap();
        (last.job, last.nominal)
    }
}

#[tokio::test]
async fn a_tick_that_fired_in_a_branch_is_asked_for_again_once_unless_the_schedule_made_up_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    let names = ["claimed", "late-never", "once-for-all"];
    for (name, misfire) in names
        .into_iter()
        .zip([Misfire::RunOnce, Misfire::Skip, Misfire::RunOnce])
    {
        gateway.define(name, misfire).await;
    }
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let mut fired = Vec::new();
    for name in names {
        gateway.fire(name).await;
        fired.push(gateway.fired(name));
    }
    let shorter = gateway.tail(&order, cut, gateway.end(&order));
    let given = gateway.claim("render", 1).await[0];
    let tail = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    let gateway = Gateway::put_back(&old).await;
    gateway.bring(&shorter).await;
    let order = gateway.log(Stream::Order);
    let at = gateway.end(&order);
    settle(&gateway.0).await;
    assert_eq!(gateway.end(&order), at, "the schedules decide first");
    let last = fired.iter().map(|(_, nominal)| *nominal).max().unwrap();
    while gateway.0.now_us() <= last + 2_000_000 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for name in names {
        gateway.fire(name).await;
    }
    // A tick that the new epoch fired itself is the same job.
    let again = gateway.fired("once-for-all").0;
    let jobs = |gateway: &Gateway| {
        fired
            .iter()
            .map(|(job, _)| gateway.phase(job))
            .collect::<Vec<_>>()
    };
    assert_eq!(jobs(&gateway), [None; 3]);
    settle(&gateway.0).await;
    assert_eq!(jobs(&gateway), [None, Some(Phase::Ready), None]);
    // What is passed over comes back when somebody shows that a machine was given it.
    for _ in 0..2 {
        gateway.bring(&tail).await;
        settle(&gateway.0).await;
        assert_eq!(jobs(&gateway), [Some(Phase::Ready), Some(Phase::Ready), None]);
        assert_eq!(gateway.phase(&again), Some(Phase::Ready));
        assert_eq!(
            (gateway.count("log.cited"), gateway.count("job.claim-proven")),
            (2, 1)
        );
    }
    gateway.succeed(fired[0].0, given).await;
    assert_eq!(gateway.phase(&fired[0].0), Some(Phase::Succeeded));
    let snapshot = gateway.0.ledger.snapshot();
    let told: Vec<_> = snapshot
        .state
        .notices()
        .map(|(_, notice)| notice.text.clone())
        .collect();
    let told = told
        .iter()
        .find(|text| text.contains("2 ticks of schedules"))
        .unwrap();
    assert!(told.contains("last once-for-all of 2"), "{told}");
    gateway.close().await;
}
