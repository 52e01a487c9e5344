//! `check`: one look, judged, printed; no database, no configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;

use super::output::{bold, faint, print, print_json, severity, talk, wrap};
use super::{Done, Exit, FailOn, connect, unobserved, usage};
use crate::assess::{Assessment, Known, assess};
use crate::clock::{Clock as _, SystemClock};
use crate::facts::Look;
use crate::fetch::{Fetcher, Settings};
use crate::model::{
    Attempt, Body, Certainty, DocumentKind, Finding, Grade, Issuer, IssuerId, IssuerUrl, Observation, Profile, Severity, timestamp,
    visible, visible_json,
};
use crate::parse::{self, Documents};
use crate::policy::{Limits, Policy};
use crate::rules::RuleSet;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// An issuer, a well-known URL, or with `--profile jwks` a JWKS URL
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// A file with a JWK Set (`-`: stdin)
    #[arg(long, value_name = "F")]
    jwks: Option<PathBuf>,
    /// A file with a discovery document (`-`: stdin)
    #[arg(long, value_name = "F")]
    discovery: Option<PathBuf>,
    /// The issuer that the files must be of
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// oidc, oauth, key-publisher, fapi2 or jwks [default: oidc; key-publisher where the document has no endpoints]
    #[arg(long, value_name = "P")]
    profile: Option<String>,
    /// Packs of further rules
    #[arg(long, value_name = "K")]
    pack: Vec<String>,
    /// Certificates (PEM) to trust beside the system's
    #[arg(long, value_name = "F")]
    ca: Option<PathBuf>,
    /// Look at private and loopback addresses too
    #[arg(long)]
    allow_private: bool,
    /// Look at http URLs on loopback too
    #[arg(long)]
    allow_http_loopback: bool,
    /// Leave a rule out
    #[arg(long, value_name = "RULE")]
    skip: Vec<String>,
    /// Exit with 1 from this severity on: critical, high, medium, low, info, none
    #[arg(long, value_name = "S", default_value = "high")]
    fail_on: FailOn,
    /// Findings to pass over
    #[arg(long, value_name = "F")]
    baseline: Option<PathBuf>,
    /// text, json or ndjson
    #[arg(long, default_value = "text")]
    format: String,
}

/// How the result is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Print {
    Text,
    Json,
    Ndjson,
}

/// One input, looked at and judged.
struct Looked {
    name: String,
    at: DateTime<Utc>,
    observation: Observation,
    assessment: Assessment,
    /// What was asked for and could not be seen.
    unseen: Vec<String>,
}

/// Findings that mean "could not look", not "is broken".
const BLIND: [&str; 2] = ["transport/bad-status", "transport/private-address"];

pub(super) fn check(options: &Options) -> Done {
    let format = print_format(&options.format)?;
    if !options.pack.is_empty() {
        return Err(usage("`--pack` is not in this version"));
    }
    if options.baseline.is_some() {
        return Err(usage("`--baseline` is not in this version"));
    }
    let files = options.jwks.is_some() || options.discovery.is_some();
    if files != options.targets.is_empty() {
        return Err(usage("name what to look at: one or more TARGETs, or files with --jwks and --discovery"));
    }
    if !files && options.issuer.is_some() {
        return Err(usage("--issuer goes with files; a TARGET is its own issuer"));
    }
    let rules = RuleSet::builtin()?;
    connect::known_rules(&rules, &options.skip)?;
    let policy = Policy { fail_threshold: 1, skip: options.skip.iter().cloned().collect(), ..Policy::default() };
    let looked = if files { vec![look_at_files(options, &rules, &policy)?] } else { look_at_targets(options, &rules, &policy)? };
    match format {
        Print::Text => {
            for input in &looked {
                print(&text(input, &rules))?;
            }
        }
        Print::Json => match &looked[..] {
            [one] => print_json(&json(one))?,
            several => print_json(&several.iter().map(json).collect())?,
        },
        Print::Ndjson => {
            for input in &looked {
                print(&visible_json(&format!("{}\n", json(input))))?;
            }
        }
    }
    Ok(exit(&looked, options.fail_on))
}

fn print_format(name: &str) -> anyhow::Result<Print> {
    match name {
        "text" => Ok(Print::Text),
        "json" => Ok(Print::Json),
        "ndjson" => Ok(Print::Ndjson),
        "sarif" | "junit" | "github" => Err(usage(format!("`--format {name}` is not in this version"))),
        other => Err(usage(format!("--format: \"{other}\" is not text, json or ndjson"))),
    }
}

fn profile(options: &Options) -> anyhow::Result<Option<Profile>> {
    Ok(match options.profile.as_deref() {
        None => None,
        Some("oidc") => Some(Profile::Oidc),
        Some("oauth") => Some(Profile::Oauth),
        Some("key-publisher") => Some(Profile::KeyPublisher),
        Some("fapi2") => Some(Profile::Fapi2),
        Some("jwks") => Some(Profile::Jwks),
        Some(other) => return Err(usage(format!("--profile: \"{other}\" is not oidc, oauth, key-publisher, fapi2 or jwks"))),
    })
}

