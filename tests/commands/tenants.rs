//! Tenants and operators, managed from the command line beside a running `serve`.

use std::{fs, process::Command};

use serde_json::{Value, json};
use sqlx::Row as _;
use tenantry::embedded::{Cluster, Options};

use super::support::{Serve, Workplace};
use crate::support::{eventually, superuser_of};

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn an_operator_manages_tenants_beside_a_running_service() {
    let place = Workplace::new();
    let serve = place.serve();

    create_and_list(&place);
    let user = seed(&place, &serve).await;
    set_retention(&place);
    suspend_and_resume(&place, &serve, &user).await;
    close_and_restore(&place, &serve, &user).await;
    create_operators(&place).await;
    rotate_keys(&place, &serve).await;

    let error = place.run("serve");
    assert!(error.stderr.contains(&format!(" is in use by process {}: ", serve.pid())), "{error:?}");
    assert_eq!((error.code, error.stdout.as_str()), (1, ""));

    let postmaster = postmaster(&place).unwrap();
    assert!(is_running(&postmaster));
    assert_eq!(serve.terminate(), Some(0));
    assert!(!is_running(&postmaster), "PostgreSQL goes on without the service");

    // Now there is no service, and a command starts the database by itself.
    let tenants = place.run("tenant list --json").json();
    assert_eq!(tenants.as_array().unwrap().len(), 2);
    assert_eq!(self::postmaster(&place), None);
}

fn create_and_list(place: &Workplace) {
    assert_eq!(place.run("tenant list").ok(), "No tenants yet.\n");
    let line = "tenant create --name=Acme --owner-email=Ada.Lovelace+work@acme.example";
    let created = place.run_with(line, PASSWORD).ok();
    assert!(
        created.starts_with("Created the tenant acme.\n\n  Name   Acme\n  URL    http://acme.localhost:"),
        "{created}"
    );
    assert!(created.contains("\n  Owner  Ada.Lovelace <Ada.Lovelace+work@acme.example>\n"), "{created}");

    let taken = place.run_with("tenant create --name=Acme --slug=acme --owner-email=a@b.example", PASSWORD);
    assert_eq!(taken.failure(1), "error: the slug acme is taken\n");
    let line = "--json tenant create --name=Acme --owner-email=bob@acme.example --owner-username=bob";
    let second = place.run_with(line, PASSWORD).json();
    assert_eq!((&second["slug"], &second["owner"]["username"]), (&json!("acme-2"), &json!("bob")));

    let table = place.run("tenant list").ok();
    let slugs: Vec<_> = table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(slugs, ["SLUG", "acme-2", "acme"]);
    let found = place.run("tenant list --json --search=CME-2").json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["id"], second["id"]);
    assert_eq!(place.run("tenant list --status=suspended").ok(), "No such tenants.\n");
}

/// Seeds twice; one of the second lot, signed in.
async fn seed(place: &Workplace, serve: &Serve) -> String {
    let first = place.run("tenant seed acme --users 1022 --json").json();
    assert_eq!((&first["added"], &first["users"]), (&json!(1022), &json!(1023)));
    let second = place.run("tenant seed acme --users 2 --json").json();
    assert_eq!((&second["added"], &second["users"]), (&json!(2), &json!(1025)));
    assert_ne!(first["username"], second["username"]);

    let mut tokens = Vec::new();
    for seeded in [first, second] {
        let body = json!({"username": seeded["username"], "password": seeded["password"]});
        let login = serve.request("acme", "POST", "/api/login/").json(&body).expect(200).await;
        tokens.push(login["token"].as_str().unwrap().to_owned());
    }
    let token = tokens.pop().unwrap();
    let users = serve.request("acme", "GET", "/api/users/?page_size=1").bearer(&token).expect(200).await;
    assert_eq!(users["count"], 1025);

    let error = place.run("tenant seed nowhere").failure(1);
    assert_eq!(error, "error: there is no tenant `nowhere`\n");
    token
}

