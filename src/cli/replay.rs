//! `replay`: judges an archive as if polled then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::output::{print, print_json, severity, talk};
use super::{Done, Exit, FailOn, Format, connect, unobserved, usage};
use crate::archive::{self, Archive, Archived};
use crate::assess::{Known, assess};
use crate::facts::Look;
use crate::model::{
    About, Act, Event, Finding, FindingKey, FindingState, Issuer, IssuerId, Observation, Severity, Standing, timestamp, visible,
};
use crate::parse::{Cache, without_secrets};
use crate::policy::Policy;
use crate::rules::RuleSet;
use crate::store::{Cycle, Enrolment, Sqlite, Store as _};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The archive (`-`: stdin); JSON Lines, plain, gzip or zstd
    archive: PathBuf,
    /// Judge by this configuration; issuers match by id
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Keep the history in this database, which must not hold anything yet
    #[arg(long, value_name = "F")]
    db: Option<PathBuf>,
    /// Write the lifecycle events (JSON Lines)
    #[arg(long, value_name = "F")]
    events: Option<PathBuf>,
    /// Write the findings in their final state (JSON Lines)
    #[arg(long, value_name = "F")]
    findings: Option<PathBuf>,
    /// Leave a rule out
    #[arg(long, value_name = "RULE")]
    skip: Vec<String>,
    /// Exit with 1 from this severity on
    #[arg(long, value_name = "S", default_value = "high")]
    fail_on: FailOn,
    /// A second configuration to compare with
    #[arg(long, value_name = "F")]
    against: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How many cycles make one transaction.
const BATCH: usize = 500;

pub(super) fn replay(options: &Options) -> Done {
    if options.against.is_some() {
        return Err(usage("`--against` is not in this version"));
    }
    let rules = RuleSet::builtin()?;
    connect::known_rules(&rules, &options.skip)?;
    let configured = match &options.config {
        Some(path) => Some(connect::load_config(Some(path), &rules)?),
        None => None,
    };
    // Before the long reading where it can be told; made only once there is something to keep.
    let database = options.db.as_deref().map(connect::database_file);
    if let Some(path) = database.as_deref().filter(|path| path.exists()) {
        empty_store(path)?;
    }
    let mut archive = read(&options.archive)?;
    let mut store = database.as_deref().map(empty_store).transpose()?;
    archive.observations = in_time_order(archive.observations);
    let mut replay = Replay::new(&rules, &options.skip, configured, archive.acts.clone());
    replay.say_unconfigured(&archive);
    if let Some(store) = &mut store {
        store.enroll(&replay.enrolments(&archive))?;
    }
    let mut cycles: Vec<Cycle> = Vec::new();
    for archived in &archive.observations {
        let cycle = replay.observe(&archived.observation, store.is_some());
        if let (Some(store), Some(cycle)) = (&mut store, cycle) {
            cycles.push(cycle);
            if cycles.len() >= BATCH {
                store.record(&cycles)?;
                cycles.clear();
            }
        }
    }
    if let Some(store) = &mut store {
        store.record(&cycles)?;
        for act in &archive.acts {
            store.act(act)?;
        }
    }
    replay.finish(&archive, options)
}

fn empty_store(path: &Path) -> anyhow::Result<Sqlite> {
    let mut store = Sqlite::open(path).with_context(|| format!("opening {}", path.display()))?;
    if !store.is_empty()? {
        return Err(usage(format!("{} already holds a history; replay wants a new database", path.display())));
    }
    Ok(store)
}

fn read(path: &Path) -> anyhow::Result<Archive> {
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| unobserved(format!("cannot read {}: {error}", path.display())))?)
    };
    let archive = archive::read(input).map_err(|error| unobserved(format!("{}: {error}", path.display())))?;
    if archive.observations.is_empty() && archive.unknown.values().sum::<usize>() == 0 {
        return Err(unobserved(format!("{} holds no observations", path.display())));
    }
    for (name, count) in &archive.unknown {
        talk(&format!("note: {count} records of the unknown type \"{}\" were passed over", visible(name, 80)));
    }
    Ok(archive)
}

