//! A mail server: small, but one that speaks the protocol over TCP and TLS as RFC 5321, 3207 and 4954 have it, holds its
//! clients to the order of commands, and does what a test wants of it in between.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use data_encoding::BASE64;
use mail_parser::{Message, MessageParser};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// What a client may have to do first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Nothing.
    #[default]
    None,
    /// STARTTLS.
    StartTls,
    /// TLS from the first byte on.
    Implicit,
}

/// Where in a conversation a server is about to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the connection.
    Greeting,
    /// To AUTH.
    Auth,
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To the whole message.
    Message,
    /// To QUIT.
    Quit,
}

/// What it does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// What the client hopes for.
    Accept,
    /// It answers this instead.
    Say(&'static str),
    /// It does not answer.
    Stall,
    /// It hangs up.
    Close,
    /// It takes the message and does not say so.
    TakeAndStall,
    /// It takes the message and hangs up before it says so.
    TakeAndClose,
}

pub(crate) type Script = dyn Fn(Step, &str) -> Act + Send + Sync;

/// How a server differs from one that takes all mails from everybody.
#[derive(Clone, Default)]
pub(crate) struct SmtpSetup {
    pub(crate) encryption: Encryption,
    pub(crate) credentials: Option<(&'static str, &'static str)>,
    pub(crate) login_only: bool,
    pub(crate) script: Option<Arc<Script>>,
}

impl SmtpSetup {
    /// With what it does at a step; for the last two, of a mail to this address.
    pub(crate) fn script(self, script: impl Fn(Step, &str) -> Act + Send + Sync + 'static) -> Self {
        Self { script: Some(Arc::new(script)), ..self }
    }
}

/// A message it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    /// The message, parsed.
    pub(crate) fn message(&self) -> Message<'_> {
        MessageParser::default().parse(&self.bytes).unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.message().message_id().unwrap().to_owned()
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    commands: Vec<String>,
    connections: usize,
}

/// A running server. It ends when this is dropped, with all its connections.
pub(crate) struct SmtpServer {
    pub(crate) address: SocketAddr,
    /// The certificate it shows: its own, which nobody trusts unasked. In DER.
    pub(crate) certificate: Vec<u8>,
    setup: SmtpSetup,
    tls: TlsAcceptor,
    seen: Arc<Mutex<Seen>>,
    running: AbortHandle,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl SmtpServer {
    /// One that takes all mails.
    pub(crate) async fn start() -> Self {
        Self::with(SmtpSetup::default()).await
    }

    pub(crate) async fn with(setup: SmtpSetup) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let (seen, certificate) = (Arc::default(), certificate.to_vec());
        let (address, running) = listen("127.0.0.1:0".parse().unwrap(), &setup, &tls, &seen).await;
        Self { address, certificate, setup, tls, seen, running }
    }

    /// Goes away: nobody listens, and all connections break.
    pub(crate) fn go_away(&self) {
        self.running.abort();
    }

    /// Is back, where it was.
    pub(crate) async fn come_back(&mut self) {
        (self.address, self.running) = listen(self.address, &self.setup, &self.tls, &self.seen).await;
    }

    /// Its URL, with this before the host (`user:password@`) and this behind the port.
    pub(crate) fn url(&self, credentials: &str, query: &str) -> String {
        let (scheme, host) = match self.setup.encryption {
            Encryption::None => ("smtp", "127.0.0.1"),
            Encryption::StartTls => ("smtp", "localhost"),
            Encryption::Implicit => ("smtps", "localhost"),
        };
        format!("{scheme}://{credentials}{host}:{}{query}", self.address.port())
    }

    /// The messages it took.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.seen.lock().unwrap().received.clone()
    }

    /// To whom it took messages, sorted.
    pub(crate) fn recipients(&self) -> Vec<String> {
        let mut recipients: Vec<_> = self.received().into_iter().map(|it| it.to).collect();
        recipients.sort();
        recipients
    }

    /// The commands it got, without what is secret or belongs to one mail.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.seen.lock().unwrap().commands.clone()
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

async fn listen(
    address: SocketAddr,
    setup: &SmtpSetup,
    tls: &TlsAcceptor,
    seen: &Arc<Mutex<Seen>>,
) -> (SocketAddr, AbortHandle) {
    // Whoever has just gone away may not be gone yet.
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let address = listener.local_addr().unwrap();
    let (setup, tls, seen) = (setup.clone(), tls.clone(), Arc::clone(seen));
    let running = tokio::spawn(async move {
        // Dropped with the loop, and all connections with it.
        let mut conversations = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            seen.lock().unwrap().connections += 1;
            let session = Session { setup: setup.clone(), seen: Arc::clone(&seen), ..Session::default() };
            conversations.spawn(serve(stream, session, tls.clone()));
        }
    });
    (address, running.abort_handle())
}

async fn serve(stream: TcpStream, mut session: Session, tls: TlsAcceptor) {
    if session.setup.encryption == Encryption::Implicit {
        session.is_encrypted = true;
        // A client that does not trust us is gone; so below.
        let Ok(stream) = tls.accept(stream).await else { return };
        session.converse(stream, true).await;
        return;
    }
    if let Some(stream) = session.converse(stream, true).await {
        let Ok(stream) = tls.accept(stream).await else { return };
        session.is_encrypted = true;
        session.converse(stream, false).await;
    }
}

#[derive(Default)]
struct Session {
    setup: SmtpSetup,
    seen: Arc<Mutex<Seen>>,
    is_encrypted: bool,
    is_signed_in: bool,
    from: Option<String>,
    to: Option<String>,
}

