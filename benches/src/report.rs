//! What was measured, as the tables and the plot of `docs/PERFORMANCE.md`.

use crate::lone::Lone;
use crate::measure::{Cost, median, median_cost, median_ratio, number};
use crate::peers::Appends;
use crate::plot::Bar;
use crate::read::Lookups;
use crate::run::{Big, Killed, Measured, bytes_f};
use crate::table::{Aim, Row, Table};
use crate::{CALLERS, CROWD, PAYLOAD_BYTES};

/// The rows that the ledger is measured by.
pub fn rows(m: &Measured) -> Table {
    let mut rows = Vec::new();
    appending(m, &mut rows);
    verifying(m, &mut rows);
    reading(m, &mut rows);
    for big in &m.big {
        opening(big, &mut rows);
    }
    if let Some(killed) = &m.killed {
        rows.push(after_a_kill(killed));
    }
    rows.extend(m.big.iter().map(|big| after_a_kill(&big.killed)));
    rows.extend(m.big.iter().flat_map(memory));
    size(m, &mut rows);
    Table::of_rows(rows)
}

fn appending(m: &Measured, rows: &mut Vec<Row>) {
    let sign = median_cost(&m.sign);
    let floor = format!("{:.1} µs, {:.0}/s", sign.cpu_us, sign.per_second);
    rows.push(Row::new(
        "signing alone (ed25519-dalek), all cores",
        floor.clone(),
    ));
    let batches = median_cost(&m.sign_batches);
    rows.push(
        Row::new(
            "the ledger's own batches of signatures alone",
            format!("{:.1} µs, {:.0}/s", batches.cpu_us, batches.per_second),
        )
        .beside(floor.clone())
        .ratio(median_ratio(&m.sign_batches, &m.sign, |c| c.cpu_us), Aim::Free),
    );
    let shapes = [
        (CALLERS, "a ticket each", &m.tickets),
        (CROWD, "a ticket each", &m.crowd),
        (CALLERS, "a thread each", &m.threads),
    ];
    for (callers, name, costs) in shapes {
        let what = format!("CPU per durable append, {callers} callers, {name}");
        rows.push(
            Row::new(what, micros(median_cost(costs).cpu_us))
                .beside(floor.clone())
                .ratio(median_ratio(costs, &m.sign, |c| c.cpu_us), Aim::AtMost(1.20)),
        );
    }
    let (here, checked) = (median_cost(&m.actor), median_cost(&m.actor_floor));
    rows.push(
        Row::new(
            "the same, each statement signed by an actor, a ticket each",
            micros(here.cpu_us),
        )
        .beside(format!("{:.1} µs a signature and a strict check", checked.cpu_us))
        .ratio(
            median_ratio(&m.actor, &m.actor_floor, |c| c.cpu_us),
            Aim::AtMost(1.20),
        ),
    );
    for (callers, name, costs) in shapes {
        let what = format!("durable appends a second, {callers} callers, {name}");
        rows.push(
            Row::new(what, rate(median_cost(costs)))
                .beside(floor.clone())
                .ratio(median_ratio(costs, &m.sign, |c| c.per_second), Aim::AtLeast(0.85)),
        );
    }
    let of = |value: fn(&Lone) -> f64| median(m.lone.iter().map(value).collect());
    let floor = format!(
        "{:.0} µs fdatasync + {:.0} µs signature",
        of(|l| l.sync_us),
        of(|l| l.sign_us)
    );
    rows.push(
        Row::new("a lone append, p50 of wall time", micros(of(|l| l.append_us)))
            .beside(floor)
            .ratio(of(Lone::ratio), Aim::AtMost(1.25)),
    );
}

fn verifying(m: &Measured, rows: &mut Vec<Row>) {
    let full = rate(median_cost(&m.full));
    for (name, floor, aim) in [
        ("dalek's batches alone", &m.batch, Aim::AtLeast(0.85)),
        (
            "batches of equal keys alone (the aim beyond)",
            &m.one_key,
            Aim::AtLeast(0.85),
        ),
    ] {
        let beside = format!("{} {name}", rate(median_cost(floor)));
        rows.push(
            Row::new("full verification, receipts a second", full.clone())
                .beside(beside)
                .ratio(median_ratio(&m.full, floor, |c| c.per_second), aim),
        );
    }
    let batch = median_cost(&m.batch);
    rows.push(
        Row::new(
            "CPU per receipt of full verification",
            micros(median_cost(&m.full).cpu_us),
        )
        .beside(format!("{} dalek's batches alone", micros(batch.cpu_us)))
        .ratio(median_ratio(&m.full, &m.batch, |c| c.cpu_us), Aim::Free),
    );
    let hashes = median_cost(&m.hashes);
    rows.push(
        per_core("hash tier, receipts a second per core", hashes, 0.7)
            .beside(format!("{} on all cores", rate(hashes))),
    );
    let relayed = median_cost(&m.folds);
    rows.push(
        per_core(
            "replay fold of job lives, receipts a second per core",
            relayed,
            2.0,
        )
        .beside(format!(
            "one thread, {:.1} receipts a job, details read in it",
            number(m.folded.0) / number(m.folded.1.max(1))
        )),
    );
    let proving = median_cost(&m.folds_proving);
    rows.push(Row::new(
        "the same, requests in the order, each author's signature proven again",
        millions(proving),
    ));
}

fn reading(m: &Measured, rows: &mut Vec<Row>) {
    let of = |value: fn(&Lookups) -> f64| median(m.lookups.iter().map(value).collect());
    for (what, us) in [
        ("get by log and seq, warm, p50", of(|l| l.by_place_us)),
        ("find by id, warm, p50", of(|l| l.by_id_us)),
    ] {
        rows.push(Row::new(what, micros(us)).reach(us, Aim::AtMost(20.0), "<= 20 µs"));
    }
    let scan = median_cost(&m.scans);
    rows.push(Row::new(
        "receipts read and decoded a second per core, one thread",
        millions(scan),
    ));
}

