//! The life of findings and incidents, told as timelines: one look (or decision) a line, what it led to on the right.
//!
//! A file in `tests/data/timeline` holds prose and one fenced block `timeline`. Lines before the first time are the
//! set-up: `given issuer {…}`, `given policy {…}` (as in `rules/compliant.json`), `given repeat 4h`. Then:
//!
//! ```text
//! 00:00  compliant                  ->                       the set-up's documents and keys
//! 01:00  keys a:rsa-1024 b:ec-p256  -> opened rsa-too-small(a), tell opened 1
//! 02:00  status 503                 ->                       discovery answers 503; also `jwks status 503`, `unseen dns: …`
//! 03:00  with {"discovery": {…}}    ->                       a patch for this look only
//! 04:00  expect b:ec-p256           ->                       a decision; so `approve b:ec-p256`, `watch https://…`
//! 1d 05:00  again                   ->                       the same keys once more, on the next day
//! ```
//!
//! `opened`, `now <severity>` and `resolved` are findings; `tell <kind> <findings>` is a message; `baseline <n>` a quiet
//! first look with n high or critical findings; `issuer_changed` and its like are lifecycle events.

#![expect(clippy::unwrap_used, reason = "a timeline that cannot be read is a failed test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Duration, Utc};
use issuerwatch::assess::{Assessment, Known, assess};
use issuerwatch::facts::Look;
use issuerwatch::model::{Destination, Finding, FindingState};
use issuerwatch::parse::Documents;
use issuerwatch::policy::{Policy, Route};
use issuerwatch::rules::RuleSet;
use issuerwatch::rules::examples::{Scene, Stage};
use serde_json::{Map, Value, json};

