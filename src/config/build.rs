//! From the tables of the file to a [`Config`]: values become newtypes, and what they mean together is checked here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Duration;
use chrono_tz::Tz;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use toml::Spanned;
use toml::de::DeTable;
use url::{Host, Url};

use super::policy;
use super::problem::{Place, Source};
use super::raw::{self, FAMILIES};
use super::reader::{Desk, Table, nearest, one_of};
use super::secret::Secret;
use super::{Channel, ChannelKind, Config, Credentials, DatabaseUrl, Email, Monitor, ReportFormat, ReportSchedule, Tls, Watch};
use crate::cadence::Cadence;
use crate::model::{Destination, Issuer, IssuerId, IssuerUrl, Profile, Rotation};
use crate::policy::{Limits, Policy, Route, Routing};

/// A configuration whose problems may still be in the notes.
pub(super) struct Draft {
    monitor: Monitor,
    limits: Limits,
    alerts: bool,
    policy: Arc<Policy>,
    watches: Vec<Watch>,
    channels: Vec<Channel>,
    has_channel: bool,
    reports: Vec<ReportSchedule>,
    rules: Vec<Spanned<String>>,
}

/// A channel as routes and reports know it: its id, and where its messages go.
struct Named {
    id: String,
    destinations: Vec<Destination>,
}

pub(super) fn build<'a>(desk: &'a Desk<'a>, document: &'a DeTable<'a>, span: Range<usize>) -> Draft {
    let root = Table::open(desk, &raw::ROOT, document, span);
    let alerts = root.choice("alerts") != Some("none");
    let nothing = DeTable::new();
    let monitor_table = root.table("monitor").unwrap_or_else(|| Table::open(desk, &raw::MONITOR, &nothing, 0..0));
    let monitor = monitor(&monitor_table);
    let cadence = monitor_table.cadence().unwrap_or_else(|| Cadence::every(Duration::minutes(5)));
    let limits = root.table("limits").map(|table| self::limits(&table)).unwrap_or_default();

    let issuer_tables = root.tables("issuer");
    let issuer_ids = ids(&issuer_tables, "issuer");
    let channel_tables = root.channels("channel");
    let (named, channels) = self::channels(&channel_tables);
    let mut rules = Vec::new();

    let routes = root.tables("route").iter().map(|table| route(table, &issuer_ids, &named, &mut rules)).collect();
    let destinations = named.iter().filter(|_| alerts).flat_map(|channel| channel.destinations.clone()).collect();
    let mut policy = Policy {
        configured: true,
        max_keys: limits.keys,
        max_depth: limits.depth,
        routing: Routing { routes, destinations },
        ..Policy::default()
    };
    if let Some(table) = root.table("policy") {
        policy::apply(&table, &mut policy, &mut rules);
    }
    let policy = Arc::new(policy);
    let watches = issuer_tables.iter().filter_map(|table| watch(table, &policy, &cadence, &mut rules)).collect();
    let reports = root.tables("report").iter().filter_map(|table| report(table, &named)).collect();
    Draft { monitor, limits, alerts, policy, watches, channels, has_channel: !channel_tables.is_empty(), reports, rules }
}

impl Draft {
    pub(super) fn finish(self, source: Source) -> Config {
        let mut missing = Vec::new();
        if self.watches.is_empty() {
            missing.push((
                "no issuer is configured, so there is nothing to watch",
                "write\n[[issuer]]\nid = \"acme\"\nurl = \"https://login.acme.example\"",
            ));
        }
        if self.alerts && !self.has_channel {
            missing.push((
                "no channel is configured, so nobody would be told",
                "write a [[channel]], or alerts = \"none\" at the top of the file to run without:\n[[channel]]\nid = \"soc\"\nkind = \"webhook\"\nurl = { env = \"SOC_WEBHOOK\" }\nsecrets = [{ file = \"soc.secret\" }]",
            ));
        }
        Config {
            monitor: self.monitor,
            limits: self.limits,
            alerts: self.alerts,
            watches: self.watches,
            channels: self.channels,
            reports: self.reports,
            policy: self.policy,
            rules: self.rules.into_iter().map(|rule| (rule.get_ref().clone(), Place(rule.span()))).collect(),
            runnable: missing.into_iter().map(|(message, write)| source.problem(None, message, write)).collect(),
            source,
        }
    }
}

