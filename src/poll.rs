//! The loop: claim due issuers, observe, assess, record. It judges nothing and sends nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::assess::{Assessment, Known, absorb, assess};
use crate::cadence::{Cadence, jitter};
use crate::clock::Clock;
use crate::facts::Look;
use crate::fetch::Fetcher;
use crate::ledger::Ledger;
use crate::model::{About, Channel, Event, Issuer, IssuerId, Observation};
use crate::parse::{Documents, without_secrets};
use crate::policy::Policy;
use crate::routing::baseline_message;
use crate::rules::RuleSet;
use crate::store::{Cycle, Db, Enrolment, Remembered, StoreError};

/// An issuer to be polled, by which policy and when.
#[derive(Debug, Clone)]
pub struct Target {
    pub issuer: Issuer,
    pub policy: Arc<Policy>,
    pub cadence: Cadence,
}

/// How long a claim holds before another process may take the issuer over.
const LEASE: Duration = Duration::minutes(5);

/// How long the one baseline message waits for slow first looks.
const BASELINE_PATIENCE: Duration = Duration::seconds(60);

/// What the loop did, for pages and metrics.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Unix milliseconds of the loop's last turn.
    last_turn: AtomicI64,
    pub polls: AtomicU64,
    /// Polls in which a document could not be seen.
    pub unseen: AtomicU64,
    /// Polls that could not be recorded.
    pub unrecorded: AtomicU64,
}

impl Pulse {
    /// When the loop last turned; `None` before its first turn.
    #[must_use]
    pub fn last_turn(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.last_turn.load(Ordering::Relaxed)).filter(|at| at.timestamp_millis() > 0)
    }
}

/// Everything a poll needs.
pub struct Poller {
    pub db: Db,
    pub fetcher: Fetcher,
    pub clock: Arc<dyn Clock>,
    pub rules: Arc<RuleSet>,
    pub targets: BTreeMap<IssuerId, Target>,
    pub timezone: Tz,
    pub concurrency: usize,
    /// Rung when alerts were recorded.
    pub outbox: Arc<Notify>,
    pub pulse: Arc<Pulse>,
}

impl Poller {
    /// Enrols the targets: new ones are due within a tenth of their interval, known ones go on where they were.
    ///
    /// # Errors
    /// The store could not do it.
    pub async fn enroll(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let enrolments: Vec<Enrolment> = self
            .targets
            .values()
            .map(|target| Enrolment {
                issuer: target.issuer.id.clone(),
                about: About::of(&target.issuer).to_json(),
                due: now + self.jitter(target, now),
                schedule: target.cadence.to_string(),
            })
            .collect();
        self.db.call(move |store| store.enroll(&enrolments)).await
    }

