//! `run`: the daemon. Builds the parts, hands them their values, and stops them in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::output::talk;
use super::{Done, Exit, connect, problems, usage};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, DatabaseUrl, ReportSchedule};
use crate::fetch::{Fetcher, Settings};
use crate::model::{Alert, Destination, Digest, Notice, NoticeKind, Severity};
use crate::notify::{Channel, Email, EmailSettings, EmailTls, Outbox, Queue, Webhook, WebhookSettings};
use crate::poll::{Poller, Pulse, Target};
use crate::report::{self, html};
use crate::rules::RuleSet;
use crate::store::{Db, Outcome, Role, Sqlite, Store, StoreError};
use crate::web;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The configuration [default: ./issuerwatch.toml]
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
}

/// Threads that read beside the writer.
const READERS: usize = 2;

pub(super) fn run(options: &Options) -> Done {
    start_log();
    let rules = Arc::new(RuleSet::builtin()?);
    let config = connect::load_config(options.config.as_deref(), &rules)?;
    config.runnable().map_err(|wrong| problems(&wrong))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(watch(options, config, rules))
}

/// Logs go to stderr; `ISSUERWATCH_LOG` sets what is said.
fn start_log() {
    let filter = config::log_filter().unwrap_or_else(|| "issuerwatch=info".to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("issuerwatch=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(super::output::talks_in_colour())
        .with_target(false)
        .init();
}

/// Runs until SIGTERM or SIGINT; SIGHUP takes a new configuration over, a bad one is refused and the old one kept.
async fn watch(options: &Options, mut config: Config, rules: Arc<RuleSet>) -> Done {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let stop = CancellationToken::new();
        let reload = Reload::good(SystemClock.now());
        let mut service = Service::start(&config, &rules, &stop, Delivery::Channels, &reload).await?;
        if let Some(address) = service.address() {
            talk(&format!("pages on http://{address}/"));
        }
        let next = loop {
            tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                ended = service.ended() => {
                    stop.cancel();
                    service.finish().await;
                    return ended.map(|()| Exit::Failed);
                }
                _ = hangup.recv() => match reloaded(options, &rules) {
                    Ok(new) => break Some(new),
                    Err(error) => {
                        reload.failed.store(true, Ordering::Relaxed);
                        tracing::error!(%error, "the new configuration is bad; the old one stays");
                    }
                }
            }
        };
        stop.cancel();
        service.finish().await;
        match next {
            Some(new) => {
                tracing::info!(issuers = new.watches.len(), "configuration reloaded");
                config = new;
            }
            None => {
                tracing::info!("stopped");
                return Ok(Exit::Clean);
            }
        }
    }
}

fn reloaded(options: &Options, rules: &RuleSet) -> anyhow::Result<Config> {
    let config = connect::load_config(options.config.as_deref(), rules)?;
    config.runnable().map_err(|wrong| problems(&wrong))?;
    buildable(&config)?;
    Ok(config)
}

/// Everything that is built from a configuration before the first fetch, built and dropped: what `config check` tries.
pub(super) fn buildable(config: &Config) -> anyhow::Result<()> {
    channels(config)?;
    fetcher(config)?;
    Ok(())
}

/// Who empties the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The configured channels.
    Channels,
    /// The caller (`demo` prints).
    Elsewhere,
}

/// The running parts.
pub(super) struct Service {
    db: Db,
    tasks: JoinSet<anyhow::Result<()>>,
    address: Option<SocketAddr>,
}

