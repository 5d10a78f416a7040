//! `/dev/mail`: the mails that were written instead of sent, for whoever develops on this machine.
//!
//! The links in them are secrets of other people's accounts. So the pages are there in development only, and only for a
//! browser on this machine that names it by a local name: another site's page, whose name somebody has pointed here, gets
//! the 404 that everybody gets elsewhere.

use std::{fmt::Write as _, io, net::IpAddr, path::Path, sync::Arc};

use data_encoding::BASE64;
use mail_parser::{Address, Message, MessageParser};
use poem::{
    Addr, Endpoint, Request, Response, Result,
    http::{
        Method,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
};
use sha2::{Digest as _, Sha256};

use super::{files, templates::Escaped};
use crate::http::{
    Problem, Routes,
    host::{self, Host},
    routes::{Access, RouteError},
};

/// Where the list is.
pub const PATH: &str = "/dev/mail";
/// How many mails the list shows: the newest.
const SHOWN: usize = 200;
const STYLE: &str = include_str!("development.css");

/// Adds `/dev/mail` over the mails in this directory.
///
/// # Errors
/// The paths are taken.
pub fn mount(routes: Routes, directory: &Path) -> Result<Routes, RouteError> {
    let directory: Arc<Path> = directory.into();
    let page = |show| Page { directory: Arc::clone(&directory), show };
    let routes = routes.mount(PATH, &[Method::GET], Access::PUBLIC, page(Show::List))?;
    let routes = routes.mount("/dev/mail/{name}", &[Method::GET], Access::PUBLIC, page(Show::Mail))?;
    routes.mount("/dev/mail/{name}/html", &[Method::GET], Access::PUBLIC, page(Show::Html))
}

#[derive(Clone, Copy)]
enum Show {
    List,
    Mail,
    /// The mail's own HTML, for the frame in its page.
    Html,
}

struct Page {
    directory: Arc<Path>,
    show: Show,
}

impl Endpoint for Page {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        if !is_local(&request) {
            return Err(Problem::not_found().into());
        }
        let name = request.uri().path().split('/').nth(3).unwrap_or_default().to_owned();
        let (directory, show) = (self.directory.to_path_buf(), self.show);
        let page = tokio::task::spawn_blocking(move || page(&directory, &name, show));
        let page = page.await.map_err(io::Error::other).flatten().map_err(Problem::internal)?;
        let (html, policy) = page.ok_or_else(Problem::not_found)?;
        Ok(Response::builder()
            .header(CONTENT_TYPE, "text/html; charset=utf-8")
            .header(CONTENT_SECURITY_POLICY, policy)
            .body(html))
    }
}

/// Whether a browser on this machine asks, by a name of this machine. What a proxy has passed on comes from elsewhere.
fn is_local(request: &Request) -> bool {
    let peer = match request.remote_addr().0 {
        Addr::SocketAddr(peer) => peer.ip().to_canonical().is_loopback(),
        _ => false,
    };
    let host = match host::of(request).map(|authority| authority.host) {
        Ok(Host::Name(name)) => name == "localhost" || name.ends_with(".localhost"),
        Ok(Host::Ip(ip)) => IpAddr::is_loopback(&ip),
        Err(_) => false,
    };
    let passed_on = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
    peer && host && passed_on.iter().all(|header| !request.headers().contains_key(*header))
}

/// A page and its security policy; `None` if there is no such mail.
fn page(directory: &Path, name: &str, show: Show) -> io::Result<Option<(String, String)>> {
    match show {
        Show::List => list(directory).map(Some),
        Show::Mail | Show::Html => {
            let Some(bytes) = files::read(directory, name)? else { return Ok(None) };
            let Some(mail) = MessageParser::default().parse(&bytes) else { return Ok(None) };
            Ok(Some(if matches!(show, Show::Html) { body(&mail) } else { one(name, &mail) }))
        }
    }
}