    /// Polls until told to stop; what is in hand is finished.
    ///
    /// # Errors
    /// The store could not even say which issuers are known.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), StoreError> {
        let first_looks = Arc::new(Mutex::new(self.first_looks().await?));
        let started = self.clock.now();
        let mut running: JoinSet<()> = JoinSet::new();
        while !stop.is_cancelled() {
            self.pulse.last_turn.store(self.clock.now().timestamp_millis(), Ordering::Relaxed);
            let free = self.concurrency.saturating_sub(running.len());
            let due = self.claim(free).await;
            for issuer in due.iter().flatten() {
                let (poller, issuer, first_looks) = (Arc::clone(&self), issuer.clone(), Arc::clone(&first_looks));
                running.spawn(async move {
                    poller.poll(&issuer).await;
                    first_looks.lock().await.remove(&issuer);
                });
            }
            let patience = self.clock.now() - started > BASELINE_PATIENCE;
            if patience || first_looks.lock().await.is_empty() {
                self.tell_baselines().await;
            }
            let wake = self.next_turn(due.is_none() || running.len() >= self.concurrency).await;
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = running.join_next(), if !running.is_empty() => log_panic(ended),
                () = self.clock.sleep_until(wake) => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            log_panic(ended);
        }
        self.tell_baselines().await;
        Ok(())
    }

    async fn first_looks(&self) -> Result<BTreeSet<IssuerId>, StoreError> {
        let targets: Vec<IssuerId> = self.targets.keys().cloned().collect();
        let known = self.db.call(move |store| store.issuers()).await?;
        let seen: BTreeSet<IssuerId> = known.into_iter().filter(|row| row.last_polled.is_some()).map(|row| row.issuer).collect();
        Ok(targets.into_iter().filter(|issuer| !seen.contains(issuer)).collect())
    }

    /// The issuers that are due; `None` where the store cannot say, and asking again at once would only fill the log.
    async fn claim(&self, free: usize) -> Option<Vec<IssuerId>> {
        if free == 0 {
            return Some(Vec::new());
        }
        let now = self.clock.now();
        let claimed = self.db.call(move |store| store.claim_due(now, LEASE, free)).await;
        claimed.inspect_err(|error| tracing::error!(%error, "cannot read which issuers are due")).ok()
    }

    /// When to look for due issuers again: at the next due time, a second later at most (another process may have
    /// hastened one), at least a moment later while all hands are busy or the store cannot tell.
    async fn next_turn(&self, wait: bool) -> DateTime<Utc> {
        let now = self.clock.now();
        let latest = now + Duration::seconds(1);
        if wait {
            return latest;
        }
        match self.db.call(|store| store.next_due()).await {
            Ok(Some(due)) => due.clamp(now + Duration::milliseconds(5), latest),
            _ => latest,
        }
    }

    /// One poll of one issuer, recorded.
    pub async fn poll(&self, issuer: &IssuerId) {
        let Some(target) = self.targets.get(issuer) else { return };
        let id = issuer.clone();
        let remembered = match self.db.call(move |store| store.remembered(&id)).await {
            Ok(remembered) => remembered,
            Err(error) => {
                self.pulse.unrecorded.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%issuer, %error, "cannot read what is known of the issuer; its poll is given up");
                return;
            }
        };
        let cycle = self.look(target, remembered).await;
        let alerts = !cycle.alerts.is_empty();
        self.pulse.polls.fetch_add(1, Ordering::Relaxed);
        match self.db.record(cycle).await {
            Ok(()) if alerts => self.outbox.notify_one(),
            Ok(()) => {}
            Err(error) => {
                self.pulse.unrecorded.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%issuer, %error, "cannot record the poll");
            }
        }
    }

    async fn look(&self, target: &Target, remembered: Remembered) -> Cycle {
        let started = self.clock.now();
        let known = Known {
            issuer: target.issuer.clone(),
            look: Look::Watched,
            ledger: remembered.ledger,
            findings: remembered.findings,
            incidents: remembered.incidents,
            acts: remembered.acts,
            unconfirmed: Vec::new(),
        };
        let (observation, documents) = self.observe(target, &known.ledger).await;
        let first = assess(&observation, &documents, known.clone(), &self.rules, &target.policy, observation.at);
        let (observations, assessment, events) = if first.unconfirmed {
            self.confirm(target, &known, observation, &documents, first).await
        } else {
            let events = first.events.clone();
            (vec![observation], first, events)
        };
        self.cycle(target, started, &known.ledger, observations, assessment, events)
    }

    async fn observe(&self, target: &Target, ledger: &Ledger) -> (Observation, Documents) {
        let last_uri = ledger.jwks_uri.as_ref().and_then(|watched| serde_json::from_str::<String>(&watched.value).ok());
        // A clock that was set back must not make history out of order.
        let last = ledger.discovery.last_attempt.max(ledger.jwks.last_attempt);
        let now = last.map_or_else(|| self.clock.now(), |last| self.clock.now().max(last));
        // Secrets go before anything is read out of the bodies: what is judged now is what a later export would show.
        let observation = without_secrets(&self.fetcher.observe(&target.issuer, now, last_uri.as_deref()).await);
        if [&observation.discovery, &observation.jwks].into_iter().flatten().any(|attempt| attempt.unseen.is_some()) {
            self.pulse.unseen.fetch_add(1, Ordering::Relaxed);
        }
        let documents = Documents::read(&observation);
        (observation, documents)
    }

    /// Looks again at once. Equal answers confirm; of differing ones both are recorded and the second is judged.
    async fn confirm(
        &self,
        target: &Target,
        known: &Known,
        observation: Observation,
        documents: &Documents,
        first: Assessment,
    ) -> (Vec<Observation>, Assessment, Vec<Event>) {
        let (again, documents_again) = self.observe(target, &first.ledger).await;
        if again.same_answer(&observation) {
            let events = first.events.clone();
            return (vec![observation], first, events);
        }
        tracing::info!(issuer = %target.issuer.id, "two looks in one poll differ; the second is judged");
        let (ledger, mut events) = absorb(&observation, documents, known.ledger.clone(), &known.acts);
        let known = Known { ledger, unconfirmed: events.clone(), ..known.clone() };
        let assessment = assess(&again, &documents_again, known, &self.rules, &target.policy, again.at);
        events.extend(assessment.events.iter().cloned());
        (vec![observation, again], assessment, events)
    }

    fn cycle(
        &self,
        target: &Target,
        started: DateTime<Utc>,
        before: &Ledger,
        observations: Vec<Observation>,
        assessment: Assessment,
        events: Vec<Event>,
    ) -> Cycle {
        let touched = touched(before, &assessment.ledger);
        Cycle {
            issuer: Some(target.issuer.id.clone()),
            observations,
            ledger: touched.is_none().then_some(assessment.ledger),
            touched: touched.unwrap_or_default(),
            standing: Some(assessment.standing),
            findings: assessment.changed,
            events,
            incidents: assessment.incidents,
            alerts: assessment.alerts,
            baseline: assessment.baseline,
            due: self.next_due(target, started),
        }
    }

    /// An issuer's own small delay, always the same.
    fn jitter(&self, target: &Target, now: DateTime<Utc>) -> Duration {
        jitter(target.issuer.id.as_str(), target.cadence.interval_hint(self.timezone, now))
    }

    /// Schedules by the clock would strike all at once: there each issuer keeps its delay. An interval carries it on by itself.
    fn next_due(&self, target: &Target, started: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = if target.cadence.by_the_clock() { self.jitter(target, started) } else { Duration::zero() };
        target.cadence.next_after(started - after, self.timezone).map(|due| due + after)
    }

    /// Tells the first looks that wait, in one message.
    async fn tell_baselines(&self) {
        let now = self.clock.now();
        let told = self
            .db
            .call(move |store| {
                let waiting = store.baselines()?;
                if waiting.is_empty() {
                    return Ok(false);
                }
                let mut incidents = Vec::new();
                for id in waiting.iter().filter_map(|baseline| baseline.incident.as_deref()) {
                    incidents.extend(store.incident(id)?);
                }
                let (alerts, incidents) = baseline_message(&waiting, &incidents, now);
                let issuers: Vec<IssuerId> = waiting.into_iter().map(|baseline| baseline.issuer).collect();
                store.tell_baselines(&issuers, &alerts, &incidents)?;
                Ok(!alerts.is_empty())
            })
            .await;
        match told {
            Ok(true) => self.outbox.notify_one(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "cannot enqueue the baseline message"),
        }
    }
}

/// The channels that a look touched where it changed nothing else; `None` where the ledger must be written.
fn touched(before: &Ledger, after: &Ledger) -> Option<Vec<(Channel, DateTime<Utc>)>> {
    let mut expected = before.clone();
    let mut touched = Vec::new();
    for channel in [Channel::Discovery, Channel::Jwks] {
        let state = after.channel(channel);
        if let Some(at) = state.last_ok.filter(|_| state.last_ok != before.channel(channel).last_ok) {
            expected.touch(channel, at);
            touched.push((channel, at));
        }
    }
    (expected == *after).then_some(touched)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a poll ended badly; this is a bug in issuerwatch");
    }
}
