//! Hostile text made fit to be read: nothing in it can hide, reorder its surroundings or break a line.

use std::fmt::Write as _;

/// The text with every character that cannot be seen (controls, line ends, bidi and other format characters, unusual
/// spaces) written as `⟨U+202E⟩`, cut after `max` characters of the original with `…`. Never reads further than that.
#[must_use]
pub fn visible(text: &str, max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max));
    for (count, character) in text.chars().enumerate() {
        if count == max {
            shown.push('…');
            break;
        }
        if hides(character) {
            write!(shown, "⟨U+{:04X}⟩", u32::from(character)).expect("writing to a String cannot fail");
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The same JSON with every character that cannot be seen as its `\\u` escape: no value changes, and a terminal obeys none.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        // Below it stand only JSON's own line ends and spaces: a writer of JSON escapes controls inside strings.
        if character >= '\u{7F}' && hides(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(shown, "\\u{unit:04x}").expect("writing to a String cannot fail");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a reader could miss it: Unicode's controls, format and default-ignorable characters, private use,
/// non-characters, every space but the plain one, and the bracket that marks our own replacement.
fn hides(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        || u32::from(character) & 0xFFFE == 0xFFFE
        || matches!(character,
            '\u{AD}' | '\u{34F}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}' | '\u{8E2}'
            | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{27E8}' | '\u{3164}' | '\u{E000}'..='\u{F8FF}' | '\u{FDD0}'..='\u{FDEF}' | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{13430}'..='\u{1343F}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{10FFFF}')
}

#[cfg(test)]
mod tests {
    use super::{visible, visible_json};

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(visible("2024-01 <b>\"é\" 鍵", 64), "2024-01 <b>\"é\" 鍵");
    }

    #[test]
    fn what_hides_is_shown_by_its_code_point() {
        assert_eq!(visible("a\u{202E}b\0\r\nc\u{200B}\u{A0}\u{FEFF}", 64), "a⟨U+202E⟩b⟨U+0000⟩⟨U+000D⟩⟨U+000A⟩c⟨U+200B⟩⟨U+00A0⟩⟨U+FEFF⟩");
    }

    #[test]
    fn json_keeps_its_value_and_hides_nothing() {
        let shown = visible_json("{\n  \"kid\": \"é\u{9B}31m\u{202E}\u{E0001}\"\n}");
        assert_eq!(shown, "{\n  \"kid\": \"é\\u009b31m\\u202e\\udb40\\udc01\"\n}");
    }

    #[test]
    fn our_own_marks_cannot_be_forged() {
        assert_eq!(visible("⟨U+202E⟩", 64), "⟨U+27E8⟩U+202E⟩");
    }

    #[test]
    fn long_text_is_cut_without_being_read_to_its_end() {
        assert_eq!(visible(&"x".repeat(1 << 20), 4), "xxxx…");
        assert_eq!(visible("four", 4), "four");
        assert_eq!(visible("", 0), "");
    }
}
