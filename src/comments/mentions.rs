//! Whom a text mentions.

use std::collections::HashMap;

use unicode_normalization::char::is_combining_mark;

use crate::users::{
    Account,
    identity::{Username, in_username},
};

/// How many different people a text can mention: a team. What a transaction locks and whom it tells is bounded by this.
pub(crate) const MAX_MENTIONS: usize = 50;
/// How many full stops, hyphens and underscores at the end of a mention are tried as parts of the name, one less at a time;
/// an ellipsis has three. Of more, all are taken for punctuation.
const MAX_TRIMMED: usize = 3;

/// The names that may be meant by one `@…`, the longest first: "@ann." is who is called "ann.", or else "ann".
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mention(Vec<Username>);

impl Mention {
    /// Reads what follows an `@`.
    fn read(text: &str) -> Option<Self> {
        let bare = text.trim_end_matches(['.', '-', '_']);
        let ends = (0..=MAX_TRIMMED).filter_map(|less| text.len().checked_sub(less));
        // What is trimmed is ASCII, so each end is between two characters.
        let ends = ends.filter(|end| *end > bare.len()).chain([bare.len()]);
        let names: Vec<Username> = ends.filter_map(|end| Username::parse(&text[..end]).ok()).collect();
        (!names.is_empty()).then_some(Self(names))
    }
}

/// Who may be mentioned in a text, in the order of the first mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mentions(Vec<Mention>);

impl Mentions {
    /// Finds them. An `@` within a word, an e-mail address or a path is none, and neither is what another `@` follows.
    pub(super) fn of(text: &str) -> Self {
        let mut found: Vec<Mention> = Vec::new();
        let mut before = None;
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let previous = rest[..at].chars().next_back().or(before);
            let after = &rest[at + 1..];
            let end = after.find(|character| !in_mention(character)).unwrap_or(after.len());
            let starts = previous.is_none_or(|previous| !in_mention(previous) && !is_glue(previous));
            if starts
                && !after[end..].starts_with('@')
                && let Some(mention) = Mention::read(&after[..end])
                && found.iter().all(|known| known.0[0].key() != mention.0[0].key())
            {
                found.push(mention);
                if found.len() == MAX_MENTIONS {
                    break;
                }
            }
            before = after[..end].chars().next_back().or(Some('@'));
            rest = &after[end..];
        }
        Self(found)
    }

    /// Every name that may be meant.
    pub(super) fn names(&self) -> impl Iterator<Item = &Username> {
        self.0.iter().flat_map(|mention| &mention.0)
    }

    /// Those of these accounts that are meant, each once.
    pub(super) fn among<'a>(&self, accounts: &'a [Account]) -> Vec<&'a Account> {
        let key = |account: &Account| Username::parse(&account.username).ok().map(|name| name.key());
        let known: HashMap<String, &Account> =
            accounts.iter().filter_map(|account| Some((key(account)?, account))).collect();
        let mut meant: Vec<&Account> = Vec::new();
        for mention in &self.0 {
            let account = mention.0.iter().find_map(|name| known.get(&name.key()));
            if let Some(account) = account
                && meant.iter().all(|other| other.pk != account.pk)
            {
                meant.push(account);
            }
        }
        meant
    }
}

/// Whether a character can be part of a name before that is composed.
fn in_mention(character: char) -> bool {
    in_username(character) || is_combining_mark(character)
}

/// What an `@` may not follow: the other characters that local parts of addresses have before it, and a path's.
fn is_glue(character: char) -> bool {
    matches!(character, '@' | '+' | '/' | '\\' | '=' | '%' | '&' | '#' | '$' | '~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<Vec<String>> {
        let written = |mention: &Mention| mention.0.iter().map(|name| name.as_str().to_owned()).collect();
        Mentions::of(text).0.iter().map(written).collect()
    }

    #[test]
    fn people_are_mentioned_wherever_a_word_begins() {
        for text in [
            "@ann",
            "hi @ann",
            "(@ann)",
            "\n@ann\n",
            "@ann, hi",
            "„@ann“",
            "@ann's",
            "。@ann",
            "*@ann*",
            "@ann/@",
        ] {
            assert_eq!(names(text), [["ann"]], "{text}");
        }
        assert_eq!(names("@ann @bob,@cid"), [["ann"], ["bob"], ["cid"]]);
        assert_eq!(names("@Владимир und @re\u{301}ne"), [["Владимир"], ["réne"]]);
        assert_eq!(names("@ＡＮＮ"), [["ANN"]]);
        assert_eq!(names("@ann @ANN @ann"), [["ann"]], "once");
    }

    #[test]
    fn an_address_mentions_nobody() {
        for text in [
            "",
            "@",
            "a@b",
            "ann@example.com",
            "a.b@ann",
            "a+@ann",
            "x_@ann",
            "@@ann",
            "@ann@example.com",
            "é@ann",
            "https://social.example/@ann",
            "e\u{301}@ann",
            "@ ann",
            "@!",
        ] {
            assert_eq!(names(text), Vec::<Vec<String>>::new(), "{text}");
        }
    }

    #[test]
    fn punctuation_at_the_end_may_belong_to_a_name() {
        assert_eq!(names("@ann."), [["ann.", "ann"]]);
        assert_eq!(names("@a.b-_ "), [["a.b-_", "a.b-", "a.b"]]);
        assert_eq!(names("@ann..."), [["ann...", "ann..", "ann.", "ann"]]);
        assert_eq!(names("@ann....."), [["ann.....", "ann....", "ann...", "ann..", "ann"]]);
        assert_eq!(names(&format!("@ann{}", ".".repeat(9_000))), [["ann"]]);
    }

    #[test]
    fn no_text_mentions_more_than_a_team() {
        let text: Vec<String> = (0..60).map(|n| format!("@u{n}")).collect();
        let found = names(&text.join(" "));
        assert_eq!((found.len(), &found[49][0]), (50, &"u49".to_owned()));
    }

    proptest! {
        #[test]
        fn every_text_is_read(text in "([@.a-c\\-_ é/]|\\PC|@){0,40}") {
            for names in names(&text) {
                prop_assert!(!names.is_empty() && names.len() <= MAX_TRIMMED + 2);
            }
        }
    }
}
