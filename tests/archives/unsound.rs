//! Rows that the schema would take and the service could not serve are refused, whoever wrote them.

use super::{
    forgery::Forgery,
    round_trip::lively,
    support::{export, import, refusal, tamper},
};
use crate::support::TestApp;

/// An archive with a row in every table.
async fn archived(app: &TestApp) -> Forgery {
    let (acme, _) = lively(app).await;
    acme.log_in(app).await;
    let (bytes, manifest) = export(app, &acme.id).await;
    for table in &manifest.tables {
        assert!(table.rows > 0, "nothing can be tried with {}", table.name);
    }
    Forgery::of(&bytes)
}

/// Each of these values, put into a column of the rows that have a text in them, is refused with these words.
async fn assert_refused(app: &TestApp, genuine: &Forgery, cases: &[(&str, &str, &str, &str, &str)]) {
    for (table, column, of, value, says) in cases {
        let mut forged = genuine.clone();
        forged.set(table, column, of, value);
        let refused = refusal(app, &forged.written(), true).await;
        let place = format!("the archive holds what cannot be served: {column} of {table}");
        assert!(refused.starts_with(&place) && refused.contains(says), "{table}.{column}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_no_clock_of_ours_said_is_refused_wherever_it_is() {
    let app = TestApp::start().await;
    let genuine = archived(&app).await;
    let newest = *tenants::served_versions().end();
    let times: Vec<_> = tenants::archive::checked_columns_of(newest)
        .into_iter()
        .filter(|(_, column)| column.ends_with("_at") || *column == "date_joined")
        .collect();
    assert!(times.len() >= 11, "{times:?}");
    for (table, column) in times {
        let says = "is no time of this era";
        assert_refused(&app, &genuine, &[(table, column, "", "infinity", says)]).await;
    }
    let [table, column] = ["activities", "created_at"];
    for value in ["-infinity", "1969-12-31 23:59:59+00", "9999-01-01 00:00:00+00", "280000-01-01 00:00:00+00"]
    {
        assert_refused(&app, &genuine, &[(table, column, "", value, "is no time of this era")]).await;
    }
    let mut last = genuine.clone();
    last.set("users", "date_joined", "", "9998-12-31 23:59:59.999999+00");
    import(&app, &last.written(), "last", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_nobody_knows_are_refused() {
    let app = TestApp::start().await;
    let genuine = archived(&app).await;
    let long = "x".repeat(201);
    assert_refused(
        &app,
        &genuine,
        &[
            ("activities", "verb", "", "nonsense", r#": "nonsense" is no verb"#),
            ("activities", "object_type", "", "planet", r#""planet" is no kind of thing"#),
            ("activities", "target_type", "", "planet", "is no kind of thing"),
            ("activities", "object_text", "", &long, "is too long"),
            ("activities", "target_text", "", &long, "is too long"),
            ("activities", "number", "signed_up", "0", r#""0" is no number of a row"#),
            ("activities", "verb_number", "", "9007199254740993", "is no number of a row"),
            ("notifications", "kind", "", "nonsense", "is no kind of notification"),
            ("notifications", "object_type", "", "planet", "is no kind of thing"),
            ("notifications", "object_text", "", &long, "is too long"),
            ("notification_preferences", "kind", "", "nonsense", "is no kind of notification"),
            ("audit", "action", "", "Drop it; now", "is no name of an action"),
            ("devices", "user_agent", "", &long, "is too long"),
            ("devices", "network", "", &long, "is too long"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_nobody_could_have_chosen_are_refused() {
    let app = TestApp::start().await;
    let genuine = archived(&app).await;
    let many = format!("[{}]", vec![r#""example.com""#; 101].join(", "));
    assert_refused(
        &app,
        &genuine,
        &[
            ("settings", "activity_retention_days", "", "-1", "no number of days"),
            ("settings", "activity_retention_days", "", "0", "no number of days"),
            ("settings", "activity_retention_days", "", "36501", "no number of days"),
            ("settings", "invitations_sent", "", "-1", "no number of invitations"),
            ("settings", "invitations_sent", "", "2147483647", "no number of invitations"),
            ("settings", "name", "", "Acme\\r\\nBcc: x@y.example", "Control characters are not allowed."),
            ("settings", "name", "", " Acme", "not as it would have been stored"),
            ("settings", "allowed_email_domains", "", r#"{"a": 1}"#, "no list of texts"),
            ("settings", "allowed_email_domains", "", r#"["exa mple"]"#, "Enter a valid domain name."),
            ("settings", "allowed_email_domains", "", r#"["EXAMPLE.com"]"#, "not as it would have been"),
            ("settings", "allowed_email_domains", "", &many, "There are too many."),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_that_could_not_have_signed_up_are_refused() {
    let app = TestApp::start().await;
    let genuine = archived(&app).await;
    let costly = |costs: &str| format!("$argon2id$v=19${costs}$YWJjZGVmZ2hpamts${}", "A".repeat(43));
    let (memory, passes) = (costly("m=4000000,t=1,p=1"), costly("m=19456,t=100,p=1"));
    assert_refused(
        &app,
        &genuine,
        &[
            ("users", "password_hash", "", "garbage", "it is no"),
            ("users", "password_hash", "", "$2b$12$abcdefghijklmnopqrstuv", "it is no"),
            ("users", "password_hash", "", &memory, "it asks for 4000000 KiB, 1 passes and 1 lanes"),
            ("users", "password_hash", "", &passes, "it asks for 19456 KiB, 100 passes and 1 lanes"),
            ("users", "username", "grace", "gr ace", "Enter a valid username."),
            ("users", "username", "grace", "gr\u{430}ce", "may not mix letters of different scripts"),
            ("users", "username", "grace", " grace", "not as it would have been stored"),
            ("users", "email", "grace", "a\\r\\nBcc: x@y.example", "Enter a valid email address."),
            ("users", "first_name", "grace", "a\\nb", "Control characters are not allowed."),
            ("users", "last_name", "grace", "\u{202e}b", "change the direction of text"),
            ("users", "locale", "grace", "xx_not", "Enter a valid language tag"),
            ("users", "timezone", "grace", "Mars/Olympus", "Enter a valid time zone"),
        ],
    )
    .await;
    let mut forged = genuine.clone();
    forged.set("users", "is_active", "\towner\t", "f");
    let refused = refusal(&app, &forged.written(), true).await;
    assert!(refused.ends_with("role of users: none of the owners may sign in"), "{refused}");
    // One that an operator has made, and whose owner has not come yet.
    let mut forged = genuine.clone();
    forged.set("users", "role", "\towner\t", "member");
    import(&app, &forged.written(), "nobodys", true).await;
    // Whose row it is can be told; what stands in it is personal.
    let mut forged = genuine.clone();
    forged.set("users", "email", "grace", "somebody at home");
    let refused = refusal(&app, &forged.written(), true).await;
    assert!(!refused.contains("somebody"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_that_could_not_have_been_written_are_refused() {
    let app = TestApp::start().await;
    let genuine = archived(&app).await;
    let (long, deep) = ("x".repeat(10_001), format!("{}{}", "[".repeat(70), "]".repeat(70)));
    let ids = vec![r#""018f0000-0000-7000-8000-000000000000""#; 51].join(", ");
    assert_refused(
        &app,
        &genuine,
        &[
            ("comments", "body", "", "", "empty or too long"),
            ("comments", "body", "", &long, "empty or too long"),
            ("comments", "mentions", "", r#"{"a": 1}"#, "no list of ids"),
            ("comments", "mentions", "", r#"["x"]"#, "no list of ids"),
            ("comments", "mentions", "", "[1]", "no list of ids"),
            ("comments", "mentions", "", &format!("[{ids}]"), "too long"),
            ("comments", "mentions", "", &deep, "too deep"),
            ("comments", "number", "indeed", "-1", "is no number of a row"),
            ("notifications", "number", "\t1\t", "0", "is no number of a row"),
            ("audit", "detail", "", &deep, "too deep"),
            ("audit", "detail", "", r#"{"a": 1e400}"#, "too large a number"),
        ],
    )
    .await;
    let threads = "it replies to a reply or to a comment on another page";
    let users = String::from_utf8(genuine.clone().rows("users").clone()).unwrap();
    let grace = users.lines().find(|row| row.contains("grace")).unwrap().split('\t').next().unwrap();
    let mut elsewhere = genuine.clone();
    elsewhere.set("comments", "user_pk", "indeed", grace);
    let refused = refusal(&app, &elsewhere.written(), true).await;
    assert!(refused.contains("parent of comments") && refused.contains(threads), "{refused}");
    let comments = String::from_utf8(genuine.clone().rows("comments").clone()).unwrap();
    let replies: Vec<&str> = comments
        .lines()
        .filter(|row| row.contains("indeed"))
        .map(|row| row.split('\t').next().unwrap())
        .collect();
    assert_refused(&app, &genuine, &[("comments", "parent", replies[0], replies[1], threads)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_archive_is_looked_at_too() {
    let app = TestApp::start().await;
    let (acme, _) = lively(&app).await;
    let long = "UPDATE audit SET detail = jsonb_build_object('x', repeat('x', 1024 * 1024))";
    tamper(&app, &acme.schema(), long).await;
    let (bytes, _) = export(&app, &acme.id).await;
    let refused = refusal(&app, &bytes, false).await;
    assert!(refused.contains(": detail of audit: ") && refused.ends_with(" is too long"), "{refused}");

    tamper(&app, &acme.schema(), "UPDATE audit SET detail = '{}'").await;
    tamper(&app, &acme.schema(), "UPDATE users SET password_hash = 'x' WHERE username = 'grace'").await;
    let (bytes, _) = export(&app, &acme.id).await;
    let refused = refusal(&app, &bytes, false).await;
    assert!(
        refused.starts_with("the archive holds what cannot be served: password_hash of users"),
        "{refused}"
    );
}
