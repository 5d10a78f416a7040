//! Many tenants from a table.

use std::fs;

use serde_json::{Value, json};

use super::support::Workplace;

#[test]
fn a_table_of_tenants_is_made_once_however_often_it_is_run() {
    let place = Workplace::new();
    let table = place.data_dir().with_file_name("customers.csv");
    fs::write(
        &table,
        "name,slug,owner_email,plan\nAcme Ltd,acme,ada@acme.example,\n\"Globex, Inc.\",globex,gus@globex.example,\n",
    )
    .unwrap();
    let line = format!("tenant provision {} --json", table.display());
    let row = |line: u64, slug: &str, outcome: &str| json!({"line": line, "slug": slug, "outcome": outcome, "error": null});
    assert_eq!(place.run(&line).json(), json!([row(2, "acme", "made"), row(3, "globex", "made")]));
    assert_eq!(
        place.run(&line).json(),
        json!([row(2, "acme", "there already"), row(3, "globex", "there already")])
    );
    let list = place.run("tenant list --json").json();
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|it| (it["slug"].clone(), it["name"].clone())).collect();
    assert_eq!(names, [(json!("globex"), json!("Globex, Inc.")), (json!("acme"), json!("Acme Ltd"))]);
    // Somebody else's slug is nobody's who is there already.
    let other = "name,slug,owner_email\nAcme Two,acme,bob@two.example\n";
    let taken = place.run_with("tenant provision - --json", other);
    let rows: Value = serde_json::from_str(&taken.stdout).unwrap();
    assert_eq!((taken.code, &rows[0]["error"]), (1, &json!("the slug is that of Acme Ltd")));
    // An invitation each, and no more for the second run.
    let mails = place.run("jobs list --json --status queued").json();
    assert_eq!(mails.as_array().unwrap().len(), 2, "{mails}");
    let log = place.run("audit --json").json();
    assert_eq!(log.as_array().unwrap().iter().filter(|it| it["action"] == "tenant.provisioned").count(), 2);
}

#[test]
fn a_line_that_makes_no_sense_makes_nothing() {
    let place = Workplace::new();
    let table = "name,slug,owner_email\nAcme,acme,ada@acme.example\n,www,nobody\n\"x\n";
    let told = place.run_with("tenant provision -", table).failure(1);
    assert!(told.starts_with("error: nothing was made:\n  line 3: "), "{told}");
    for sentence in [
        "name: This field may not be blank.",
        "slug: This name is reserved.",
        "owner_email: Enter a valid email address.",
    ] {
        assert!(told.contains(sentence), "{sentence}: {told}");
    }
    for (table, sentence) in [
        ("name,slug\nAcme,acme\n", "missing field `owner_email`"),
        ("name,slug,owner_email\nAcme,acme\n", "line 2: "),
        ("name,slug,owner_email\n\u{0}\n", "line 2"),
        ("", "the table is empty: its first line names the columns"),
        (
            "name,slug,owner_email\r\nAcme,acme,ada@acme.example\r\nOther,acme,bob@other.example\r\n",
            "line 3: slug: Line 2 has the same.",
        ),
    ] {
        let told = place.run_with("tenant provision -", table).failure(1);
        assert!(told.contains(sentence), "{told}");
    }
    assert_eq!(place.run("tenant provision missing.csv").failure(1).matches("missing.csv").count(), 1);
    assert!(!place.data_dir().exists(), "looking at a table makes no database");
    assert_eq!(place.run_with("tenant provision - --json", "name,slug,owner_email\n").json(), json!([]));
}
