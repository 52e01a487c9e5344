//! How many requests one host may have at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// Beyond this many hosts, those that nobody uses are forgotten first.
const SWEEP_ABOVE: usize = 1024;

/// A semaphore for each host and port in use.
pub(super) struct Lanes {
    per_host: usize,
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Lanes {
    pub(super) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), lanes: Mutex::default() }
    }

    /// Waits for a free place at the URL's host; it is free again when the permit is dropped.
    pub(super) async fn enter(&self, url: &Url) -> OwnedSemaphorePermit {
        let host = format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        self.lane(host).acquire_owned().await.expect("lanes are never closed")
    }

    fn lane(&self, host: String) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock().expect("no holder of this lock panics");
        if lanes.len() > SWEEP_ABOVE && !lanes.contains_key(&host) {
            // Whoever waits or works holds a second reference.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(lanes.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.per_host))))
    }
}