fn set_retention(place: &Workplace) {
    let set = place.run("tenant retention acme 30 --json").json();
    assert_eq!(set, json!({"slug": "acme", "activity_retention_days": 30}));
    let said = place.run("tenant retention acme 1").ok();
    assert_eq!(said, "What happened in acme is kept for 1 day. What is older is removed within the hour.\n");
    let error = place.run("tenant retention nowhere 30").failure(1);
    assert_eq!(error, "error: there is no tenant `nowhere`\n");
    for days in ["0", "36501", "-1", "year"] {
        let refused = place.run(&format!("tenant retention acme -- {days}")).failure(2);
        assert!(refused.contains(&format!("'{days}'")), "{refused}");
    }
}

async fn suspend_and_resume(place: &Workplace, serve: &Serve, token: &str) {
    let me = || serve.request("acme", "GET", "/api/current_user/").bearer(token).send();
    assert_eq!(me().await.status, 200);

    place.run("tenant suspend acme").ok();
    // The very next request, though the service was told nothing.
    let refused = me().await;
    assert_eq!((refused.status, &refused.problem()["code"]), (403, &json!("tenant_suspended")));
    let error = place.run("tenant seed acme").failure(1);
    assert_eq!(error, "error: the tenant `acme` is suspended\n");
    let suspended = place.run("tenant list --json --status=suspended").json();
    assert_eq!(suspended[0]["slug"], "acme");

    // A second time changes nothing.
    place.run("tenant suspend acme").ok();
    let resumed = place.run("tenant resume acme --json").json();
    assert_eq!(resumed, json!({"slug": "acme", "status": "active"}));
    eventually("the session goes on", async || me().await.status == 200).await;
    assert_eq!(place.run("tenant suspend nowhere").failure(1), "error: there is no tenant `nowhere`\n");
}

async fn close_and_restore(place: &Workplace, serve: &Serve, token: &str) {
    let me = || serve.request("acme", "GET", "/api/current_user/").bearer(token).send();
    assert_eq!(place.run("tenant restore nowhere").failure(1), "error: there is no tenant `nowhere`\n");
    let login = json!({"username": "Ada.Lovelace", "password": PASSWORD});
    let login = serve.request("acme", "POST", "/api/login/").json(&login).expect(200).await;
    let close = serve.request("acme", "DELETE", "/api/tenant/").bearer(login["token"].as_str().unwrap());
    close.json(&json!({"password": PASSWORD})).expect(204).await;
    assert_eq!(me().await.status, 404);
    let closed = place.run("tenant list --json --status=deleting").json();
    assert_eq!(closed[0]["slug"], "acme");
    let error = place.run("tenant resume acme").failure(1);
    assert_eq!(error, "error: the tenant `acme` is being deleted: `tenantry tenant restore acme` first\n");

    let restored = place.run("tenant restore acme").ok();
    assert_eq!(restored, "Restored acme: its users can work again, with the sessions they had.\n");
    eventually("the session goes on", async || me().await.status == 200).await;
}

async fn rotate_keys(place: &Workplace, serve: &Serve) {
    let published = async || {
        let keys = serve.request("acme", "GET", "/.well-known/jwks.json").expect(200).await;
        keys["keys"].as_array().unwrap().len()
    };
    assert_eq!(published().await, 1);
    let rotated = place.run("keys rotate --json").json();
    assert_eq!((&rotated["is_new"], &rotated["key"]["state"]), (&json!(true), &json!("next")));
    eventually("the service publishes the new key", async || published().await == 2).await;
    let again = place.run("keys rotate").ok();
    let kid = rotated["key"]["kid"].as_str().unwrap();
    let expected = format!("A rotation is under way already, with the key {kid}.\nIt is published now and ");
    assert!(again.starts_with(&expected), "{again}");

    let now = place.run("keys rotate --now").ok();
    assert!(now.starts_with("Made the key ") && now.contains(", which signs from now on.\n"), "{now}");
    let table = place.run("keys list").ok();
    let states = table.lines().map(|line| line.split_whitespace().nth(1).unwrap());
    assert_eq!(states.collect::<Vec<_>>(), ["STATE", "signing", "verifying"], "{table}");
    let list = place.run("keys list --json").json();
    assert_eq!(list[0]["verifies_until"], Value::Null);
    assert!(list[1]["verifies_until"].is_string() && list[0].get("wrapped_seed").is_none());
}

