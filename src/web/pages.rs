//! The pages: each reads the store, makes a view and draws it.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use serde::Deserialize;

use super::error::Problem;
use super::{App, plain};
use crate::model::{About, AlertState, Channel, FindingState, Grade, IssuerId, Severity, moment, visible};
use crate::report::{self, Rank, Sight};
use crate::store::{Filter, IssuerRow, Store, StoreError};

/// Rows of one page of the overview.
const PAGE: usize = 200;
/// For how long an estate read once is shown again: many readers cost one read.
const FRESH: Duration = Duration::seconds(2);
/// Dead and pending alerts are counted up to here.
const ALERTS_COUNTED: usize = 10_000;
/// A scheduler that ticked longer ago than this stands still.
const TICK_LIMIT: Duration = Duration::seconds(90);

/// Every issuer's state at one moment, worst first; what the overview and the metrics show.
pub(super) struct Estate {
    pub(super) at: DateTime<Utc>,
    pub(super) issuers: Vec<Summary>,
    pub(super) pending: usize,
    pub(super) dead: usize,
}

/// One issuer's state.
pub(super) struct Summary {
    pub(super) id: IssuerId,
    pub(super) retired: bool,
    address: String,
    owner: String,
    grade: Option<Grade>,
    /// By severity, critical first.
    pub(super) findings: [usize; 5],
    pub(super) keys: usize,
    sight: Sight,
    last_polled: Option<DateTime<Utc>>,
    due: Option<DateTime<Utc>>,
    /// When each document was last got; `None`: never.
    pub(super) last_ok: [(Channel, Option<DateTime<Utc>>); 2],
    /// The document that cannot be got while the other can, and since when.
    missing: Option<(Channel, DateTime<Utc>)>,
}

impl Estate {
    /// Of this moment, or of one just past.
    pub(super) async fn of(app: &App) -> Result<Arc<Self>, StoreError> {
        let now = app.state.clock.now();
        let mut kept = app.overview.lock().await;
        if let Some(estate) = kept.as_ref().filter(|estate| (now - estate.at).abs() < FRESH) {
            return Ok(Arc::clone(estate));
        }
        let estate = Arc::new(app.read(move |store| Self::gather(store, now)).await?);
        *kept = Some(Arc::clone(&estate));
        Ok(estate)
    }

    fn gather(store: &mut dyn Store, at: DateTime<Utc>) -> Result<Self, StoreError> {
        let open = Filter { states: Some(vec![FindingState::Open, FindingState::Waived]), ..Filter::default() };
        let mut counts: BTreeMap<IssuerId, [usize; 5]> = BTreeMap::new();
        for finding in store.findings(&open)? {
            counts.entry(finding.issuer).or_default()[place(finding.severity)] += 1;
        }
        let rows = store.issuers()?.into_iter();
        let mut issuers: Vec<Summary> = rows.map(|row| Summary::of(&row, counts.get(&row.issuer).copied().unwrap_or_default())).collect();
        issuers.sort_by_cached_key(|issuer| (issuer.rank(), issuer.id.clone()));
        Ok(Self {
            at,
            issuers,
            pending: store.alerts(Some(AlertState::Pending), ALERTS_COUNTED)?.len(),
            dead: store.alerts(Some(AlertState::Dead), ALERTS_COUNTED)?.len(),
        })
    }

    pub(super) fn watched(&self) -> impl Iterator<Item = &Summary> {
        self.issuers.iter().filter(|issuer| !issuer.retired)
    }
}

/// The place of a severity in [`Summary::findings`].
fn place(severity: Severity) -> usize {
    Severity::ALL.iter().position(|level| *level == severity).unwrap_or(Severity::ALL.len() - 1)
}

impl Summary {
    fn of(row: &IssuerRow, findings: [usize; 5]) -> Self {
        let about = About::from_json(&row.about);
        let channels = [Channel::Discovery, Channel::Jwks];
        let missing = channels.into_iter().find_map(|channel| Some((channel, row.ledger.channel(channel).failing_since?)));
        Self {
            retired: row.retired,
            address: about.address().map(|url| visible(url, 200)).unwrap_or_default(),
            owner: about.owner.as_deref().map(|owner| visible(owner, 120)).unwrap_or_default(),
            grade: row.standing.grade,
            findings,
            keys: row.ledger.keys.values().filter(|key| key.present()).count(),
            sight: Sight::of(row.last_polled, row.last_seen),
            last_polled: row.last_polled,
            due: row.due,
            last_ok: channels.map(|channel| (channel, row.ledger.channel(channel).last_ok)),
            missing,
            id: row.issuer.clone(),
        }
    }

    fn rank(&self) -> Rank {
        Rank::of(self.retired, self.grade, self.sight, |severity| self.findings[place(severity)])
    }

    fn name(&self) -> String {
        visible(self.id.as_str(), 80)
    }

    fn letter(&self) -> &'static str {
        self.grade.map_or("–", Grade::letter)
    }

    /// Findings by severity, those that there are.
    fn counts(&self) -> Vec<(Severity, usize)> {
        Severity::ALL.into_iter().zip(self.findings).filter(|(_, count)| *count > 0).collect()
    }

    fn matches(&self, wanted: &str) -> bool {
        [self.id.as_str(), &self.address, &self.owner].iter().any(|text| text.to_lowercase().contains(wanted))
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// A part of an id, an address or an owner.
    #[serde(default)]
    q: String,
    page: Option<usize>,
}

