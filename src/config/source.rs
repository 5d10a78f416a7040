//! Where settings come from: the file and the environment, laid over each other.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem, Wrong};
use super::settings::{Fallback, MAIL_FROM, SETTINGS, Setting, TRACE_RATIO};
use super::traces;

/// What was set, as text, and what is wrong with it.
pub(super) struct Source {
    values: HashMap<&'static str, (String, Origin)>,
    pub(super) problems: Vec<Problem>,
}

impl Source {
    /// Reads the file, then lays the environment over it.
    pub(super) fn new(
        file: Option<(&Path, &str)>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut source = Self { values: HashMap::new(), problems: Vec::new() };
        if let Some((path, text)) = file {
            source.add_file(path, text);
        }
        // Ours last: they count more than those that are meant for every program.
        let environment: Vec<_> = environment.collect();
        source.add_standard(&environment);
        for (name, value) in &environment {
            source.add_variable(name, value);
        }
        source
    }

    /// The value of a setting, or of its default; `None`, if there is none or it is wrong, which is noted.
    pub(super) fn read<T>(
        &mut self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (text, origin) = match (self.values.get(setting.key), setting.default) {
            (Some((text, origin)), _) => (text.as_str(), origin.clone()),
            (None, Fallback::Value(text)) => (text, Origin::Unset),
            (None, Fallback::Unset(_)) => return None,
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(Wrong { is, right }) => {
                let wrong = format!("{} {is}", shown(setting, text));
                self.problems.push(Problem::new(setting, &origin, wrong, right));
                None
            }
        }
    }

    /// Where each setting that was set comes from.
    pub(super) fn origins(&self) -> HashMap<&'static str, Origin> {
        self.values.iter().map(|(key, (_, origin))| (*key, origin.clone())).collect()
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let origin_at = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: Some(1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()),
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                // Only its message: the error itself shows the line, which may hold a secret.
                self.problems.push(Problem {
                    setting: "the file".to_owned(),
                    origin: origin_at(error.span().map_or(0, |span| span.start)),
                    wrong: format!("is not TOML: {}", error.message()),
                    right: "write each setting as name = \"value\"".to_owned(),
                });
                return;
            }
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let origin = origin_at(key.span().start);
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key.get_ref()) else {
                let near = nearest(key.get_ref()).map(|setting| setting.key.to_owned());
                self.problems.push(unknown(key.get_ref(), origin, near));
                continue;
            };
            match text_of(value.get_ref()) {
                Ok(text) => {
                    self.values.insert(setting.key, (text, origin));
                }
                Err(Wrong { is, right }) => {
                    self.problems.push(Problem::new(setting, &origin, format!("the value {is}"), right));
                }
            }
        }
    }

    /// Takes the variables in by which OpenTelemetry is set up everywhere.
    fn add_standard(&mut self, environment: &[(OsString, OsString)]) {
        let set = |name: &str| {
            let (_, value) = environment.iter().find(|(known, _)| known == name)?;
            value.to_str().filter(|value| !value.is_empty())
        };
        for (name, setting) in traces::STANDARD {
            if let Some(value) = set(name) {
                self.values.insert(setting.key, (value.to_owned(), Origin::Environment));
            }
        }
        if let Some(ratio) = set(traces::SAMPLER).and_then(traces::ratio_of_sampler) {
            self.values.insert(TRACE_RATIO.key, (ratio.to_owned(), Origin::Environment));
        }
    }

    /// Takes a variable in, if it is one of ours. An empty one counts as not set, since that is how tools such as Compose
    /// pass on what is not set.
    fn add_variable(&mut self, name: &OsStr, value: &OsStr) {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TENANTRY_")) else { return };
        if value.is_empty() || is_service_link(name, value) {
            return;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            let near = nearest(name).map(Setting::variable);
            return self.problems.push(unknown(name, Origin::Environment, near));
        };
        let Some(value) = value.to_str() else {
            let problem =
                Problem::new(setting, &Origin::Environment, "the value is not UTF-8", "give UTF-8 text");
            return self.problems.push(problem);
        };
        self.values.insert(setting.key, (value.to_owned(), Origin::Environment));
    }
}

/// Kubernetes gives every container variables about the services beside it: with one called `tenantry`, they begin like
/// ours. <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_address = value
        .to_str()
        .is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)));
    let of_a_port = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol));
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_address)
        || (name.contains("_PORT_") && of_a_port)
}

/// The setting whose name is most like an unknown one, if any is near.
fn nearest(name: &str) -> Option<&'static Setting> {
    let name = name.to_lowercase();
    let name = name.strip_prefix("tenantry_").unwrap_or(&name);
    SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(setting.key, name), *setting))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, setting)| setting)
}

fn unknown(name: &str, origin: Origin, near: Option<String>) -> Problem {
    let right = near.map_or_else(
        || "`tenantry serve --help` lists the settings".to_owned(),
        |near| format!("did you mean {near}?"),
    );
    Problem { setting: name.to_owned(), origin, wrong: "there is no such setting".to_owned(), right }
}

/// A value of TOML in the form the environment would have it.
fn text_of(value: &DeValue<'_>) -> Result<String, Wrong> {
    let refused = |kind: &str| Err(Wrong::new(format!("is {kind}"), "give a text in quotes"));
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .or_else(|_| refused("too large a number")),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            let Some(texts) = texts else { return refused("a list of something else than texts") };
            Ok(texts.join(","))
        }
        DeValue::Boolean(true) => refused("true, without quotes"),
        DeValue::Boolean(false) => refused("false, without quotes"),
        DeValue::Table(_) => refused("a table"),
        DeValue::Float(_) => refused("a fraction"),
        DeValue::Datetime(_) => refused("a date"),
    }
}

/// The value, if it may be shown: no secret, and nothing that may be a URL with credentials, wherever it strayed to.
fn shown(setting: &Setting, text: &str) -> String {
    let may_hold_credentials = text.contains('@') && setting.key != MAIL_FROM.key;
    if setting.secret || may_hold_credentials {
        return "the value".to_owned();
    }
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}
