//! Mails in a day.

use std::time::Duration;

use serde_json::json;
use tenantry::mail::Mail;

use super::{Operator, execute, number};
use crate::support::{Organization, TestApp};

async fn invite(organization: &Organization, email: &str) {
    organization.owner.request("POST", "/api/invitations/").json(&json!({"email": email})).expect(201).await;
}

async fn forget(app: &TestApp, organization: &Organization) {
    let body = json!({"email": format!("owner@{}.example", organization.slug)});
    app.request("POST", "/api/password/forget/").host(&organization.host(app)).json(&body).expect(200).await;
}

/// To whom mails went out.
async fn sent(app: &TestApp) -> Vec<String> {
    app.mails().await.into_iter().map(|letter| letter.to.email).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_a_day_goes_out_on_the_next() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let (acme, beta) = (app.sign_up_quietly("acme").await, app.sign_up_quietly("beta").await);
    ops.limit(&app, &acme, json!({"mails_per_day": 2})).await;
    for n in 0..4 {
        invite(&acme, &format!("new{n}@example.com")).await;
    }
    invite(&beta, "other@example.com").await;
    let first = sent(&app).await;
    assert_eq!(first.iter().filter(|to| to.starts_with("new")).count(), 2, "{first:?}");
    assert_eq!(first.len(), 3, "the neighbour's goes out: {first:?}");
    let put_off = "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued' AND due_since = run_at \
                   AND run_at > '2026-01-03T00:00:00Z' AND run_at <= '2026-01-03T01:00:00Z' \
                   AND error = 'put off: the organization has sent all the mails it may send in a day'";
    assert_eq!(number(&app, put_off).await, 2);

    // Who cannot get in does not wait.
    forget(&app, &acme).await;
    let reset = app.mails().await;
    assert!(matches!(&reset[..], [letter] if matches!(letter.mail, Mail::ResetPassword { .. })), "{reset:?}");

    app.clock.advance(Duration::from_hours(20));
    assert_eq!(sent(&app).await, [""; 0], "it is the same day yet");
    app.clock.advance(Duration::from_hours(2));
    let second = sent(&app).await;
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(first.iter().all(|to| !second.contains(to)), "{first:?} {second:?}");
    let days = ops.get(&app, &format!("{}usage/", super::tenant(&acme))).await;
    let mails =
        [&days["results"][0], &days["results"][1]].map(|day| (day["day"].clone(), day["mails"].clone()));
    assert_eq!(mails, [(json!("2026-01-03"), json!(2)), (json!("2026-01-02"), json!(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_off_goes_out_as_soon_as_it_may() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let (acme, beta) = (app.sign_up_quietly("acme").await, app.sign_up_quietly("beta").await);
    let limit = json!({"mails_per_day": 0});
    for organization in [&acme, &beta] {
        ops.limit(&app, organization, limit.clone()).await;
    }
    for n in 0..3 {
        invite(&acme, &format!("new{n}@example.com")).await;
    }
    invite(&beta, "other@example.com").await;
    assert_eq!(sent(&app).await, [""; 0]);

    // Another limit than that of mails changes nothing of them.
    ops.limit(&app, &acme, json!({"burst": 9, "requests_per_second": 9})).await;
    let put_off =
        "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued' AND run_at > '2026-01-03T00:00:00Z'";
    assert_eq!(number(&app, put_off).await, 4);
    ops.limit(&app, &acme, json!({"mails_per_day": 1})).await;
    let raised = sent(&app).await;
    assert!(
        matches!(&raised[..], [to] if to.starts_with("new")),
        "one more, and not the neighbour's: {raised:?}"
    );
    assert_eq!(number(&app, put_off).await, 3, "what is too much still waits again");
    ops.limit(&app, &acme, json!({"mails_per_day": null})).await;
    assert_eq!(sent(&app).await.len(), 2, "lifted");

    // A plan says it for all who have it.
    let plan = json!({"name": "pro", "limits": limit});
    ops.request(&app, "POST", super::PLANS).json(&plan).expect(201).await;
    ops.set(&app, &beta, &json!({"limits": {"mails_per_day": null}, "plan": "pro"})).await;
    assert_eq!(sent(&app).await, [""; 0], "the plan allows none either");
    let more = json!({"limits": {"mails_per_day": 5}});
    ops.request(&app, "PATCH", "/api/admin/plans/pro/").json(&more).expect(200).await;
    assert_eq!(sent(&app).await, ["other@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_of_everybody_put_off_goes_out_once_it_is_gone() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up_quietly("acme").await;
    let plan = json!({"name": "default", "limits": {"mails_per_day": 0}});
    ops.request(&app, "POST", super::PLANS).json(&plan).expect(201).await;
    invite(&acme, "new@example.com").await;
    assert_eq!(sent(&app).await, [""; 0]);
    ops.request(&app, "DELETE", "/api/admin/plans/default/").expect(204).await;
    assert_eq!(sent(&app).await, ["new@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_a_door_has_a_hundred_more_and_goes_first() {
    let app = TestApp::start().await;
    let ops = Operator::of(&app).await;
    let acme = app.sign_up_quietly("acme").await;
    ops.limit(&app, &acme, json!({"mails_per_day": 0})).await;
    invite(&acme, "new@example.com").await;
    assert_eq!(sent(&app).await, [""; 0]);
    let used = |mails: u32| {
        format!(
            "INSERT INTO tenantry.tenant_usage (tenant_id, day, mails) VALUES ('{}', '2026-01-02', {mails}) \
             ON CONFLICT (tenant_id, day) DO UPDATE SET mails = {mails}",
            acme.id
        )
    };
    execute(&app, &used(99)).await;
    forget(&app, &acme).await;
    assert_eq!(sent(&app).await, ["owner@acme.example"]);
    forget(&app, &acme).await;
    assert_eq!(sent(&app).await, [""; 0], "the hundred are used up");
    let first =
        "SELECT count(*) FROM tenantry.jobs WHERE status = 'queued' AND run_at = '2026-01-03T00:00:00Z'";
    assert_eq!(number(&app, first).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_out_does_not_count() {
    let app = TestApp::start().await;
    let acme = app.sign_up_quietly("acme").await;
    invite(&acme, "new@example.com").await;
    // It expires before it is sent.
    app.clock.advance(Duration::from_hours(24 * 8));
    assert_eq!(sent(&app).await, [""; 0]);
    assert_eq!(number(&app, "SELECT count(*) FROM tenantry.tenant_usage WHERE mails > 0").await, 0);
    let parked = "SELECT count(*) FROM tenantry.jobs WHERE status = 'parked'";
    assert_eq!(number(&app, parked).await, 1);
}
