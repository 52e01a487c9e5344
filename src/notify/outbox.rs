//! The loop that empties the outbox: claim, send, settle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Channel, NotDelivered, RuleText, render};
use crate::clock::Clock;
use crate::model::Alert;
use crate::store::{Outcome, StoreError};

/// How many messages are on their way at once.
const CONCURRENCY: usize = 8;
/// Longer than any delivery: a claim that outlives it belongs to a process that is gone.
const LEASE: TimeDelta = TimeDelta::minutes(5);
/// How often the queue is looked at unasked: another process may have put something in.
const LOOK: TimeDelta = TimeDelta::seconds(5);
/// The shortest wait between two looks that found nothing to do.
const REST: TimeDelta = TimeDelta::seconds(1);
/// How often an outcome is tried to be recorded; then the lease ends and the message is repeated.
const SETTLE_TRIES: u32 = 5;

/// Seconds to wait after the first, second, … failure; after the last one every four hours, for three days in all.
const WAITS: [i64; 8] = [5, 30, 120, 600, 1800, 3600, 7200, 14_400];
const TRIES: u32 = 25;

/// The outbox as this loop needs it; `store::Db` is one, tests bring theirs. See [`crate::store::Store`] for the verbs.
pub trait Queue: Send + Sync + 'static {
    /// [`crate::store::Store::claim_alerts`].
    fn claim(&self, now: DateTime<Utc>, lease: TimeDelta, limit: usize) -> impl Future<Output = Result<Vec<Alert>, StoreError>> + Send;
    /// [`crate::store::Store::next_alert`].
    fn next(&self) -> impl Future<Output = Result<Option<DateTime<Utc>>, StoreError>> + Send;
    /// [`crate::store::Store::settle`].
    fn settle(&self, alert: String, at: DateTime<Utc>, outcome: Outcome) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// How deliveries ended since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub delivered: u64,
    /// Attempts that will be repeated.
    pub retried: u64,
    /// Alerts given up.
    pub dead: u64,
}

/// The text of a rule's document by its id.
pub type Documents = Arc<dyn Fn(&str) -> RuleText + Send + Sync>;

/// Sends what is in the outbox.
pub struct Outbox<Q> {
    queue: Q,
    channels: BTreeMap<String, Channel>,
    clock: Arc<dyn Clock>,
    documents: Documents,
    timezone: Tz,
    wake: Notify,
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
}

impl<Q: Queue> Outbox<Q> {
    /// An outbox over a queue; times are shown to people in `timezone`.
    #[must_use]
    pub fn new(queue: Q, channels: Vec<Channel>, clock: Arc<dyn Clock>, documents: Documents, timezone: Tz) -> Self {
        let channels = channels.into_iter().map(|channel| (channel.id().to_owned(), channel)).collect();
        Self {
            queue,
            channels,
            clock,
            documents,
            timezone,
            wake: Notify::new(),
            delivered: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        }
    }

