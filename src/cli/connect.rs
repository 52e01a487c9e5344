//! What several commands share: finding the configuration and the store, and turning settings into parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};
use chrono_tz::Tz;

use super::output::talk;
use super::{StoreOptions, problems, usage};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config, DatabaseUrl};
use crate::model::{IssuerId, RuleText, moment, timestamp, visible};
use crate::notify;
use crate::rules::RuleSet;
use crate::store::{Sqlite, Store};

/// The configuration where nobody names one.
const DEFAULT_CONFIG: &str = "issuerwatch.toml";

/// Loads the configuration; unknown rule ids in it are problems with their line.
pub(super) fn load_config(path: Option<&Path>, rules: &RuleSet) -> anyhow::Result<Config> {
    let path = path.map_or_else(|| PathBuf::from(DEFAULT_CONFIG), Path::to_path_buf);
    let config = config::load(&path).map_err(|wrong| problems(&wrong))?;
    let known: Vec<&str> =
        rules.iter().flat_map(|rule| std::iter::once(&rule.document.id).chain(&rule.document.aliases)).map(String::as_str).collect();
    config.check_rules(&known).map_err(|wrong| problems(&wrong))?;
    Ok(config)
}

/// A rule that nobody knows must not be left out in silence.
pub(super) fn known_rules(rules: &RuleSet, ids: &[String]) -> anyhow::Result<()> {
    match ids.iter().find(|id| rules.find(id).is_none()) {
        Some(id) => Err(usage(format!("--skip: {}", unknown_rule(rules, id)))),
        None => Ok(()),
    }
}

/// `no rule "x"; did you mean "y"?`
pub(super) fn unknown_rule(rules: &RuleSet, id: &str) -> String {
    let hint = nearest_rule(rules, id).map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"));
    format!("no rule \"{}\"{hint} (`issuerwatch rules list` shows all)", visible(id, 80))
}

fn nearest_rule(rules: &RuleSet, id: &str) -> Option<String> {
    let ids = rules.iter().map(|rule| rule.document.id.as_str());
    ids.map(|known| (strsim::jaro_winkler(known, id), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

/// An opened store, and how times are shown and read beside it.
pub(super) struct Source {
    pub(super) store: Box<dyn Store>,
    pub(super) timezone: Tz,
}

impl Source {
    /// RFC 3339, a date, or a duration ago.
    pub(super) fn moment(&self, text: Option<&str>) -> anyhow::Result<Option<DateTime<Utc>>> {
        let Some(text) = text else { return Ok(None) };
        let wrong = || {
            usage(format!("\"{}\" is no time: write 2026-01-31T12:00:00Z, 2026-01-31, or a duration ago such as 30d", visible(text, 60)))
        };
        moment(text, SystemClock.now(), self.timezone).map(Some).ok_or_else(wrong)
    }

    /// A time as people of the configured time zone read it.
    pub(super) fn shown(&self, at: DateTime<Utc>) -> String {
        if self.timezone == Tz::UTC {
            timestamp(at)
        } else {
            at.with_timezone(&self.timezone).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        }
    }

    /// An issuer that the database knows.
    pub(super) fn known_issuer(&mut self, id: &str) -> anyhow::Result<IssuerId> {
        let rows = self.store.issuers()?;
        if let Some(row) = rows.iter().find(|row| row.issuer.as_str() == id) {
            return Ok(row.issuer.clone());
        }
        let nearest =
            rows.iter().map(|row| row.issuer.as_str()).max_by(|a, b| strsim::jaro_winkler(a, id).total_cmp(&strsim::jaro_winkler(b, id)));
        let hint = nearest
            .map_or_else(|| "; the database holds no issuer".to_owned(), |nearest| format!("; did you mean \"{}\"?", visible(nearest, 80)));
        Err(usage(format!("no issuer \"{}\" in the database{hint}", visible(id, 80))))
    }

    /// A decision about an issuer that was never polled is kept, but is likely a slip.
    pub(super) fn say_if_unknown(&mut self, issuer: &IssuerId) -> anyhow::Result<()> {
        let rows = self.store.issuers()?;
        if rows.iter().all(|row| row.issuer != *issuer) {
            let ids: Vec<String> = rows.iter().take(10).map(|row| visible(row.issuer.as_str(), 60)).collect();
            let known = if ids.is_empty() { "the database holds none yet".to_owned() } else { format!("known: {}", ids.join(", ")) };
            talk(&format!("note: no issuer \"{}\" was polled so far ({known}); the decision is kept for it", visible(issuer.as_str(), 80)));
        }
        Ok(())
    }
}

/// Opens the store to read; it must exist.
pub(super) fn open(options: &StoreOptions) -> anyhow::Result<Source> {
    let (path, timezone) = database(options)?;
    if !path.exists() {
        return Err(anyhow::anyhow!("there is no database {}; `issuerwatch run` makes it", path.display()));
    }
    Ok(Source { store: Box::new(Sqlite::read_only(&path)?), timezone })
}

/// Opens the store to record decisions, also before the first poll.
pub(super) fn open_for_acts(options: &StoreOptions) -> anyhow::Result<Source> {
    let (path, timezone) = database(options)?;
    Ok(Source { store: Box::new(Sqlite::open(&path)?), timezone })
}

/// A database as `--db` names it: a path, also with the `sqlite:` that the configuration wants.
pub(super) fn database_file(path: &Path) -> PathBuf {
    path.to_str().and_then(|text| text.strip_prefix("sqlite:")).map_or_else(|| path.to_path_buf(), PathBuf::from)
}

fn database(options: &StoreOptions) -> anyhow::Result<(PathBuf, Tz)> {
    if let Some(path) = &options.db {
        return Ok((database_file(path), Tz::UTC));
    }
    let path = options.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    let monitor = config::load_without_secrets(&path).map_err(|wrong| problems(&wrong))?.monitor;
    let DatabaseUrl::Sqlite(database) = monitor.database;
    Ok((database, monitor.timezone))
}

/// What reports and pages say of a rule.
pub(super) fn rule_text(rules: &RuleSet, id: &str) -> Option<RuleText> {
    let document = &rules.find(id)?.document;
    Some(RuleText {
        title: document.title.clone(),
        cites: document.cites.iter().map(|cite| (cite.text.clone(), cite.verified)).collect(),
        controls: document.controls.clone(),
        remediation: document.remediation.clone(),
    })
}

/// What messages say of a rule.
pub(super) fn message_documents(rules: Arc<RuleSet>) -> notify::Documents {
    Arc::new(move |id| rule_text(&rules, id).unwrap_or_default())
}

/// Whole seconds, as observations and decisions have them.
pub(super) fn whole_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(0)
}
