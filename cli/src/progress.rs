//! How far something long is: a bar on stderr, with receipts a second and the time that is left.
//!
//! Contract: drawn only where a person looks at a terminal ([`crate::output::Output::draws_progress`]); says nothing that the
//! result does not say. Rates are of the run so far.

use crate::output::count;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

const TEMPLATE: &str = "{bar:24} {bytes}/{total_bytes}  {msg}  {eta} left";

/// An empty bar.
pub(crate) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar that is being drawn.
pub(crate) struct Shown {
    bar: ProgressBar,
    began: Instant,
}

impl Shown {
    /// Begins.
    pub(crate) fn new(bar: ProgressBar) -> Self {
        Self {
            bar,
            began: Instant::now(),
        }
    }

    /// Draws how far it is.
    pub(crate) fn tell(&mut self, bytes: u64, bytes_total: u64, receipts: u64, findings: u64) {
        self.bar.set_length(bytes_total);
        self.bar.set_position(bytes);
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.bar.set_message(message(receipts, findings, elapsed_ms));
    }
}

fn message(receipts: u64, findings: u64, elapsed_ms: u64) -> String {
    let per_second = receipts.saturating_mul(1000) / elapsed_ms.max(1);
    format!(
        "{} receipts, {}/s, {findings} findings",
        count(receipts),
        count(per_second)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_knows_bytes_receipts_a_second_and_what_is_left() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let drawn = bar();
        let mut shown = Shown::new(drawn.clone());
        shown.tell(1 << 20, 4 << 20, 1500, 2);
        assert_eq!((drawn.position(), drawn.length()), (1 << 20, Some(4 << 20)));
        let text = drawn.message();
        assert!(
            text.starts_with("1,500 receipts, ") && text.ends_with("/s, 2 findings"),
            "{text}"
        );
    }

    #[test]
    fn the_rate_is_of_the_run_so_far() {
        assert_eq!(message(5000, 0, 2000), "5,000 receipts, 2,500/s, 0 findings");
        assert_eq!(message(3, 1, 0), "3 receipts, 3,000/s, 1 findings");
    }
}
