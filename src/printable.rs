//! What may be shown to people: text that somebody else wrote, made safe to print, and colours where they are wanted.

use std::fmt::{self, Write};
use std::io::IsTerminal;

/// Shows text on one line and without control characters, which appear as `\n`, `\u{1b}`, ….
///
/// An organization may be called `Acme\n2030-01-02 ERROR …` or `\u{1b}[2J`; neither may forge a line of a log or play
/// with the terminal of whoever reads it. Characters that turn the reading direction round, or break lines without being
/// control characters, are shown by their number too.
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter(f), "{}", self.0)
    }
}

/// Escapes what is written through it as [`Printable`] does.
pub struct EscapingWriter<'a, W: ?Sized>(pub &'a mut W);

impl<W: Write + ?Sized> Write for EscapingWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (safe, tail) = rest.split_at(at);
            self.0.write_str(safe)?;
            let mut characters = tail.chars();
            if let Some(character) = characters.next() {
                match character {
                    '\n' | '\r' | '\t' => write!(self.0, "{}", character.escape_default())?,
                    _ => write!(self.0, "{}", character.escape_unicode())?,
                }
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Whether a character moves a cursor, breaks a line or turns the reading direction round.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether text with colours may be written there: a terminal whose user has not declined (<https://no-color.org>).
pub fn wants_colors(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_of_any_script_is_left_alone() {
        for text in ["", "Acme GmbH & Co. \"KG\" \\o/", "株式会社", "חברה"] {
            assert_eq!(Printable(text).to_string(), text);
        }
    }

    #[test]
    fn what_would_move_the_cursor_or_begin_a_line_is_spelled_out() {
        let text = "a\nb\r\tc\u{1b}[2Jd\u{7f}\u{9b}e\u{2028}f\u{202e}g\0";
        let shown = r"a\nb\r\tc\u{1b}[2Jd\u{7f}\u{9b}e\u{2028}f\u{202e}g\u{0}";
        assert_eq!(Printable(text).to_string(), shown);
    }
}
