use proptest::prelude::*;
use serde_json::json;

use super::*;

const BAD_USERNAME: &str =
    "Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.";

fn username(text: &str) -> Result<String, Wrong> {
    Username::parse(text).map(|name| name.as_str().to_owned())
}

#[test]
fn a_username_is_letters_digits_and_three_signs() {
    for name in ["a", "ann.lee", "Ann_Lee-2", "Zoë", "анна", "山田", "०१"] {
        assert_eq!(username(name), Ok(name.into()));
    }
    assert_eq!(username("  ann "), Ok("ann".into()));
    assert_eq!(username("ａｎｎ"), Ok("ann".into()), "compatibility forms are what they stand for");
    assert_eq!(username("Zoe\u{308}"), Ok("Zoë".into()));
    for name in [
        "a b",
        "a@b",
        "a\u{0}b",
        "a\u{200b}b",
        "a\u{202e}b",
        "\u{3164}",
        "a\u{1160}",
        "a/b",
        "½",
        "😀",
        "a\tb",
    ] {
        assert_eq!(username(name), wrong(BAD_USERNAME), "{name:?}");
    }
    assert_eq!(username(" "), wrong("This field may not be blank."));
    assert_eq!(username(&"ä".repeat(150)), Ok("ä".repeat(150)));
    assert_eq!(username(&"ä".repeat(151)), wrong("Ensure this field has no more than 150 characters."));
    assert_eq!(username(&"\u{fdfa}".repeat(20)), wrong("Ensure this field has no more than 150 characters."));
    assert_eq!(Username::from_value(json!(1)).map(drop), wrong("Not a valid string."));
}

#[test]
fn a_username_is_written_in_one_script() {
    const MIXED: &str = "Enter a valid username. This value may not mix letters of different scripts.";
    for name in ["аdmin", "admіn", "pаypal", "Αnn", "annж", "ᎪNN", "山田ж", "anna_ольга", "אb", "ბob"]
    {
        assert_eq!(username(name), wrong(MIXED), "{name}");
    }
    // One script each, or what people do write in one name; digits and signs belong to all.
    for name in [
        "анна",
        "анна-2",
        "Ελένη",
        "ᎠᏂᏴᏫᏯ",
        "日本語taro",
        "たろうタロ太郎",
        "김철수kim",
        "عمر",
        "Żółć",
        "नाम",
    ] {
        assert_eq!(username(name), Ok(name.into()));
    }
}

#[test]
fn a_username_is_made_of_what_people_write() {
    for name in [
        "a\u{13441}",
        "\u{13442}",
        "🅐nn",
        "🅰nn",
        "O\u{2bc}Neill",
        "O\u{2bb}ahu",
        "a\u{2d0}",
        "ann\u{1c3}",
        "𐌰",
        "ɑnn",
        "\u{93e}",
        "\u{5b0}",
        "\u{93e}\u{93e}",
        "\u{93e}नाम",
        "नाम.\u{93e}",
        "a\u{a78c}b",
        "\u{640}",
    ] {
        assert_eq!(username(name), wrong(BAD_USERNAME), "{name:?}");
    }
    for name in ["𠮷野", "佐々木", "ไทย", "ღვინო", "ᐃᓄᒃᑎᑐᑦ", "ĳsbrand", "ﬁn"]
    {
        assert!(username(name).is_ok(), "{name}");
    }
}

#[test]
fn no_sign_is_disguised_as_a_letter_between_latin_ones() {
    const MIXED: &str = "Enter a valid username. This value may not mix letters of different scripts.";
    for name in ["adminー", "admin一", "r〇〇t", "aノb", "admin丨", "ann丶", "root-一", "éric一"] {
        assert_eq!(username(name), wrong(MIXED), "{name}");
    }
    for name in ["サーバーadmin", "日本一taro", "ノート", "一二三", "山田〇", "joséさん"] {
        assert_eq!(username(name), Ok(name.into()));
    }
}

#[test]
fn names_that_differ_in_case_only_have_one_key() {
    let key = |text: &str| Username::parse(text).expect("a username").key();
    for (one, other) in
        [("Ann", "aNN"), ("STRASSE", "straße"), ("ΣΑΣ", "σας"), ("ZOË", "zoe\u{308}"), ("Ǆ", "ǆ")]
    {
        assert_eq!(key(one), key(other), "{one} {other}");
    }
    assert_ne!(key("ann"), key("anna"));
}

