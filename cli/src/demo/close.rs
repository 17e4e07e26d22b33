//! Step 7: the summary, and how to explore further.

use super::stage::Stage;
use super::tell::Teller;
use crate::output::{BAD, BOLD, DIM, GOOD, paint};

/// Prints what was promised and whether it held.
pub(crate) fn summary(stage: &Stage, teller: &mut Teller, held: bool) {
    let reports = teller.steps().to_vec();
    teller.step("Summary");
    let promises = reports.iter().flat_map(|report| &report.promises);
    let (kept, all) = promises.fold((0, 0), |(kept, all), promise| {
        (kept + usize::from(promise.held), all + 1)
    });
    for report in &reports {
        let mark = if report.ok {
            paint(GOOD, "✓")
        } else {
            paint(BAD.bold(), "✗")
        };
        let count = format!(
            "{} of {}",
            report.promises.iter().filter(|p| p.held).count(),
            report.promises.len()
        );
        teller.plain(&format!(
            "{mark}  {}  {:<40} {}",
            report.step,
            report.name,
            paint(DIM, count)
        ));
    }
    let seconds = teller.elapsed_ms() / 1000;
    teller.fact("promises", all);
    teller.fact("kept", kept);
    let verdict = if held {
        paint(
            GOOD.bold(),
            format_args!("every promise held: {kept} of {all}, in {seconds} s"),
        )
    } else {
        paint(
            BAD.bold(),
            format_args!("{kept} of {all} promises held, in {seconds} s"),
        )
    };
    teller.plain("");
    teller.plain(&verdict);
    teller.plain("");
    match stage.kept() {
        Some(_) => {
            teller.plain(&paint(BOLD, "explore further:"));
            for action in next_actions(stage) {
                teller.plain(&format!("  {action}"));
            }
        }
        None => teller.plain(&paint(
            DIM,
            "the folder is gone; `ledger demo --keep` or `--dir DIR` keeps it to explore",
        )),
    }
    if !held {
        teller.care(
            "not every promise held; run again with --keep and look at daemon.log in the machines' folders",
        );
        teller.promise(false, "every promise held");
    } else {
        teller.promise(true, "every promise held");
    }
}

/// Commands for the folder that was kept.
pub(crate) fn next_actions(stage: &Stage) -> Vec<String> {
    let Some(root) = stage.kept() else {
        return vec!["ledger demo --keep".to_owned(), "ledger up".to_owned()];
    };
    let gateway = root.join("gateway");
    let gateway = gateway.display();
    vec![
        format!("ledger --dir {gateway} status"),
        format!("ledger --dir {gateway} jobs list"),
        format!("ledger --dir {gateway} replay --since 10m"),
        format!("ledger --dir {gateway} verify"),
        format!(
            "ledger --dir {} demo      (a second run goes on with the same history)",
            root.display()
        ),
    ]
}