fn look_at_targets(options: &Options, rules: &RuleSet, policy: &Policy) -> anyhow::Result<Vec<Looked>> {
    let issuers = options.targets.iter().map(|target| issuer_of(target, options)).collect::<anyhow::Result<Vec<Issuer>>>()?;
    let ca_pem = options
        .ca
        .iter()
        .map(|path| std::fs::read(path).map_err(|error| usage(format!("--ca {}: {error}", path.display()))))
        .collect::<anyhow::Result<_>>()?;
    let fetcher = Fetcher::new(&Settings { limits: Limits::default(), ca_pem, proxy: None, per_host: 4 })
        .map_err(|error| usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let mut looked = Vec::new();
    for issuer in issuers {
        let observation = runtime.block_on(fetcher.observe(&issuer, SystemClock.now(), None));
        let unseen = unseen(&observation);
        looked.push(judge(issuer, Look::Single, observation, unseen, rules, policy));
    }
    Ok(looked)
}

/// What a target names.
fn issuer_of(target: &str, options: &Options) -> anyhow::Result<Issuer> {
    let url = IssuerUrl::parse(target).map_err(|error| usage(format!("{target}: {error}")))?;
    let profile = profile(options)?;
    let mut issuer = Issuer {
        profile,
        allow_private: options.allow_private,
        allow_http_loopback: options.allow_http_loopback,
        ..Issuer::unconfigured(IssuerId::new(target))
    };
    if profile == Some(Profile::Jwks) {
        issuer.jwks_uri = Some(target.to_owned());
    } else if url.url().path().contains("/.well-known/") {
        // The expected issuer is whatever makes this the well-known URL of the document's issuer.
        issuer.discovery_url = Some(target.to_owned());
    } else {
        issuer.url = Some(url);
    }
    Ok(issuer)
}

fn unseen(observation: &Observation) -> Vec<String> {
    let mut unseen: Vec<String> = [&observation.discovery, &observation.jwks]
        .into_iter()
        .flatten()
        .filter_map(|attempt| {
            attempt
                .unseen
                .as_ref()
                .map(|unseen| if attempt.url.is_empty() { unseen.text.clone() } else { format!("{}: {}", attempt.url, unseen.text) })
        })
        .collect();
    if observation.jwks.is_none() {
        unseen.push("the key set was not fetched: its address is not known".to_owned());
    }
    unseen
}

fn look_at_files(options: &Options, rules: &RuleSet, policy: &Policy) -> anyhow::Result<Looked> {
    if options.jwks.as_deref() == Some(Path::new("-")) && options.discovery.as_deref() == Some(Path::new("-")) {
        return Err(usage("only one of --jwks and --discovery can be stdin"));
    }
    let url = options.issuer.as_deref().map(IssuerUrl::parse).transpose().map_err(|error| usage(format!("--issuer: {error}")))?;
    let discovery = options.discovery.as_deref().map(read).transpose()?;
    let jwks = options.jwks.as_deref().map(read).transpose()?;
    let name = options
        .issuer
        .clone()
        .unwrap_or_else(|| [&options.discovery, &options.jwks].into_iter().flatten().next().map_or_else(String::new, |path| shown(path)));
    let issuer = Issuer {
        url,
        profile: profile(options)?,
        allow_http_loopback: options.allow_http_loopback,
        ..Issuer::unconfigured(IssuerId::new(name))
    };
    let observation = Observation { issuer: issuer.id.clone(), at: connect::whole_seconds(SystemClock.now()), discovery, jwks };
    Ok(judge(issuer, Look::Files, observation, Vec::new(), rules, policy))
}

fn read(path: &Path) -> anyhow::Result<Attempt> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let done = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    done.map_err(|error| unobserved(format!("cannot read {}: {error}", path.display())))?;
    Ok(Attempt { url: shown(path), status: 200, body: Some(Arc::new(Body::served(bytes))), ..Attempt::default() })
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() }
}

fn judge(issuer: Issuer, look: Look, observation: Observation, unseen: Vec<String>, rules: &RuleSet, policy: &Policy) -> Looked {
    let documents = Documents::read(&observation);
    let name = issuer.id.to_string();
    let known = Known::nothing(issuer, look);
    let assessment = assess(&observation, &documents, known, rules, policy, observation.at);
    Looked { name, at: observation.at, observation, assessment, unseen }
}