fn monitor(table: &Table<'_>) -> Monitor {
    let desk = table.desk;
    let whole = |name, default| table.whole(name).and_then(|number| usize::try_from(number).ok()).unwrap_or(default);
    Monitor {
        database: table
            .text("database")
            .and_then(|text| database(desk, &text))
            .unwrap_or_else(|| DatabaseUrl::Sqlite(desk.path("issuerwatch.db"))),
        listen: match table.text("listen") {
            Some(text) => listen(desk, &text),
            None => Some(SocketAddr::from(([127, 0, 0, 1], 9460))),
        },
        timezone: table.text("timezone").and_then(|text| timezone(desk, &text)).unwrap_or(Tz::UTC),
        concurrency: whole("concurrency", 64),
        per_host: whole("per_host", 4),
        proxy: table.text("proxy").and_then(|text| proxy(desk, &text)),
        ca_file: table.text("ca_file").and_then(|text| ca_file(desk, &text)),
    }
}

fn database(desk: &Desk<'_>, text: &Spanned<String>) -> Option<DatabaseUrl> {
    const WRITE: &str = "write \"sqlite:issuerwatch.db\"";
    let (scheme, rest) = text.get_ref().split_once(':').unwrap_or(("", text.get_ref()));
    match scheme {
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path == ":memory:" {
                desk.refuse(text.span(), "the history needs a file", WRITE);
                return None;
            }
            Some(DatabaseUrl::Sqlite(desk.path(path)))
        }
        "postgres" | "postgresql" => {
            // The URL usually holds a password.
            desk.blots.borrow_mut().push(text.span());
            desk.refuse(text.span(), format!("a `{scheme}://` database is not in this version"), WRITE);
            None
        }
        _ => {
            desk.refuse(text.span(), "this is no database", WRITE);
            None
        }
    }
}

fn listen(desk: &Desk<'_>, text: &Spanned<String>) -> Option<SocketAddr> {
    if text.get_ref() == "off" {
        return None;
    }
    match text.get_ref().parse::<SocketAddr>() {
        Ok(address) if address.ip().to_canonical().is_loopback() => Some(address),
        Ok(address) => {
            let write = format!("write \"127.0.0.1:{}\"; other addresses need authentication, which comes later", address.port());
            desk.refuse(text.span(), "the web pages are served on loopback only: they have no authentication yet", write);
            None
        }
        Err(_) => {
            desk.refuse(text.span(), "this is no address and port", "write \"127.0.0.1:9460\", or \"off\" for no web pages");
            None
        }
    }
}

pub(super) fn timezone(desk: &Desk<'_>, text: &Spanned<String>) -> Option<Tz> {
    let found = text.get_ref().parse::<Tz>().ok();
    if found.is_none() {
        let near = nearest(text.get_ref(), chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
        let write = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write an IANA name, such as \"UTC\" or \"Europe/Berlin\"".to_owned(),
        };
        desk.refuse(text.span(), format!("there is no time zone {:?}", text.get_ref()), write);
    }
    found
}

fn proxy(desk: &Desk<'_>, text: &Spanned<String>) -> Option<Url> {
    const WRITE: &str = "write a URL, such as \"http://proxy.example:3128\"";
    let url = Url::parse(text.get_ref()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        desk.refuse(text.span(), "this is no HTTP proxy", WRITE);
        return None;
    };
    (!has_credentials(desk, text, &url, "a proxy with a password is not in this version", WRITE)).then_some(url)
}

/// A password in a URL stands in the file's own text, and would be sent to and shown at many places.
fn has_credentials(desk: &Desk<'_>, text: &Spanned<String>, url: &Url, message: &str, write: &str) -> bool {
    let found = !url.username().is_empty() || url.password().is_some();
    if found {
        desk.blots.borrow_mut().push(text.span());
        desk.refuse(text.span(), message, write);
    }
    found
}

fn ca_file(desk: &Desk<'_>, text: &Spanned<String>) -> Option<PathBuf> {
    const WRITE: &str = "name a file of PEM certificates";
    let path = desk.path(text.get_ref());
    let found = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        certificates.map(|found| found.len()).map_err(|error| error.to_string())
    });
    match found {
        Ok(0) => desk.refuse(text.span(), format!("{} holds no certificate", path.display()), WRITE),
        Ok(_) => return Some(path),
        Err(error) => desk.refuse(text.span(), format!("cannot read {}: {error}", path.display()), WRITE),
    }
    None
}