fn opening(big: &Big, rows: &mut Vec<Row>) {
    let what = format!("open after a clean stop, {} receipts", big.receipts);
    let ms = big.open.open_ms;
    rows.push(Row::new(what, format!("{ms:.0} ms")).reach(ms, Aim::AtMost(500.0), "< 500 ms"));
}

fn after_a_kill(killed: &Killed) -> Row {
    let mib = |bytes: u64| bytes_f(bytes) / 1_048_576.0;
    let (journal, segment) = (mib(killed.journal_bytes), mib(killed.segment_bytes));
    let what = format!("open after a kill, a journal of {journal:.0} MiB");
    Row::new(what, format!("{:.0} ms", killed.open_ms))
        .beside(format!("its last segment has {segment:.0} MiB"))
        .reach(0.0, Aim::Free, "by the last segment")
}

fn memory(big: &Big) -> Vec<Row> {
    let row = |what: &str, mib: Option<f64>| {
        let what = format!("peak memory while {what} {} receipts", big.receipts);
        match mib {
            Some(mib) => {
                Row::new(what, format!("{mib:.0} MiB")).reach(mib, Aim::AtMost(200.0), "< 200 MiB, flat")
            }
            None => Row::new(what, "not told by this system"),
        }
    };
    vec![
        row("appending", big.append.peak_mib),
        row("opening the store of", big.open.peak_mib),
        row("verifying the hashes of", big.fast.peak_mib),
        row("verifying in full", big.full.peak_mib),
    ]
}

fn size(m: &Measured, rows: &mut Vec<Row>) {
    let mut push = |what: String, (journal, derived): (f64, f64), most: f64| {
        let bytes = journal + derived;
        rows.push(
            Row::new(what, format!("{bytes:.1} bytes"))
                .beside(format!("journal {journal:.1}, derived rows {derived:.1}"))
                .reach(bytes, Aim::AtMost(most), format!("<= {most:.0}")),
        );
    };
    for big in &m.big {
        let what = format!("bytes on disk beside the payload, {} receipts", big.receipts);
        push(what, big.bytes, 450.0);
    }
    let what = "the same of a job's record: signed by an actor, with cause and trace";
    push(what.to_owned(), m.job_bytes, 600.0);
}

/// The ledger beside other stores.
pub fn peers(m: &Measured) -> Table {
    let mut table = Table::of(&[
        "store",
        "signed",
        "64 callers, shared transactions",
        "CPU",
        "64 callers, a transaction each",
        "CPU",
        "a lone append, p50",
    ]);
    let mut push = |name: &str, signed: bool, a: Appends| {
        let signed = if signed { "yes" } else { "no" };
        table.push(vec![
            name.to_owned(),
            signed.to_owned(),
            rate(a.grouped),
            micros(a.grouped.cpu_us),
            rate(a.each),
            micros(a.each.cpu_us),
            micros(a.lone_us),
        ]);
    };
    push("ledger", true, Appends::median(&m.own));
    for (store, signed, rounds) in &m.peers {
        push(store.name(), *signed, Appends::median(rounds));
    }
    table
}

/// The bars of the plot.
pub fn bars(m: &Measured) -> Vec<Bar> {
    let bar = |name: String, group: usize, cost: Cost| Bar {
        name,
        group,
        per_second: cost.per_second,
        cpu_us: cost.cpu_us,
    };
    let ledger = Appends::median(&m.own);
    let mut bars = vec![
        bar("ledger, signed, 64 tickets".to_owned(), 0, ledger.grouped),
        bar("ledger, signed, 64 threads".to_owned(), 0, ledger.each),
    ];
    let stores = crate::peers::Store::ALL;
    for (n, store) in stores.into_iter().enumerate() {
        let of = |signed: bool| {
            let mut found = m.peers.iter();
            let found = found.find(|(of, with, _)| *of == store && *with == signed);
            found.map(|(_, _, rounds)| Appends::median(rounds))
        };
        let name = store.name().split(',').next().unwrap_or_default();
        if let (Some(with), Some(without)) = (of(true), of(false)) {
            let mut push = |how: &str, cost| bars.push(bar(format!("{name}, {how}"), n + 1, cost));
            push("signed, shared transactions", with.grouped);
            push("shared transactions", without.grouped);
            push("a transaction each", without.each);
        }
    }
    bars
}

/// What the plot is about.
pub fn title() -> String {
    format!("Durable appends of {PAYLOAD_BYTES}-byte payloads, {CALLERS} callers at a time")
}

fn per_core(what: &str, cost: Cost, least: f64) -> Row {
    let figure = 1.0 / cost.cpu_us;
    Row::new(what, millions(cost)).reach(figure, Aim::AtLeast(least), format!(">= {least:.1} million"))
}

fn millions(cost: Cost) -> String {
    format!("{:.2} million", 1.0 / cost.cpu_us)
}

fn micros(value: f64) -> String {
    format!("{value:.1} µs")
}

fn rate(cost: Cost) -> String {
    format!("{:.0}/s", cost.per_second)
}

/// How long the rounds were, in a sentence.
pub fn told(m: &Measured, cores: usize) -> String {
    format!(
        "{cores} cores, {} rounds, {:.0} thousand receipts with {PAYLOAD_BYTES} bytes of payload, machine-authored; medians",
        m.sign.len(),
        number(m.receipts) / 1000.0
    )
}
