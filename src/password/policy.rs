//! Which passwords are refused: those an attacker tries first.

use secrecy::ExposeSecret as _;
use zxcvbn::zxcvbn;

use crate::{
    http::input::{Wrong, wrong},
    users::identity::Password,
};

/// Passwords that fall to fewer guesses are refused. An attacker has some hundred guesses an hour at an account, so this
/// many take a year; and any 8 characters that are neither a word nor a pattern take a hundred times more.
const GUESSES: u64 = 1_000_000;
/// How much of a password is judged, in characters: the time that takes grows with the square of it.
const JUDGED: usize = 64;
/// More digits and signs than these, in characters, are as good as a password of their own.
const ADORNMENT: usize = 6;
/// A word that falls to fewer guesses is common.
const COMMON_WORD: u64 = 10_000;
/// Shorter names stand in too many words by chance.
const MIN_OWN_WORD: usize = 3;

/// Refuses a password that is common or guessable, or built from words that are the person's own: the username, the
/// address, the names, the organization's name and slug.
///
/// It takes up to some milliseconds of computing: [`Hasher::judge`](super::Hasher::judge) does it where that hurts nobody.
///
/// # Errors
/// The sentence for the person who chose it.
pub fn judge(password: &Password, own_words: &[impl AsRef<str>]) -> Result<(), Wrong> {
    let judged: Vec<char> = password.secret().expose_secret().chars().take(JUDGED).collect();
    if is_guessable(&judged) {
        return wrong("This password is too common.");
    }
    let rest = without(&judged, own_words);
    if rest.len() < judged.len() && is_guessable(&rest) {
        return wrong("The password is too similar to your name, your address or your organization.");
    }
    Ok(())
}

fn is_guessable(password: &[char]) -> bool {
    guesses(password) < GUESSES || is_adorned(password)
}

/// Whether this is a common word between a few digits and signs. zxcvbn takes each part for a choice of its own; but this
/// is what people do when they are told to use digits and signs, so it is what attackers do next.
fn is_adorned(password: &[char]) -> bool {
    let is_letter = |character: &char| character.is_alphabetic();
    let (Some(first), Some(last)) =
        (password.iter().position(is_letter), password.iter().rposition(is_letter))
    else {
        return false;
    };
    let word = &password[first..=last];
    (1..=ADORNMENT).contains(&(password.len() - word.len())) && guesses(word) < COMMON_WORD
}

fn guesses(password: &[char]) -> u64 {
    zxcvbn(&one_way_to_write(password), &[]).guesses()
}

/// Where several characters stand for the same letter, the first of them for all: zxcvbn looks at every combination of
/// them, which for a password made to that end takes hundreds of times as long.
fn one_way_to_write(password: &[char]) -> String {
    const ALIKE: [&str; 5] = ["4@", "({[<", "1!|", "5$", "7+"];
    let mut text: String = password.iter().collect();
    for alike in ALIKE {
        let mut present = alike.chars().filter(|character| password.contains(character));
        let Some(first) = present.next() else { continue };
        for other in present {
            text = text.replace(other, first.encode_utf8(&mut [0; 4]));
        }
    }
    text
}

/// What is left of a password when the words are taken out, however they are written.
fn without(password: &[char], own_words: &[impl AsRef<str>]) -> Vec<char> {
    let plain: Vec<char> = password.iter().copied().map(plain).collect();
    let mut gone = vec![false; plain.len()];
    for word in parts(own_words) {
        for start in 0..(plain.len() + 1).saturating_sub(word.len()) {
            let place = start..start + word.len();
            if plain[place.clone()] == word && !gone[place.clone()].contains(&true) {
                gone[place].fill(true);
            }
        }
    }
    let rest = password.iter().zip(gone).filter(|(_, gone)| !gone);
    rest.map(|(character, _)| *character).collect()
}

/// The words in these texts, forwards and backwards, with and without their accents; the longest first, so that none is
/// cut in two by a shorter one.
fn parts(texts: &[impl AsRef<str>]) -> Vec<Vec<char>> {
    let mut parts = Vec::new();
    for text in texts {
        let text = text.as_ref();
        for form in [text.to_owned(), deunicode::deunicode(text)] {
            for part in form.split(|character: char| !character.is_alphanumeric()) {
                let part: Vec<char> = part.chars().map(plain).collect();
                if part.len() >= MIN_OWN_WORD {
                    parts.push(part.iter().rev().copied().collect());
                    parts.push(part);
                }
            }
        }
    }
    parts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    parts.dedup();
    parts
}

/// The letter that a character is written for: in lower case, and with the look-alikes that people take for clever.
fn plain(character: char) -> char {
    match character {
        '4' | '@' => 'a',
        '3' | '€' => 'e',
        '1' | '!' | '|' | 'l' | 'L' => 'i',
        '0' => 'o',
        '5' | '$' => 's',
        '7' | '+' => 't',
        other => other.to_lowercase().next().unwrap_or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 6] = ["ann.lee", "ann@globex.example", "Ann", "Mary-Lee", "Müller & Söhne", "mueller"];

    fn judged(password: &str) -> Result<(), String> {
        judge(&Password::parse(password.to_owned()).unwrap(), &OWN).map_err(|wrong| wrong.join(" "))
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for common in [
            "password",
            "password1",
            "Passw0rd!",
            "12345678",
            "qwertyuiop",
            "letmein1",
            "iloveyou",
            "football",
            "P@ssword123",
            "aaaaaaaaaaaa",
            "abcdefgh",
            "11111111",
            "1q2w3e4r",
            "sunshine1",
            "2026-01-02",
            "drowssap",
            "abcabcabcabc",
            "trustno1",
            "Password2026!",
            "Welcome1!",
        ] {
            assert_eq!(judged(common), Err("This password is too common.".into()), "{common}");
        }
        assert_eq!(judged(&"a".repeat(128)), Err("This password is too common.".into()));
    }

    #[test]
    fn a_password_made_to_take_long_is_judged_as_quickly() {
        // With all its ways to be read, this takes a hundred times as many looks into the dictionaries.
        let costly = "4@8({[<369!1|70$5+%2zqwertyuiopasdfghjklzxcvbnm";
        assert_eq!(
            one_way_to_write(&costly.chars().collect::<Vec<_>>()),
            "448((((369!!!70557%2zqwertyuiopasdfghjklzxcvbnm"
        );
    }

    #[test]
    fn what_is_made_of_ones_own_names_is_refused() {
        for own in [
            "ann.lee.2026",
            "globex-ann-lee",
            "ANN@globex.example",
            "gl0b3x-2026",
            "müller-söhne",
            "muller-sohne",
            "Mary-Lee-123",
            "xebolg-nna!",
            "Mueller2026!",
            "annleeannlee",
        ] {
            let sentence = "The password is too similar to your name, your address or your organization.";
            let found = judged(own);
            assert!(
                found == Err(sentence.into()) || found == Err("This password is too common.".into()),
                "{own}: {found:?}"
            );
        }
    }

    #[test]
    fn what_takes_a_year_to_guess_will_do() {
        for good in [
            "correct horse battery",
            "kX9#mP2q",
            "38qg959udsnv3k1h",
            "planning-tomorrow-evening",
            "ann likes her turquoise bike",
            "пароль-密码-🦀",
            "Tr0ub4dour&3",
            "globex vvK2-pQ9s-1",
        ] {
            assert_eq!(judged(good), Ok(()), "{good}");
        }
    }
}