/// As they were polled. A span's last look is laid in as a look of its own: time passed, and nothing changed.
fn in_time_order(mut observations: Vec<Archived>) -> Vec<Archived> {
    archive::sort_by_issuer(&mut observations);
    let next = |index: usize| observations.get(index + 1).filter(|next| next.observation.issuer == observations[index].observation.issuer);
    let again = |(index, archived): (usize, &Archived)| {
        let at = archived.last_at.filter(|last| *last > archived.observation.at)?;
        // A span that reaches past the next look is no span: its first look is all that counts.
        let apart = next(index).is_none_or(|next| next.observation.at > at);
        apart.then(|| Archived::once(Observation { at, ..archived.observation.clone() }))
    };
    let repeated: Vec<Archived> = observations.iter().enumerate().filter_map(again).collect();
    observations.extend(repeated);
    archive::sort_by_time(&mut observations);
    observations
}

/// The state of one replay.
struct Replay<'a> {
    rules: &'a RuleSet,
    /// Issuers and policies by id; `None` without a configuration.
    configured: Option<BTreeMap<IssuerId, (Issuer, Arc<Policy>)>>,
    default_policy: Arc<Policy>,
    known: HashMap<IssuerId, Known>,
    cache: Cache,
    /// What people decided, each from its time on.
    acts: Vec<Act>,
    events: Vec<Event>,
    findings: BTreeMap<FindingKey, Finding>,
    standings: BTreeMap<IssuerId, Standing>,
}