impl Service {
    pub(super) async fn start(
        config: &Config,
        rules: &Arc<RuleSet>,
        stop: &CancellationToken,
        delivery: Delivery,
        reload: &Arc<Reload>,
    ) -> anyhow::Result<Self> {
        let db = open_db(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pulse = Arc::new(Pulse::default());
        let rung = Arc::new(Notify::new());
        let outbox = Arc::new(Outbox::new(
            Whole(db.clone()),
            channels(config)?,
            Arc::clone(&clock),
            connect::message_documents(Arc::clone(rules)),
            config.monitor.timezone,
        ));
        let poller = Arc::new(Poller {
            db: db.clone(),
            fetcher: fetcher(config)?,
            clock: Arc::clone(&clock),
            rules: Arc::clone(rules),
            targets: targets(config),
            timezone: config.monitor.timezone,
            concurrency: config.monitor.concurrency,
            outbox: Arc::clone(&rung),
            pulse: Arc::clone(&pulse),
        });
        poller.enroll().await?;
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let mut address = None;
        if let Some(listen) = config.monitor.listen {
            let listener =
                tokio::net::TcpListener::bind(listen).await.map_err(|error| usage(format!("cannot listen on {listen}: {error}")))?;
            address = Some(listener.local_addr()?);
            let (router, stopped) = (web::router(pages(config, rules, &db, &clock, &pulse, reload)), stop.clone());
            tasks.spawn(async move { Ok(axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await?) });
        }
        tracing::info!(issuers = poller.targets.len(), "watching");
        let polling = stop.clone();
        tasks.spawn(async move { Ok(poller.run(polling).await?) });
        let (sending, waking, stopped) = (Arc::clone(&outbox), Arc::clone(&outbox), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = async { loop { rung.notified().await; waking.wake(); } } => {}
            }
            Ok(())
        });
        let stopped = stop.clone();
        tasks.spawn(async move {
            match delivery {
                Delivery::Channels => sending.run(stopped).await,
                Delivery::Elsewhere => stopped.cancelled().await,
            }
            Ok(())
        });
        for schedule in &config.reports {
            let reporter = Reporter {
                db: db.clone(),
                clock: Arc::clone(&clock),
                rules: Arc::clone(rules),
                schedule: schedule.clone(),
                timezone: config.monitor.timezone,
                destinations: destinations(config),
                outbox: Arc::clone(&outbox),
            };
            let stopped = stop.clone();
            tasks.spawn(async move { reporter.run(stopped).await });
        }
        Ok(Self { db, tasks, address })
    }

    /// Resolves when a part ends by itself: that is never right.
    async fn ended(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) => Err(anyhow::anyhow!("a part of the monitor ended by itself; this is a bug in issuerwatch")),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(anyhow::Error::new(error).context("a part of the monitor broke; this is a bug in issuerwatch")),
            None => std::future::pending().await,
        }
    }

    pub(super) fn db(&self) -> Db {
        self.db.clone()
    }

    /// Where the pages are.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits for what is in hand.
    pub(super) async fn finish(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a part did not stop cleanly"),
                Err(error) => tracing::error!(%error, "a part did not stop cleanly"),
            }
        }
        self.db.shutdown().await;
    }
}

/// Backends are told apart here, by the database's URL.
pub(super) fn open_db(config: &Config) -> anyhow::Result<Db> {
    let DatabaseUrl::Sqlite(path) = &config.monitor.database;
    let opened = Db::start(READERS, |role| {
        Ok(match role {
            Role::Writer => Box::new(Sqlite::open(path)?) as Box<dyn Store>,
            Role::Reader => Box::new(Sqlite::read_only(path)?),
        })
    });
    opened.with_context(|| format!("opening {}", path.display()))
}

fn fetcher(config: &Config) -> anyhow::Result<Fetcher> {
    let monitor = &config.monitor;
    let ca_pem = match &monitor.ca_file {
        Some(path) => vec![std::fs::read(path).map_err(|error| usage(format!("ca_file {}: {error}", path.display())))?],
        None => Vec::new(),
    };
    let settings = Settings { limits: config.limits, ca_pem, proxy: monitor.proxy.clone(), per_host: monitor.per_host };
    Fetcher::new(&settings).map_err(|error| usage(error.to_string()))
}

fn targets(config: &Config) -> std::collections::BTreeMap<crate::model::IssuerId, Target> {
    let target = |watch: &config::Watch| {
        (
            watch.issuer.id.clone(),
            Target { issuer: watch.issuer.clone(), policy: Arc::clone(&watch.policy), cadence: watch.cadence.clone() },
        )
    };
    config.watches.iter().map(target).collect()
}