/// What to answer; `None` to hang up.
type Answer = Option<String>;

impl Session {
    /// Talks until the end; gives the stream back where it is to be encrypted.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: S, greets: bool) -> Option<S> {
        let mut stream = BufReader::new(stream);
        if greets {
            let greeting = self.act(Step::Greeting, "", "220 mail.test ESMTP").await?;
            send(&mut stream, &greeting).await?;
        }
        loop {
            let line = read_line(&mut stream).await?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let command = if verb == "AUTH" { line[..line.len().min(10)].trim_end() } else { &line };
            self.seen.lock().unwrap().commands.push(command.to_owned());
            let answer = match verb.as_str() {
                "EHLO" => self.ehlo(),
                "NOOP" | "RSET" => "250 ok".to_owned(),
                "STARTTLS" if self.setup.encryption == Encryption::StartTls && !self.is_encrypted => {
                    send(&mut stream, "220 go ahead").await?;
                    return Some(stream.into_inner());
                }
                "AUTH" => self.auth(&line, &mut stream).await?,
                "MAIL" => self.mail(&line).await?,
                "RCPT" => self.rcpt(&line).await?,
                "DATA" => match (self.from.take(), self.to.take()) {
                    (Some(from), Some(to)) => {
                        send(&mut stream, "354 end with a dot").await?;
                        let bytes = read_message(&mut stream).await?;
                        self.take(Received { from, to, bytes }).await?
                    }
                    _ => "503 bad sequence".to_owned(),
                },
                "QUIT" => {
                    let leave = self.act(Step::Quit, "", "221 bye").await?;
                    send(&mut stream, &leave).await;
                    return None;
                }
                _ => "500 unknown command".to_owned(),
            };
            send(&mut stream, &answer).await?;
        }
    }

    fn ehlo(&self) -> String {
        let mut lines = vec!["mail.test".to_owned()];
        if self.setup.encryption == Encryption::StartTls && !self.is_encrypted {
            lines.push("STARTTLS".to_owned());
        } else if self.setup.credentials.is_some() {
            lines.push(if self.setup.login_only { "AUTH LOGIN" } else { "AUTH PLAIN LOGIN" }.to_owned());
        }
        let last = lines.len() - 1;
        let lines = lines
            .iter()
            .enumerate()
            .map(|(n, line)| format!("250{}{line}", if n == last { ' ' } else { '-' }));
        lines.collect::<Vec<_>>().join("\r\n")
    }

    async fn auth<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &str,
        stream: &mut BufReader<S>,
    ) -> Answer {
        let decoded = |text: &str| String::from_utf8(BASE64.decode(text.as_bytes()).unwrap()).unwrap();
        let given = if let Some(plain) = line.strip_prefix("AUTH PLAIN ") {
            let decoded = decoded(plain);
            let mut parts = decoded.split('\0').skip(1).map(str::to_owned);
            (parts.next()?, parts.next()?)
        } else {
            let mut answers = Vec::new();
            for question in ["Username:", "Password:"] {
                send(stream, &format!("334 {}", BASE64.encode(question.as_bytes()))).await?;
                answers.push(decoded(&read_line(stream).await?));
            }
            (answers.remove(0), answers.remove(0))
        };
        let expected = self.setup.credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        self.is_signed_in = Some(given) == expected;
        let usual = if self.is_signed_in { "235 welcome" } else { "535 5.7.8 wrong credentials" };
        self.act(Step::Auth, "", usual).await
    }

    async fn mail(&mut self, line: &str) -> Answer {
        if self.setup.encryption != Encryption::None && !self.is_encrypted {
            return Some("530 5.7.0 Must issue a STARTTLS command first".to_owned());
        }
        if self.setup.credentials.is_some() && !self.is_signed_in {
            return Some("530 5.7.0 Authentication required".to_owned());
        }
        self.from = address(line);
        self.act(Step::Mail, "", "250 ok").await
    }

    async fn rcpt(&mut self, line: &str) -> Answer {
        if self.from.is_none() {
            return Some("503 bad sequence".to_owned());
        }
        let to = address(line)?;
        let answer = self.act(Step::Rcpt, &to, "250 ok").await;
        if answer.as_deref() == Some("250 ok") {
            self.to = Some(to);
        }
        answer
    }

    async fn take(&self, received: Received) -> Answer {
        let to = received.to.clone();
        let script = self.setup.script.as_ref();
        let act = script.map_or(Act::Accept, |script| script(Step::Message, &to));
        if matches!(act, Act::Accept | Act::TakeAndStall | Act::TakeAndClose) {
            self.seen.lock().unwrap().received.push(received);
        }
        perform(act, "250 taken").await
    }

    async fn act(&self, step: Step, to: &str, usual: &str) -> Answer {
        let act = self.setup.script.as_ref().map_or(Act::Accept, |script| script(step, to));
        perform(act, usual).await
    }
}

async fn perform(act: Act, usual: &str) -> Answer {
    match act {
        Act::Accept => Some(usual.to_owned()),
        Act::Say(answer) => Some(answer.to_owned()),
        Act::Close | Act::TakeAndClose => None,
        Act::Stall | Act::TakeAndStall => std::future::pending().await,
    }
}

fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, line: &str) -> Option<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Up to the line that is one dot; of others that begin with one, the first is stuffing.
async fn read_message<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok().filter(|read| *read > 0)?;
        assert!(line.ends_with(b"\r\n"), "a line ends in CR LF");
        if line == b".\r\n" {
            return Some(message);
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
