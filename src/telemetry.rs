//! Logs: what is written, in which form, and that nobody can forge a line of it.

mod json;
pub mod traces;
mod writer;

use std::error::Error;
use std::fmt::{self, Write};
use std::io;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::{MakeVisitor, VisitFmt, VisitOutput};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as layer};

use self::json::{FlatJson, JsonMembers};
use self::traces::Tracing;
pub(crate) use self::writer::lost_lines;
pub use self::writer::{Log, tell_of_lost_lines};
use crate::printable::{EscapingWriter, wants_colors};

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Pretty,
    /// A JSON object per line.
    Json,
}

/// Libraries that would log each statement, connection and frame.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,sea_orm=warn,sea_orm_migration=warn,sqlx=warn";

/// Reads the filter of `TENANTRY_LOG`, in the syntax of [`EnvFilter`]. What libraries log about their work stays quiet
/// unless the filter names them: `debug,sqlx=debug`. What traces are made of is let through where it is wanted; no line has
/// any of it.
///
/// # Errors
/// If it is not a filter.
pub fn filter(directives: &str, traces: bool) -> Result<EnvFilter, ParseError> {
    let traces = if traces { "info" } else { "off" };
    EnvFilter::builder().parse(format!("{QUIET},{directives},{}={traces}", traces::TARGET))
}

/// Starts tracing, where that is wanted, and logging to standard error; standard output belongs to what the commands print.
/// Where the process `serves`, nobody waits for who reads the log: it is to be kept until the end.
///
/// # Errors
/// If the process logs already.
pub fn init(
    filter: EnvFilter,
    format: LogFormat,
    traces: Option<&Tracing>,
    serves: bool,
) -> Result<Option<Log>, TryInitError> {
    let traces = traces.map(|traces| {
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer()).with_location(false);
        let spans =
            spans.with_threads(false).with_tracked_inactivity(false).with_target(false).with_level(false);
        spans.with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == traces::TARGET))
    });
    let (writer, log) = if serves {
        let (lines, lost, log) = Log::to(io::stderr());
        writer::count_lost(lost);
        (BoxMakeWriter::new(lines), Some(log))
    } else {
        (BoxMakeWriter::new(io::stderr), None)
    };
    subscriber(filter, format, wants_colors(&io::stderr()), writer).with(traces).try_init()?;
    Ok(log)
}

fn subscriber<W>(
    filter: EnvFilter,
    format: LogFormat,
    colors: bool,
    writer: W,
) -> impl Subscriber + Send + Sync + for<'a> LookupSpan<'a>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines: Box<dyn Layer<Layered<EnvFilter, Registry>> + Send + Sync> = match format {
        LogFormat::Pretty => {
            let lines = layer::layer().fmt_fields(OneLine).with_ansi(colors).with_writer(writer);
            Box::new(lines.with_filter(filter_fn(is_no_trace)))
        }
        LogFormat::Json => {
            let lines = layer::layer().fmt_fields(JsonMembers).event_format(FlatJson).with_writer(writer);
            Box::new(lines.with_filter(filter_fn(is_no_trace)))
        }
    };
    // The level is asked for once for all layers: a filter of a layer's own keeps what it said of the last question in the thread, and a library that asks
    // whether it may log, and then does not (sqlx does, with each statement), has the next line dropped, whosever it is.
    tracing_subscriber::registry().with(filter).with(lines)
}

/// What traces are made of is in no line.
fn is_no_trace(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.target() != traces::TARGET
}

/// Writes the fields of events and spans on one line, whatever is in them.
///
/// The formatter of `tracing-subscriber` passes line breaks in messages and `%` fields through, so that a user could write
/// lines of the log; this one spells every control character out. JSON does so by itself.
struct OneLine;

impl<'a> MakeVisitor<Writer<'a>> for OneLine {
    type Visitor = OneLineVisitor<'a>;

    fn make_visitor(&self, writer: Writer<'a>) -> Self::Visitor {
        OneLineVisitor { writer, empty: true, result: Ok(()) }
    }
}

struct OneLineVisitor<'a> {
    writer: Writer<'a>,
    empty: bool,
    result: fmt::Result,
}

impl OneLineVisitor<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        // Metadata of the `log` crate; the formatter has shown it already.
        if field.name().starts_with("log.") {
            return Ok(());
        }
        if !std::mem::take(&mut self.empty) {
            self.writer.write_char(' ')?;
        }
        let (dim, plain) = if self.writer.has_ansi_escapes() { ("\u{1b}[2m", "\u{1b}[0m") } else { ("", "") };
        if field.name() != "message" {
            write!(self.writer, "{dim}{}={plain}", field.name())?;
        }
        EscapingWriter(&mut self.writer).write_fmt(value)
    }

    fn record(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.write(field, value);
        }
    }
}