#[test]
fn an_email_is_what_djangos_validator_takes() {
    for text in [
        "ann@example.com",
        "Ann.Lee+tag@Example.Co.UK",
        "a@b.cc",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "ann@localhost",
        "ann@xn--bcher-kva.example",
        "ann@bücher.example",
        "a@exa-mple.com",
    ] {
        assert_eq!(Email::parse(text).map(|email| email.as_str().to_owned()), Ok(text.into()));
    }
    for text in [
        "ann",
        "@example.com",
        "ann@",
        "ann@example",
        "ann@@example.com",
        "ann@example..com",
        "ann@.com",
        "ann@-a.com",
        "ann@a-.com",
        "an n@example.com",
        "ann@exa mple.com",
        "ann.@example.com",
        ".ann@example.com",
        "a..b@example.com",
        "\"a b\"@example.com",
        "ann@[127.0.0.1]",
        "ann@127.0.0.1",
        "ann@example.c",
        "ann@example.com.",
        "änn@example.com",
        "ann@ex%61mple.com",
        "ann@example.com\nBcc: x@example.com",
        "ann@exam_ple.com",
        "ann@example.com>",
        "a@b@example.com",
        "ann@exam\u{ad}ple.com",
        "ann@exam\u{200b}ple.com",
    ] {
        assert_eq!(Email::parse(text).map(drop), wrong("Enter a valid email address."), "{text:?}");
    }
    let long = format!("{}@{}.example.com", "a".repeat(64), "b".repeat(63));
    assert!(Email::parse(&long).is_ok());
    assert_eq!(Email::parse(&format!("a{long}")).map(drop), wrong("Enter a valid email address."));
    let longer = format!("a@{}com", "b.".repeat(130));
    assert_eq!(Email::parse(&longer).map(drop), wrong("Ensure this field has no more than 254 characters."));
}

#[test]
fn spellings_of_one_address_have_one_key() {
    let key = |text: &str| Email::parse(text).expect("an address").key().to_owned();
    assert_eq!(key("Ann@Example.COM"), "ann@example.com");
    assert_eq!(key("ann@BÜCHER.example"), "ann@xn--bcher-kva.example");
    assert_eq!(key("ann@xn--BCHER-KVA.example"), key("ann@bücher.example"));
    assert_eq!(format!("{:?}", Email::parse("ann@example.com").expect("an address")), "Email(…@example.com)");
}

#[test]
fn a_new_password_has_bounds_in_characters_and_keeps_its_spaces() {
    let password = |text: &str| {
        Password::parse(text.to_owned()).map(|password| password.secret().expose_secret().to_owned())
    };
    assert_eq!(password(" passwd "), Ok(" passwd ".into()));
    assert_eq!(password("pässwörd"), Ok("pässwörd".into()));
    assert_eq!(password("pa\u{308}sswo\u{308}rd"), Ok("pässwörd".into()));
    assert_eq!(
        password("o\u{308}o\u{308}o\u{308}o\u{308}"),
        wrong("This password is too short. It must contain at least 8 characters.")
    );
    assert_eq!(password(""), wrong("This field may not be blank."));
    assert_eq!(password(&"x".repeat(128)), Ok("x".repeat(128)));
    assert_eq!(password(&"x".repeat(129)), wrong("Ensure this field has no more than 128 characters."));
    assert_eq!(password(&"o\u{308}".repeat(128)), Ok("ö".repeat(128)));
    assert_eq!(password("passw\0ord"), wrong("Null characters are not allowed."));
}

#[test]
fn a_claimed_password_is_wrong_rather_than_malformed() {
    let claimed = |text: &str| {
        Credential::parse(text.to_owned()).map(|claimed| claimed.secret().expose_secret().to_owned())
    };
    assert_eq!(claimed("x"), Ok("x".into()));
    assert_eq!(claimed(&"o\u{308}".repeat(129)), Ok("ö".repeat(129)));
    let endless = "o\u{308}".repeat(500_000);
    assert_eq!(claimed(&endless), Ok(endless), "not even normalized");
    assert_eq!(claimed(""), wrong("This field may not be blank."));
}

