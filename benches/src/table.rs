//! The table that is printed: what was measured, beside its floor, with the ratio.

use std::fmt;

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What came out.
    pub measured: String,
    /// What it is held against, and what came out there.
    pub floor: String,
    /// The one divided by the other.
    pub ratio: String,
    /// What would be good.
    pub aim: String,
}

/// Rows under one head.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row.
    pub fn row(&mut self, what: &str, measured: String, floor: String, ratio: String, aim: &str) {
        self.rows.push(Row {
            what: what.to_owned(),
            measured,
            floor,
            ratio,
            aim: aim.to_owned(),
        });
    }
}

impl fmt::Display for Table {
    // As Markdown, so that it can be pasted as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "measured", "beside", "ratio", "aim"].map(str::to_owned);
        let rule = [""; 5].map(str::to_owned);
        let rows = self.rows.iter().map(|r| {
            let r = r.clone();
            [r.what, r.measured, r.floor, r.ratio, r.aim]
        });
        let all: Vec<[String; 5]> = [head, rule].into_iter().chain(rows).collect();
        let width = |column: usize| {
            all.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3), width(4)];
        for (n, row) in all.iter().enumerate() {
            f.write_str("|")?;
            for (cell, width) in row.iter().zip(widths) {
                if n == 1 {
                    write!(f, "{}|", "-".repeat(width + 2))?;
                } else {
                    write!(f, " {cell:<width$} |")?;
                }
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}