/// 1 before 3 before 0; both facts are said.
fn exit(looked: &[Looked], fail_on: FailOn) -> Exit {
    let findings = looked.iter().flat_map(|input| &input.assessment.findings);
    let failing = findings.filter(|finding| fail_on.fails(finding.severity) && !BLIND.contains(&finding.rule.as_str())).count();
    let blind: Vec<&String> = looked.iter().flat_map(|input| &input.unseen).collect();
    match failing {
        0 => talk("no finding at or above the threshold"),
        1 => talk("1 finding at or above the threshold"),
        more => talk(&format!("{more} findings at or above the threshold")),
    }
    for reason in &blind {
        talk(&format!("could not look: {}", visible(reason, 300)));
    }
    if blind.is_empty() {
        talk("everything asked for was seen");
    }
    match (failing, blind.len()) {
        (0, 0) => Exit::Clean,
        (0, _) => Exit::Unobserved,
        _ => Exit::Failed,
    }
}

fn json(input: &Looked) -> serde_json::Value {
    let standing = &input.assessment.standing;
    serde_json::json!({
        "issuer": input.name,
        "at": timestamp(input.at),
        "grade": standing.grade,
        "grade_version": Grade::VERSION,
        "grade_reasons": standing.grade_reasons,
        "findings": input.assessment.findings,
        "judgements": standing.judgements,
        "not_evaluated": standing.not_evaluated,
        "unseen": input.unseen,
    })
}

fn text(input: &Looked, rules: &RuleSet) -> String {
    let standing = &input.assessment.standing;
    let grade = standing.grade.map_or("no grade: no key set was judged", Grade::letter);
    let mut out = format!(
        "{}  {}\n",
        bold(&visible(&input.name, 200)),
        if standing.grade.is_some() { format!("grade {}", bold(grade)) } else { grade.to_owned() }
    );
    let mut findings: Vec<&Finding> = input.assessment.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        out.push('\n');
        out.push_str(&finding_text(finding, &input.observation, rules));
    }
    let counts = standing.judgements;
    out.push_str(&format!(
        "\n{} passed, {} failed, {} do not apply, {} could not be judged{}\n",
        counts.pass,
        counts.fail,
        counts.not_applicable,
        counts.not_evaluated,
        if counts.broken > 0 { format!(", {} broke", counts.broken) } else { String::new() }
    ));
    if let Some(reasons) = summarise(&standing.not_evaluated) {
        out.push_str(&faint(&reasons));
    }
    out.push('\n');
    out
}

/// What is wrong, where, why it matters, how to mend it.
fn finding_text(finding: &Finding, observation: &Observation, rules: &RuleSet) -> String {
    let possible = if finding.certainty == Certainty::Possible { " (possible)" } else { "" };
    let mut out = format!("{} {}{possible}\n", severity(finding.severity), bold(&finding.rule));
    out.push_str(&wrap(&visible(&finding.message, 600), "  ", 96));
    if let Some(place) = place(finding, observation) {
        out.push_str(&format!("  {}\n", faint(&place)));
    }
    let Some(rule) = rules.find(&finding.rule) else { return out };
    if finding.severity >= Severity::Low {
        let why = rule.document.description.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        out.push_str(&wrap(&why, "    ", 92));
        out.push_str("    To mend it:\n");
        out.push_str(&wrap(rule.document.remediation.split("\n\n").next().unwrap_or_default(), "    ", 92));
    }
    for line in wrap(&finding.cites.join(" · "), "", 92).lines() {
        out.push_str(&format!("    {}\n", faint(line)));
    }
    out
}

/// `keys.json:4:9 /keys/0/n · kid "2024-01" · thumbprint …`.
fn place(finding: &Finding, observation: &Observation) -> Option<String> {
    let attempt = match finding.document {
        DocumentKind::Discovery => observation.discovery.as_ref(),
        DocumentKind::Jwks => observation.jwks.as_ref(),
        _ => None,
    };
    let mut parts = Vec::new();
    if let Some(attempt) = attempt {
        let line = attempt
            .body
            .as_ref()
            .and_then(|body| parse::json::locate(&body.bytes, &finding.pointer))
            .map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        parts.push(format!("{}{line} {}", visible(&attempt.url, 200), visible(&finding.pointer, 120)).trim_end().to_owned());
    }
    if let Some(kid) = &finding.subject.kid {
        parts.push(format!("kid \"{}\"", visible(kid, 80)));
    }
    if let Some(thumbprint) = &finding.subject.thumbprint {
        parts.push(format!("thumbprint {thumbprint}"));
    }
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// Reasons once, each with the number of rules it keeps from judging.
fn summarise(skipped: &[crate::model::NotEvaluated]) -> Option<String> {
    let mut reasons: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for skip in skipped {
        *reasons.entry(skip.reason.as_str()).or_default() += 1;
    }
    let lines: Vec<String> =
        reasons.into_iter().map(|(reason, count)| format!("  {count} not judged: {}\n", visible(reason, 200))).collect();
    (!lines.is_empty()).then(|| lines.concat())
}