#[derive(Template)]
#[template(path = "page/overview.html")]
struct Overview<'a> {
    issuers: &'a [&'a Summary],
    wanted: &'a str,
    matching: usize,
    watched: usize,
    unseen: usize,
    retired: usize,
    severities: Vec<(Severity, usize)>,
    page: usize,
    pages: usize,
    pending: usize,
    dead: usize,
    now: DateTime<Utc>,
    tz: Tz,
    /// Why nothing may be happening, if so.
    trouble: Option<String>,
}

/// `/`
pub(super) async fn overview(State(app): State<App>, wanted: Result<Query<Wanted>, QueryRejection>) -> Result<Response, Problem> {
    let Ok(Query(wanted)) = wanted else {
        return Err(Problem::bad_request("Write ?q= with a part of an issuer’s name, and ?page= with a number."));
    };
    let estate = Estate::of(&app).await?;
    let trouble = not_ready(&app);
    let (now, tz) = (app.state.clock.now(), app.state.tz);
    let page = tokio::task::spawn_blocking(move || draw(&estate, &wanted, trouble, now, tz)).await??;
    Ok(Html(page).into_response())
}

fn draw(estate: &Estate, wanted: &Wanted, trouble: Option<String>, now: DateTime<Utc>, tz: Tz) -> Result<String, askama::Error> {
    let query = wanted.q.trim().to_lowercase();
    let matching: Vec<&Summary> = estate.issuers.iter().filter(|issuer| query.is_empty() || issuer.matches(&query)).collect();
    let pages = matching.len().div_ceil(PAGE).max(1);
    let page = wanted.page.unwrap_or(1).clamp(1, pages);
    let sum = |level| estate.watched().map(|issuer| issuer.findings[place(level)]).sum();
    Overview {
        issuers: matching.chunks(PAGE).nth(page - 1).unwrap_or_default(),
        wanted: wanted.q.trim(),
        matching: matching.len(),
        watched: estate.watched().count(),
        unseen: estate.watched().filter(|issuer| issuer.sight != Sight::Seen).count(),
        retired: estate.issuers.iter().filter(|issuer| issuer.retired).count(),
        severities: Severity::ALL.into_iter().map(|level| (level, sum(level))).collect(),
        page,
        pages,
        pending: estate.pending,
        dead: estate.dead,
        now,
        tz,
        trouble,
    }
    .render()
}

impl Overview<'_> {
    fn time(&self, at: &DateTime<Utc>) -> String {
        at.with_timezone(&self.tz).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// `4 min ago`, `in 30 s`.
    fn relative(&self, at: &DateTime<Utc>) -> String {
        let distance = *at - self.now;
        let length = report::duration(distance.abs());
        match distance.num_seconds() {
            0 => "now".to_owned(),
            1.. => format!("in {length}"),
            _ => format!("{length} ago"),
        }
    }

    fn due(&self, at: &DateTime<Utc>) -> String {
        if *at <= self.now { "due".to_owned() } else { self.relative(at) }
    }

    fn missing(&self, issuer: &Summary) -> Option<String> {
        let (channel, since) = issuer.missing.filter(|_| issuer.sight == Sight::Seen)?;
        let document = if channel == Channel::Jwks { "key set" } else { "discovery document" };
        Some(format!("{document} fails since {}", self.time(&since)))
    }
}

#[derive(Deserialize)]
pub(super) struct Asked {
    issuer: Option<String>,
    since: Option<String>,
}

/// `/report`: what the command writes, of now.
pub(super) async fn report(State(app): State<App>, asked: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let Ok(Query(asked)) = asked else {
        return Err(Problem::bad_request("Write ?issuer= with an issuer’s id, and ?since= with a time."));
    };
    let (generated, tz, rule_text) = (app.state.clock.now(), app.state.tz, Arc::clone(&app.state.rule_text));
    let since = match asked.since.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(moment(text, generated, tz).ok_or_else(|| {
            Problem::bad_request("since is a time such as 2026-01-31T00:00:00Z, a date such as 2026-01-31, or a duration ago such as 30d.")
        })?),
        None => None,
    };
    let issuer = asked.issuer.filter(|id| !id.is_empty()).map(IssuerId::new);
    let gathered = app
        .read(move |store| report::gather(store, report::Options { issuer, since, until: None, tz, generated, rule_text: &*rule_text }))
        .await?;
    let page = tokio::task::spawn_blocking(move || report::html::render(&gathered)).await??;
    Ok(Html(page).into_response())
}

/// `/healthz`: the process answers.
pub(super) async fn healthz() -> Response {
    plain(StatusCode::OK, "ok")
}

/// `/readyz`: the database answers and the scheduler ticks.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let database = app.read(|store| store.next_due()).await;
    let trouble = match database {
        Ok(_) => not_ready(&app),
        Err(error) => {
            tracing::warn!(%error, "not ready: the database does not answer");
            Some("The database does not answer; the log says why.".to_owned())
        }
    };
    match trouble {
        None => plain(StatusCode::OK, "ready"),
        Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// Why the scheduler does not do its work; `None` where it does.
fn not_ready(app: &App) -> Option<String> {
    let now = app.state.clock.now();
    let last = (app.state.vitals)().last_tick;
    match last {
        Some(tick) if now - tick <= TICK_LIMIT => None,
        Some(tick) => Some(format!("The scheduler stands still: it last looked for due issuers {} ago.", report::duration(now - tick))),
        None => {
            Some(format!("The scheduler has not started its first round, {} after the start.", report::duration(now - app.state.started)))
        }
    }
}
