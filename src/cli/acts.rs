//! `expect` and `approve`: what people decide, recorded with who and why.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;

use super::output::talk;
use super::{Done, Exit, StoreOptions, connect, usage};
use crate::clock::{Clock as _, SystemClock};
use crate::model::{Act, ActKind, Body, IssuerId, Thumbprint, visible};
use crate::parse;
use crate::store::Store;

#[derive(Args, Debug)]
pub(super) struct ExpectOptions {
    /// The issuer's id
    #[arg(long, value_name = "I")]
    issuer: String,
    /// The key's RFC 7638 thumbprint (SHA-256, base64url)
    #[arg(long, value_name = "T", required_unless_present = "jwk", conflicts_with = "jwk")]
    thumbprint: Option<String>,
    /// A file with the public JWK
    #[arg(long, value_name = "F")]
    jwk: Option<PathBuf>,
    /// Not before: RFC 3339 or a date
    #[arg(long, value_name = "T")]
    from: Option<String>,
    /// Not after: RFC 3339 or a date
    #[arg(long, value_name = "T")]
    until: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Args, Debug)]
pub(super) struct ApproveOptions {
    /// The issuer's id
    #[arg(long, value_name = "I", required_unless_present = "incident")]
    issuer: Option<String>,
    /// The key's RFC 7638 thumbprint (SHA-256, base64url)
    #[arg(long, value_name = "T", conflicts_with_all = ["jwk", "incident"])]
    thumbprint: Option<String>,
    /// A file with the public JWK
    #[arg(long, value_name = "F", conflicts_with = "incident")]
    jwk: Option<PathBuf>,
    /// Accept what this incident reports: its new keys, the changed issuer or `jwks_uri`
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    store: StoreOptions,
}

/// Who decides, and why.
#[derive(Args, Debug)]
struct Who {
    /// Why; it is kept with the decision
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who decides [default: the login name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) fn expect(options: &ExpectOptions) -> Done {
    let mut source = connect::open_for_acts(&options.store)?;
    let issuer = IssuerId::new(&options.issuer);
    source.say_if_unknown(&issuer)?;
    let thumbprint = thumbprint(options.thumbprint.as_deref(), options.jwk.as_deref())?
        .ok_or_else(|| usage("name the key with --thumbprint or --jwk"))?;
    let (from, until) = (source.moment(options.from.as_deref())?, source.moment(options.until.as_deref())?);
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        return Err(usage("--until must be later than --from"));
    }
    record(&mut *source.store, &options.who, issuer, ActKind::Expect { thumbprint: thumbprint.clone(), from, until })?;
    talk(&format!("expected at {}: {thumbprint}", options.issuer));
    Ok(Exit::Clean)
}

pub(super) fn approve(options: &ApproveOptions) -> Done {
    let mut source = connect::open_for_acts(&options.store)?;
    if let Some(id) = &options.incident {
        return approve_incident(&mut *source.store, id, options);
    }
    let issuer = IssuerId::new(options.issuer.as_deref().unwrap_or_default());
    source.say_if_unknown(&issuer)?;
    let thumbprint = thumbprint(options.thumbprint.as_deref(), options.jwk.as_deref())?
        .ok_or_else(|| usage("name what is approved: --thumbprint, --jwk or --incident"))?;
    record(&mut *source.store, &options.who, issuer.clone(), ActKind::ApproveKey { thumbprint: thumbprint.clone() })?;
    talk(&format!("approved at {issuer}: {thumbprint}"));
    Ok(Exit::Clean)
}

fn approve_incident(store: &mut dyn Store, id: &str, options: &ApproveOptions) -> Done {
    let incident =
        store.incident(id)?.ok_or_else(|| usage(format!("no incident \"{}\"; `issuerwatch incidents` lists them", visible(id, 80))))?;
    if options.issuer.as_deref().is_some_and(|issuer| issuer != incident.issuer.as_str()) {
        return Err(usage(format!("incident {id} is about {}, not {}", incident.issuer, options.issuer.as_deref().unwrap_or_default())));
    }
    let ledger = store.remembered(&incident.issuer)?.ledger;
    let rule = |wanted: &str| incident.findings.iter().any(|finding| finding.rule == wanted);
    let keys: Vec<Thumbprint> = incident
        .findings
        .iter()
        .filter(|finding| finding.rule == "rotation/unexpected-new-key")
        .map(|finding| Thumbprint(finding.subject.clone()))
        .collect();
    let new_issuer = ledger.issuer.filter(|_| rule("drift/issuer-changed")).map(|watched| watched.value);
    let new_jwks_uri = ledger.jwks_uri.filter(|_| rule("drift/jwks-uri-changed")).map(|watched| watched.value);
    if keys.is_empty() && new_issuer.is_none() && new_jwks_uri.is_none() {
        return Err(usage(format!(
            "incident {id} reports nothing that can be approved: only new keys, a changed issuer and a changed jwks_uri can"
        )));
    }
    let issuer = incident.issuer.clone();
    record(store, &options.who, issuer.clone(), ActKind::ApproveIncident { incident: id.to_owned(), keys, new_issuer, new_jwks_uri })?;
    talk(&format!("approved at {issuer}: what {id} reports"));
    Ok(Exit::Clean)
}

fn thumbprint(text: Option<&str>, file: Option<&std::path::Path>) -> anyhow::Result<Option<Thumbprint>> {
    if let Some(path) = file {
        return thumbprint_of_file(path).map(Some);
    }
    let Some(text) = text else { return Ok(None) };
    let hash = text.strip_prefix("raw:").unwrap_or(text);
    if hash.len() != 43 || !hash.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) {
        return Err(usage(format!("--thumbprint: \"{}\" is not a SHA-256 thumbprint (43 base64url characters)", visible(text, 80))));
    }
    Ok(Some(Thumbprint(text.to_owned())))
}

/// The file holds one JWK, or a JWK Set with one key.
fn thumbprint_of_file(path: &std::path::Path) -> anyhow::Result<Thumbprint> {
    let bytes = std::fs::read(path).map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
    let wrapped = [b"{\"keys\":[".as_slice(), &bytes, b"]}"].concat();
    let set = parse::jwks(&Body::served(bytes), usize::MAX, parse::LIFECYCLE_DEPTH)
        .or_else(|_| parse::jwks(&Body::served(wrapped), usize::MAX, parse::LIFECYCLE_DEPTH));
    match set.map(|set| set.keys) {
        Ok(keys) if keys.len() == 1 && keys[0].kty.is_none() => Err(usage(format!("{} is no JWK: it has no kty", path.display()))),
        Ok(keys) if keys.len() == 1 => Ok(keys[0].thumbprint.clone()),
        Ok(keys) => Err(usage(format!("{} holds {} keys; name one", path.display(), keys.len()))),
        Err(problem) => Err(usage(format!("{} is no JWK: {}", path.display(), problem.text))),
    }
}

fn record(store: &mut dyn Store, who: &Who, issuer: IssuerId, kind: ActKind) -> anyhow::Result<()> {
    let reason = who.reason.trim();
    if reason.is_empty() {
        return Err(usage("--reason must say why"));
    }
    let at: DateTime<Utc> = connect::whole_seconds(SystemClock.now());
    let by = who.by.clone().or_else(crate::config::login_name).unwrap_or_else(|| "unknown".to_owned());
    store.act(&Act { at, by, reason: reason.to_owned(), issuer, kind })?;
    Ok(())
}
