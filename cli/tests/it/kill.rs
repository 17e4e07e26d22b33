//! `kill -9` of each of three real processes at random moments of a load: no acknowledged receipt is lost, and every
//! accepted job reaches its one final state.
//!
//! `LEDGER_KILLS` says how often (a few by default), `LEDGER_KILL_SEED` repeats a run.

use crate::{Daemon, WITHIN, folder, good};
use ledger_server::client::Api;
use ledger_server::http::wire::{AppendBody, JobsQuery, ReceiptsQuery, RequestBody};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// Kills in one run when nobody says how many.
const KILLS: u64 = 6;
/// How long everything may take to settle after the last kill.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
/// Machines, their roles and what their configuration adds.
pub(crate) const MACHINES: [(&str, &str); 3] = [("gateway", "gateway"), ("studio", "node"), ("mini", "node")];

/// What was acknowledged, kept outside of every store.
#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) jobs: BTreeSet<String>,
    pub(crate) receipts: BTreeSet<String>,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn killing_the_three_processes_at_random_loses_nothing_acknowledged() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("LEDGER_KILLS").unwrap_or(KILLS);
    let seed = number("LEDGER_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("to repeat: LEDGER_KILLS={kills} LEDGER_KILL_SEED={seed}");
    let root = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let door = runtime.block_on(door(root.path().join("gateway")));
    let mut daemons = fleet(root.path(), &format!("http://{door}"));
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..3)
        .map(|door| {
            runtime.spawn(ask(
                root.path().to_owned(),
                door,
                acknowledged.clone(),
                over.clone(),
            ))
        })
        .collect();

    let mut chance = Chance(seed);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.below(400)));
        let at = usize::try_from(chance.below(3)).unwrap();
        let (machine, role) = MACHINES[at];
        daemons.remove(machine).unwrap().kill();
        std::thread::sleep(Duration::from_millis(chance.below(300)));
        daemons.insert(machine, Daemon::start(&root.path().join(machine), role));
    }
    over.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        for task in load {
            task.await.unwrap();
        }
        let kept = std::mem::take(&mut *acknowledged.lock().unwrap());
        check(root.path(), &kept).await;
    });
    for (_, daemon) in daemons {
        daemon.stop();
    }
    for (machine, _) in MACHINES {
        good(&root.path().join(machine), &["verify"]);
    }
}

/// Founds and enrols; the three run, and the nodes dial the gateway at an address that stays.
fn fleet(root: &Path, address: &str) -> BTreeMap<&'static str, Daemon> {
    let mut daemons = BTreeMap::new();
    let gateway = root.join("gateway");
    good(&gateway, &["init", "--machine", "gateway"]);
    configure(&gateway, "light", "light");
    daemons.insert("gateway", Daemon::start(&gateway, "gateway"));
    for machine in ["studio", "mini"] {
        let dir = root.join(machine);
        let line = good(&gateway, &["invite", "--machine", machine, "--address", address])["line"]
            .as_str()
            .unwrap()
            .to_owned();
        good(&dir, &["join", &line, "--machine", machine]);
        configure(&dir, "heavy", "heavy");
        daemons.insert(machine, Daemon::start(&dir, "node"));
    }
    daemons
}

/// Adds short times and a handler to a machine's configuration.
pub(crate) fn configure(dir: &Path, handler: &str, class: &str) {
    let path = dir.join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let more = format!(
        "[timing]\npulse_ms = 200\nbeat_ms = 150\nterm_ms = 1000\npoll_ms = 200\nlost_after_ms = 800\n\
         heal_wait_ms = 1000\nfailover_after_ms = 600000\n[limits]\nlosses_max = 0\n[verify]\nenabled = false\n\
         [[handler]]\nname = \"{handler}\"\nargv = [\"sh\", \"-c\", \"sleep 0.05; echo 42\"]\nclass = \"{class}\"\n\
         slots = 2\n"
    );
    std::fs::write(path, before + &more).unwrap();
}