    /// Tells the loop that alerts were recorded.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// How deliveries ended since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally { delivered: count(&self.delivered), retried: count(&self.retried), dead: count(&self.dead) }
    }

    /// Sends until `stop` is cancelled; what is on its way then is finished and recorded first.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut under_way = JoinSet::new();
        while !stop.is_cancelled() {
            let looked = self.clock.now();
            let next = match self.start_due(&mut under_way).await {
                Ok(0) => self.queue.next().await,
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let pause = match next {
                // A due alert may not be ours to take yet (an older one of its incident is under way): no busy waiting.
                Ok(due) => due.unwrap_or(looked + LOOK).clamp(looked + REST, looked + LOOK),
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read");
                    looked + LOOK
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = under_way.join_next() => log_panic(ended),
                () = self.wake.notified(), if under_way.len() < CONCURRENCY => {}
                () = self.clock.sleep_until(pause), if under_way.len() < CONCURRENCY => {}
            }
        }
        while let Some(ended) = under_way.join_next().await {
            log_panic(ended);
        }
    }

    /// Sends everything that is due now, once each, and returns how many were tried. For commands that send and end.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub async fn flush(self: &Arc<Self>) -> Result<usize, StoreError> {
        let mut under_way = JoinSet::new();
        let mut tried = 0;
        loop {
            tried += self.start_due(&mut under_way).await?;
            match under_way.join_next().await {
                Some(ended) => log_panic(ended),
                None => return Ok(tried),
            }
        }
    }

    /// Claims as many due alerts as there is room for and sets them on their way.
    async fn start_due(self: &Arc<Self>, under_way: &mut JoinSet<()>) -> Result<usize, StoreError> {
        let room = CONCURRENCY - under_way.len();
        if room == 0 {
            return Ok(0);
        }
        let alerts = self.queue.claim(self.clock.now(), LEASE, room).await?;
        let count = alerts.len();
        for alert in alerts {
            let outbox = Arc::clone(self);
            under_way.spawn(async move { outbox.process(alert).await });
        }
        Ok(count)
    }

    async fn process(&self, alert: Alert) {
        let sent = self.send(&alert).await;
        let at = self.clock.now();
        let outcome = outcome(&alert, sent, at);
        self.count_and_log(&alert, &outcome);
        self.settle(&alert.id, at, outcome).await;
    }

    async fn send(&self, alert: &Alert) -> Result<(), NotDelivered> {
        let Some(channel) = self.channels.get(&alert.destination.channel) else {
            return Err(NotDelivered::Never(format!("no channel \"{}\" is configured any more", alert.destination.channel)));
        };
        let message = render(&alert.notice, self.documents.as_ref(), self.timezone);
        channel.deliver(alert, &message, self.clock.now()).await
    }

    fn count_and_log(&self, alert: &Alert, outcome: &Outcome) {
        let (id, channel, incident) = (&alert.id, &alert.destination.channel, &alert.notice.incident);
        let attempt = alert.attempts + 1;
        match outcome {
            Outcome::Delivered => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                tracing::info!(alert = %id, %channel, %incident, attempt, "alert delivered");
            }
            Outcome::Later { due, error } => {
                self.retried.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(alert = %id, %channel, %incident, attempt, %due, %error, "alert not delivered, will be tried again");
            }
            Outcome::Dead { error } => {
                self.dead.fetch_add(1, Ordering::Relaxed);
                tracing::error!(alert = %id, %channel, %incident, attempt, %error, "alert given up");
            }
        }
    }

    async fn settle(&self, alert: &str, at: DateTime<Utc>, outcome: Outcome) {
        for attempt in 1..=SETTLE_TRIES {
            match self.queue.settle(alert.to_owned(), at, outcome.clone()).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%alert, attempt, %error, "the outcome of a delivery cannot be recorded"),
            }
            if attempt < SETTLE_TRIES {
                self.clock.sleep_until(self.clock.now() + REST).await;
            }
        }
        tracing::error!(%alert, "the outcome of a delivery is not recorded; the message will be repeated");
    }
}

fn outcome(alert: &Alert, sent: Result<(), NotDelivered>, at: DateTime<Utc>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Delivered,
        Err(NotDelivered::Never(error)) => Outcome::Dead { error },
        Err(NotDelivered::Later { error, .. }) if alert.attempts + 1 >= TRIES => {
            Outcome::Dead { error: format!("given up after {TRIES} tries: {error}") }
        }
        Err(NotDelivered::Later { error, after }) => {
            let asked = after.and_then(|after| TimeDelta::from_std(after).ok()).unwrap_or_default();
            Outcome::Later { due: at + asked.max(wait(alert)), error }
        }
    }
}

/// How long to wait after another failure: the schedule and up to a fifth more, always the same for the same alert
/// and attempt, so that many messages that failed together do not come back together.
fn wait(alert: &Alert) -> TimeDelta {
    let step = usize::try_from(alert.attempts).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    let milliseconds = WAITS[step] * 1000;
    let digest = crate::model::Digest::of(format!("{} {}", alert.id, alert.attempts).as_bytes());
    TimeDelta::milliseconds(milliseconds + milliseconds / 5 * i64::from(digest.0[0]) / 255)
}

/// A panic is a broken invariant of ours; the claim of its alert ends with the lease, and it is tried again.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a delivery panicked");
    }
}