async fn create_operators(place: &Workplace) {
    let operator = place.run_with("operator create Ops@example.com --json", PASSWORD).json();
    assert_eq!(operator["email"], "Ops@example.com");
    assert!(operator["id"].as_str().is_some());
    assert!(operator["api_key"].as_str().unwrap().starts_with("tenantry_"), "{operator}");

    let cluster = Cluster::start_or_attach(&Options::new(place.data_dir())).await.unwrap();
    let mut superuser = superuser_of(&cluster.superuser_url("tenantry")).await;
    let key = sqlx::query(
        "SELECT email, email_key, scopes::text FROM tenantry.operators o \
         JOIN tenantry.api_keys k ON k.operator_id = o.id WHERE key_hash = sha256($1::text::bytea)",
    )
    .bind(operator["api_key"].as_str().unwrap())
    .fetch_one(&mut superuser)
    .await
    .unwrap();
    assert_eq!(key.get::<String, _>("email"), "Ops@example.com");
    assert_eq!(key.get::<String, _>("email_key"), "ops@example.com");
    assert_eq!(key.get::<String, _>("scopes"), r#"["read", "provision", "destroy"]"#);

    let error = place.run_with("operator create ops@EXAMPLE.com", PASSWORD).failure(1);
    assert_eq!(error, "error: there is an operator with this e-mail address already\n");
}

/// The process id of the PostgreSQL that runs, as the file says by which other commands find it.
fn postmaster(place: &Workplace) -> Option<String> {
    let connection = fs::read_to_string(place.data_dir().join("postgres/connection")).ok()?;
    let connection: Value = serde_json::from_str(&connection).unwrap();
    Some(connection["postmaster"].to_string())
}

/// A dead process counts as gone before whoever started it has noticed.
fn is_running(pid: &str) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}

#[tokio::test]
async fn who_lost_an_invitation_or_a_password_gets_another_one() {
    let place = Workplace::new();
    place.run("tenant create --name=Acme --owner-email=ada@acme.example --invite").ok();
    let invited = place.run("tenant invite-owner acme").ok();
    assert!(invited.starts_with("Invited ada@acme.example to own acme: the link works until "), "{invited}");
    let invited = place.run("tenant invite-owner acme --email ben@acme.example --json").json();
    assert_eq!(invited["email"], "ben@acme.example");
    let wrong = place.run("tenant invite-owner acme --email nobody").failure(2);
    assert!(wrong.contains("--email: Enter a valid email address."), "{wrong}");
    place.run_with("tenant create --name=Beta --owner-email=ada@beta.example", "correct horse battery").ok();
    let owned = place.run("tenant invite-owner beta").failure(1);
    assert_eq!(owned, "error: the tenant has an owner, who invites whom he wants\n");

    place.run_with("operator create ops@example.com", "correct horse battery").ok();
    let set = place.run_with("operator password OPS@example.com", "another horse battery").ok();
    assert!(set.starts_with("OPS@example.com has another password"), "{set}");
    let easy = place.run_with("operator password ops@example.com", "ops@example.com").failure(2);
    assert!(easy.contains("the password: "), "{easy}");
    let nobody = place.run_with("operator password who@example.com", "another horse battery").failure(1);
    assert_eq!(nobody, "error: there is no operator who@example.com\n");
    let serve = place.serve();
    let sign_in = async |password: &str| {
        let body = serde_json::json!({"email": "ops@example.com", "password": password});
        serve.service("POST", "/api/admin/login/").json(&body).send().await.status
    };
    assert_eq!([sign_in("correct horse battery").await, sign_in("another horse battery").await], [400, 200]);
}