macro_rules! timelines {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            runs_as_told(concat!(stringify!($name), ".md"));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

timelines! {
    a_bad_rotation_is_one_incident,
    a_mended_critical_is_told_though_a_remark_stays,
    a_first_look_is_quiet,
    a_good_rotation_is_silent,
    a_resolved_incident_is_told_once,
    a_worse_finding_updates_its_incident,
    an_open_incident_is_repeated,
    an_outage_neither_resolves_nor_reopens,
    another_configured_url_is_a_new_baseline,
    far_polls_do_not_invent_outages,
    shuffled_lists_are_no_change,
}

#[test]
fn every_timeline_file_has_a_test() {
    let found = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let strangers: Vec<PathBuf> = found.filter(|path| !NAMES.contains(&path.file_stem().unwrap().to_str().unwrap())).collect();
    assert_eq!(strangers, Vec::<PathBuf>::new());
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/timeline")
}

/// Plays a file and compares what happened with what it tells, line by line.
fn runs_as_told(file: &str) {
    let text = std::fs::read_to_string(folder().join(file)).unwrap();
    let (_, block) = text.split_once("```timeline\n").expect("a block ```timeline");
    let (block, _) = block.split_once("```").expect("the block ends");
    let mut player = Player::new();
    let mut happened = String::new();
    for line in block.lines() {
        match line.split_once("->") {
            None => player.given(line),
            Some((left, _)) => {
                let outcome = player.step(left.trim());
                writeln!(happened, "{}", format!("{}-> {outcome}", left.trim_start()).trim_end()).unwrap();
            }
        }
    }
    let told: String = block.lines().filter(|line| line.contains("->")).map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(happened, told, "{file}: what happened (left) is not what it tells (right)");
}

struct Player {
    rules: RuleSet,
    stage: Stage,
    /// What lasts: issuer, policy, keys.
    setting: Map<String, Value>,
    keys: Option<Value>,
    acts: Vec<Value>,
    repeat: Option<Duration>,
    known: Option<Known>,
}

impl Player {
    fn new() -> Self {
        let setting = [("before", json!([])), ("acts", json!([]))];
        Self {
            rules: RuleSet::builtin().unwrap(),
            stage: Stage::builtin().unwrap(),
            setting: setting.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            keys: None,
            acts: Vec::new(),
            repeat: None,
            known: None,
        }
    }

    fn given(&mut self, line: &str) {
        match line.trim().strip_prefix("given ").and_then(|rest| rest.split_once(' ')) {
            Some(("repeat", hours)) => self.repeat = hours.strip_suffix('h').and_then(|hours| hours.parse().ok()).map(Duration::hours),
            Some((name, value)) => drop(self.setting.insert(name.to_owned(), serde_json::from_str(value).unwrap())),
            None => assert!(line.trim().is_empty(), "not understood: {line}"),
        }
    }

    /// One line: what it led to.
    fn step(&mut self, line: &str) -> String {
        let (at, action) = when(line);
        let (verb, rest) = action.split_once(' ').unwrap_or((action, ""));
        let mut once = Map::new();
        match verb {
            "compliant" => self.keys = None,
            "again" => {}
            "keys" => self.keys = Some(rest.split_whitespace().map(key).collect()),
            "status" => drop(once.insert("http".to_owned(), json!({"discovery": {"status": rest.parse::<u16>().unwrap()}}))),
            "jwks" => drop(
                once.insert("http".to_owned(), json!({"jwks": {"status": rest.strip_prefix("status ").unwrap().parse::<u16>().unwrap()}})),
            ),
            "unseen" => drop(once.insert("http".to_owned(), json!({"discovery": {"unseen": rest}}))),
            "with" => once = serde_json::from_str(rest).unwrap(),
            "expect" | "approve" => {
                let act = if verb == "expect" { "expect" } else { "approve-key" };
                self.acts.push(json!({"act": act, "at": at, "thumbprint": {"$thumbprint": rest.split_once(':').unwrap().1}}));
                return String::new();
            }
            "watch" => {
                self.setting.insert("issuer".to_owned(), json!({"url": rest}));
                return String::new();
            }
            _ => panic!("not understood: {line}"),
        }
        self.look(at, once)
    }

    fn look(&mut self, at: DateTime<Utc>, once: Map<String, Value>) -> String {
        let mut patch = self.setting.clone();
        patch.insert("now".to_owned(), json!(at));
        patch.insert("acts".to_owned(), json!(self.acts));
        if let Some(keys) = &self.keys {
            patch.insert("jwks".to_owned(), json!({"keys": keys}));
        }
        patch.extend(once);
        let scene = self.stage.scene(&Value::Object(patch).to_string()).unwrap();
        let policy = self.routed(&scene);
        let known = match self.known.take() {
            Some(known) => Known { issuer: scene.issuer, acts: scene.acts, ..known },
            None => Known { acts: scene.acts, ..Known::nothing(scene.issuer, Look::Watched) },
        };
        let observation = &scene.observations[0];
        let assessment = assess(observation, &Documents::read(observation), known.clone(), &self.rules, &policy, at);
        let outcome = told(&known, &assessment);
        self.known = Some(after(known, assessment));
        outcome
    }

    fn routed(&self, scene: &Scene) -> Policy {
        let mut policy = scene.policy.clone();
        policy.routing.destinations = vec![Destination { channel: "soc".to_owned(), recipient: None }];
        policy.routing.routes = vec![Route { channels: vec!["soc".to_owned()], repeat: self.repeat, ..Route::default() }];
        policy
    }
}

/// `1d 02:03 rest`: the time, counted from the first day, and the rest.
fn when(line: &str) -> (DateTime<Utc>, &str) {
    let start: DateTime<Utc> = "2026-06-01T00:00:00Z".parse().unwrap();
    let (first, rest) = line.split_once(' ').unwrap();
    let (days, time, rest) = match first.strip_suffix('d') {
        Some(days) => {
            let (time, rest) = rest.trim_start().split_once(' ').unwrap();
            (days.parse().unwrap(), time, rest)
        }
        None => (0, first, rest),
    };
    let (hours, minutes) = time.split_once(':').unwrap();
    let at = start + Duration::days(days) + Duration::hours(hours.parse().unwrap()) + Duration::minutes(minutes.parse().unwrap());
    (at, rest.trim())
}

/// `kid:name` of keys.json.
fn key(word: &str) -> Value {
    let (kid, name) = word.split_once(':').unwrap();
    json!({"$key": name, "kid": kid, "use": "sig"})
}

/// What a look led to, in the words of the timelines.
fn told(known: &Known, assessment: &Assessment) -> String {
    let before = |finding: &&Finding| known.findings.iter().find(|old| old.key() == finding.key());
    let mut said: Vec<String> =
        assessment.events.iter().map(|event| event.kind.name()).filter(|name| name.ends_with("_changed")).map(str::to_owned).collect();
    said.sort();
    for finding in &assessment.changed {
        let name = named(finding);
        match (finding.state, before(&finding)) {
            (FindingState::Resolved, _) => said.push(format!("resolved {name}")),
            (_, None) => said.push(format!("opened {name}")),
            (_, Some(old)) if old.severity != finding.severity => said.push(format!("now {} {name}", finding.severity)),
            _ => {}
        }
    }
    said.extend(assessment.alerts.iter().map(|alert| {
        let kind = alert.notice.kind.name().trim_start_matches("incident.");
        format!("tell {kind} {}", alert.notice.findings.len())
    }));
    said.extend(assessment.baseline.iter().map(|baseline| format!("baseline {}", baseline.findings.len())));
    said.join(", ")
}

fn named(finding: &Finding) -> String {
    let rule = finding.rule.split_once('/').map_or(finding.rule.as_str(), |(_, rule)| rule);
    finding.subject.kid.as_ref().map_or_else(|| rule.to_owned(), |kid| format!("{rule}({kid})"))
}

/// What the store would remember.
fn after(known: Known, assessment: Assessment) -> Known {
    let mut incidents = known.incidents;
    for incident in assessment.incidents {
        incidents.retain(|old| old.id != incident.id);
        incidents.push(incident);
    }
    incidents.retain(|incident| incident.resolved.is_none());
    Known { ledger: assessment.ledger, findings: assessment.findings, incidents, ..known }
}
