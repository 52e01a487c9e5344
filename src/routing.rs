//! From changed findings to incidents, and from incidents to alerts: who is told what, where, and how often.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};

use crate::lifecycle::Changes;
use crate::model::{
    Alert, Baseline, Destination, Digest, Event, Finding, FindingKey, Incident, IncidentKind, IncidentState, Issuer, Notice, NoticeKind,
    Severity, spoken, timestamp,
};
use crate::policy::Policy;
use crate::rules::RuleSet;

/// What is to be written and sent.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub incidents: Vec<Incident>,
    pub alerts: Vec<Alert>,
    pub baseline: Option<Baseline>,
}

/// One poll of one issuer, as the teller sees it.
pub struct Teller<'a> {
    pub issuer: &'a Issuer,
    pub changes: &'a Changes,
    pub rules: &'a RuleSet,
    pub policy: &'a Policy,
    pub now: DateTime<Utc>,
}

impl Teller<'_> {
    /// Groups what changed, and addresses it. `quiet`: a first look, told with the others' later.
    #[must_use]
    pub fn tell(&self, open: &[Incident], events: &[Event], quiet: bool) -> Told {
        let mut told = Told::default();
        let news = self.news(open);
        for incident in open {
            if let Some((incident, alerts)) = self.go_on(incident) {
                told.incidents.push(incident);
                told.alerts.extend(alerts);
            }
        }
        if quiet {
            told.baseline = Some(self.baseline(events, &mut told.incidents));
        } else if !news.is_empty() {
            let mut incident = self.open(IncidentKind::Change, &news, events);
            let destinations = self.destinations(&news);
            told.alerts.extend(self.notify(&mut incident, NoticeKind::Opened, destinations.into_keys(), None));
            told.incidents.push(incident);
        }
        told
    }

    /// What no open incident is about yet: new findings, and old ones that got worse after their incident was over.
    fn news(&self, open: &[Incident]) -> Vec<Finding> {
        let orphan = |finding: &&Finding| !open.iter().any(|incident| incident.findings.contains(&finding.key()));
        self.changes.opened.iter().chain(self.changes.worsened.iter().filter(orphan)).cloned().collect()
    }

    /// Whether a finding keeps its incident open. What nobody was told of does not: a critical that is mended is told as
    /// resolved, whatever remarks of severity info stand beside it.
    fn holds(&self, incident: &Incident, finding: &Finding) -> bool {
        let least = match incident.kind {
            IncidentKind::Baseline => Severity::High,
            IncidentKind::Change => Severity::Medium,
        };
        if incident.told.is_empty() || incident.kind == IncidentKind::Baseline {
            return finding.severity >= least.min(incident.severity);
        }
        self.policy
            .routing
            .destinations(self.issuer, &finding.rule, finding.severity)
            .keys()
            .any(|destination| incident.told.contains(destination))
    }

    /// An incident that was open before: resolved, worsened, repeated, or just as it was (`None`).
    fn go_on(&self, before: &Incident) -> Option<(Incident, Vec<Alert>)> {
        let mut incident = before.clone();
        let findings = self.standing(&incident);
        if !findings.iter().any(|finding| self.holds(before, finding)) {
            incident.state = IncidentState::Resolved;
            incident.resolved = Some(self.now);
            let remark = format!("resolved after {}", spoken(self.now - incident.opened));
            let told = incident.told.clone();
            let alerts = self.notify(&mut incident, NoticeKind::Resolved, told, Some(remark));
            return Some((incident, alerts));
        }
        let worst = findings.iter().map(|finding| finding.severity).max()?;
        if worst > before.severity {
            incident.severity = worst;
            incident.title = self.title(&findings);
            let (again, first): (Vec<_>, Vec<_>) =
                self.destinations(&findings).into_keys().partition(|destination| before.told.contains(destination));
            let remark = Some(format!("now {worst}, was {}", before.severity));
            let mut alerts = self.notify(&mut incident, NoticeKind::Opened, first, None);
            alerts.extend(self.notify(&mut incident, NoticeKind::Updated, again, remark));
            return Some((incident, alerts));
        }
        let last = before.last_told?;
        let due = self
            .destinations(&findings)
            .into_iter()
            .filter(|(destination, repeat)| before.told.contains(destination) && repeat.is_some_and(|repeat| self.now - last >= repeat));
        let due: Vec<Destination> = due.map(|(destination, _)| destination).collect();
        if due.is_empty() {
            return None;
        }
        let remark = format!("still open after {}, notice {}", spoken(self.now - incident.opened), incident.notices + 1);
        let alerts = self.notify(&mut incident, NoticeKind::Updated, due, Some(remark));
        Some((incident, alerts))
    }

    fn open(&self, kind: IncidentKind, findings: &[Finding], events: &[Event]) -> Incident {
        let keys: Vec<FindingKey> = findings.iter().map(Finding::key).collect();
        let identity: Vec<String> = keys.iter().map(|key| format!("{}\n{}", key.rule, key.subject)).collect();
        let digest = Digest::of(format!("{}\n{}\n{}", self.issuer.id, timestamp(self.now), identity.join("\n")).as_bytes()).to_string();
        Incident {
            id: format!("inc-{}", &digest[..12]),
            kind,
            issuer: self.issuer.id.clone(),
            opened: self.now,
            resolved: None,
            state: IncidentState::Open,
            severity: findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info),
            title: self.title(findings),
            findings: keys,
            events: Notice::event_lines(events),
            told: Vec::new(),
            last_told: None,
            notices: 0,
        }
    }

    /// What the first look showed becomes one quiet incident; its high and critical findings wait for the one message.
    fn baseline(&self, events: &[Event], incidents: &mut Vec<Incident>) -> Baseline {
        let loud: Vec<Finding> = self.changes.opened.iter().filter(|finding| finding.severity >= Severity::High).cloned().collect();
        let incident = (!self.changes.opened.is_empty()).then(|| self.open(IncidentKind::Baseline, &self.changes.opened, events));
        let baseline = Baseline {
            issuer: self.issuer.id.clone(),
            incident: incident.as_ref().map(|incident| incident.id.clone()),
            destinations: self.destinations(&loud).into_keys().collect(),
            findings: loud,
        };
        incidents.extend(incident);
        baseline
    }

    /// One alert for each destination, and the incident's own record of it.
    fn notify(
        &self,
        incident: &mut Incident,
        kind: NoticeKind,
        destinations: impl IntoIterator<Item = Destination>,
        remark: Option<String>,
    ) -> Vec<Alert> {
        let destinations: BTreeSet<Destination> = destinations.into_iter().collect();
        if destinations.is_empty() {
            return Vec::new();
        }
        incident.notices += 1;
        incident.last_told = Some(self.now);
        let known: BTreeSet<Destination> = incident.told.iter().cloned().collect();
        incident.told = known.union(&destinations).cloned().collect();
        let findings = if kind == NoticeKind::Resolved { self.resolved(incident) } else { self.standing(incident) };
        let notice = Notice {
            kind,
            at: self.now,
            incident: incident.id.clone(),
            issuers: vec![incident.issuer.clone()],
            severity: incident.severity,
            title: incident.title.clone(),
            opened: Some(incident.opened),
            findings,
            events: incident.events.clone(),
            remark,
            attachment: None,
        };
        destinations.into_iter().map(|destination| Alert::new(notice.clone(), incident.notices, destination)).collect()
    }

    /// The findings of an incident that stand.
    fn standing(&self, incident: &Incident) -> Vec<Finding> {
        self.changes.standing.iter().filter(|finding| incident.findings.contains(&finding.key())).cloned().collect()
    }

    /// The findings of an incident that this poll resolved (the last of them; earlier ones are history).
    fn resolved(&self, incident: &Incident) -> Vec<Finding> {
        self.changes.resolved.iter().filter(|finding| incident.findings.contains(&finding.key())).cloned().collect()
    }

    fn destinations(&self, findings: &[Finding]) -> BTreeMap<Destination, Option<Duration>> {
        let mut all: BTreeMap<Destination, Option<Duration>> = BTreeMap::new();
        for finding in findings {
            for (destination, repeat) in self.policy.routing.destinations(self.issuer, &finding.rule, finding.severity) {
                let known = all.entry(destination).or_default();
                *known = match (*known, repeat) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        all
    }

    /// `acme: RSA modulus is smaller than 2048 bits, and 2 more`: the worst finding's rule.
    fn title(&self, findings: &[Finding]) -> String {
        let Some(worst) = findings.iter().max_by_key(|finding| finding.severity) else { return self.issuer.id.to_string() };
        let title = self.rules.find(&worst.rule).map_or(worst.rule.as_str(), |rule| rule.document.title.as_str());
        let rest = findings.len() - 1;
        let more = if rest == 0 { String::new() } else { format!(", and {rest} more") };
        format!("{}: {title}{more}", self.issuer.id)
    }
}

/// The one message about all first looks that wait: an alert for each destination that has something to hear, and the
/// incidents it opens.
#[must_use]
pub fn baseline_message(waiting: &[Baseline], incidents: &[Incident], now: DateTime<Utc>) -> (Vec<Alert>, Vec<Incident>) {
    let open = |baseline: &&Baseline| {
        incidents.iter().any(|incident| Some(&incident.id) == baseline.incident.as_ref() && incident.state == IncidentState::Open)
    };
    let loud: Vec<&Baseline> = waiting.iter().filter(|baseline| !baseline.findings.is_empty()).filter(open).collect();
    let destinations: BTreeSet<&Destination> = loud.iter().flat_map(|baseline| &baseline.destinations).collect();
    let alerts = destinations.iter().map(|&destination| {
        let told: Vec<&Baseline> = loud.iter().copied().filter(|baseline| baseline.destinations.contains(destination)).collect();
        Alert::new(baseline_notice(&told, now), 1, destination.clone())
    });
    let opened = loud.iter().filter_map(|baseline| {
        let incident = incidents.iter().find(|incident| Some(&incident.id) == baseline.incident.as_ref())?;
        Some(Incident { told: baseline.destinations.clone(), last_told: Some(now), notices: 1, ..incident.clone() })
    });
    (alerts.collect(), opened.collect())
}

fn baseline_notice(told: &[&Baseline], now: DateTime<Utc>) -> Notice {
    let findings: Vec<Finding> = told.iter().flat_map(|baseline| baseline.findings.iter().cloned()).collect();
    let ids: Vec<&str> = told.iter().filter_map(|baseline| baseline.incident.as_deref()).collect();
    let incident = match ids[..] {
        [id] => id.to_owned(),
        _ => format!("base-{}", &Digest::of(ids.join("\n").as_bytes()).to_string()[..12]),
    };
    let issuers = if told.len() == 1 { told[0].issuer.to_string() } else { format!("{} issuers", told.len()) };
    Notice {
        kind: NoticeKind::Baseline,
        at: now,
        incident,
        issuers: told.iter().map(|baseline| baseline.issuer.clone()).collect(),
        severity: findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info),
        title: format!("{issuers}: {}", tally(&findings)),
        opened: Some(now),
        findings,
        events: Vec::new(),
        remark: None,
        attachment: None,
    }
}

/// `3 critical and 4 high findings`; a severity without any is left out.
fn tally(findings: &[Finding]) -> String {
    let counts = [Severity::Critical, Severity::High].map(|severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (count, severity.name())
    });
    let parts: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    let noun = if findings.len() == 1 { "finding" } else { "findings" };
    format!("{} {noun}", parts.join(" and "))
}
