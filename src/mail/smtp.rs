//! The conversation with a mail server.
//!
//! lettre speaks the protocol. Its own pool is not used: it has no deadlines but for connecting, and takes a connection
//! back on which an answer is still to come, which the next mail would take for its own.

use std::{
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, Certificate, TlsParameters},
    commands::{Data, Mail, Rcpt},
    extension::ClientId,
};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{Failure, message::Rendered};
use crate::{config::SmtpUrl, telemetry::Chain};

/// How long the steps of a conversation may take. RFC 5321 would wait for minutes; a mail that is waited for so long is
/// better tried again, and all steps together have to end before the job's deadline does.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To connect, encrypt, be greeted and introduce oneself.
    pub connect: Duration,
    /// For the answer to a command.
    pub command: Duration,
    /// For the answer to the whole message: the server may look at it closely before it takes it.
    pub message: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            command: Duration::from_secs(10),
            message: Duration::from_secs(40),
        }
    }
}

/// What is not in the URL.
#[derive(Clone, Debug, Default)]
pub struct SmtpOptions {
    /// Certificates to trust beside the system's.
    pub trusted: Vec<Certificate>,
    /// How long the steps may take.
    pub deadlines: Deadlines,
}

/// How long a server is given for the answer to our leave. It has taken all that we had for it.
const LEAVE: Duration = Duration::from_secs(1);
/// Servers close an idle connection after some minutes, some after half of one.
const IDLE: Duration = Duration::from_secs(20);
/// How many mails go over one connection: some servers count, and refuse the hundredth.
const MAILS_PER_CONNECTION: u32 = 50;
/// What a server says of us, not of the mail: a bad sequence of commands, or that we have to sign in (RFC 4954).
const ABOUT_US: [u16; 6] = [502, 503, 530, 534, 535, 538];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// STARTTLS where the server has it.
    Opportunistic,
    /// STARTTLS, or nothing.
    Required,
    /// TLS from the first byte on.
    Implicit,
}

/// A mail server.
pub(super) struct Smtp {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    hello: ClientId,
    options: SmtpOptions,
    tls: OnceLock<TlsParameters>,
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Smtp({}:{}, {:?})", self.host, self.port, self.security)
    }
}

/// A connection on which nothing is under way.
struct Idle {
    connection: AsyncSmtpConnection,
    sent: u32,
    since: Instant,
}

impl Smtp {
    pub(super) fn new(url: &SmtpUrl, domain: &str, options: SmtpOptions) -> Result<Self, url::ParseError> {
        let url = Url::parse(url.expose())?;
        let security = match (url.scheme(), url.query()) {
            ("smtps", _) => Security::Implicit,
            (_, Some("tls=required")) => Security::Required,
            _ => Security::Opportunistic,
        };
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err(url::ParseError::EmptyHost),
        };
        // Those of RFC 8314 for submission, and of RFC 5321 for a server that is on this machine.
        let port = url.port().unwrap_or(match security {
            Security::Implicit => 465,
            Security::Required => 587,
            Security::Opportunistic => 25,
        });
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty())
            .then(|| Credentials::new(decoded(url.username()), decoded(url.password().unwrap_or_default())));
        let hello = ClientId::Domain(domain.to_owned());
        let (tls, idle) = (OnceLock::new(), Mutex::default());
        Ok(Self { host, port, security, credentials, hello, options, tls, idle })
    }

    /// Hands a message over.
    pub(super) async fn send(&self, mail: &Rendered) -> Result<(), Failure> {
        let (mut connection, sent) = match self.idle_connection().await {
            Some(idle) => (idle.connection, idle.sent),
            None => (self.connect().await?, 0),
        };
        // On any failure the connection is dropped: what it is at, nobody knows.
        self.converse(&mut connection, mail).await?;
        if sent + 1 < MAILS_PER_CONNECTION {
            let idle = Idle { connection, sent: sent + 1, since: Instant::now() };
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        } else {
            self.quit(connection).await;
        }
        Ok(())
    }

    async fn converse(&self, connection: &mut AsyncSmtpConnection, mail: &Rendered) -> Result<(), Failure> {
        let Deadlines { command, message, .. } = self.options.deadlines;
        let sender = Mail::new(mail.envelope.from().cloned(), Vec::new());
        // What is wrong with the sender is wrong with every mail, and for the operator to repair: no mail is given up for it.
        within(command, "the sender", connection.command(sender)).await.map_err(Refusal::retry)?;
        for recipient in mail.envelope.to() {
            let recipient = Rcpt::new(recipient.clone(), Vec::new());
            within(command, "the recipient", connection.command(recipient)).await.map_err(Refusal::judge)?;
        }
        within(command, "the message", connection.command(Data)).await.map_err(Refusal::judge)?;
        within(message, "the message", connection.message(&mail.bytes)).await.map_err(Refusal::judge)?;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let Deadlines { connect, command, .. } = self.options.deadlines;
        let tls = if self.security == Security::Implicit { Some(self.tls()?) } else { None };
        let server = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, Some(connect), &self.hello, tls, None);
        let mut connection = within(connect, "the connection", connecting).await.map_err(Refusal::retry)?;
        let wanted = match self.security {
            Security::Implicit => false,
            Security::Required => true,
            Security::Opportunistic => connection.can_starttls(),
        };
        if wanted {
            let encrypting = connection.starttls(self.tls()?, &self.hello);
            within(connect, "encryption", encrypting).await.map_err(Refusal::retry)?;
        }
        if let Some(credentials) = &self.credentials {
            let signing_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials);
            within(command, "the login", signing_in).await.map_err(Refusal::retry)?;
        }
        Ok(connection)
    }

    /// Made when they are first needed: reading the system's certificates takes longer than most commands.
    fn tls(&self) -> Result<TlsParameters, Failure> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let trusted = self.options.trusted.iter().cloned();
        let builder = trusted.fold(TlsParameters::builder(self.host.clone()), |builder, certificate| {
            builder.add_root_certificate(certificate)
        });
        let tls = builder.build_rustls().map_err(|error| Failure::retry(Chain(&error)))?;
        Ok(self.tls.get_or_init(|| tls).clone())
    }

    /// One that still answers.
    async fn idle_connection(&self) -> Option<Idle> {
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let answers = async { idle.since.elapsed() < IDLE && idle.connection.test_connected().await };
            if tokio::time::timeout(self.options.deadlines.command, answers).await == Ok(true) {
                return Some(idle);
            }
        }
    }

    /// Takes leave, as servers like it. How they answer makes no difference.
    async fn quit(&self, mut connection: AsyncSmtpConnection) {
        tokio::time::timeout(LEAVE, connection.quit()).await.ok();
    }

    /// Takes leave of the server on all connections that are idle.
    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        futures_util::future::join_all(idle.into_iter().map(|idle| self.quit(idle.connection))).await;
    }
}