impl Visit for OneLineVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record(field, format_args!("{value}"));
        } else {
            self.record(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format_args!("{value:?}"));
    }
}

impl VisitOutput<fmt::Result> for OneLineVisitor<'_> {
    fn finish(self) -> fmt::Result {
        self.result
    }
}

impl VisitFmt for OneLineVisitor<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        &mut self.writer
    }
}

/// Shows an error and its causes: `cannot start: connection refused`.
///
/// Many libraries put the text of the cause into their own: what has been said is not said again.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut error = self.0;
        while let Some(cause) = error.source() {
            let said = cause.to_string();
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            error = cause;
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn logged(directives: &str, format: LogFormat, events: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Lines(lines.clone());
        let subscriber =
            subscriber(filter(directives, false).unwrap(), format, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(lines.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot send to {0}")]
    struct CannotSend(String, #[source] io::Error);

    fn forgeries() {
        let forged = "Acme\n2030-01-02T12:00:00Z ERROR all is lost\u{1b}[2J";
        let error = CannotSend(forged.to_owned(), io::Error::other("no\r\nroute"));
        let span = tracing::info_span!("request", path = %forged);
        let _entered = span.enter();
        tracing::info!(display = %forged, debug = ?forged, text = forged, error = &error as &dyn Error, "{forged}");
    }

    #[test]
    fn an_event_is_one_line_whatever_users_write() {
        for format in [LogFormat::Pretty, LogFormat::Json] {
            let lines = logged("info", format, forgeries);
            assert_eq!(lines.matches(['\n', '\r']).count(), 1, "{lines}");
            assert!(lines.ends_with('\n') && !lines.contains('\u{1b}'), "{lines:?}");
        }
    }

    #[test]
    fn a_line_for_people_tells_span_message_fields_and_causes() {
        let line = logged("info", LogFormat::Pretty, || {
            let _entered = tracing::info_span!("request", id = 7).entered();
            let error = CannotSend("a@b.c".to_owned(), io::Error::other("no route"));
            tracing::warn!(attempt = 2, to = "a b", error = &error as &dyn Error, "mail not sent");
        });
        let (_time, rest) = line.split_once(' ').unwrap();
        insta::assert_snapshot!(rest.trim(), @r#"WARN request{id=7}: tenantry::telemetry::tests: mail not sent attempt=2 to="a b" error=cannot send to a@b.c: no route"#);
    }

    #[test]
    fn a_line_for_programs_is_a_json_object() {
        let line = logged("info", LogFormat::Json, || {
            let request =
                tracing::info_span!("request", id = 7, tenant = tracing::field::Empty, method = "GET");
            let _entered = request.enter();
            request.record("tenant", "acme");
            let _inner = tracing::info_span!("job", job = true, method = "none").entered();
            let error = CannotSend("a \"b\"".to_owned(), io::Error::other("no\nroute"));
            tracing::info!(
                count = -3,
                ratio = 0.5,
                level = 1,
                error = &error as &dyn Error,
                "done: {}",
                "x\ty"
            );
        });
        let mut line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let time = line["timestamp"].take();
        assert!(chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let expected = serde_json::json!({
            "timestamp": null, "level": "INFO", "target": "tenantry::telemetry::tests", "message": "done: x\ty",
            "count": -3, "ratio": 0.5, "level_": 1, "error": "cannot send to a \"b\": no\nroute",
            "job": true, "method": "none", "id": 7, "tenant": "acme",
        });
        assert_eq!(line, expected, "what spans say is in one place, and who is nearer says it");
    }

    #[test]
    fn statements_are_logged_only_for_those_who_name_the_library() {
        let events = || {
            tracing::debug!(target: "sqlx::query", "SELECT 1");
            tracing::debug!(target: "tenantry", "ready");
        };
        assert_eq!(logged("debug", LogFormat::Pretty, events).lines().count(), 1);
        assert_eq!(logged("debug,sqlx=debug", LogFormat::Pretty, events).lines().count(), 2);
        assert_eq!(logged("info", LogFormat::Pretty, events), "");
    }

    #[test]
    fn a_cause_that_is_part_of_the_text_is_not_told_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start: {0}")]
        struct CannotStart(#[source] CannotSend);

        let error = CannotStart(CannotSend("a@b.c".to_owned(), io::Error::other("no route")));
        assert_eq!(Chain(&error).to_string(), "cannot start: cannot send to a@b.c: no route");
    }

    #[test]
    fn nonsense_is_no_filter() {
        assert!(filter("tenantry=loud", false).is_err());
    }
}
