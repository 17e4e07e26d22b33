//! Foreign text for a person's eyes: what a terminal would obey, or what would change how a line reads, is spelled out.
//!
//! Receipts keep texts as their authors wrote them; subjects, paths and messages may hold anything that is Unicode. Whoever
//! shows them escapes on output, here.

use std::borrow::Cow;

/// Whether a character does something else than stand in its place: controls, invisible and direction-changing ones.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with every character that acts spelled as `\u{..}`.
///
/// ```
/// use ledger_core::text::shown;
/// assert_eq!(shown("über 100 % → fine"), "über 100 % → fine");
/// assert_eq!(shown("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\u{a}c");
/// ```
pub fn shown(text: &str) -> Cow<'_, str> {
    spelled(text, acts)
}

/// The same for text that was laid out already: line ends, tabs and the sequences that only colour (`ESC [ .. m`) stay.
///
/// ```
/// use ledger_core::text::shown_lines;
/// assert_eq!(shown_lines("\u{1b}[1mbold\u{1b}[0m\nnext"), "\u{1b}[1mbold\u{1b}[0m\nnext");
/// assert_eq!(shown_lines("\u{1b}]0;title\u{7}"), "\\u{1b}]0;title\\u{7}");
/// ```
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, sequence) = rest.split_at(at);
        out.push_str(&spelled(before, |c| acts(c) && c != '\n' && c != '\t'));
        let colours = sequence.strip_prefix("\u{1b}[").and_then(|tail| {
            let end = tail.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            tail[end..].starts_with('m').then_some(end + 3)
        });
        let taken = colours.unwrap_or(1);
        out.push_str(if colours.is_some() {
            &sequence[..taken]
        } else {
            "\\u{1b}"
        });
        rest = &sequence[taken..];
    }
    out.push_str(&spelled(rest, |c| acts(c) && c != '\n' && c != '\t'));
    Cow::Owned(out)
}

fn spelled(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| {
        if acts(c) {
            c.escape_unicode().to_string()
        } else {
            c.to_string()
        }
    };
    Cow::Owned(text.chars().map(spell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_acts_is_left(text in any::<String>()) {
            prop_assert!(!shown(&text).contains(acts));
            let lines = shown_lines(&text);
            let bare = lines.replace(['\n', '\t'], "");
            let only_colours = bare.chars().filter(|c| acts(*c)).all(|c| c == '\u{1b}');
            prop_assert!(only_colours);
        }
    }
}
