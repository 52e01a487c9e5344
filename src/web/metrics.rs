//! `/metrics` in OpenMetrics text. Labels are issuer ids and closed words, never anything an issuer chose.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::error::Problem;
use super::pages::Estate;
use super::{App, Vitals};
use crate::model::Severity;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfIssuer {
    issuer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    issuer: String,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDocument {
    issuer: String,
    document: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

/// `/metrics`
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let estate = Estate::of(&app).await?;
    let (vitals, started) = ((app.state.vitals)(), app.state.started);
    let text = tokio::task::spawn_blocking(move || exposition(&estate, &vitals, started)).await?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

fn exposition(estate: &Estate, vitals: &Vitals, started: DateTime<Utc>) -> String {
    let mut registry = Registry::with_prefix("issuerwatch");
    registry.register("build", "Which issuerwatch this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    monitor(&mut registry, vitals, started);
    issuers(&mut registry, estate);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}

fn monitor(registry: &mut Registry, vitals: &Vitals, started: DateTime<Utc>) {
    let counted = |value| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        counter
    };
    registry.register("polls", "Polls that ended since the start", counted(vitals.polls));
    registry.register("poll_failures", "Polls in which a document could not be fetched", counted(vitals.poll_failures));
    registry.register(
        "config_last_reload_successful",
        "Whether the last load of the configuration was good",
        gauge(i64::from(vitals.config_loaded)),
    );
    let time = |at: Option<DateTime<Utc>>| gauge(at.map_or(0, |at| at.timestamp()));
    let mut seconds = |name: &str, help: &str, at| registry.register_with_unit(name, help, Unit::Seconds, time(at));
    seconds("config_last_reload_success_timestamp", "When the configuration was last loaded well; 0: never", vitals.config_loaded_at);
    seconds("scheduler_last_tick_timestamp", "When the scheduler last looked for due issuers; 0: never", vitals.last_tick);
    seconds("start_timestamp", "When the process started", Some(started));
}

fn issuers(registry: &mut Registry, estate: &Estate) {
    let watched = i64::try_from(estate.watched().count()).unwrap_or(i64::MAX);
    registry.register("issuers", "Issuers that are watched", gauge(watched));
    let findings = Family::<OfSeverity, Gauge>::default();
    let keys = Family::<OfIssuer, Gauge>::default();
    let last = Family::<OfDocument, Gauge>::default();
    for summary in estate.watched() {
        let issuer = || summary.id.as_str().to_owned();
        for (severity, count) in Severity::ALL.into_iter().zip(summary.findings) {
            set(&findings, &OfSeverity { issuer: issuer(), severity: severity.name() }, count);
        }
        set(&keys, &OfIssuer { issuer: issuer() }, summary.keys);
        for (channel, at) in summary.last_ok {
            last.get_or_create(&OfDocument { issuer: issuer(), document: channel.name() }).set(at.map_or(0, |at| at.timestamp()));
        }
    }
    registry.register("open_findings", "Findings that are open or waived", findings);
    registry.register("keys", "Keys in the last good key set", keys);
    registry.register_with_unit("last_success_timestamp", "When a document was last fetched well; 0: never", Unit::Seconds, last);
    let alerts = Family::<OfState, Gauge>::default();
    set(&alerts, &OfState { state: "pending" }, estate.pending);
    set(&alerts, &OfState { state: "dead" }, estate.dead);
    registry.register("alerts", "Alerts that wait to be delivered, and those given up", alerts);
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn set<L: Clone + Eq + std::hash::Hash>(family: &Family<L, Gauge>, labels: &L, count: usize) {
    family.get_or_create(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
}