/// A door on a free port that stays while the gateway goes and comes: each connection is carried to wherever it listens now.
async fn door(gateway: PathBuf) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let told = std::fs::read(gateway.join("data/run.json")).unwrap_or_default();
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
            let Some(target) = told["address"]
                .as_str()
                .and_then(|url| url.strip_prefix("http://"))
                .map(str::to_owned)
            else {
                continue;
            };
            tokio::spawn(async move {
                // A gateway that is down refuses, and the connection ends.
                if let Ok(mut far) = TcpStream::connect(target).await {
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                }
            });
        }
    });
    address
}

/// Asks one door after another for work and appends receipts, and remembers only what was acknowledged.
pub(crate) async fn ask(
    root: PathBuf,
    first: usize,
    acknowledged: Arc<Mutex<Acknowledged>>,
    over: Arc<AtomicBool>,
) {
    let mut door = first;
    while !over.load(Ordering::SeqCst) {
        door = (door + 1) % MACHINES.len();
        let api = Api::unix(root.join(MACHINES[door].0).join("data/api.sock"));
        let handler = if door == 0 { "light" } else { "heavy" };
        let request = RequestBody {
            handler: handler.to_owned(),
            ..RequestBody::default()
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(5), api.request(&request)).await {
            let mut kept = acknowledged.lock().unwrap();
            kept.jobs.insert(answer.item.job);
            kept.receipts.insert(answer.item.receipt);
        }
        let note = AppendBody {
            kind: "x.note".to_owned(),
            ..AppendBody::default()
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(5), api.append(&note)).await {
            acknowledged
                .lock()
                .unwrap()
                .receipts
                .insert(answer.item.receipt.id);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until every accepted job is final, then holds what the gateway has against what was acknowledged.
pub(crate) async fn check(root: &Path, acknowledged: &Acknowledged) {
    let api = Api::unix(root.join("gateway/data/api.sock"));
    let began = Instant::now();
    loop {
        let jobs = jobs(&api).await;
        let open: Vec<_> = jobs.values().filter(|state| !is_final(state)).collect();
        let unknown: Vec<_> = acknowledged
            .jobs
            .iter()
            .filter(|job| !jobs.contains_key(*job))
            .collect();
        if open.is_empty() && unknown.is_empty() {
            assert!(jobs.values().all(|state| state == "succeeded"), "{jobs:?}");
            break;
        }
        assert!(
            began.elapsed() < SETTLE_WITHIN,
            "not final: {open:?}; not there: {unknown:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut there = BTreeSet::new();
    let mut successes: BTreeMap<String, u32> = BTreeMap::new();
    for kind in ["request.received", "x.note", "job.succeeded"] {
        let mut query = ReceiptsQuery {
            kind: vec![kind.to_owned()],
            limit: Some(1000),
            ..ReceiptsQuery::default()
        };
        loop {
            let page = api.receipts(&query).await.unwrap();
            for receipt in page.items {
                if kind == "job.succeeded" {
                    *successes.entry(receipt.subject).or_default() += 1;
                } else {
                    there.insert(receipt.id);
                }
            }
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
    }
    let lost: Vec<_> = acknowledged.receipts.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(successes.values().all(|count| *count == 1), "{successes:?}");
    println!(
        "{} jobs and {} receipts acknowledged, all there, settled in {:?} (at most {WITHIN:?} a start)",
        acknowledged.jobs.len(),
        acknowledged.receipts.len(),
        began.elapsed()
    );
    assert!(acknowledged.jobs.len() > 3, "there was a load");
}

fn is_final(state: &str) -> bool {
    matches!(
        state,
        "succeeded" | "failed" | "cancelled" | "expired" | "discarded"
    )
}

async fn jobs(api: &Api) -> BTreeMap<String, String> {
    let mut query = JobsQuery {
        limit: Some(1000),
        ..JobsQuery::default()
    };
    let mut found = BTreeMap::new();
    loop {
        let page = api.jobs(&query).await.unwrap();
        found.extend(page.items.into_iter().map(|job| (job.id, job.state)));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return found;
        }
    }
}
