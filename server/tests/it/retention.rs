//! Pulses go, their disk space is freed, and every answer that is kept stays what it was.

use ledger::clock::{Clock, SystemClock, SystemEntropy};
use ledger::core::kinds::{AnyDetail, NodeDaySummary, NodePulse3, RetentionSet};
use ledger::core::{Draft, Kind, MachineId, Stream, Subject};
use ledger::verify::{Options, verify_store};
use ledger::{Ledger, LedgerError, OpenOptions, Paths};
use ledger_projections::FleetState;
use ledger_projections::retention::summary_id;
use ledger_projections::uptime::{Uptime, Window, absent, uptime};
use ledger_server::client::Api;
use ledger_server::config::Timing;
use ledger_server::daemon::{run_gateway, run_node, socket};
use ledger_server::http::wire::Status;
use ledger_server::{Config, ServerError, nightly, retention, setup};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;
const MINUTE_US: i64 = 60_000_000;
/// Every five minutes.
const PULSES_A_DAY: i64 = 288;
const DAYS: i64 = 95;
/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);

type Store = Ledger<FleetState>;

#[derive(Clone)]
struct Hand(Arc<AtomicI64>);

impl Clock for Hand {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn open(dir: &Path, clock: &Hand) -> Store {
    let options = OpenOptions::default()
        .clock(clock.clone())
        .segment_bytes(256 * 1024);
    Ledger::open(&Paths::new(dir), options).unwrap()
}

fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(Paths::new(dir).journal()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().blocks()).sum()
}

fn clean(dir: &Path) {
    for fast in [false, true] {
        let options = Options {
            authority: Some(nightly::authority()),
            full: !fast,
            ..Options::default()
        };
        let report = verify_store(dir, &options, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "fast {fast}: {:?}", report.findings);
    }
}

fn pulse(n: i64) -> NodePulse3 {
    let small = u16::try_from(n.rem_euclid(1000)).unwrap();
    NodePulse3 {
        cpu_per_mille: small,
        memory_used_bytes: 1_000 + u64::from(small),
        memory_total_bytes: 4_000,
        disk_free_bytes: 9_000 - u64::from(small),
        disk_total_bytes: 10_000,
        load1_centi: u32::from(small),
        temperature_milli_c: (n % 2 == 0).then_some(i32::from(small)),
        outbox_receipts: u64::from(small),
        version: "test".into(),
        ..NodePulse3::default()
    }
}

// A day in twelve commits, each of which has one time.
fn live(ledger: &Store, clock: &Hand, begin: i64, day: i64) {
    let subject = Subject::new("node/studio").unwrap();
    for part in 0..12 {
        let at = begin + day * DAY_US + part * DAY_US / 12;
        clock.0.store(at, Ordering::SeqCst);
        let subject = subject.clone();
        let append = move |tx: &mut ledger::Tx<'_, FleetState>| -> Result<(), LedgerError> {
            for n in 0..PULSES_A_DAY / 12 {
                let n = day * PULSES_A_DAY + part * (PULSES_A_DAY / 12) + n;
                tx.append(Stream::Pulse, Draft::of(&pulse(n), subject.clone()))?;
            }
            Ok(())
        };
        ledger.commit(append).unwrap();
    }
}

fn ninety_days(ledger: &Store, until: i64) -> Uptime {
    let window = Window {
        from: until - 90 * DAY_US,
        until,
        known_until: until,
    };
    let machine = MachineId::new("studio").unwrap();
    uptime(&ledger.snapshot().state, &machine, window).unwrap()
}

