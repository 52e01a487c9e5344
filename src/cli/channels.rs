//! `channels test`: a marked test message through the real outbox.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};

use super::output::{print, talk};
use super::{Done, Exit, connect, run, usage};
use crate::clock::{Clock as _, SystemClock};
use crate::model::{Alert, AlertState, Destination, Digest, Notice, NoticeKind, Severity, timestamp, visible};
use crate::notify::{Outbox, Queue};
use crate::rules::RuleSet;
use crate::store::{Db, Outcome, StoreError};

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Send a marked test message to one channel, or to all
    Test {
        /// The channel's id
        id: Option<String>,
        /// The configuration [default: ./issuerwatch.toml]
        #[arg(long, value_name = "F")]
        config: Option<PathBuf>,
    },
}

pub(super) fn channels(options: &Options) -> Done {
    let Command::Test { id, config } = &options.command;
    let rules = Arc::new(RuleSet::builtin()?);
    let config = connect::load_config(config.as_deref(), &rules)?;
    if let Some(id) = id.as_ref().filter(|id| config.channels.iter().all(|channel| channel.id != **id)) {
        let known: Vec<&str> = config.channels.iter().map(|channel| channel.id.as_str()).collect();
        return Err(usage(format!(
            "no channel \"{}\" in the configuration; there is {}",
            visible(id, 60),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )));
    }
    let alerts: Vec<Alert> = run::destinations(&config)
        .into_iter()
        .filter(|destination| id.as_ref().is_none_or(|id| destination.channel == *id))
        .map(test_message)
        .collect();
    if alerts.is_empty() {
        return Err(usage("the configuration has no channel to test"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(send(&config, &rules, &alerts))
}

fn test_message(destination: Destination) -> Alert {
    let now = SystemClock.now();
    let name = format!(
        "{}\n{}\n{}",
        destination.channel,
        destination.recipient.as_deref().unwrap_or(""),
        now.timestamp_nanos_opt().unwrap_or_default()
    );
    let notice = Notice {
        kind: NoticeKind::Test,
        at: now,
        incident: format!("test-{}", &Digest::of(name.as_bytes()).to_string()[..12]),
        issuers: Vec::new(),
        severity: Severity::Info,
        title: format!("test message for channel {}", destination.channel),
        opened: None,
        findings: Vec::new(),
        events: Vec::new(),
        remark: Some(format!("Sent by `issuerwatch channels test` at {}. Nothing is wrong.", timestamp(now))),
        attachment: None,
    };
    // Due later than this command lives: a `run` on the same database must not send it as well.
    Alert { due: now + TimeDelta::minutes(10), ..Alert::new(notice, 1, destination) }
}

/// The test messages alone; what else waits in the outbox is the daemon's.
struct OnlyThese {
    db: Db,
    alerts: Mutex<Vec<Alert>>,
}

impl Queue for OnlyThese {
    async fn claim(&self, _: DateTime<Utc>, _: TimeDelta, limit: usize) -> Result<Vec<Alert>, StoreError> {
        let mut alerts = self.alerts.lock().expect("no holder of this lock panics");
        let rest = alerts.len().min(limit);
        Ok(alerts.drain(..rest).collect())
    }

    async fn next(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(None)
    }

    async fn settle(&self, alert: String, at: DateTime<Utc>, outcome: Outcome) -> Result<(), StoreError> {
        self.db.call(move |store| store.settle(&alert, at, &outcome)).await
    }
}

/// Through the database's outbox, so that the outcome is recorded as that of every message; one try each, now.
async fn send(config: &crate::config::Config, rules: &Arc<RuleSet>, alerts: &[Alert]) -> Done {
    let db = run::open_db(config)?;
    let channels = run::channels(config)?;
    let (enqueued, ids) = (alerts.to_vec(), alerts.iter().map(|alert| alert.id.clone()).collect::<Vec<_>>());
    db.call(move |store| store.enqueue(&enqueued)).await?;
    let clock = Arc::new(SystemClock);
    let outbox = Arc::new(Outbox::new(
        OnlyThese { db: db.clone(), alerts: Mutex::new(alerts.to_vec()) },
        channels,
        clock,
        connect::message_documents(Arc::clone(rules)),
        config.monitor.timezone,
    ));
    outbox.flush().await?;
    let all = db.call(|store| store.alerts(None, 10_000)).await?;
    let mut failed = false;
    for alert in all.into_iter().filter(|alert| ids.contains(&alert.id)) {
        let target = format!(
            "{}{}",
            alert.destination.channel,
            alert.destination.recipient.as_ref().map_or_else(String::new, |recipient| format!(" {recipient}"))
        );
        let delivered = alert.state == AlertState::Delivered;
        if delivered {
            print(&format!("{target}: delivered\n"))?;
        } else {
            failed = true;
            print(&format!("{target}: not delivered: {}\n", visible(alert.last_error.as_deref().unwrap_or("no answer"), 300)))?;
            // A test is one try: it must not arrive hours later, when nobody expects it.
            let (id, now) = (alert.id.clone(), SystemClock.now());
            let error = alert.last_error.unwrap_or_else(|| "no answer".to_owned());
            db.call(move |store| store.settle(&id, now, &Outcome::Dead { error })).await?;
        }
    }
    db.shutdown().await;
    if failed {
        talk("a channel did not take the test message");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Clean)
}
