//! Showing text that somebody else wrote: on one line, bounded, and with nothing hidden in it.

use std::fmt::Write as _;

/// `text` on one line and at most about `limit` characters long: line ends, control characters and those that are
/// invisible or turn the direction of writing are shown as escapes (`\n`, `\u{202e}`), so that what is shown is all
/// there is. Escaping for HTML or a header is still the caller's business.
#[must_use]
pub fn visible(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit.saturating_mul(4)));
    let mut width = 0;
    for character in text.chars() {
        if width >= limit {
            shown.push('…');
            return shown;
        }
        let before = shown.len();
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            hidden if is_hidden(hidden) => {
                write!(shown, "\\u{{{:04x}}}", u32::from(hidden)).expect("writing to a String cannot fail");
            }
            plain => shown.push(plain),
        }
        width += shown[before..].chars().count();
    }
    shown
}

/// Whether a character acts instead of showing: controls, line separators, bidirectional and zero-width ones, tags.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}
