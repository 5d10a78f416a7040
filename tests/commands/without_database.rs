//! What can be asked where there is no database, and what is refused before one is started.

use serde_json::Value;

use super::support::Workplace;

#[test]
fn the_document_is_the_one_that_is_served() {
    let document = tenantry::app::document().to_json().unwrap();
    let printed = Workplace::new().run("openapi").ok();
    assert_eq!(printed.strip_suffix('\n').unwrap().as_bytes(), document);
}

#[test]
fn the_routes_are_a_table_or_json() {
    let place = Workplace::new();
    let table = place.run("routes").ok();
    assert!(table.starts_with("METHOD  PATH "), "{table}");
    let row = |path: &str| table.lines().find(|line| line.contains(path)).unwrap().split_whitespace();
    assert_eq!(
        row("/api/users/{pk}/").collect::<Vec<_>>(),
        ["GET", "/api/users/{pk}/", "yes", "yes", "getUser"]
    );
    assert_eq!(row("/docs").collect::<Vec<_>>(), ["GET", "/docs", "-", "-", "-"]);

    let rows = place.run("routes --json").json();
    let login = rows.as_array().unwrap().iter().find(|row| row["operation_id"] == "login").unwrap();
    assert_eq!((&login["tenant"], &login["credentials"]), (&Value::Bool(true), &Value::Bool(false)));
}

#[test]
fn everything_that_is_wrong_with_the_arguments_is_told_at_once() {
    let place = Workplace::new();
    let line = "tenant create --name= --slug=A --owner-email=ada --owner-username=a@b";
    let wrong = place.run_with(line, "short\n").failure(2);
    insta::assert_snapshot!(wrong, @r"
    error: 5 arguments are wrong
      --name: This field may not be blank.
      --slug: Ensure this field has 3 to 40 characters.
      --owner-email: Enter a valid email address.
      --owner-username: Enter a valid username. This value may contain only letters, numbers, and ./_/- characters.
      the password: This password is too short. It must contain at least 8 characters.
    ");
    let wrong = place.run("operator create nobody").failure(2);
    assert!(wrong.contains("EMAIL: Enter a valid email address."), "{wrong}");
    assert!(wrong.contains("the password: no password on standard input"), "{wrong}");
    let wrong = place.run("tenant suspend Acme").failure(2);
    assert!(wrong.starts_with("error: invalid value 'Acme' for '<SLUG>': Use lower-case letters"), "{wrong}");
    assert!(!place.data_dir().exists());
}

#[test]
fn looking_makes_no_database() {
    let place = Workplace::new();
    let check = place.run("migrate --check");
    assert_eq!(check.code, 1);
    assert!(check.stdout.starts_with("The catalog lacks "), "{check:?}");
    let report = place.run("doctor").ok();
    assert!(report.contains("warning  database  there is none in .tenantry yet"), "{report}");
    assert!(!place.data_dir().exists());
}

#[test]
fn a_database_of_ones_own_that_is_not_there_is_told_in_one_sentence_without_its_password() {
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", "postgres://ann:s3cret@127.0.0.1:1/tenantry")
        .with("TENANTRY_MASTER_KEY", "CqsCSgiGFLRyy3VWTVnIvU51VEUwf5rU5CCK+SmNGbA=");
    let error = place.run("tenant list").failure(1);
    assert!(
        error.starts_with("error: PostgreSQL cannot be reached: 127.0.0.1:")
            && error.contains(": Connection refused"),
        "{error}"
    );
    assert_eq!(error.matches("Connection refused").count(), 1, "{error}");
    let report = place.run("doctor");
    assert_eq!(report.code, 1);
    assert!(!format!("{error}{report:?}").contains("s3cret"), "{error}{report:?}");
}