impl<'a> Replay<'a> {
    fn new(rules: &'a RuleSet, skip: &[String], configured: Option<crate::config::Config>, acts: Vec<Act>) -> Self {
        let skip: BTreeSet<String> = skip.iter().cloned().collect();
        let default_policy = Arc::new(Policy { skip: skip.clone(), max_keys: usize::MAX, ..Policy::default() });
        let configured = configured.map(|config| {
            let entry = |watch: crate::config::Watch| {
                let policy = Policy { skip: skip.clone(), max_keys: usize::MAX, ..(*watch.policy).clone() };
                (watch.issuer.id.clone(), (watch.issuer, Arc::new(policy)))
            };
            config.watches.into_iter().map(entry).collect()
        });
        Self {
            rules,
            configured,
            default_policy,
            known: HashMap::new(),
            cache: Cache::default(),
            acts,
            events: Vec::new(),
            findings: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }

    fn say_unconfigured(&self, archive: &Archive) {
        let Some(configured) = &self.configured else { return };
        let ids: BTreeSet<&IssuerId> =
            archive.observations.iter().map(|archived| &archived.observation.issuer).filter(|id| !configured.contains_key(id)).collect();
        if !ids.is_empty() {
            let names: Vec<String> = ids.iter().map(|id| visible(id.as_str(), 80)).collect();
            talk(&format!("note: not in the configuration, judged as without one: {}", names.join(", ")));
        }
    }

    /// The archive's issuers, so that the database knows them; `run` goes on from there.
    fn enrolments(&self, archive: &Archive) -> Vec<Enrolment> {
        let mut last: BTreeMap<&IssuerId, &Observation> = BTreeMap::new();
        for archived in &archive.observations {
            last.insert(&archived.observation.issuer, &archived.observation);
        }
        let enrolment = |(issuer, observation): (&IssuerId, &Observation)| {
            let about = match self.configured.as_ref().and_then(|configured| configured.get(issuer)) {
                Some((issuer, _)) => About::of(issuer).to_json(),
                None => About::of(&Issuer::unconfigured(issuer.clone())).to_json(),
            };
            Enrolment { issuer: issuer.clone(), about, due: observation.at, schedule: "replay".to_owned() }
        };
        last.into_iter().map(enrolment).collect()
    }

    /// Judges one observation as if made just now.
    fn observe(&mut self, observation: &Observation, record: bool) -> Option<Cycle> {
        let id = &observation.issuer;
        let (issuer, policy) = match self.configured.as_ref().and_then(|configured| configured.get(id)) {
            Some((issuer, policy)) => (issuer.clone(), Arc::clone(policy)),
            None => (Issuer::unconfigured(id.clone()), Arc::clone(&self.default_policy)),
        };
        let documents = self.cache.read(observation);
        let known = self.known.remove(id).unwrap_or_else(|| Known::nothing(issuer.clone(), Look::Watched));
        let acts = self.acts.iter().filter(|act| act.issuer == *id && act.at <= observation.at).cloned().collect();
        let known = Known { acts, ..known };
        let mut open = known.incidents.clone();
        let assessment = assess(observation, &documents, known, self.rules, &policy, observation.at);
        self.events.extend(assessment.events.iter().cloned());
        for finding in assessment.changed.iter().chain(&assessment.findings) {
            self.findings.insert(finding.key(), finding.clone());
        }
        let cycle = record.then(|| Cycle {
            issuer: Some(id.clone()),
            observations: vec![without_secrets(observation)],
            ledger: Some(assessment.ledger.clone()),
            standing: Some(assessment.standing.clone()),
            findings: assessment.changed.clone(),
            events: assessment.events.clone(),
            // Nobody is told of a replay, so nobody is told of its incidents' ends either.
            incidents: assessment
                .incidents
                .iter()
                .cloned()
                .map(|incident| crate::model::Incident { told: Vec::new(), last_told: None, ..incident })
                .collect(),
            ..Cycle::default()
        });
        for incident in assessment.incidents {
            open.retain(|old| old.id != incident.id);
            if incident.state == crate::model::IncidentState::Open {
                open.push(incident);
            }
        }
        self.standings.insert(id.clone(), assessment.standing);
        let known =
            Known { ledger: assessment.ledger, findings: assessment.findings, incidents: open, ..Known::nothing(issuer, Look::Watched) };
        self.known.insert(id.clone(), known);
        cycle
    }

    fn finish(mut self, archive: &Archive, options: &Options) -> Done {
        self.events.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        if let Some(path) = &options.events {
            write_lines(path, self.events.iter().map(Event::to_line))?;
        }
        if let Some(path) = &options.findings {
            write_lines(path, self.findings.values().map(|finding| serde_json::to_string(finding).unwrap_or_default()))?;
        }
        let open: Vec<&Finding> = self.findings.values().filter(|finding| finding.state == FindingState::Open).collect();
        let failing = open.iter().filter(|finding| options.fail_on.fails(finding.severity)).count();
        match options.format {
            Format::Json => print_json(&self.summary_json(archive, &open))?,
            Format::Text => print(&self.summary_text(archive, &open))?,
        }
        match failing {
            0 => talk("no open finding at or above the threshold"),
            1 => talk("1 open finding at or above the threshold"),
            more => talk(&format!("{more} open findings at or above the threshold")),
        }
        talk(&format!("the whole archive was judged: {} observations", archive.observations.len()));
        Ok(if failing > 0 { Exit::Failed } else { Exit::Clean })
    }

    fn summary_json(&self, archive: &Archive, open: &[&Finding]) -> serde_json::Value {
        let issuers: Vec<serde_json::Value> = self
            .standings
            .iter()
            .map(|(id, standing)| {
                serde_json::json!({
                    "issuer": id,
                    "grade": standing.grade,
                    "grade_version": crate::model::Grade::VERSION,
                    "grade_reasons": standing.grade_reasons,
                    "judgements": standing.judgements,
                    "not_evaluated": standing.not_evaluated,
                })
            })
            .collect();
        serde_json::json!({
            "observations": archive.observations.len(),
            "events": self.events.len(),
            "issuers": issuers,
            "findings": open,
        })
    }

    fn summary_text(&self, archive: &Archive, open: &[&Finding]) -> String {
        let mut out = format!(
            "{} observations of {} issuers, {} lifecycle events\n",
            archive.observations.len(),
            self.standings.len(),
            self.events.len()
        );
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &self.events {
            *kinds.entry(event.kind.name()).or_default() += 1;
        }
        for (kind, count) in kinds {
            out.push_str(&format!("  {count:>7} {kind}\n"));
        }
        out.push_str(&format!("\n{} open findings at the end, {} resolved before\n", open.len(), self.findings.len() - open.len()));
        for wanted in Severity::ALL {
            for finding in open.iter().filter(|finding| finding.severity == wanted && wanted >= Severity::Medium) {
                out.push_str(&format!(
                    "  {} {} {}: {} (since {})\n",
                    severity(finding.severity),
                    visible(finding.issuer.as_str(), 60),
                    finding.rule,
                    visible(&finding.message, 300),
                    timestamp(finding.first_seen)
                ));
            }
        }
        let minor = open.iter().filter(|finding| finding.severity < Severity::Medium).count();
        if minor > 0 {
            out.push_str(&format!("  and {minor} of severity low or info (--findings F writes all)\n"));
        }
        out
    }
}

fn write_lines(path: &Path, lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let context = || format!("writing {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(context)?);
    for line in lines {
        writeln!(out, "{line}").with_context(context)?;
    }
    out.flush().with_context(context)
}
