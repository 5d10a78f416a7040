//! The pages as they are served, without a browser.

use crate::support::{Options, TestApp};

const PAGES: [&str; 4] = ["verify", "accept", "reset", "email"];

/// The values of an attribute.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_plain_html_that_runs_nothing_inline() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for page in PAGES {
        let get = |method| app.request(method, &format!("/account/{page}?token=x")).host(&acme.host(&app));
        let answer = get("GET").send().await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text);
        for (header, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(answer.header(header), value, "{page}: {header}");
        }
        let html = &answer.text;
        for inline in ["<style", " style=", " onclick", " onload", "javascript:", "http:", "https:"] {
            assert!(!html.contains(inline), "{page}: {inline}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script src=").count(), "{page}");
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{page}");
        assert!(html.contains("<noscript><p>This page needs JavaScript"), "{page}");
        assert!(!html.contains("token=x"), "{page}: what is in the address is in no page");
        // Every field has a label, and a place for what is wrong with it that it names.
        let names =
            attributes(html, "name").into_iter().filter(|name| !["viewport", "robots"].contains(name));
        for name in names {
            assert!(html.contains(&format!("<label for=\"{name}\">")), "{page}: {name}");
            assert!(html.contains(&format!("id=\"{name}-wrong\"")), "{page}: {name}");
            let described = attributes(html, "aria-describedby").join(" ");
            assert!(described.split(' ').any(|id| id == format!("{name}-wrong")), "{page}: {name}");
        }
        for id in attributes(html, "aria-describedby").iter().flat_map(|ids| ids.split(' ')) {
            assert!(html.contains(&format!("id=\"{id}\"")), "{page}: {id}");
        }

        let head = get("HEAD").send().await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
        assert_eq!(head.header("content-length"), html.len().to_string());
        let options = get("OPTIONS").send().await;
        assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"));
        assert_eq!(get("POST").send().await.said(), (405, "method_not_allowed".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_is_made_of_is_kept_for_ever_under_a_name_of_its_own() {
    let app = TestApp::start().await;
    let host = app.sign_up("acme").await.host(&app);
    let page = app.request("GET", "/account/email").host(&host).send().await.text;
    let links = attributes(&page, "href").into_iter().chain(attributes(&page, "src"));
    let files: Vec<&str> = links.filter(|link| link.starts_with('/')).collect();
    assert_eq!(files.len(), 2, "{page}");
    for (file, media_type) in
        files.into_iter().zip(["text/css; charset=utf-8", "text/javascript; charset=utf-8"])
    {
        let answer = app.request("GET", file).host(&host).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{file}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_on_the_hosts_of_tenants_only() {
    let app = TestApp::start().await;
    app.sign_up("acme").await;
    for page in PAGES {
        let path = format!("/account/{page}");
        assert_eq!(app.request("GET", &path).send().await.said(), (400, "tenant_required".into()));
        let nobody = app.request("GET", &path).host("nobody.localhost").send().await;
        assert_eq!(nobody.said(), (404, "tenant_not_found".into()));
    }
    app.app.tenancy.set_suspended(&"acme".parse().unwrap(), true).await.unwrap();
    let suspended = app.request("GET", "/account/reset").host("acme.localhost").send().await;
    assert_eq!(suspended.said(), (403, "tenant_suspended".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_front_end_links_lead_there_and_the_pages_are_gone() {
    for (frontend, start) in [
        ("https://app.example.com", "https://app.example.com/account/"),
        ("https://example.com/app/", "https://example.com/app/account/"),
    ] {
        let frontend_url = Some(frontend.parse().unwrap());
        let app = TestApp::with(Options { frontend_url, ..Options::default() }).await;
        let acme = app.sign_up("acme").await;
        let link = app.app.site.account_link(&"acme".parse().unwrap(), "reset", "T-_0");
        assert_eq!(link, format!("{start}reset?tenant=acme&token=T-_0"));
        for page in PAGES {
            let answer = app.request("GET", &format!("/account/{page}")).host(&acme.host(&app)).send().await;
            assert_eq!(answer.said(), (404, "not_found".into()), "{page}");
        }
    }
}
