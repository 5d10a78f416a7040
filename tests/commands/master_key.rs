//! Another master key for an installation that has one.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::support::Workplace;

/// A key as `openssl rand -hex 32` writes it.
const KEY: &str = "3f1c7a52be0946d8a1e5937b4c60d2f8917e35ab06cd48f2b93a5e71d4086cb2";

fn slugs(place: &Workplace) -> Vec<String> {
    let list = place.run("tenant list --json").json();
    list.as_array().unwrap().iter().map(|it| it["slug"].as_str().unwrap().to_owned()).collect()
}

fn create(place: &Workplace, slug: &str) {
    let line = format!("tenant create --name {slug} --slug {slug} --owner-email a@b.example --invite");
    place.run(&line).ok();
}

#[test]
fn the_key_of_an_embedded_database_is_changed_and_a_change_that_was_cut_off_is_ended() {
    let place = Workplace::new();
    create(&place, "acme");
    let [file, next] = ["master.key", "master.key.next"].map(|name| place.data_dir().join(name));
    let before = fs::read_to_string(&file).unwrap();
    let serve = place.serve();
    let refused = place.run("keys rotate-master").failure(1);
    assert!(refused.contains("is in use by process"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert_eq!(serve.terminate(), Some(0));

    let told = place.run("keys rotate-master").ok();
    assert!(told.starts_with("The keys in the catalog are wrapped with a new key, in "), "{told}");
    let after = fs::read_to_string(&file).unwrap();
    assert!(after != before && !next.exists());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!told.contains(&after) && !told.contains(&before));
    create(&place, "beta");
    assert_eq!(slugs(&place), ["beta", "acme"]);
    let log = place.run("audit --json").json();
    assert!(log.as_array().unwrap().iter().any(|it| it["action"] == "keys.master_rotated"), "{log}");

    // Killed after the commit: the file of before is still there, and the one of after is not in its place.
    fs::rename(&file, &next).unwrap();
    fs::write(&file, &before).unwrap();
    assert_eq!(slugs(&place), ["beta", "acme"]);
    assert_eq!((fs::read_to_string(&file).unwrap(), next.exists()), (after.clone(), false));
    // Killed before the commit: the next one opens nothing.
    fs::write(&next, KEY).unwrap();
    assert_eq!(slugs(&place), ["beta", "acme"]);
    assert_eq!((fs::read_to_string(&file).unwrap(), next.exists()), (after, false));
    // And the one of before is none any more.
    fs::write(&file, &before).unwrap();
    assert!(place.run("tenant list").failure(1).starts_with("error: "));
}

#[test]
fn a_key_that_the_settings_name_is_changed_to_one_in_a_file() {
    let keys = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| keys.path().join(name));
    fs::write(&one, KEY).unwrap();
    let place = Workplace::new().with("TENANTRY_MASTER_KEY_FILE", one.to_str().unwrap());
    create(&place, "acme");
    assert_eq!(
        place.run("keys rotate-master").failure(1),
        "error: the settings name the master key: --to-file has to say where the new one is\n"
    );
    let same = place.run(&format!("keys rotate-master --to-file {}", one.display())).failure(1);
    assert_eq!(same, "error: the file has the present key in it\n");
    let rotated = place.run(&format!("keys rotate-master --to-file {} --json", two.display())).json();
    assert_eq!(rotated, json!({"file": two, "to_be_named": true}));
    assert_eq!(fs::metadata(&two).unwrap().permissions().mode() & 0o777, 0o600);

    assert!(place.run("tenant list").failure(1).starts_with("error: "));
    let place = place.with("TENANTRY_MASTER_KEY_FILE", two.to_str().unwrap());
    assert_eq!(slugs(&place), ["acme"]);
    assert_eq!(place.run("keys list --json").json().as_array().unwrap().len(), 1);
}

#[test]
fn shells_complete_the_commands() {
    let place = Workplace::new();
    for (shell, expected) in
        [("bash", "complete -F _tenantry"), ("zsh", "#compdef tenantry"), ("fish", "complete -c tenantry")]
    {
        let script = place.run(&format!("completions {shell}")).ok();
        assert!(script.contains(expected) && script.contains("rotate-master"), "{shell}: {script}");
    }
    assert!(!place.data_dir().exists());
}
