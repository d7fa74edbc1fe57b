//! Logs and metrics. Every metric is declared once, here, and documented in `docs/operations.md`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// What kind of poll answer.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PollLabels {
    /// `unchanged`, `nothing`, `patch`, or `full`.
    pub answer: String,
}

/// A job's kind and outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct JobLabels {
    /// `patch`, `full`, `prepare`, or `recheck`.
    pub kind: String,
    /// `done`, `failed`, `parked`, or `lost`.
    pub outcome: String,
}

/// A request's surface and status class.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// `device`, `tuf`, `api`, `graphql`, or `other`.
    pub surface: String,
    /// `2xx`, `3xx`, `4xx`, or `5xx`.
    pub status: String,
}

/// What was asked too often, and by what that was counted.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    /// `enrol`, `session`, `register`, or `cover`.
    pub surface: String,
    /// `address` or `serial`.
    pub by: String,
}

/// A role of one of the two repositories.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RoleLabels {
    /// `image` or `director`.
    pub repository: String,
    /// `root`, `targets`, `snapshot`, `timestamp`, or a product role.
    pub role: String,
}

/// The role of one of the server's own keys.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KeyLabels {
    /// `snapshot`, `timestamp`, `director`, or `entitlement`.
    pub role: String,
}

/// How a device's question for its certificate was answered.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CertificateLabels {
    /// `unchanged`, `again`, or `signed`.
    pub answer: String,
}

/// A system that keeps contracts.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SourceLabels {
    /// Its name.
    pub source: String,
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    polls: Family<PollLabels, Counter>,
    jobs: Family<JobLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    /// Bytes of blobs sent to devices.
    pub blob_bytes: Counter,
    /// Publications taken in.
    pub publications: Counter,
    /// Documents that were held and could not be published at their moment.
    pub embargo_refused: Counter,
    limited: Family<LimitLabels, Counter>,
    /// The number of the newest event.
    pub events_newest: Gauge,
    role_expires_s: Family<RoleLabels, Gauge>,
    token_errors: Family<KeyLabels, Counter>,
    key_missing: Family<KeyLabels, Gauge>,
    certificates: Family<CertificateLabels, Counter>,
    source_age_s: Family<SourceLabels, Gauge>,
    /// Seconds that requests took.
    pub request_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluice");
        let (polls, jobs, requests) = (Family::default(), Family::default(), Family::default());
        let (blob_bytes, publications, embargo_refused) = (Counter::default(), Counter::default(), Counter::default());
        let role_expires_s: Family<RoleLabels, Gauge> = Family::default();
        let limited: Family<LimitLabels, Counter> = Family::default();
        registry.register("limited", "Requests refused because they came too often", limited.clone());
        let events_newest = Gauge::default();
        registry.register("events_newest", "Number of the newest event", events_newest.clone());
        let token_errors: Family<KeyLabels, Counter> = Family::default();
        let key_missing: Family<KeyLabels, Gauge> = Family::default();
        let certificates: Family<CertificateLabels, Counter> = Family::default();
        // 0.1 ms to 26 s.
        let request_seconds = Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        registry.register("polls", "Polls answered, by answer", polls.clone());
        registry.register("jobs", "Jobs ended, by kind and outcome", jobs.clone());
        registry.register("requests", "Requests answered, by surface and status class", requests.clone());
        registry.register("blob_bytes", "Bytes of blobs sent to devices", blob_bytes.clone());
        registry.register("publications", "Publications taken in", publications.clone());
        registry.register(
            "embargo_refused",
            "Documents that were held and could not be published at their moment",
            embargo_refused.clone(),
        );
        registry.register(
            "tuf_role_expires_seconds",
            "Seconds until a role's newest document expires, by repository and role",
            role_expires_s.clone(),
        );
        registry.register(
            "token_errors",
            "Signatures that the token of a key did not make, by role of the key",
            token_errors.clone(),
        );
        registry.register(
            "key_missing",
            "1 while the key that the published root names is not here, by role of the key",
            key_missing.clone(),
        );
        registry.register("certificates", "Questions for entitlement certificates, by answer", certificates.clone());
        let source_age_s: Family<SourceLabels, Gauge> = Family::default();
        registry.register(
            "contract_source_age_seconds",
            "Seconds since a system that keeps contracts was last heard of, by source",
            source_age_s.clone(),
        );
        registry.register("request_seconds", "Seconds that requests took", request_seconds.clone());
        Self {
            registry,
            polls,
            jobs,
            requests,
            blob_bytes,
            publications,
            embargo_refused,
            limited,
            events_newest,
            role_expires_s,
            token_errors,
            key_missing,
            certificates,
            source_age_s,
            request_seconds,
        }
    }
}

impl Metrics {
    /// Counts a poll.
    pub fn poll(&self, answer: &str) {
        self.polls.get_or_create(&PollLabels { answer: answer.to_owned() }).inc();
    }

    /// Notes how long ago each source was heard of.
    pub fn source_ages(&self, ages: impl IntoIterator<Item = (String, i64)>) {
        self.source_age_s.clear();
        for (source, seconds) in ages {
            self.source_age_s.get_or_create(&SourceLabels { source }).set(seconds);
        }
    }

    /// Counts a job's end.
    pub fn jobs(&self, kind: &str, outcome: &str) {
        self.jobs.get_or_create(&JobLabels { kind: kind.to_owned(), outcome: outcome.to_owned() }).inc();
    }

    /// Notes how long a role's document lives; nothing when there is no such role any more.
    pub fn role_expires(&self, repository: &str, role: &str, seconds: Option<i64>) {
        let labels = RoleLabels { repository: repository.to_owned(), role: role.to_owned() };
        match seconds {
            Some(seconds) => drop(self.role_expires_s.get_or_create(&labels).set(seconds)),
            None => drop(self.role_expires_s.remove(&labels)),
        }
    }

    /// Counts a request that came too often.
    pub fn limited(&self, surface: &str, by: &str) {
        self.limited.get_or_create(&LimitLabels { surface: surface.to_owned(), by: by.to_owned() }).inc();
    }

    /// Counts a signature that a token did not make.
    pub fn token_error(&self, role: &str) {
        self.token_errors.get_or_create(&KeyLabels { role: role.to_owned() }).inc();
    }

    /// Notes whether the key of a role is missing. Whether that is news.
    pub fn key_missing(&self, role: &str, missing: bool) -> bool {
        let gauge = self.key_missing.get_or_create_owned(&KeyLabels { role: role.to_owned() });
        gauge.set(i64::from(missing)) != i64::from(missing)
    }

    /// Counts a question for a certificate.
    pub fn certificate(&self, answer: &str) {
        self.certificates.get_or_create(&CertificateLabels { answer: answer.to_owned() }).inc();
    }

    /// Counts a request.
    pub fn request(&self, surface: &str, status: u16, seconds: f64) {
        let status = format!("{}xx", status / 100);
        self.requests.get_or_create(&RequestLabels { surface: surface.to_owned(), status }).inc();
        self.request_seconds.observe(seconds);
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Starts logging to standard error; `RUST_LOG` filters.
pub fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init(),
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
    };
    if let Err(error) = started {
        eprintln!("logging was started before: {error}");
    }
}