#[test]
fn a_password_is_not_in_the_debug_output() {
    let shown = format!(
        "{:?} {:?}",
        Password::parse("open sesame".into()).expect("a password"),
        Credential::parse("open sesame".into()).expect("a credential")
    );
    assert!(!shown.contains("sesame"), "{shown}");
}

proptest! {
    #[test]
    fn a_username_reads_back_as_itself(text in "\\PC{0,20}|[\\w.-]{1,20}") {
        if let Ok(name) = Username::parse(&text) {
            prop_assert_eq!(Username::parse(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn a_letter_of_another_alphabet_does_not_pass_for_latin(
        before in "[a-z]{0,9}", alien in "[а-яёіјѕԁα-ωა-ჰא-תա-ֆ]", after in "[a-z]{1,9}"
    ) {
        for text in [format!("{before}{alien}{after}"), format!("{after}{alien}{before}")] {
            prop_assert!(Username::parse(&text).is_err(), "{}", text);
        }
    }

    #[test]
    fn a_username_of_one_alphabet_is_taken(text in "[a-zà-öø-ÿ0-9._-]{1,20}|[а-яё0-9._-]{1,20}|[ա-ֆ0-9._-]{1,20}|[א-ת0-9._-]{1,20}") {
        prop_assert!(Username::parse(&text).is_ok(), "{}", text);
    }

    #[test]
    fn nothing_invisible_is_in_a_username(
        text in "[a-z]{1,5}[\\u{ad}\\u{34f}\\u{61c}\\u{115f}\\u{1160}\\u{17b4}\\u{17b5}\\u{180b}-\\u{180f}\\u{200b}-\\u{200f}\\u{202a}-\\u{202e}\\u{2060}-\\u{206f}\\u{3164}\\u{fe00}-\\u{fe0f}\\u{feff}\\u{ffa0}\\u{e0000}-\\u{e01ef}][a-z]{1,5}"
    ) {
        prop_assert_eq!(username(&text), wrong(BAD_USERNAME));
    }

    #[test]
    fn a_key_does_not_depend_on_case_or_form(text in "[\\w.-]{1,20}") {
        if let Ok(name) = Username::parse(&text) {
            let key = name.key();
            prop_assert_eq!(fold(&key), key.clone());
            for other in [text.to_uppercase(), text.to_lowercase(), text.nfd().collect()] {
                if let Ok(other) = Username::parse(&other) {
                    prop_assert_eq!(other.key(), key.clone());
                }
            }
        }
    }

    #[test]
    fn an_address_has_one_key_and_no_line_breaks(text in "\\PC{1,20}@\\PC{1,20}|[a-zA-Z.+]{1,9}@[a-zA-Zäßς-]{1,9}\\.[a-zA-Z]{2,5}") {
        if let Ok(email) = Email::parse(&text) {
            prop_assert!(email.key().is_ascii() && !email.key().contains(|c: char| c.is_ascii_control() || c == ' '));
            prop_assert_eq!(Email::parse(email.key()).map(|again| again.key().to_owned()), Ok(email.key().to_owned()));
            prop_assert_eq!(Email::parse(&text.to_ascii_uppercase()).map(|upper| upper.key().to_owned()), Ok(email.key().to_owned()));
        }
    }

    #[test]
    fn any_text_is_a_password_or_is_told_why(text in any::<String>()) {
        match Password::parse(text.clone()) {
            Ok(password) => {
                let secret = password.secret().expose_secret();
                prop_assert!((8..=128).contains(&secret.chars().count()));
                prop_assert_eq!(secret.to_owned(), text.nfc().collect::<String>());
            }
            Err(sentences) => prop_assert_eq!(sentences.len(), 1),
        }
    }
}

#[test]
fn an_address_leads_to_a_username() {
    for (email, username) in [
        ("Ada@acme.example", "Ada"),
        ("ada.lovelace+news@acme.example", "ada.lovelace"),
        ("o'brien@acme.example", "o.brien"),
        ("+x@acme.example", "user"),
        ("{!}@acme.example", "user"),
    ] {
        let username_of = Username::from_email(&Email::parse(email).unwrap());
        assert_eq!(username_of.as_str(), username, "{email}");
        assert_eq!(Username::parse(username_of.as_str()), Ok(username_of));
    }
}
