//! Traces: what was done for a request or a job, how long each part of it took, told to an OpenTelemetry collector.
//!
//! Spans for traces are of a target of their own, [`TARGET`], which the log never shows and nothing else is sent of: so what is
//! told here is decided where the span is made, and while nobody collects, making one costs a look at a flag.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};

use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Tracer},
};
use poem::http::{HeaderMap, Method, Request, Response};
use tokio::runtime::Handle;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::Chain;
use crate::config::Traces;

/// The target of spans that are for traces; crate `tenants` writes it, too.
pub const TARGET: &str = "trace";

/// How many spans wait to be sent at most; those beyond are dropped. Some megabytes.
const QUEUE: usize = 2_048;
/// How many are sent at once.
const BATCH: usize = 512;
/// How long they wait.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of its answer is read, in bytes: it has little to say.
const ANSWER: usize = 64 << 10;
/// How often is said that it does not.
const COMPLAIN: Duration = Duration::from_mins(1);
/// How long the process waits at its end for the last of them.
const LAST: Duration = Duration::from_secs(2);

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The client that would send them.
    #[error("traces cannot be sent: {0}")]
    Client(#[from] reqwest::Error),
    /// What would send them.
    #[error("traces cannot be sent: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What sends traces, until it is [ended](Self::end).
#[derive(Debug)]
pub struct Tracing(SdkTracerProvider);

impl Tracing {
    /// Gets ready to send what these settings say, on this runtime.
    ///
    /// # Errors
    /// The collector's address is of no use.
    pub fn start(settings: &Traces, runtime: Handle) -> Result<Self, TracesError> {
        // Whoever was first has made it the same.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let client = Client {
            http: http.build()?,
            runtime,
            headers: settings.headers().into_iter().collect(),
            complained: Mutex::default(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.url.as_str())
            .with_headers(HashMap::new())
            .with_timeout(PATIENCE)
            .build()?;
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(queue).build();
        let service = [
            KeyValue::new("service.name", settings.service.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ];
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sampler)
            .with_resource(Resource::builder_empty().with_attributes(service).build());
        Ok(Self(provider.build()))
    }

    /// What makes the spans.
    pub(super) fn tracer(&self) -> Tracer {
        self.0.tracer("tenantry")
    }

    /// Sends what is left, for a moment.
    pub fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last traces are lost");
        }
    }
}

/// Posts spans. The exporter's own thread asks, which has no runtime: the work is done on that of the service.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    headers: HeaderMap,
    complained: Mutex<Option<Instant>>,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        request.headers_mut().extend(self.headers.clone());
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move {
            let mut answer = http.execute(request.try_into()?).await?;
            let mut body = BytesMut::new();
            while body.len() < ANSWER
                && let Some(piece) = answer.chunk().await?
            {
                body.extend_from_slice(&piece);
            }
            let mut response = Response::new(body.freeze());
            *response.status_mut() = answer.status();
            Ok::<_, reqwest::Error>(response)
        });
        match sending.await {
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            // Another place than it was told of, too, is one that nobody has said may have them.
            Ok(Ok(response)) => {
                let error = format!("it answered {}", response.status());
                self.complain(&error);
                Err(error.into())
            }
            Ok(Err(error)) => {
                // Its address may be secret.
                let error = error.without_url();
                self.complain(&Chain(&error));
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Client {
    /// Says that traces are lost, now and then.
    fn complain(&self, error: &dyn std::fmt::Display) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN) {
            *complained = Some(Instant::now());
            tracing::warn!(%error, "the collector takes no traces; they are lost");
        }
    }
}

/// The span of a request: named by its route, and part of the trace of whoever sent it, where that is somebody to trust.
pub(crate) fn request(
    (method, route, id): (&str, &str, Uuid),
    headers: &HeaderMap,
    is_trusted: bool,
) -> Span {
    let span = tracing::info_span!(
        target: "trace",
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        request_id = %id,
        tenant = Empty,
        user = Empty,
        operator = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", tracing::field::display(format_args!("{method} {route}")));
        if is_trusted {
            go_on_with(&span, &Headers(headers));
        }
    }
    span
}

/// Notes the answer in the span of a request.
pub(crate) fn answered(span: &Span, status: u16) {
    if !span.is_disabled() {
        span.record("http.response.status_code", status);
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// The trace that this is part of, to go on with later; `None` if nobody keeps it.
pub(crate) fn current() -> Option<String> {
    let span = Span::current();
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    headers.remove("traceparent")
}

/// Makes a span part of the trace that [`current`] told of.
pub(crate) fn go_on(span: &Span, parent: Option<&str>) {
    if let Some(parent) = parent.filter(|_| !span.is_disabled()) {
        go_on_with(span, &HashMap::from([("traceparent".to_owned(), parent.to_owned())]));
    }
}

fn go_on_with(span: &Span, said: &dyn Extractor) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), said);
    if context.span().span_context().is_valid() {
        // Fails only where the span has begun, or nobody traces.
        span.set_parent(context).ok();
    }
}

/// What a request says of its trace: which one it is part of, and nothing of what others want to be told along with it
/// (`tracestate`), which would go out with every span.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|_| key == "traceparent")?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(poem::http::HeaderName::as_str).collect()
    }
}

/// A method's name for logs and traces: one nobody knows is anybody's text.
pub(crate) fn name_of(method: &Method) -> &str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let name = method.as_str();
    if KNOWN.contains(&name) { name } else { "_OTHER" }
}
