//! The engine beside its floors, in one run: `cargo bench -p ledger-benches`.
//!
//! With `-- --quick` it only sees that everything runs. With `-- --appends threads` or `-- --appends tickets` it appends
//! and does nothing else, for a profiler to look at; with `-- --verifies full` or `-- --verifies hashes` it verifies the
//! same store again and again.

use ledger::Ledger;
use ledger::core::SigningKey;
use ledger_benches::lone::{self, Lone};
use ledger_benches::measure::{Cost, median, median_cost, median_ratio, number};
use ledger_benches::read::Lookups;
use ledger_benches::table::Table;
use ledger_benches::{CALLERS, Failed, PAYLOAD_BYTES, Size, append, read, sign, verify};
use std::path::Path;
use std::time::{Duration, Instant};

// Time for the rounds of appending, and for those of verifying: on a busy machine there are fewer of them.
const APPENDING_WITHIN: Duration = Duration::from_secs(28);
const VERIFYING_WITHIN: Duration = Duration::from_secs(16);

// What all rounds came to.
#[derive(Default)]
struct Measured {
    sign: Vec<Cost>,
    threads: Vec<Cost>,
    tickets: Vec<Cost>,
    lone: Vec<Lone>,
    actor: Vec<Cost>,
    actor_floor: Vec<Cost>,
    lookups: Vec<Lookups>,
    scans: Vec<Cost>,
    opens_ms: Vec<f64>,
    batch: Vec<Cost>,
    one_key: Vec<Cost>,
    full: Vec<Cost>,
    hashes: Vec<Cost>,
    receipts: usize,
    journal_bytes: u64,
    derived_bytes: u64,
}

fn main() -> Result<(), Failed> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let size = if quick { Size::QUICK } else { Size::FULL };
    // The build's own folder lies on a real disk; the system's folder for temporary files often lies in memory.
    let dir = tempfile::Builder::new()
        .prefix("ledger-bench-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    if let Some(callers) = std::env::args()
        .skip_while(|argument| argument != "--appends")
        .nth(1)
    {
        appends(dir.path(), &callers)?;
        return Ok(dir.close()?);
    }
    if let Some(tier) = std::env::args()
        .skip_while(|argument| argument != "--verifies")
        .nth(1)
    {
        verifies(dir.path(), &tier)?;
        return Ok(dir.close()?);
    }
    let measured = measure(dir.path(), size)?;
    dir.close()?;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{cores} cores, {} rounds, {} receipts with {PAYLOAD_BYTES} bytes of payload, machine-authored; medians\n",
        measured.sign.len(),
        measured.receipts
    );
    println!("{}", table(&measured));
    Ok(())
}

// Appends of a profiled run.
const PROFILED_APPENDS: usize = 100_000;

fn appends(dir: &Path, callers: &str) -> Result<(), Failed> {
    let ledger = Ledger::lone(dir.join("store"), "bench")?;
    let cost = match callers {
        "threads" => append::threads(&ledger, PROFILED_APPENDS)?,
        _ => append::tickets(&ledger, PROFILED_APPENDS)?,
    };
    println!("{} each, {}", micros(cost.cpu_us), rate_of(cost.per_second));
    Ok(ledger.close()?)
}

// Verifications of a profiled run.
const PROFILED_VERIFICATIONS: usize = 10;

fn verifies(dir: &Path, tier: &str) -> Result<(), Failed> {
    let store = dir.join("store");
    let ledger = Ledger::lone(&store, "bench")?;
    append::tickets(&ledger, PROFILED_APPENDS)?;
    ledger.close()?;
    for _ in 0..PROFILED_VERIFICATIONS {
        let cost = verify::store(&store, tier == "full", PROFILED_APPENDS + 1)?;
        println!("{} each, {}", micros(cost.cpu_us), rate_of(cost.per_second));
    }
    Ok(())
}