#[test]
fn pulses_of_ninety_days_go_their_disk_space_is_freed_and_uptime_stays_exact() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("g");
    setup::init(&dir, &MachineId::new("studio").unwrap()).unwrap();
    // From the next midnight on: a log's time never goes back.
    let begin = (SystemClock.now_us() / DAY_US + 1) * DAY_US;
    let clock = Hand(Arc::new(AtomicI64::new(begin)));
    let ledger = open(&dir, &clock);
    let outages = [(20, 18), (40, 4), (60, 22), (80, 47), (90, 3)];
    for day in 0..DAYS {
        live(&ledger, &clock, begin, day);
        if let Some((_, minutes)) = outages.iter().find(|(on, _)| *on == day) {
            let from = begin + day * DAY_US + DAY_US / 2;
            ledger
                .append_to(Stream::Order, absent(from, from + minutes * MINUTE_US))
                .unwrap();
        }
    }
    let now = begin + DAYS * DAY_US + 1;
    clock.0.store(now, Ordering::SeqCst);
    let before = ninety_days(&ledger, now);
    assert_eq!((before.outage_us, before.away.len()), (94 * MINUTE_US, 5));

    // Whoever takes the id of a summary for something else keeps no day from being summed up.
    let (pulses, key) = (
        ledger.own_log(Stream::Pulse).unwrap(),
        ledger.context().machine_key,
    );
    let day = u32::try_from((begin + 3 * DAY_US) / DAY_US).unwrap();
    let note = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("chat/1").unwrap());
    let note = note.id(summary_id(&key, &pulses, day));
    let note = ledger.sign_as_actor(note, &SystemEntropy).unwrap();
    ledger.append_signed(note).unwrap();

    // Without a policy nothing goes, but days are summed up, once.
    assert!(retention::run(&ledger).unwrap().is_empty());
    let days = u64::try_from(DAYS).unwrap();
    assert_eq!(retention::sum_up_days(&ledger).unwrap(), days);
    assert_eq!(retention::sum_up_days(&ledger).unwrap(), 0);
    let facts = ledger.own_log(Stream::Facts).unwrap();
    let summary = |day: i64| -> NodeDaySummary {
        let day = u32::try_from((begin + day * DAY_US) / DAY_US).unwrap();
        let of_day =
            |receipt: Result<ledger::Receipt, LedgerError>| match receipt.unwrap().statement().any_detail() {
                Ok(AnyDetail::NodeDaySummary(summary)) => Some(summary).filter(|summary| summary.day == day),
                _ => None,
            };
        ledger.range(&facts, 0, u64::MAX).find_map(of_day).unwrap()
    };
    let told = summary(3);
    let all = (0..PULSES_A_DAY).map(|n| pulse(3 * PULSES_A_DAY + n));
    assert_eq!(told.pulses, u64::try_from(PULSES_A_DAY).unwrap());
    assert_eq!(
        told.cpu_per_mille_sum,
        all.clone().map(|p| u64::from(p.cpu_per_mille)).sum::<u64>()
    );
    assert_eq!(
        Some(told.cpu_per_mille_max),
        all.clone().map(|p| p.cpu_per_mille).max()
    );
    assert_eq!(
        told.memory_used_bytes_sum,
        all.clone().map(|p| p.memory_used_bytes).sum::<u64>()
    );
    assert_eq!(
        told.disk_free_bytes_min,
        all.clone().map(|p| p.disk_free_bytes).min()
    );
    assert_eq!(
        told.temperature_milli_c_max,
        all.filter_map(|p| p.temperature_milli_c).max()
    );

    let set = RetentionSet {
        pulse_days: Some(30),
        reason: "a month is enough".into(),
    };
    let set = Draft::of(&set, Subject::new("retention/pulses").unwrap());
    let set = ledger.sign_as_actor(set, &SystemEntropy).unwrap();
    ledger
        .commit(move |tx| -> Result<(), LedgerError> { tx.append_signed(Stream::Order, &set).map(drop) })
        .unwrap();
    assert_eq!(ledger.snapshot().state.retention().unwrap().pulse_days, Some(30));
    let gone = (DAYS - 30) * PULSES_A_DAY;
    let seen = retention::look(&ledger).unwrap().remove(0);
    assert_eq!(
        (seen.due, seen.waits.as_deref()),
        (u64::try_from(gone).unwrap(), None)
    );
    assert!(seen.bytes_about > seen.kept * 200, "{seen:?}");

    let was = blocks(&dir);
    let done = retention::run(&ledger).unwrap().remove(0);
    let freed = was - blocks(&dir);
    println!(
        "{} records, {} bytes, {freed} of {was} blocks",
        done.records, done.bytes_freed
    );
    assert!(done.receipt.is_some() && done.waits.is_none(), "{done:?}");
    // Two thirds of all went; what stays of the files is the rest, the summaries, and room ahead.
    assert!(freed * 512 > seen.due * 250, "{freed} of {was} blocks");
    assert_eq!(
        retention::run(&ledger).unwrap().remove(0).receipt,
        None,
        "nothing is left to go"
    );
    let seen = retention::look(&ledger).unwrap().remove(0);
    assert_eq!(
        (seen.due, seen.oldest_us),
        (0, Some(begin + (DAYS - 30) * DAY_US))
    );
    assert_eq!(ninety_days(&ledger, now), before);
    ledger.close().unwrap();
    clean(&dir);
    let ledger = open(&dir, &clock);
    assert_eq!(ninety_days(&ledger, now), before);
    assert_eq!(retention::sum_up_days(&ledger).unwrap(), 0);
    ledger.close().unwrap();
}

fn quick() -> Config {
    Config {
        listen: "127.0.0.1:0".into(),
        timing: Timing {
            pulse_ms: 25,
            beat_ms: 200,
            poll_ms: 100,
            cosign_ms: 100,
            heal_wait_ms: Some(0),
            ..Timing::default()
        },
        ..Config::default()
    }
}

