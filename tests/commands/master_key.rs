//! Another master key for an installation that has one.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};

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
fn keys_that_a_killed_change_left_and_keys_that_others_can_read_are_told() {
    let place = Workplace::new();
    create(&place, "acme");
    let at = |name: &str| place.data_dir().join(name);
    // No process has so great a number.
    let drafts =
        ["master.key.99999999.draft", "master.key.next.99999999", "master.key.next.99999999.draft"].map(at);
    let finding = |code: &str| {
        let report: Value = serde_json::from_str(&place.run("doctor --json").stdout).unwrap();
        report["findings"].as_array().unwrap().iter().find(|it| it["code"] == code).cloned()
    };
    assert!(finding("master_key_drafts").is_none() && finding("master_key_open").is_none());

    for draft in &drafts {
        fs::write(draft, KEY).unwrap();
    }
    // Somebody's own copy.
    fs::write(at("master.key.2"), KEY).unwrap();
    let told = finding("master_key_drafts").unwrap();
    let names: Vec<_> = drafts.iter().map(|draft| draft.file_name().unwrap().to_str().unwrap()).collect();
    assert!(names.iter().all(|name| told["found"].as_str().unwrap().contains(name)), "{told}");
    place.run("keys rotate-master").ok();
    assert_eq!(drafts.each_ref().map(|draft| draft.exists()), [true, false, false]);
    let fixed = place.run("doctor --fix --json").json();
    assert!(
        fixed["mended"]["done"][0].as_str().unwrap().ends_with("/master.key.99999999.draft"),
        "{fixed:#}"
    );
    assert!(!drafts[0].exists() && at("master.key.2").exists());

    for (mode, level, code) in [(0o640, "warning", 0), (0o644, "problem", 1)] {
        fs::set_permissions(at("master.key"), fs::Permissions::from_mode(mode)).unwrap();
        let told = finding("master_key_open").unwrap();
        assert_eq!(told["level"], level, "{told}");
        assert!(told["advice"].as_str().unwrap().starts_with("chmod 600 "), "{told}");
        assert_eq!(place.run("doctor").code, code);
    }
    let fixed = place.run("doctor --fix --json").json();
    assert!(fixed["mended"]["done"][0].as_str().unwrap().starts_with("chmod 600 "), "{fixed:#}");
    assert_eq!(fs::metadata(at("master.key")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn serve_warns_of_a_key_that_others_can_read() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("key");
    fs::write(&file, KEY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let place = Workplace::new().with("TENANTRY_MASTER_KEY_FILE", file.to_str().unwrap());
    let (serve, mut log) = place.serve_with_log();
    let warning =
        format!("the master key in {0} is open to everybody on this machine: chmod 600 {0}", file.display());
    assert!(log.any(|line| line.contains(&warning)));
    assert_eq!(serve.terminate(), Some(0));
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