/// The channels, ready to send.
pub(super) fn channels(config: &Config) -> anyhow::Result<Vec<Channel>> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| usage(format!("ca_file {}: {error}", path.display())));
    let corporate = config.monitor.ca_file.as_ref().map(read).transpose()?;
    config.channels.iter().map(|channel| build_channel(channel, corporate.as_deref(), config)).collect()
}

fn build_channel(channel: &config::Channel, corporate: Option<&[u8]>, config: &Config) -> anyhow::Result<Channel> {
    let id = channel.id.clone();
    let built = match &channel.kind {
        config::ChannelKind::Webhook { url, secrets } => Webhook::new(WebhookSettings {
            id,
            url: url.expose().to_owned(),
            secrets: secrets.iter().map(|secret| secret.expose().to_owned()).collect(),
            ca_pem: corporate.map(<[u8]>::to_vec),
            proxy: config.monitor.proxy.as_ref().map(ToString::to_string),
        })
        .map(Channel::Webhook),
        config::ChannelKind::Email(email) => {
            let own = email
                .ca_file
                .as_ref()
                .map(std::fs::read)
                .transpose()
                .map_err(|error| usage(format!("channel \"{id}\": ca_file: {error}")))?;
            Email::new(EmailSettings {
                id,
                server: email.server.clone(),
                port: email.port,
                tls: match email.tls {
                    config::Tls::Implicit => EmailTls::Implicit,
                    config::Tls::Starttls => EmailTls::Starttls,
                    config::Tls::None => EmailTls::None,
                },
                user: email.credentials.as_ref().map(|credentials| credentials.user.clone()),
                password: email.credentials.as_ref().map(|credentials| credentials.password.expose().to_owned()),
                ca_pem: own.or_else(|| corporate.map(<[u8]>::to_vec)),
                from: email.from.clone(),
            })
            .map(Channel::Email)
        }
    };
    built.map_err(|error| usage(error.to_string()))
}

/// Every destination of every channel: one for a webhook, one for each recipient of an email channel.
pub(super) fn destinations(config: &Config) -> Vec<Destination> {
    let of = |channel: &config::Channel| -> Vec<Destination> {
        let destination = |recipient: Option<&String>| Destination { channel: channel.id.clone(), recipient: recipient.cloned() };
        match &channel.kind {
            config::ChannelKind::Webhook { .. } => vec![destination(None)],
            config::ChannelKind::Email(email) => email.to.iter().map(|recipient| destination(Some(recipient))).collect(),
        }
    };
    config.channels.iter().flat_map(of).collect()
}

/// What the pages see of the running monitor.
fn pages(config: &Config, rules: &Arc<RuleSet>, db: &Db, clock: &Arc<dyn Clock>, pulse: &Arc<Pulse>, reload: &Arc<Reload>) -> web::State {
    let (texts, reader, pulse, reload) = (Arc::clone(rules), db.clone(), Arc::clone(pulse), Arc::clone(reload));
    web::State {
        read: Arc::new(move |job: web::Job| {
            let reader = reader.clone();
            Box::pin(async move {
                // A job that was given up answers its page by itself.
                let _ = reader
                    .read(move |store| {
                        job(store);
                        Ok(())
                    })
                    .await;
            })
        }),
        clock: Arc::clone(clock),
        tz: config.monitor.timezone,
        rule_text: Arc::new(move |id| connect::rule_text(&texts, id)),
        started: clock.now(),
        vitals: Arc::new(move || web::Vitals {
            last_tick: pulse.last_turn(),
            polls: pulse.polls.load(Ordering::Relaxed),
            poll_failures: pulse.unseen.load(Ordering::Relaxed),
            config_loaded: !reload.failed.load(Ordering::Relaxed),
            config_loaded_at: Some(reload.loaded),
        }),
    }
}

/// How the configuration's last loads went.
pub(super) struct Reload {
    loaded: DateTime<Utc>,
    failed: AtomicBool,
}

