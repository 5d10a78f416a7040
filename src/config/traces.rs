//! Where traces go, and which. What OpenTelemetry's own variables say counts where ours say nothing: whoever runs many
//! services sets those for all of them.

use percent_encoding::percent_decode_str;
use poem::http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{error::Wrong, settings, source::Source, value};

/// Variables of the OpenTelemetry specification, and the settings of ours that they stand for.
/// <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>
pub(super) const STANDARD: [(&str, &settings::Setting); 4] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", &settings::OTLP_ENDPOINT),
    ("OTEL_EXPORTER_OTLP_HEADERS", &settings::OTLP_HEADERS),
    ("OTEL_SERVICE_NAME", &settings::SERVICE_NAME),
    ("OTEL_TRACES_SAMPLER_ARG", &settings::TRACE_RATIO),
];
/// Which says that all is traced, or nothing, whatever its argument.
pub(super) const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

/// The share that a sampler of this name takes, if that is all it says.
pub(super) fn ratio_of_sampler(name: &str) -> Option<&'static str> {
    match name {
        "always_on" | "parentbased_always_on" => Some("1"),
        "always_off" | "parentbased_always_off" => Some("0"),
        _ => None,
    }
}

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Where they are posted to.
    pub url: Url,
    /// What the collector wants to be told.
    headers: SecretString,
    /// Which share of what happens is traced.
    pub ratio: f64,
    /// What the service is called among others.
    pub service: String,
}

impl Traces {
    /// `None` if nothing is to be traced, or if what was said is wrong, which is noted.
    pub(super) fn read(source: &mut Source) -> Option<Self> {
        let endpoint = source.read(&settings::OTLP_ENDPOINT, value::web_url);
        let headers = source.read(&settings::OTLP_HEADERS, |text| {
            parse_headers(text)?;
            Ok(SecretString::from(text))
        });
        let ratio = source.read(&settings::TRACE_RATIO, parse_ratio);
        let service = source.read(&settings::SERVICE_NAME, |text| Ok(text.to_owned()));
        let url = format!("{}/v1/traces", endpoint?.as_str().trim_end_matches('/'));
        let (ratio, service) = (ratio?, service?);
        let headers = headers.unwrap_or_default();
        Some(Self { url: Url::parse(&url).ok()?, headers, ratio, service })
    }

    /// What the collector wants to be told.
    #[must_use]
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        parse_headers(self.headers.expose_secret()).unwrap_or_default()
    }
}

fn parse_ratio(text: &str) -> Result<f64, Wrong> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| Wrong::new("is no share", "give a number from 0 to 1, such as 0.05"))
}

fn parse_headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Wrong> {
    let wrong = || {
        Wrong::new("is no list of headers", "give name=value, separated by commas, values percent-encoded")
    };
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let (name, value) = item.split_once('=').ok_or_else(wrong)?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok((name.trim().parse().map_err(|_| wrong())?, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_name_and_value() {
        let headers = parse_headers("authorization=Bearer%20abc, x-team = a ,").unwrap();
        assert_eq!(headers[0].0, "authorization");
        assert_eq!(headers[0].1, "Bearer abc");
        assert_eq!((headers[1].0.as_str(), headers.len()), ("x-team", 2));
        assert!(!format!("{headers:?}").contains("abc"));
        for wrong in ["abc", "a b=c", "a=%0d%0ab", "a=%ff"] {
            assert!(parse_headers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_from_none_to_all() {
        assert_eq!(parse_ratio("0.25"), Ok(0.25));
        for wrong in ["", "2", "-0.1", "NaN", "10%"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