fn measure(dir: &Path, size: Size) -> Result<Measured, Failed> {
    let mut measured = Measured::default();
    let store = dir.join("store");
    let key = SigningKey::from_seed([7; 32]);
    let ledger = Ledger::lone(&store, "bench")?;
    append::threads(&ledger, size.appends / 4)?;
    let mut said = size.appends / 4;
    let began = Instant::now();
    while measured.sign.len() < size.rounds && began.elapsed() < APPENDING_WITHIN {
        measured.sign.push(sign::all_cores(&key, size.signatures));
        measured.threads.push(append::threads(&ledger, size.appends)?);
        measured.tickets.push(append::tickets(&ledger, size.appends)?);
        said += 2 * size.appends;
        measured
            .lone
            .push(lone::measure(&ledger, dir, &key, said, size.lone)?);
        said += size.lone;
    }
    measured.receipts = said + 1; // with the genesis
    for _ in 0..size.rounds {
        measured.lookups.push(read::lookups(&ledger, size.lone)?);
        measured.scans.push(read::scan(&ledger, measured.receipts)?);
    }
    ledger.close()?;
    measured.journal_bytes = bytes_in(&store.join("data").join("journal"))?;
    measured.derived_bytes = bytes_in(&store.join("data").join("derived"))?;
    for _ in 0..size.rounds {
        measured.opens_ms.push(read::open(&store)?);
    }
    // A store of its own: the bytes of the table are those of the bench record alone.
    let ledger = Ledger::lone(dir.join("actor"), "bench")?;
    for _ in 0..2 {
        measured
            .actor_floor
            .push(sign::signed_and_checked(&key, size.appends));
        measured
            .actor
            .push(append::signed_tickets(&ledger, size.appends)?);
    }
    ledger.close()?;
    let signed = sign::signed(&key, measured.receipts);
    let began = Instant::now();
    while measured.batch.len() < size.rounds && began.elapsed() < VERIFYING_WITHIN {
        measured
            .batch
            .push(verify::dalek_alone(&key.verifier(), &signed)?);
        measured
            .one_key
            .push(verify::one_key_alone(&key.verifier(), &signed)?);
        measured
            .full
            .push(verify::store(&store, true, measured.receipts)?);
        measured
            .hashes
            .push(verify::store(&store, false, measured.receipts)?);
    }
    Ok(measured)
}

// Space that the files of a folder take on disk.
fn bytes_in(dir: &Path) -> Result<u64, Failed> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            bytes_in(&entry.path())?
        } else {
            entry.metadata()?.blocks() * 512
        };
    }
    Ok(sum)
}

