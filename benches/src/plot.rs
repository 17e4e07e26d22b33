//! The plot of `docs/PERFORMANCE.md`: appends a second and CPU per append, the ledger's and those of what people would
//! use instead. Its background is its own, so that it can be read on light and on dark pages.

use crate::Failed;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// One bar in each half.
#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    /// What it is.
    pub name: String,
    /// Whose it is, which decides its colour: 0 the ledger, then the peers.
    pub group: usize,
    /// Appends in a second.
    pub per_second: f64,
    /// Microseconds of CPU for each.
    pub cpu_us: f64,
}

const WIDTH: u32 = 1000;
const HEAD: i32 = 64;
const LINE: i32 = 24;
const FOOT: i32 = 30;
const GAP: i32 = 8;
const NAMES: i32 = 300;
const HALF: i32 = 250;
const BETWEEN: i32 = 95;
/// How many of the ledger's own costs the scale shows at most.
const COST_SCALE: f64 = 1.5;
const BACKGROUND: RGBColor = RGBColor(252, 252, 250);
const INK: RGBColor = RGBColor(36, 41, 47);
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 109, 119),
    RGBColor(188, 108, 37),
    RGBColor(120, 94, 173),
    RGBColor(76, 120, 60),
    RGBColor(110, 118, 129),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the bars into a file.
///
/// # Errors
/// When it cannot be written.
pub fn draw(path: &Path, title: &str, foot: &str, bars: &[Bar]) -> Result<(), Failed> {
    let gaps = bars
        .windows(2)
        .filter(|pair| pair[0].group != pair[1].group)
        .count();
    let height = HEAD + i32::try_from(bars.len())? * LINE + i32::try_from(gaps)? * GAP + FOOT;
    let area = SVGBackend::new(path, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&BACKGROUND).map_err(told)?;
    write(&area, (16, 20), title, 17, HPos::Left)?;
    let rates = NAMES;
    let costs = NAMES + HALF + BETWEEN;
    write(
        &area,
        (rates, 46),
        "durable appends a second (more is better)",
        13,
        HPos::Left,
    )?;
    write(
        &area,
        (costs, 46),
        "µs of CPU per append (less is better)",
        13,
        HPos::Left,
    )?;
    let most = |of: fn(&Bar) -> f64| bars.iter().map(of).fold(1e-9, f64::max);
    // What costs many times as much would make the rest too small to be told apart; its bar is cut.
    let own = bars.iter().filter(|bar| bar.group == 0).map(|bar| bar.cpu_us);
    let cost_most = most(|bar| bar.cpu_us).min(COST_SCALE * own.fold(1e-9, f64::max));
    let rate_most = most(|bar| bar.per_second);
    let mut y = HEAD;
    let mut group = bars.first().map_or(0, |bar| bar.group);
    for bar in bars {
        y += if bar.group == group { 0 } else { GAP };
        group = bar.group;
        let middle = y + LINE / 2;
        write(&area, (NAMES - 10, middle), &bar.name, 13, HPos::Right)?;
        one(
            &area,
            rates,
            y,
            bar,
            bar.per_second / rate_most,
            &thousands(bar.per_second),
        )?;
        one(
            &area,
            costs,
            y,
            bar,
            bar.cpu_us / cost_most,
            &format!("{:.1}", bar.cpu_us),
        )?;
        y += LINE;
    }
    write(&area, (16, height - 14), foot, 12, HPos::Left)?;
    area.present().map_err(told)?;
    Ok(())
}

fn one(area: &Area<'_>, x: i32, y: i32, bar: &Bar, share: f64, figure: &str) -> Result<(), Failed> {
    let colour = COLOURS[bar.group % COLOURS.len()];
    let end = x + pixels(share);
    let shape = Rectangle::new([(x, y + 4), (end, y + LINE - 4)], colour.filled());
    area.draw(&shape).map_err(told)?;
    if share > 1.0 {
        for at in [end - 22, end - 16] {
            let cut = [(at, y + LINE - 2), (at + 6, y + 2)];
            area.draw(&PathElement::new(cut, BACKGROUND.stroke_width(2)))
                .map_err(told)?;
        }
    }
    write(area, (end + 6, y + LINE / 2), figure, 13, HPos::Left)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a share of at most one of a few hundred pixels"
)]
fn pixels(share: f64) -> i32 {
    ((share.clamp(0.0, 1.0) * f64::from(HALF)).round() as i32).max(1)
}

fn write(area: &Area<'_>, at: (i32, i32), text: &str, size: i32, side: HPos) -> Result<(), Failed> {
    let style = TextStyle::from(("sans-serif", size).into_font())
        .color(&INK)
        .pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).map_err(told)
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn told(error: impl std::fmt::Display) -> Failed {
    format!("drawing the plot: {error}").into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plot_names_every_bar_with_its_figures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let bar = |name: &str, group| Bar {
            name: name.into(),
            group,
            per_second: 1_234_567.0,
            cpu_us: 17.25,
        };
        draw(&path, "title", "foot", &[bar("ledger", 0), bar("others", 1)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["title", "foot", "ledger", "others", "1,234,567", "17.2"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