fn list(directory: &Path) -> io::Result<(String, String)> {
    let mut html = String::from("<h1>Mails</h1>\n");
    let names = files::newest(directory, SHOWN)?;
    if names.is_empty() {
        html.push_str("<p>None yet. Reload the page after something that sends one.</p>\n");
    } else {
        html.push_str("<table>\n<tr><td>When</td><td>To</td><td>Subject</td></tr>\n");
    }
    for name in &names {
        let bytes = files::read(directory, name)?.unwrap_or_default();
        let mail = MessageParser::default().parse_headers(&bytes).unwrap_or_default();
        let when = mail.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default();
        let [when, to, subject] = [when, addresses(mail.to()), subject(&mail)];
        let [when, to, subject] = [&when, &to, &subject].map(|text| Escaped(text));
        // Writing to a string cannot fail; so below.
        let _ = writeln!(
            html,
            "<tr><td>{when}</td><td>{to}</td><td><a href=\"{PATH}/{name}\">{subject}</a></td></tr>"
        );
    }
    if !names.is_empty() {
        html.push_str("</table>\n");
    }
    let _ = writeln!(
        html,
        "<p>In development mails are written to <code>{}</code> and not sent.</p>",
        Escaped(&directory.display().to_string())
    );
    Ok(framed("Mails", &html))
}

fn one(name: &str, mail: &Message<'_>) -> (String, String) {
    let subject = subject(mail);
    let mut html =
        format!("<p><a href=\"{PATH}\">All mails</a></p>\n<h1>{}</h1>\n<table>\n", Escaped(&subject));
    let when = mail.date().map(mail_parser::DateTime::to_rfc3339).unwrap_or_default();
    for (label, value) in
        [("From", addresses(mail.from())), ("To", addresses(mail.to())), ("Date", when), ("Id", id(mail))]
    {
        let _ = writeln!(html, "<tr><th>{label}</th><td>{}</td></tr>", Escaped(&value));
    }
    let text = mail.body_text(0).unwrap_or_default();
    let _ = write!(
        html,
        "</table>\n<h2>HTML</h2>\n<iframe title=\"The mail as HTML\" src=\"{PATH}/{name}/html\" \
         sandbox=\"allow-popups allow-popups-to-escape-sandbox\"></iframe>\n<h2>Text</h2>\n<pre>{}</pre>\n",
        Linked(&text)
    );
    framed(&subject, &html)
}

/// A mail's own HTML. It runs nothing and loads nothing; its links open beside it.
fn body(mail: &Message<'_>) -> (String, String) {
    let html =
        mail.body_html(0).unwrap_or_default().replacen("<head>", "<head>\n<base target=\"_blank\">", 1);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox";
    (html, policy.to_owned())
}

fn framed(title: &str, body: &str) -> (String, String) {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        Escaped(title)
    );
    let style = BASE64.encode(&Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; frame-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    (html, policy)
}

fn subject(mail: &Message<'_>) -> String {
    mail.subject().unwrap_or("(no subject)").to_owned()
}

fn id(mail: &Message<'_>) -> String {
    mail.message_id().unwrap_or_default().to_owned()
}

fn addresses(of: Option<&Address<'_>>) -> String {
    let addresses = of.into_iter().flat_map(|address| address.iter());
    let shown = addresses.map(|it| match (it.name(), it.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (_, address) => address.unwrap_or_default().to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Text whose web addresses can be clicked on.
struct Linked<'a>(&'a str);

impl std::fmt::Display for Linked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for word in self.0.split_inclusive(char::is_whitespace) {
            let url = word.trim_end();
            if url.starts_with("http://") || url.starts_with("https://") {
                let after = Escaped(&word[url.len()..]);
                let url = Escaped(url);
                write!(f, "<a href=\"{url}\" target=\"_blank\" rel=\"noopener\">{url}</a>{after}")?;
            } else {
                write!(f, "{}", Escaped(word))?;
            }
        }
        Ok(())
    }
}
