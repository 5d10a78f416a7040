//! Lines for programs: a flat JSON object each, whose members have the same names whatever wrote them.
//!
//! The JSON of `tracing-subscriber` nests what spans say, so that the id of a request stands elsewhere in each line, and
//! parses it again at every line. Here spans keep their members as text, and a line is put together of them.

use std::{
    error::Error,
    fmt::{self, Write},
};

use tracing::{
    Event, Subscriber,
    field::{Field, FieldSet, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, FormatFields, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::Chain;
use crate::printable::is_unsafe;

/// The members that every line has by itself. No field takes the place of one.
const OWN: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Writes an event with what its spans say, the innermost first. What is said twice is said by whoever is nearer.
pub(super) struct FlatJson;

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\",\"target\":\"{}\"", metadata.level(), metadata.target())?;
        let mut members = Members { writer: writer.by_ref(), first: false, result: Ok(()) };
        event.record(&mut members);
        members.result?;
        let mut said: Vec<&FieldSet> = vec![metadata.fields()];
        for span in context.event_scope().into_iter().flatten() {
            let fields = span.metadata().fields();
            let extensions = span.extensions();
            let Some(text) = extensions.get::<FormattedFields<N>>().filter(|text| !text.is_empty()) else {
                continue;
            };
            let is_said = |name: &str| said.iter().any(|fields| fields.field(name).is_some());
            if fields.iter().any(|field| is_said(field.name())) {
                write_others(&mut writer, &text.fields, is_said)?;
            } else {
                write!(writer, ",{}", text.fields)?;
            }
            said.push(fields);
        }
        writer.write_str("}\n")
    }
}

/// Writes those members that nobody said before. Rare: spans seldom say the same as what is within them.
fn write_others(writer: &mut Writer<'_>, members: &str, is_said: impl Fn(&str) -> bool) -> fmt::Result {
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&format!("{{{members}}}")).unwrap_or_default();
    for (name, value) in members.iter().filter(|(name, _)| !is_said(name)) {
        write!(writer, ",\"{name}\":{value}")?;
    }
    Ok(())
}

/// Keeps what a span says as members of an object that has yet to be written.
pub(super) struct JsonMembers;

impl<'a> FormatFields<'a> for JsonMembers {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut members = Members { writer, first: true, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }

    fn add_fields(
        &self,
        current: &'a mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let first = current.fields.is_empty();
        let mut members = Members { writer: current.as_writer(), first, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }
}

/// Writes fields as members.
pub(super) struct Members<'a> {
    writer: Writer<'a>,
    first: bool,
    result: fmt::Result,
}

impl Members<'_> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = field.name();
        // Metadata of the `log` crate; the line has it already.
        if self.result.is_err() || name.starts_with("log.") {
            return;
        }
        let comma = if std::mem::take(&mut self.first) { "" } else { "," };
        let clash = if name != "message" && OWN.contains(&name) { "_" } else { "" };
        let written = write!(self.writer, "{comma}\"{name}{clash}\":");
        self.result = written.and_then(|()| value(&mut self.writer));
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            JsonText(writer).write_fmt(text)?;
            writer.write_char('"')
        });
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.member(field, |writer| write!(writer, "{value}"));
    }
}

impl Visit for Members<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.plain(field, value) } else { self.plain(field, "null") }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// Writes text within a string of JSON. Beside what JSON demands, whatever could play with the terminal of somebody who looks
/// at the raw lines is spelled out.
struct JsonText<'a, W>(&'a mut W);

impl<W: Write> Write for JsonText<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|it: char| it == '"' || it == '\\' || is_unsafe(it)) {
            let (safe, tail) = rest.split_at(at);
            self.0.write_str(safe)?;
            let mut characters = tail.chars();
            match characters.next() {
                Some(character @ ('"' | '\\')) => write!(self.0, "\\{character}")?,
                Some('\n') => self.0.write_str("\\n")?,
                Some('\r') => self.0.write_str("\\r")?,
                Some('\t') => self.0.write_str("\\t")?,
                // All of these are in the first plane, so one number tells them.
                Some(character) => write!(self.0, "\\u{:04x}", u32::from(character))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_when_it_is_read_again() {
        for text in
            ["", "Acme \"KG\" \\o/", "a\nb\r\tc\u{1b}[2Jd\u{7f}\u{9b}e\u{2028}f\u{202e}g\0", "株式会社 🚀"]
        {
            let mut json = String::new();
            write!(JsonText(&mut json), "{text}").unwrap();
            assert!(!json.contains(is_unsafe), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&format!("\"{json}\"")).unwrap(), text);
        }
    }
}
