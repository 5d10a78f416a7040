//! A real browser, where one is installed.

use std::{env, path::PathBuf, time::Duration};

use chromiumoxide::{Browser, BrowserConfig, Page, handler::viewport::Viewport};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::eventually;

/// A headless Chromium with a profile of its own.
pub(super) struct Chromium {
    browser: Browser,
    events: JoinHandle<()>,
    _profile: TempDir,
}

/// The program: `CHROME`, or what is found in `PATH`.
fn program() -> Option<PathBuf> {
    const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    if let Some(program) = env::var_os("CHROME") {
        return Some(program.into());
    }
    let path = env::var_os("PATH")?;
    let directories: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut programs =
        NAMES.iter().flat_map(|name| directories.iter().map(move |directory| directory.join(name)));
    programs.find(|program| program.is_file())
}

impl Chromium {
    /// Starts it; `None`, with a word on standard error, where there is none.
    #[expect(clippy::print_stderr, reason = "a test that could not look says so")]
    pub(super) async fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!(
                "no Chromium was found in CHROME or PATH: the account pages were not tried in a browser"
            );
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let config = BrowserConfig::builder()
            .chrome_executable(program)
            .user_data_dir(profile.path())
            // A root user has no sandbox, and what is opened is our own.
            .no_sandbox()
            .arg("--disable-dev-shm-usage")
            .viewport(Viewport { width: 360, height: 740, ..Viewport::default() })
            .launch_timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        let (browser, mut handler) = Browser::launch(config).await.unwrap();
        let events = tokio::spawn(async move { while handler.next().await.is_some() {} });
        Some(Self { browser, events, _profile: profile })
    }

    /// Opens a page and waits for its script.
    pub(super) async fn open(&self, url: &str) -> Tab {
        let tab = Tab(self.browser.new_page(url).await.unwrap());
        tab.until("document.readyState === 'complete'").await;
        tab
    }

    pub(super) async fn close(mut self) {
        self.browser.close().await.unwrap();
        self.browser.wait().await.unwrap();
        self.events.abort();
    }
}

/// A page that is open.
pub(super) struct Tab(Page);

impl Tab {
    /// What an expression is on the page.
    pub(super) async fn text(&self, expression: &str) -> String {
        let value = self.0.evaluate(format!("String({expression})")).await.unwrap();
        value.into_value().unwrap()
    }

    pub(super) async fn is(&self, expression: &str) -> bool {
        self.text(expression).await == "true"
    }

    pub(super) async fn until(&self, expression: &str) {
        eventually(expression, async || self.is(expression).await).await;
    }

    /// Types into a field as a person does, in place of what is there.
    pub(super) async fn fill(&self, id: &str, text: &str) {
        self.is(&format!("document.getElementById('{id}').value = ''")).await;
        let field = self.0.find_element(format!("#{id}")).await.unwrap();
        field.click().await.unwrap().type_str(text).await.unwrap();
    }

    pub(super) async fn click(&self, selector: &str) {
        self.0.find_element(selector).await.unwrap().click().await.unwrap();
    }

    /// Presses a key in the field that has the focus.
    pub(super) async fn press(&self, id: &str, key: &str) {
        self.0.find_element(format!("#{id}")).await.unwrap().press_key(key).await.unwrap();
    }

    pub(super) async fn reload(&self) {
        self.0.reload().await.unwrap();
    }

    /// A click on the button, and what the page says then above the fields.
    pub(super) async fn refused(&self) -> String {
        self.click("button").await;
        self.until(
            "!document.querySelector('button').disabled && !document.getElementById('problem').hidden",
        )
        .await;
        assert!(self.is("document.activeElement.id === 'problem'").await, "it is read out");
        self.text("document.getElementById('problem').innerText").await
    }

    /// A click on the button, and the heading of what the page says is done.
    pub(super) async fn done(&self) -> String {
        self.click("button").await;
        self.until("!document.getElementById('done').hidden").await;
        assert!(self.is("document.activeElement.id === 'done'").await, "it is read out");
        assert!(self.is("document.getElementById('form').hidden").await);
        self.text("document.querySelector('#done h2').innerText").await
    }

    /// Whether the page is as it should be before anything is done: in its style, as wide as a phone, without its token.
    pub(super) async fn looks_right(&self) {
        assert_eq!(self.text("getComputedStyle(document.querySelector('main')).maxWidth").await, "448px");
        assert!(self.is("document.documentElement.scrollWidth <= window.innerWidth").await);
        assert_eq!(self.text("location.search + location.hash").await, "");
        self.until("!document.getElementById('form').hidden && !document.querySelector('button').disabled")
            .await;
    }
}