fn limits(table: &Table<'_>) -> Limits {
    let default = Limits::default();
    let whole = |name, default| table.whole(name).and_then(|number| usize::try_from(number).ok()).unwrap_or(default);
    Limits {
        body: table.size("body").unwrap_or(default.body),
        time: table.duration_from("time", "1s").and_then(|time| time.to_std().ok()).unwrap_or(default.time),
        redirects: whole("redirects", default.redirects),
        keys: whole("keys", default.keys),
        depth: whole("depth", default.depth),
    }
}

/// The ids of tables, checked for characters and repetition.
fn ids(tables: &[Table<'_>], what: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for table in tables {
        let Some(id) = table.text("id") else { continue };
        let text = id.get_ref();
        let good = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if !good {
            let write = "write at most 64 letters, digits, dots, hyphens and underscores, a letter or digit first";
            table.desk.refuse(id.span(), format!("{text:?} is no {what} id"), write);
        } else if !seen.insert(text.clone()) {
            table.desk.refuse(id.span(), format!("there are two {what}s with the id {text:?}"), "give one of them another id");
        }
    }
    seen
}

fn watch(table: &Table<'_>, shared: &Arc<Policy>, cadence: &Cadence, rules: &mut Vec<Spanned<String>>) -> Option<Watch> {
    let profile = match table.choice("profile") {
        Some("oauth") => Profile::Oauth,
        Some("key-publisher") => Profile::KeyPublisher,
        Some("fapi2") => Profile::Fapi2,
        Some("jwks") => Profile::Jwks,
        _ => Profile::Oidc,
    };
    sources(table, profile);
    let policy = table.table("policy").map(|overrides| {
        let mut policy = Policy::clone(shared);
        policy::apply(&overrides, &mut policy, rules);
        Arc::new(policy)
    });
    let cadence = table.cadence().unwrap_or_else(|| cadence.clone());
    let issuer = Issuer {
        url: table.text("url").and_then(|text| issuer_url(table.desk, &text)),
        discovery_url: table.text("discovery_url").and_then(|text| document_url(table.desk, &text)),
        jwks_uri: table.text("jwks_uri").and_then(|text| document_url(table.desk, &text)),
        owner: table.text("owner").map(Spanned::into_inner),
        labels: table.labels("labels"),
        profile: Some(profile),
        rotation: if table.choice("rotation") == Some("autonomous") { Rotation::Autonomous } else { Rotation::Managed },
        allow_private: table.flag("allow_private").unwrap_or(false),
        allow_http_loopback: table.flag("allow_http_loopback").unwrap_or(false),
        // Noted already where it is missing or wrong.
        id: IssuerId::new(table.quiet_text("id")?),
    };
    Some(Watch { issuer, policy: policy.unwrap_or_else(|| Arc::clone(shared)), cadence })
}

/// Which URLs an issuer of this profile must have, and must not.
fn sources(table: &Table<'_>, profile: Profile) {
    let desk = table.desk;
    if profile != Profile::Jwks {
        if !table.has("url") {
            desk.missing(table.span(), "`url` is missing in [[issuer]]", "add url = \"https://…\", the issuer identifier exactly");
        }
        return;
    }
    if !table.has("jwks_uri") {
        desk.missing(table.span_of("profile"), "profile \"jwks\" needs a `jwks_uri`", "add jwks_uri = \"https://…\"");
    }
    if table.has("discovery_url") {
        let write = "leave `discovery_url` out, or write another profile";
        desk.refuse(table.span_of("discovery_url"), "profile \"jwks\" has no discovery document", write);
    }
}

const ISSUER_URL: &str = "write the issuer identifier exactly, such as \"https://login.example.com\"";

fn issuer_url(desk: &Desk<'_>, text: &Spanned<String>) -> Option<IssuerUrl> {
    match IssuerUrl::parse(text.get_ref()) {
        Ok(url) => (!has_credentials(desk, text, url.url(), "an issuer URL has no user name or password", ISSUER_URL)).then_some(url),
        Err(error) => {
            desk.refuse(text.span(), format!("this is no issuer URL: {error}"), ISSUER_URL);
            None
        }
    }
}

/// That it is http is a rule's business; the fetcher never requests it.
fn document_url(desk: &Desk<'_>, text: &Spanned<String>) -> Option<String> {
    const WRITE: &str = "write an absolute URL, such as \"https://login.example.com/jwks.json\"";
    match Url::parse(text.get_ref()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            (!has_credentials(desk, text, &url, "a document's URL has no user name or password", WRITE)).then(|| text.get_ref().clone())
        }
        _ => {
            desk.refuse(text.span(), "this is no URL of a document", WRITE);
            None
        }
    }
}

