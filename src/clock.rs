//! The only place that asks what time it is.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

/// A source of time. Tests drive a [`ManualClock`] and never sleep.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> DateTime<Utc>;
    /// Resolves once `deadline` is reached; at once where it is past.
    fn sleep_until(&self, deadline: DateTime<Utc>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep_until(&self, deadline: DateTime<Utc>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // Short naps: a clock that is set back or forward must not leave us asleep for its error.
            loop {
                let left = deadline - self.now();
                if left <= TimeDelta::zero() {
                    return;
                }
                let nap = left.min(TimeDelta::seconds(30)).to_std().unwrap_or_default();
                tokio::time::sleep(nap).await;
            }
        })
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<Mutex<DateTime<Utc>>>,
    moved: Arc<Notify>,
}

impl ManualClock {
    #[must_use]
    pub fn at(now: DateTime<Utc>) -> Self {
        Self { now: Arc::new(Mutex::new(now)), moved: Arc::new(Notify::new()) }
    }

    /// Moves the clock and wakes every sleeper whose time has come.
    pub fn advance(&self, by: TimeDelta) {
        *self.now.lock().expect("no holder of this lock panics") += by;
        self.moved.notify_waiters();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().expect("no holder of this lock panics")
    }

    fn sleep_until(&self, deadline: DateTime<Utc>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let moved = self.moved.notified();
                if self.now() >= deadline {
                    return;
                }
                moved.await;
            }
        })
    }
}
