//! Names that somebody chose, made fit for a mail to somebody else.
//!
//! Whoever signs an organization up, or calls himself a name, writes into mails that we send to others. Such a name must
//! stay a name: no line of its own, nothing unseen, and nothing that a mail program turns into a link.

/// Longer names are cut: a name must not become a text.
const MAX_NAME: usize = 80;
/// What browsers call themselves is longer, and its end tells most.
pub(super) const MAX_USER_AGENT: usize = 160;

/// A name in one line of visible characters, cut short, without links.
pub(super) fn name(text: &str) -> String {
    plain(text, MAX_NAME)
}

/// As [`name`], of another length.
pub(super) fn plain(text: &str, length: usize) -> String {
    let visible: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !is_invisible(*c)).collect();
    let words = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().nth(length).is_none() {
        return unlinked(&words);
    }
    let cut: String = words.chars().take(length - 1).collect();
    // The sign of the cut stands behind the last word, too.
    unlinked(&format!("{}…", cut.trim_end()))
}

/// Whether a character shows as nothing, or changes how its neighbours show: Unicode's `Default_Ignorable_Code_Point`,
/// the marks of direction, line and paragraph separators, private use and what is no character.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
            | '\u{f0000}'..='\u{10ffff}'
    )
}

/// Takes from a text what mail programs make links of: a dot or a colon right before the next word. The signs that stand
/// in for them look the same and are part of no domain and no scheme.
fn unlinked(text: &str) -> String {
    const DOT: char = '\u{2024}';
    const COLON: char = '\u{2236}';
    // Full stops of other scripts, the first three of which IDNA takes for dots too, and the points at half height that are
    // read as one.
    const DOTS: [char; 10] = [
        '\u{ff0e}', '\u{ff61}', '\u{3002}', '\u{fe52}', '\u{6d4}', '\u{b7}', '\u{387}', '\u{2027}',
        '\u{2219}', '\u{22c5}',
    ];
    let mut unlinked = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let joins = characters.peek().is_some_and(|next| !next.is_whitespace());
        unlinked.push(match c {
            '.' if joins => DOT,
            c if joins && DOTS.contains(&c) => DOT,
            ':' | '\u{ff1a}' if joins => COLON,
            c => c,
        });
    }
    unlinked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for text in
            ["Acme GmbH & Co. KG", "株式会社", "Müller, Maier: Söhne", "O'Neill", "חברה", "Ann-Marie Lee Jr."]
        {
            assert_eq!(name(text), text);
        }
    }

    #[test]
    fn nothing_is_left_to_click_on() {
        for (text, harmless) in [
            ("Win at https://evil.example/x", "Win at https∶//evil․example/x"),
            ("www.evil.example", "www․evil․example"),
            ("evil.example", "evil․example"),
            ("mailto:a@evil.example", "mailto∶a@evil․example"),
            ("javascript:alert(1)", "javascript∶alert(1)"),
            ("evil。example", "evil․example"),
            ("evil．example", "evil․example"),
            ("evil｡example", "evil․example"),
            ("evil\u{6d4}example", "evil․example"),
            ("evil·example", "evil․example"),
            ("evil․example", "evil․example"),
            ("evil⋅example", "evil․example"),
            ("10.0.0.1", "10․0․0․1"),
        ] {
            assert_eq!(name(text), harmless);
        }
    }

    #[test]
    fn nothing_is_hidden_and_nothing_begins_a_line() {
        assert_eq!(name("Acme\r\nBcc: all@evil.example"), "Acme Bcc: all@evil․example");
        assert_eq!(name("a\u{202e}b\u{200b}c\u{feff}d\0e\u{e0041}"), "abcd e");
        assert_eq!(name(" \t\u{a0}Acme \u{2003} Ltd\n"), "Acme Ltd");
        assert_eq!(name(&"x".repeat(500)), format!("{}…", "x".repeat(MAX_NAME - 1)));
    }

    proptest! {
        #[test]
        fn whatever_it_was(text in "(\\PC|[\r\n\t\u{0}\u{1b}\u{202e}\u{200b}.:/@]|https?://|www\\.|evil\\.example){0,120}") {
            let name = name(&text);
            prop_assert!(name.chars().count() <= MAX_NAME);
            prop_assert!(!name.contains(|c: char| c.is_control() || is_invisible(c)), "{name:?}");
            prop_assert!(!name.contains("://"), "{name:?}");
            let dotted = name.as_bytes().windows(2).any(|pair| pair[0] == b'.' && pair[1] != b' ');
            prop_assert!(!dotted, "{name:?}");
            prop_assert_eq!(plain(&name, MAX_NAME), name.clone());
        }
    }
}