/// The names that routes and reports may use, and the channels whose secrets are there.
fn channels(tables: &[Table<'_>]) -> (Vec<Named>, Vec<Channel>) {
    ids(tables, "channel");
    let mut named = Vec::new();
    let mut channels = Vec::new();
    for table in tables {
        let (kind, recipients) = match table.choice("kind") {
            Some("email") => {
                let (email, to) = email(table);
                (email.map(ChannelKind::Email), to.into_iter().map(Some).collect())
            }
            _ => (webhook(table), vec![None]),
        };
        let Some(id) = table.quiet_text("id") else { continue };
        let destination = |recipient| Destination { channel: id.clone(), recipient };
        named.push(Named { destinations: recipients.into_iter().map(destination).collect(), id: id.clone() });
        channels.extend(kind.map(|kind| Channel { id, kind }));
    }
    (named, channels)
}

fn webhook(table: &Table<'_>) -> Option<ChannelKind> {
    let url = table.text_or_secret("url").and_then(|url| {
        let span = url.span();
        let url = url.into_inner()?;
        if !is_webhook_url(url.expose()) {
            table.desk.blots.borrow_mut().push(span.clone());
            let write = "write an https URL; http goes to loopback only";
            table.desk.refuse(span, "this is no webhook URL", write);
        }
        Some(url)
    });
    let mut secrets = Vec::new();
    for secret in table.secrets("secrets") {
        let span = secret.span();
        let Some(secret) = secret.into_inner() else { continue };
        if !is_signing_secret(&secret) {
            let write = "put `whsec_` and base64 there, such as the output of: echo whsec_$(openssl rand -base64 32)";
            table.desk.refuse(span, "this is no webhook secret", write);
        }
        secrets.push(secret);
    }
    Some(ChannelKind::Webhook { url: url?, secrets }).filter(|_| table.desk.secrets)
}

fn is_webhook_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => url.host().is_some_and(|host| is_loopback(&host)),
        _ => false,
    })
}

fn is_loopback<T: AsRef<str>>(host: &Host<T>) -> bool {
    match host {
        Host::Domain(name) => name.as_ref().eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).to_canonical().is_loopback(),
    }
}

fn is_signing_secret(secret: &Secret) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let decoded = secret.expose().strip_prefix("whsec_").map(|text| STANDARD.decode(text));
    matches!(decoded, Some(Ok(octets)) if !octets.is_empty())
}

