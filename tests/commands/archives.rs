//! Archives, from the command line.

use serde_json::{Value, json};

use super::support::Workplace;

#[tokio::test]
async fn a_tenant_is_exported_imported_cloned_and_restored_by_commands() {
    let place = Workplace::new().with("TENANTRY_ARCHIVE_MAX_MIB", "1");
    let create = "tenant create --name Acme --slug acme --owner-email ada@acme.example";
    place.run_with(create, "forty tin accordions").ok();

    let file = place.data_dir().with_file_name("acme.tenantry");
    let export = format!("tenant export acme --to {}", file.display());
    let said = place.run(&export).ok();
    assert!(said.starts_with("Exported acme: ") && said.contains("sealed, not encrypted"), "{said}");
    assert!(place.run(&export).failure(1).contains("is there already"));
    assert_eq!(place.run("archive list --json").json(), json!([]));
    let kept = place.run("tenant export acme --json").json();
    let archive = kept["result"]["archive"].as_str().unwrap().to_owned();
    assert_eq!(kept["status"], "succeeded");
    assert_eq!(place.run("archive list --json").json()[0]["name"], Value::String(archive.clone()));

    let import =
        |from: &str, slug: &str| place.run(&format!("tenant import {from} --slug {slug} --name Copy"));
    let said = import(&file.display().to_string(), "copy-a").ok();
    assert!(said.contains("None of its mails goes out until `tenantry tenant resume copy-a`."), "{said}");
    assert!(import(&archive, "copy-b").ok().starts_with("Made copy-b: "));
    assert!(import(&archive, "acme").failure(1).contains("the slug acme is taken"));
    assert!(import("none.tenantry", "copy-c").failure(1).contains("there is no archive none.tenantry"));
    assert!(place.run("tenant clone acme --slug copy-d --name Clone").ok().starts_with("Made copy-d: "));
    assert_eq!(place.run("archive list --json").json().as_array().unwrap().len(), 1, "files come and go");

    // Nothing is copied that cannot be an archive.
    let junk = file.with_file_name("junk");
    std::fs::write(&junk, "PK and so on and on").unwrap();
    for (junk, says) in [
        ("/dev/zero".to_owned(), "it is no regular file"),
        (place.data_dir().display().to_string(), "it is no regular file"),
        (junk.display().to_string(), "this is no archive of a tenant"),
    ] {
        let refused = import(&junk, "junk").failure(1);
        assert!(refused.contains(says), "{junk}: {refused}");
    }
    let padded = file.with_file_name("padded.tenantry");
    std::fs::write(&padded, [std::fs::read(&file).unwrap(), vec![0; 2 << 20]].concat()).unwrap();
    let refused = import(&padded.display().to_string(), "junk").failure(1);
    assert!(refused.contains("it is longer than 1 MiB"), "{refused}");
    let store: Vec<_> = place.data_dir().join("exports").read_dir().unwrap().collect();
    assert_eq!(store.len(), 1, "the archive that was exported: {store:?}");
    let other = format!("tenant restore-from {archive} --into copy-a --yes");
    assert!(place.run(&other).failure(1).contains("of another tenant, acme"));
    assert!(place.run(&format!("{other} --other-tenant")).ok().starts_with("Restored copy-a: "));
    place.run("tenant delete copy-a-2 --yes").ok();

    let restore = format!("tenant restore-from {archive} --into acme");
    assert!(place.run(&restore).failure(1).contains("--yes"));
    let said = place.run(&format!("{restore} --yes")).ok();
    assert!(said.contains("`tenantry tenant delete acme-2 --yes`"), "{said}");
    let tenants = place.run("tenant list --json").json();
    let slugs = |status: &str| {
        let tenants = tenants.as_array().unwrap().iter().filter(|tenant| tenant["status"] == status);
        let mut slugs: Vec<_> = tenants.map(|tenant| tenant["slug"].as_str().unwrap().to_owned()).collect();
        slugs.sort();
        slugs
    };
    assert_eq!(slugs("suspended"), ["acme-2"]);
    assert_eq!(slugs("active"), ["acme", "copy-a", "copy-b", "copy-d"]);

    place.run("export-schedule set --every 24 --keep 7").ok();
    place.run("export-schedule set --tenant acme --every 0 --keep 1").ok();
    let set = place.run("export-schedule list --json").json();
    let shown: Vec<_> = set.as_array().unwrap().iter().map(|it| (&it["slug"], &it["every_hours"])).collect();
    assert_eq!(shown, [(&Value::Null, &json!(24)), (&json!("acme"), &json!(0))]);
    place.run("export-schedule remove").ok();
    assert!(place.run("export-schedule remove").failure(1).contains("there is no such schedule"));
    assert!(place.run(&format!("archive delete {archive}")).failure(1).contains("--yes"));
    place.run(&format!("archive delete {archive} --yes")).ok();
    assert_eq!(place.run("archive list --json").json(), json!([]));
}
