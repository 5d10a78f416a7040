//! Writing figures down in the text that Prometheus reads.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use tenants::TimingFigures;

/// What tells one figure of a family from the others.
pub(super) type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// A figure: what it is of, and its value.
pub(super) type Sample<'a, V> = (Labels<'a>, V);

/// Labels of these names and values.
macro_rules! labels {
    ($($name:ident: $value:expr),* $(,)?) => {
        vec![$((stringify!($name), std::borrow::Cow::from($value))),*]
    };
}
pub(super) use labels;

/// What is written to. Each family is written once, with all its figures.
pub(super) struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    pub(super) fn to(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// What only grows; its name is read with `_total` behind it.
    pub(super) fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'l, f64>>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, samples, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// What goes up and down.
    pub(super) fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'l, f64>>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples, |mut metric, value| metric.encode_gauge(&value))
    }

    /// How long things took.
    pub(super) fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample<'l, TimingFigures>>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, samples, |mut metric, time: TimingFigures| {
            let (sum, buckets) = (time.total().as_secs_f64(), time.buckets());
            metric.encode_histogram::<NoLabelSet>(sum, time.count(), &buckets, None)
        })
    }

    fn family<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = Sample<'l, V>>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                return write(metric, value);
            }
            write(metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

/// The one figure of a family that has no others.
pub(super) fn only(value: f64) -> [Sample<'static, f64>; 1] {
    [(Vec::new(), value)]
}

/// As [`only`], where it is known.
pub(super) fn known(value: Option<f64>) -> impl Iterator<Item = Sample<'static, f64>> {
    value.map(|value| (Vec::new(), value)).into_iter()
}

/// A number as Prometheus has them: exact up to 2⁵³.
pub(super) trait Figure {
    fn figure(self) -> f64;
}

macro_rules! figures {
    ($($type:ty),*) => {
        $(impl Figure for $type {
            #[expect(clippy::cast_precision_loss, reason = "Prometheus keeps nothing but doubles")]
            fn figure(self) -> f64 {
                self as f64
            }
        })*
    };
}

figures!(u64, i64, usize);