impl Reload {
    pub(super) fn good(now: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { loaded: now, failed: AtomicBool::new(false) })
    }
}

/// The whole outbox.
pub(super) struct Whole(pub(super) Db);

impl Queue for Whole {
    async fn claim(&self, now: DateTime<Utc>, lease: TimeDelta, limit: usize) -> Result<Vec<Alert>, StoreError> {
        self.0.call(move |store| store.claim_alerts(now, lease, limit)).await
    }

    async fn next(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.0.call(|store| store.next_alert()).await
    }

    async fn settle(&self, alert: String, at: DateTime<Utc>, outcome: Outcome) -> Result<(), StoreError> {
        self.0.call(move |store| store.settle(&alert, at, &outcome)).await
    }
}

/// A scheduled report, drawn and put into the outbox.
struct Reporter {
    db: Db,
    clock: Arc<dyn Clock>,
    rules: Arc<RuleSet>,
    schedule: ReportSchedule,
    timezone: chrono_tz::Tz,
    destinations: Vec<Destination>,
    outbox: Arc<Outbox<Whole>>,
}

impl Reporter {
    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut after = self.clock.now();
        while let Some(due) = self.schedule.cadence.next_after(after, self.timezone) {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.clock.sleep_until(due) => {}
            }
            if let Err(error) = self.send(due).await {
                tracing::error!(%error, "the scheduled report could not be made");
            }
            after = self.clock.now().max(due);
        }
        stop.cancelled().await;
        Ok(())
    }

    async fn send(&self, due: DateTime<Utc>) -> anyhow::Result<()> {
        let (rules, timezone, period) = (Arc::clone(&self.rules), self.timezone, self.schedule.period);
        let page = self
            .db
            .read(move |store| {
                let options = report::Options {
                    issuer: None,
                    since: Some(due - period),
                    until: Some(due),
                    tz: timezone,
                    generated: due,
                    rule_text: &|id| connect::rule_text(&rules, id),
                };
                report::gather(store, options)
            })
            .await?;
        let severity = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low]
            .into_iter()
            .find(|severity| page.issuers.iter().any(|issuer| issuer.count(*severity) > 0));
        let notice = Notice {
            kind: NoticeKind::Report,
            at: due,
            incident: format!(
                "report-{}",
                &Digest::of(format!("{}{}", due.timestamp(), self.schedule.channels.join(",")).as_bytes()).to_string()[..12]
            ),
            issuers: Vec::new(),
            severity: severity.unwrap_or(Severity::Info),
            title: report_title(&page, self.timezone),
            opened: None,
            findings: Vec::new(),
            events: Vec::new(),
            remark: None,
            // Short enough for one line of a mail's header: longer names are split, which some readers do not understand.
            attachment: Some((format!("issuerwatch-{}.html", due.with_timezone(&self.timezone).format("%Y-%m-%d")), html::render(&page)?)),
        };
        let wanted = self.destinations.iter().filter(|destination| self.schedule.channels.contains(&destination.channel));
        let alerts: Vec<Alert> = wanted.map(|destination| Alert::new(notice.clone(), 1, destination.clone())).collect();
        self.db.call(move |store| store.enqueue(&alerts)).await?;
        self.outbox.wake();
        Ok(())
    }
}

/// `4 issuers, worst grade F, 11 findings open, 2026-01-31`: enough to see in the subject whether to read on.
fn report_title(page: &report::Report, timezone: chrono_tz::Tz) -> String {
    let watched = || page.issuers.iter().filter(|issuer| !issuer.retired);
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let grade = watched().filter_map(|issuer| issuer.standing.grade).max();
    let grade = grade.map_or_else(|| "no grade yet".to_owned(), |grade| format!("worst grade {}", grade.letter()));
    let findings = watched().map(|issuer| issuer.open.len()).sum();
    format!(
        "{}, {grade}, {} open, {}",
        counted(watched().count(), "issuer"),
        counted(findings, "finding"),
        page.until.with_timezone(&timezone).format("%Y-%m-%d")
    )
}