/// The channel, and its recipients also where something else is wrong.
fn email(table: &Table<'_>) -> (Option<Email>, Vec<String>) {
    let desk = table.desk;
    let (tls, usual_port) = match table.choice("tls") {
        Some("starttls") => (Tls::Starttls, 587),
        Some("none") => (Tls::None, 25),
        _ => (Tls::Implicit, 465),
    };
    let server = table.text("server");
    if let Some(server) = &server {
        match Host::parse(server.get_ref()).or_else(|_| Host::parse(&format!("[{}]", server.get_ref()))) {
            Err(_) => desk.refuse(
                server.span(),
                "this is no host name",
                "write the mail server's name, such as \"mail.example\", and its port apart",
            ),
            Ok(host) if tls == Tls::None && !is_loopback(&host) => {
                let write = "write \"implicit\" or \"starttls\"; mail goes unprotected to loopback only";
                desk.refuse(table.span_of("tls"), "tls = \"none\" would show messages and password to the network", write);
            }
            Ok(_) => {}
        }
    }
    let credentials = match (table.text("user"), table.secret("password")) {
        (Some(user), Some(password)) => password.into_inner().map(|password| Credentials { user: user.into_inner(), password }),
        (Some(user), None) if !table.has("password") => {
            desk.missing(user.span(), "`user` is given without `password`", "add password = { file = \"…\" }");
            None
        }
        (None, Some(password)) if !table.has("user") => {
            desk.missing(password.span(), "`password` is given without `user`", "add user = \"…\"");
            None
        }
        _ => None,
    };
    let from = table.text("from").filter(|from| is_mailbox(desk, from)).map(Spanned::into_inner);
    let to = recipients(table);
    let port = table.whole("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(usual_port);
    let ca_file = table.text("ca_file").and_then(|text| ca_file(desk, &text));
    let email =
        server.zip(from).map(|(server, from)| Email { server: server.into_inner(), port, tls, credentials, ca_file, from, to: to.clone() });
    (email.filter(|_| desk.secrets), to)
}

fn recipients(table: &Table<'_>) -> Vec<String> {
    let Some(written) = table.texts("to") else { return Vec::new() };
    if written.is_empty() {
        table.desk.refuse(table.span_of("to"), "`to` is empty", "write at least one address, such as [\"soc@example.com\"]");
    }
    let mut to: Vec<String> = Vec::new();
    for address in written.into_iter().filter(|address| is_mailbox(table.desk, address)) {
        if to.contains(address.get_ref()) {
            table.desk.refuse(address.span(), format!("{:?} stands here twice", address.get_ref()), "leave one out");
        } else {
            to.push(address.into_inner());
        }
    }
    to
}

fn is_mailbox(desk: &Desk<'_>, text: &Spanned<String>) -> bool {
    let sound = text.get_ref().parse::<lettre::message::Mailbox>().is_ok() && !text.get_ref().contains(char::is_control);
    if !sound {
        desk.refuse(text.span(), format!("{:?} is no mail address", text.get_ref()), "write an address, such as \"soc@example.com\"");
    }
    sound
}

fn route(table: &Table<'_>, issuers: &BTreeSet<String>, channels: &[Named], rules: &mut Vec<Spanned<String>>) -> Route {
    let desk = table.desk;
    let named_rules: Vec<_> = table.texts("rule").unwrap_or_default().into_iter().filter(|rule| policy::is_rule_id(desk, rule)).collect();
    rules.extend(named_rules.iter().cloned());
    for family in table.texts("family").unwrap_or_default().iter().filter(|family| !FAMILIES.contains(&family.get_ref().as_str())) {
        desk.refuse(family.span(), format!("there is no rule family {:?}", family.get_ref()), one_of(family.get_ref(), FAMILIES));
    }
    for issuer in table.texts("issuer").unwrap_or_default().iter().filter(|issuer| !issuers.contains(issuer.get_ref())) {
        let known: Vec<&str> = issuers.iter().map(String::as_str).collect();
        desk.refuse(
            issuer.span(),
            format!("there is no issuer with the id {:?}", issuer.get_ref()),
            known_ids(issuer.get_ref(), &known, "issuer"),
        );
    }
    Route {
        severity: table.severity("severity"),
        rules: named_rules.into_iter().map(Spanned::into_inner).collect(),
        families: table.quiet_texts("family"),
        issuers: table.quiet_texts("issuer"),
        labels: table.labels("labels"),
        owners: table.plain_texts("owner").unwrap_or_default(),
        channels: channel_ids(table, channels),
        repeat: table.duration_from("repeat", "1m"),
    }
}

fn report(table: &Table<'_>, channels: &[Named]) -> Option<ReportSchedule> {
    match table.quiet_text("format").as_deref() {
        Some(later @ ("json" | "csv" | "oscal")) => {
            table.desk.refuse(table.span_of("format"), format!("the report format `{later}` is not in this version"), "write \"html\"");
        }
        _ => drop(table.choice("format")),
    }
    if !table.has("every") && !table.has("cron") {
        table.desk.missing(table.span(), "[[report]] has neither `cron` nor `every`", "add cron = \"0 7 * * 1\" for Monday at 7");
    }
    let period = table.duration_from("period", "1h").unwrap_or_else(|| Duration::days(7));
    let channels = channel_ids(table, channels);
    Some(ReportSchedule { cadence: table.cadence()?, period, format: ReportFormat::Html, channels })
}

/// `channels` of a route or report: at least one, and each of them exists.
fn channel_ids(table: &Table<'_>, channels: &[Named]) -> Vec<String> {
    let Some(ids) = table.texts("channels") else { return Vec::new() };
    if ids.is_empty() {
        table.desk.refuse(table.span_of("channels"), "`channels` is empty", "write the id of a channel");
    }
    let known: Vec<&str> = channels.iter().map(|channel| channel.id.as_str()).collect();
    for id in ids.iter().filter(|id| !known.contains(&id.get_ref().as_str())) {
        table.desk.refuse(
            id.span(),
            format!("there is no channel with the id {:?}", id.get_ref()),
            known_ids(id.get_ref(), &known, "channel"),
        );
    }
    ids.into_iter().map(Spanned::into_inner).collect()
}

fn known_ids(written: &str, known: &[&str], what: &str) -> String {
    match known {
        [] => format!("add a [[{what}]] with this id"),
        [..] if known.len() <= 5 => one_of(written, known),
        _ => match nearest(written, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write the id of one of the {} [[{what}]] tables", known.len()),
        },
    }
}