// What a status says as soon as it says this.
async fn until(dir: &Path, wanted: impl Fn(&Status) -> bool) -> Status {
    let api = Api::unix(socket(dir));
    loop {
        match api.status().await {
            Ok(answer) if wanted(&answer.item) => return answer.item,
            _ => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

fn witnesses(status: &Status, stream: &str, least: u64) -> bool {
    let of_stream = status.witnessed.iter().find(|seen| seen.stream == stream);
    of_stream.is_some_and(|seen| seen.tree_size > least && !seen.by.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_cosign_each_other_and_a_node_lets_go_only_what_its_gateway_cosigned() {
    let home = tempfile::tempdir().unwrap();
    let (gateway, node) = (home.path().join("g"), home.path().join("n"));
    setup::init(&gateway, &MachineId::new("gateway").unwrap()).unwrap();
    let root = setup::load_root_key(&gateway, None).unwrap();
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let mut stopped_too = stopped.clone();
    let (dir, config) = (gateway.clone(), quick());
    let running = tokio::spawn(async move {
        run_gateway(&dir, config, async move {
            drop(stopped.wait_for(|stop| *stop).await);
        })
        .await
    });
    let all = async {
        until(&gateway, |status| status.ready).await;
        let api = Api::unix(socket(&gateway));
        let run: ledger_server::daemon::RunFile =
            serde_json::from_slice(&std::fs::read(ledger_server::daemon::run_file(&gateway)).unwrap())
                .unwrap();
        let fleet = ledger::core::FleetId::from_hex(&api.status().await.unwrap().item.fleet).unwrap();
        let name = MachineId::new("node").unwrap();
        let ttl = Duration::from_secs(600);
        let role = ledger::core::kinds::Role::Node;
        let (said, line) =
            setup::invitation(&root, fleet, role, Some(name.clone()), ttl, &run.address.unwrap()).unwrap();
        api.append_signed(&said).await.unwrap();
        setup::join(&node, &line, &name).await.unwrap();
        let mut config = Config::load(&node, &[]).unwrap().0;
        config.timing = quick().timing;
        let dir = node.clone();
        let ended = tokio::spawn(async move {
            run_node(&dir, config, async move {
                drop(stopped_too.wait_for(|stop| *stop).await);
            })
            .await
        });
        until(&node, |status| {
            ["work", "facts", "pulse"]
                .iter()
                .all(|stream| witnesses(status, stream, 0))
                && witnesses(status, "pulse", 40)
        })
        .await;
        let of_gateway = until(&gateway, |status| {
            witnesses(status, "order", 0) && witnesses(status, "facts", 0)
        })
        .await;
        let by = &of_gateway
            .witnessed
            .iter()
            .find(|seen| seen.stream == "order")
            .unwrap()
            .by;
        assert_eq!(by[0].witness, "ledger.log/v1/witness/node");
        let keys = api.keys().await.unwrap().item;
        assert_eq!(keys.iter().filter(|key| key.stream == "witness").count(), 2);
        // The order cites the heads of pulses, and the gateway's witness key stands in it.
        let order = api.retention().await.unwrap().item;
        assert!(order.policy.is_none() && order.logs.len() == 2, "{order:?}");
        let body = ledger_server::http::wire::RetentionBody {
            pulse_days: Some(1),
            reason: "as short as can be".into(),
        };
        let refused = Api::unix(socket(&node)).set_retention(&body).await.unwrap_err();
        assert_eq!(refused.problem().unwrap().code, "queue.not-central", "{refused}");
        let policy = api.set_retention(&body).await.unwrap().item;
        // Works while the daemon does; nothing is a day old yet.
        let runs = api.run_retention().await.unwrap().item;
        assert!(
            runs.iter()
                .all(|run| run.receipt.is_none() && run.waits.is_none()),
            "{runs:?}"
        );
        let known = || async { Api::unix(socket(&node)).retention().await.unwrap().item.policy };
        while known()
            .await
            .is_none_or(|known| known.receipt != policy.receipt.id)
        {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        [ended]
    };
    let [ended] = tokio::time::timeout(SOON, all).await.unwrap();
    stop.send_replace(true);
    ended.await.unwrap().unwrap();
    running.await.unwrap().unwrap();

    // Three days later, the gateway not in reach: only what it cosigned goes.
    let later = SystemClock.now_us() + 3 * DAY_US;
    let clock = Hand(Arc::new(AtomicI64::new(later)));
    let checked = tokio::task::spawn_blocking(move || -> Result<(), ServerError> {
        let ledger = open(&node, &clock);
        let log = ledger.own_log(Stream::Pulse).unwrap();
        for n in 0..10 {
            ledger.append_to(Stream::Pulse, Draft::of(&pulse(n), Subject::new("node/node")?))?;
        }
        clock.0.store(later + 2 * DAY_US, Ordering::SeqCst);
        let covered = ledger.cosigned(&log)?.unwrap().checkpoint.tree_size;
        let done = retention::run(&ledger)?.remove(0);
        assert!(
            done.waits.is_some() && done.receipt.is_some() && done.days > 0,
            "{done:?}"
        );
        assert_eq!(ledger.first_kept(&log), covered);
        ledger.close()?;
        clean(&node);

        // The gateway needs nobody's leave for its own, and its copies go when they are summed up.
        let ledger = open(&gateway, &clock);
        let done = retention::run(&ledger)?;
        assert!(
            done.iter()
                .all(|done| done.receipt.is_some() && done.days > 0 && done.waits.is_none()),
            "{done:?}"
        );
        assert_eq!(done.len(), 2);
        let refused = ledger.range(&log, 1, u64::MAX).next().unwrap().unwrap_err();
        assert_eq!(refused.code(), "ledger.pruned");
        ledger.close()?;
        clean(&gateway);
        Ok(())
    });
    checked.await.unwrap().unwrap();
}
