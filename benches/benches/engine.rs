//! The engine beside its floors and beside other stores, in one run: `cargo bench -p ledger-benches`.
//!
//! With `-- --quick` it only sees that everything runs. With `-- --large` it makes a store of five million receipts too. With
//! `-- --plot FILE` it draws the plot. With `-- --appends threads`, `--appends tickets`, `--verifies full`, `--verifies hashes`
//! or `--folds` it does that and nothing else, for a profiler to look at. With `-- --fleet` it measures the queue and the fleet
//! and nothing else (with `--quick`, only that it runs; with `--nodes 1` or `--nodes 16`, only the jobs of a fleet with so many nodes,
//! beside SQLite); with `-- --jobs 1` or `--jobs 16`, one round of jobs of such a fleet, 20,000 or as many as `--count` says.
//! With `-- --sync` or `-- --sync COUNT` a backlog of 500,000 or so many receipts goes from a real node to a real gateway.

use ledger::Ledger;
use ledger::core::SigningKey;
use ledger_benches::measure::Cost;
use ledger_benches::{
    CALLERS, CROWD, Failed, Size, append, child, daemons, fleet, fold, plot, report, run, sync, verify,
};
use std::path::Path;
use tikv_jemallocator::Jemalloc;

// As the binary `ledger` has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Receipts of the large store.
const LARGE: usize = 5_000_000;
/// Appends of a profiled run.
const PROFILED_APPENDS: usize = 100_000;
/// Verifications, and folds, of a profiled run.
const PROFILED_ROUNDS: usize = 10;
/// Jobs of a profiled fleet.
const PROFILED_FLEET: usize = 20_000;
/// Jobs of a profiled fold.
const PROFILED_JOBS: usize = 40_000;

fn main() -> Result<(), Failed> {
    if daemons::obey()? || fleet::child::obey()? || child::obey()? {
        return Ok(());
    }
    // The build's own folder lies on a real disk; the system's folder for temporary files often lies in memory.
    let dir = tempfile::Builder::new()
        .prefix("ledger-bench-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    if let Some(callers) = value_of("--appends") {
        appends(dir.path(), &callers)?;
    } else if let Some(tier) = value_of("--verifies") {
        verifies(dir.path(), &tier)?;
    } else if has("--folds") {
        folds()?;
    } else if has("--fleet") {
        let effort = if has("--quick") {
            fleet::Effort::QUICK
        } else {
            fleet::Effort::FULL
        };
        let only = value_of("--nodes")
            .map(|nodes| nodes.parse::<usize>())
            .transpose()?;
        println!(
            "{}",
            fleet::rows::rows(&fleet::measure(dir.path(), effort, only)?)
        );
    } else if let Some(nodes) = value_of("--jobs") {
        let count = value_of("--count").map_or(Ok(PROFILED_FLEET), |count| count.parse::<usize>())?;
        let round = fleet::profile(dir.path(), nodes.parse()?, count)?;
        println!("{}", fleet::rows::round(&round));
    } else if has("--sync") {
        let receipts = value_of("--sync").and_then(|count| count.parse().ok());
        println!("{}", sync::run(dir.path(), receipts.unwrap_or(sync::WEEK))?);
    } else {
        everything(dir.path())?;
    }
    Ok(dir.close()?)
}

fn has(flag: &str) -> bool {
    std::env::args().any(|argument| argument == flag)
}

fn value_of(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}

fn everything(dir: &Path) -> Result<(), Failed> {
    let size = if has("--quick") { Size::QUICK } else { Size::FULL };
    let measured = run::run(dir, size, has("--large").then_some(LARGE))?;
    let cores = std::thread::available_parallelism()?.get();
    let told = report::told(&measured, cores);
    println!("{told}\n\n{}", report::rows(&measured));
    println!("{}", report::peers(&measured));
    if let Some(path) = value_of("--plot") {
        // Cargo runs benches in the package's folder; the plot lies in the project's.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        plot::draw(&path, &report::title(), &told, &report::bars(&measured))?;
    }
    Ok(())
}

fn tell(cost: Cost) {
    println!("{:.2} µs each, {:.0}/s", cost.cpu_us, cost.per_second);
}

fn appends(dir: &Path, callers: &str) -> Result<(), Failed> {
    let ledger = Ledger::lone(dir.join("store"), "bench")?;
    tell(match callers {
        "threads" => append::threads(&ledger, PROFILED_APPENDS)?,
        "signed" => {
            let actor = SigningKey::from_seed([9; 32]);
            let said = append::said(&ledger, &actor, 0, PROFILED_APPENDS, false)?;
            append::signed_tickets(&ledger, said)?
        }
        "crowd" => append::tickets(&ledger, PROFILED_APPENDS, CROWD)?,
        _ => append::tickets(&ledger, PROFILED_APPENDS, CALLERS)?,
    });
    Ok(ledger.close()?)
}

fn verifies(dir: &Path, tier: &str) -> Result<(), Failed> {
    let store = dir.join("store");
    let ledger = Ledger::lone(&store, "bench")?;
    append::tickets(&ledger, PROFILED_APPENDS, CALLERS)?;
    ledger.close()?;
    for _ in 0..PROFILED_ROUNDS {
        tell(verify::store(&store, tier == "full", PROFILED_APPENDS + 1)?);
    }
    Ok(())
}

fn folds() -> Result<(), Failed> {
    let [relayed, in_order] = fold::orders(PROFILED_JOBS)?;
    println!("{}", fold::mix(&relayed));
    for _ in 0..PROFILED_ROUNDS {
        tell(fold::replay(&relayed)?);
    }
    tell(fold::replay(&in_order)?);
    Ok(())
}