/// That a step failed.
struct Refusal {
    about: &'static str,
    error: Option<Error>,
}

async fn within<T>(
    deadline: Duration,
    about: &'static str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout(deadline, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Refusal { about, error: Some(error) }),
        Err(_) => Err(Refusal { about, error: None }),
    }
}

/// What stands between what was tried and what the server said of it.
const SAID: &str = ": the mail server said ";

/// What the log may have of the error of a mail: without the words of the server, which most often repeat the recipient's
/// address. The codes are told: those of RFC 5321 and, where the server gives them, RFC 3463. Other numbers may be anything, a
/// mailbox or somebody's IP.
pub(crate) fn without_words(error: &str) -> &str {
    let Some((_, reply)) = error.split_once(SAID) else { return error };
    let mut words = reply.split_inclusive(' ');
    let code = words.next().filter(|word| is_number(word.trim_end(), 3..=3)).map_or(0, str::len);
    let enhanced = words.next().filter(|word| code > 0 && is_enhanced(word.trim_end())).map_or(0, str::len);
    error[..error.len() - reply.len() + code + enhanced].trim_end()
}

fn is_number(word: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    digits.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is a code of RFC 3463: a class, a subject, a detail.
fn is_enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    matches!(parts[..], ["2" | "4" | "5", subject, detail] if is_number(subject, 1..=3) && is_number(detail, 1..=3))
}

impl Refusal {
    /// For a step that may go well another time, whatever was said.
    fn retry(self) -> Failure {
        Failure::retry(self)
    }

    /// For a step that is about this mail: a 5xx is the last word.
    fn judge(self) -> Failure {
        let code = self.error.as_ref().and_then(Error::status).map(u16::from);
        match code {
            Some(code) if code >= 500 && !ABOUT_US.contains(&code) => Failure::refused(self),
            _ => Failure::retry(self),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, error } = self;
        match error {
            None => write!(f, "{about}: the mail server did not answer in time"),
            Some(error) => match error.status() {
                Some(code) => {
                    let said = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                    write!(f, "{about}{SAID}{code} {said}")
                }
                None => write!(f, "{about}: {}", Chain(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_codes_of_a_reply_and_none_of_its_words() {
        for (error, told) in [
            (
                "the recipient: the mail server said 550 5.1.1 <ada@acme.example>: unknown",
                "the recipient: the mail server said 550 5.1.1",
            ),
            (
                "the recipient: the mail server said 450 ada@acme.example is busy",
                "the recipient: the mail server said 450",
            ),
            (
                "the recipient: the mail server said 550 4917012345678 <4917012345678@sms.example>",
                "the recipient: the mail server said 550",
            ),
            (
                "the session: the mail server said 550 203.0.113.9 is blocked",
                "the session: the mail server said 550",
            ),
            ("the session: the mail server said 550 5.1.1234 no", "the session: the mail server said 550"),
            ("the session: the mail server said 550 3.1.1 no", "the session: the mail server said 550"),
            ("the recipient: the mail server said 550 ", "the recipient: the mail server said 550"),
            (
                "the sender: the mail server did not answer in time",
                "the sender: the mail server did not answer in time",
            ),
        ] {
            assert_eq!(without_words(error), told);
        }
    }
}
