//! The table that is printed: what was measured, beside its floor, with the ratio, and whether it reaches what it shall.

use std::fmt;

/// What a figure shall be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Aim {
    /// Nothing is asked; the row is there to compare with.
    Free,
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
}

impl Aim {
    fn reached(self, figure: f64) -> &'static str {
        let reached = match self {
            Self::Free => return "",
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        };
        if reached { "yes" } else { "**no**" }
    }
}

/// One row, built from left to right.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    cells: [String; 6],
}

impl Row {
    /// What was measured, and what came out.
    pub fn new(what: impl Into<String>, measured: impl Into<String>) -> Self {
        let mut cells: [String; 6] = Default::default();
        cells[0] = what.into();
        cells[1] = measured.into();
        Self { cells }
    }

    /// What it is held against, and what came out there.
    #[must_use]
    pub fn beside(mut self, floor: impl Into<String>) -> Self {
        self.cells[2] = floor.into();
        self
    }

    /// The one divided by the other, and what that shall be.
    #[must_use]
    pub fn ratio(mut self, ratio: f64, aim: Aim) -> Self {
        self.cells[3] = format!("{ratio:.2}");
        let told = match aim {
            Aim::Free => String::new(),
            Aim::AtMost(most) => format!("<= {most:.2}"),
            Aim::AtLeast(least) => format!(">= {least:.2}"),
        };
        self.reach(ratio, aim, told)
    }

    /// What the figure itself shall be, told as `told`.
    #[must_use]
    pub fn reach(mut self, figure: f64, aim: Aim, told: impl Into<String>) -> Self {
        self.cells[4] = told.into();
        aim.reached(figure).clone_into(&mut self.cells[5]);
        self
    }
}

/// Rows under one head.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn of(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// A table of [`Row`]s.
    pub fn of_rows(rows: Vec<Row>) -> Self {
        Self {
            rows: rows.into_iter().map(|row| row.cells.to_vec()).collect(),
            ..Self::of(&["what", "measured", "beside", "ratio", "to reach", "reached"])
        }
    }

    /// Adds a row; cells that are missing are empty.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    // As Markdown, so that it can be pasted as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let widths = all().map(|row| cell(row, column).chars().count());
                widths.max().unwrap_or(0)
            })
            .collect();
        for (n, row) in all().enumerate() {
            f.write_str("|")?;
            for (column, width) in widths.iter().enumerate() {
                write!(f, " {:<width$} |", cell(row, column))?;
            }
            f.write_str("\n")?;
            if n == 0 {
                f.write_str("|")?;
                for width in &widths {
                    write!(f, "{}|", "-".repeat(width + 2))?;
                }
                f.write_str("\n")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_it_reaches_what_it_shall() {
        let rows = vec![
            Row::new("a", "1 µs").beside("2 µs").ratio(0.5, Aim::AtMost(0.5)),
            Row::new("b", "1/s").ratio(0.84, Aim::AtLeast(0.85)),
            Row::new("c", "3").ratio(3.0, Aim::Free),
        ];
        let text = Table::of_rows(rows).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].ends_with("| 0.50  | <= 0.50  | yes     |"), "{text}");
        assert!(lines[3].ends_with("| 0.84  | >= 0.85  | **no**  |"), "{text}");
        assert!(lines[4].ends_with("| 3.00  |          |         |"), "{text}");
    }
}