fn table(m: &Measured) -> Table {
    let mut table = Table::default();
    let cpu = |c: &Cost| c.cpu_us;
    let rate = |c: &Cost| c.per_second;
    let sign = median_cost(&m.sign);
    let signing = format!("{:.1} µs, {:.0}/s signing alone", sign.cpu_us, sign.per_second);
    table.row(
        "signing alone, all cores",
        micros(sign.cpu_us),
        String::new(),
        String::new(),
        "",
    );
    table.row(
        "the same, a second",
        rate_of(sign.per_second),
        String::new(),
        String::new(),
        "",
    );
    for (name, costs) in [("a thread each", &m.threads), ("a ticket each", &m.tickets)] {
        let here = median_cost(costs);
        let ratio = median_ratio(costs, &m.sign, cpu);
        let what = format!("CPU per durable append, {CALLERS} callers, {name}");
        table.row(
            &what,
            micros(here.cpu_us),
            signing.clone(),
            times(ratio),
            "<= 1.35",
        );
        let ratio = median_ratio(costs, &m.sign, rate);
        let what = format!("durable appends a second, {CALLERS} callers, {name}");
        table.row(
            &what,
            rate_of(here.per_second),
            signing.clone(),
            times(ratio),
            ">= 0.85",
        );
    }
    let (here, floor) = (median_cost(&m.actor), median_cost(&m.actor_floor));
    table.row(
        &format!("CPU per durable append signed by an actor, {CALLERS} callers, a ticket each"),
        micros(here.cpu_us),
        format!("{:.1} µs: two signatures and a strict check", floor.cpu_us),
        times(median_ratio(&m.actor, &m.actor_floor, cpu)),
        "<= 1.20",
    );
    let of = |value: fn(&Lone) -> f64| median(m.lone.iter().map(value).collect());
    let floor = format!(
        "{:.0} µs fdatasync + {:.0} µs signature",
        of(|l| l.sync_us),
        of(|l| l.sign_us)
    );
    let append = micros(of(|l| l.append_us));
    table.row(
        "a lone append, p50 of wall time",
        append,
        floor,
        times(of(Lone::ratio)),
        "<= 1.25",
    );
    let batch = median_cost(&m.batch);
    let floor = format!(
        "{:.1} µs, {:.0}/s dalek's batches alone",
        batch.cpu_us, batch.per_second
    );
    let full = median_cost(&m.full);
    let ratio = times(median_ratio(&m.full, &m.batch, rate));
    table.row(
        "full verification, receipts a second",
        rate_of(full.per_second),
        floor.clone(),
        ratio,
        ">= 0.85",
    );
    let ratio = times(median_ratio(&m.full, &m.batch, cpu));
    table.row(
        "CPU per receipt of full verification",
        micros(full.cpu_us),
        floor,
        ratio,
        "",
    );
    let one_key = median_cost(&m.one_key);
    let ratio = times(median_ratio(&m.full, &m.one_key, rate));
    table.row(
        "the same, beside batches of one key",
        rate_of(full.per_second),
        format!(
            "{:.1} µs, {:.0}/s batches of one key alone",
            one_key.cpu_us, one_key.per_second
        ),
        ratio,
        "",
    );
    let hashes = median_cost(&m.hashes);
    let per_core = format!("{:.2} million a second per core", 1.0 / hashes.cpu_us);
    table.row(
        "hashes alone, receipts a second",
        rate_of(hashes.per_second),
        per_core,
        String::new(),
        ">= 0.7 million per core",
    );
    let of = |value: fn(&Lookups) -> f64| median(m.lookups.iter().map(value).collect());
    for (what, us) in [
        ("get by log and seq, warm, p50", of(|l| l.by_place_us)),
        ("find by id, warm, p50", of(|l| l.by_id_us)),
    ] {
        table.row(what, micros(us), String::new(), String::new(), "<= 20 µs");
    }
    let scan = median_cost(&m.scans);
    table.row(
        "receipts read and decoded a second, one thread",
        rate_of(scan.per_second),
        format!("{:.2} million a second per core", 1.0 / scan.cpu_us),
        String::new(),
        "",
    );
    table.row(
        "open after a clean stop",
        format!("{:.0} ms", median(m.opens_ms.clone())),
        format!("{} receipts", m.receipts),
        String::new(),
        "< 500 ms",
    );
    let receipts = number(m.receipts);
    let beside = |bytes: u64| bytes_f(bytes) / receipts;
    let (journal, derived) = (beside(m.journal_bytes), beside(m.derived_bytes));
    let payload = number(PAYLOAD_BYTES);
    table.row(
        "bytes on disk beside the payload",
        format!("{:.0} bytes", journal + derived - payload),
        format!("journal {:.0}, derived rows {derived:.0}", journal - payload),
        String::new(),
        "<= 450",
    );
    table
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of a benchmark are far below 2^52"
)]
fn bytes_f(bytes: u64) -> f64 {
    bytes as f64
}

fn micros(value: f64) -> String {
    format!("{value:.1} µs")
}

fn rate_of(value: f64) -> String {
    format!("{value:.0}/s")
}

fn times(value: f64) -> String {
    format!("{value:.2}")
}
