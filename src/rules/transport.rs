//! Rules about how the documents were served.

use chrono::{DateTime, Duration};
use url::{Host, Url};

use super::{Check, Detail, Entry, Judgement, Skip, fail_if, rule, violation};
use crate::facts::{Facts, Look};
use crate::model::{Attempt, Channel, DocumentKind, UnseenReason, Violation};

pub(super) const RULES: &[Entry] = &[
    rule!("transport/bad-status", Check::Issuer(bad_status)),
    rule!("transport/not-https", Check::Issuer(not_https)),
    rule!("transport/private-address", Check::Issuer(private_address)),
    rule!("transport/redirect-other-origin", Check::Issuer(redirect_other_origin)),
    rule!("transport/tls-certificate-invalid", Check::Issuer(tls_certificate_invalid)),
];

/// OpenID Connect Discovery 1.0 §7.1: TLS MUST be used. Judged on the text, before anything is requested.
fn not_https(facts: &Facts) -> Judgement {
    let issuer = facts.issuer;
    let configured = [
        ("issuer", issuer.url.as_ref().map(|url| url.as_str().to_owned())),
        ("discovery URL", issuer.discovery_request()),
        ("jwks_uri", issuer.jwks_uri.clone()),
    ];
    let requested = facts.observation.discovery.as_ref().map(|attempt| ("discovery URL", Some(attempt.url.clone())));
    let mut violations: Vec<Violation> = Vec::new();
    for (what, url) in configured.into_iter().chain(requested) {
        let Some(url) = url else { continue };
        if violations.is_empty() && is_plain_http(&url) && !(issuer.allow_http_loopback && is_loopback_url(&url)) {
            violations.push(violation(DocumentKind::Http, "", format!("the {what} {url} is not https; nothing was requested")));
        }
    }
    Ok(violations)
}

fn redirect_other_origin(facts: &Facts) -> Judgement {
    let mut violations = Vec::new();
    let mut answered = false;
    for (channel, attempt) in facts.attempts() {
        answered |= attempt.status != 0 || !attempt.redirects.is_empty();
        violations.extend(foreign_redirect(channel, attempt, facts));
    }
    if violations.is_empty() && !answered { Err(no_answer(facts)) } else { Ok(violations) }
}

fn foreign_redirect(channel: Channel, attempt: &Attempt, facts: &Facts) -> Option<Violation> {
    let from = Url::parse(&attempt.url).ok()?;
    let say = |case, text: String| violation(DocumentKind::Http, "Location", text).case(case);
    let name = channel.name();
    for hop in &attempt.redirects {
        let Ok(to) = Url::parse(&hop.to) else {
            return Some(say("other-site", format!("{name}: {} redirects ({}) to something that is no URL", attempt.url, hop.status)));
        };
        if to.scheme() != "https" && from.scheme() == "https" && !(facts.issuer.allow_http_loopback && is_loopback_url(&hop.to)) {
            return Some(say(
                "plain-http",
                format!("{name}: {} redirects ({}) to {}, which is not https", attempt.url, hop.status, hop.to),
            ));
        }
    }
    let foreign = attempt.redirects.iter().filter_map(|hop| Url::parse(&hop.to).ok().map(|to| (hop, to))).find(|(_, to)| {
        to.origin() != from.origin()
            && !to.host_str().is_some_and(|host| facts.policy.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)))
    });
    if let Some((hop, to)) = foreign {
        let case = if same_site(&from, &to) { "same-site" } else { "other-site" };
        return Some(say(case, format!("{name}: {} redirects ({}) to another origin, {}", attempt.url, hop.status, hop.to)));
    }
    let refused = attempt.unseen.as_ref().filter(|unseen| unseen.reason == UnseenReason::Redirect)?;
    Some(say("too-many", format!("{name}: {}: {}", attempt.url, unseen_text(&refused.text))))
}

fn unseen_text(text: &str) -> &str {
    text.strip_prefix("redirect: ").unwrap_or(text)
}

/// Another host of one registrable domain, on the same port; IP literals and names without one are never the same site.
fn same_site(a: &Url, b: &Url) -> bool {
    let domain = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => psl::domain_str(name.trim_end_matches('.')).map(str::to_owned),
        _ => None,
    };
    a.port_or_known_default() == b.port_or_known_default() && domain(a).is_some() && domain(a) == domain(b)
}

/// RFC 5280 §6, RFC 9525 §6: the chain leads to a trusted root, is in force, and names the host.
fn tls_certificate_invalid(facts: &Facts) -> Judgement {
    let mut handshake = false;
    for (channel, attempt) in facts.attempts() {
        handshake |= attempt.unseen.is_none() || attempt.status != 0;
        let Some(unseen) = &attempt.unseen else { continue };
        if unseen.reason == UnseenReason::Tls && unseen.text.contains("certificate") {
            if is_about_time(&unseen.text) && clocks_disagree(facts) {
                return Err(Skip::NotEvaluated(format!(
                    "{}, but the server's clock and ours disagree by more than five minutes",
                    unseen.text
                )));
            }
            return Ok(vec![violation(DocumentKind::Tls, "", format!("{}: {}", channel.name(), unseen.text))]);
        }
    }
    if handshake { Ok(Vec::new()) } else { Err(no_answer(facts)) }
}

/// Whether the fault is that the certificate is out of date, or not in force yet.
fn is_about_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["expired", "notvalidyet", "not valid yet"].iter().any(|word| text.contains(word))
}

/// Whether another answer of this look carries a time (RFC 9110 §6.6.1) far from our own.
fn clocks_disagree(facts: &Facts) -> bool {
    let dates = facts.attempts().filter_map(|(_, attempt)| DateTime::parse_from_rfc2822(attempt.header("Date")?).ok());
    dates.into_iter().any(|date| (date.to_utc() - facts.observation.at).abs() > Duration::minutes(5))
}

/// OpenID Connect Discovery 1.0 §4.2 and RFC 8414 §3.2: a successful response MUST use 200 OK.
fn bad_status(facts: &Facts) -> Judgement {
    // One look alone has nothing to be in a row with.
    let threshold = if facts.look == Look::Watched { facts.policy.fail_threshold } else { 1 };
    let mut violations = Vec::new();
    let mut dark = false;
    for (channel, attempt) in facts.attempts() {
        let state = facts.ledger.channel(channel);
        let answered = attempt.unseen.as_ref().is_some_and(|unseen| unseen.reason == UnseenReason::Status);
        dark |= attempt.status == 0;
        if !answered {
            continue;
        }
        let name = channel.name();
        let vanished = matches!(attempt.status, 404 | 410) && state.last_200.is_some_and(|last| facts.now - last <= Duration::days(7));
        let wait = attempt
            .header("Retry-After")
            .filter(|_| attempt.status == 429)
            .map_or_else(String::new, |value| format!(" (Retry-After: {value})"));
        if vanished {
            let case = if channel == Channel::Jwks { "key-set-vanished" } else { "document-vanished" };
            violations.push(
                violation(
                    DocumentKind::Http,
                    "",
                    format!("{name}: {} vanished: status {}, it was there within the last 7 days", attempt.url, attempt.status),
                )
                .case(case),
            );
        } else if state.bad_status >= threshold {
            let times = if state.bad_status > 1 { format!(", {} times in a row", state.bad_status) } else { String::new() };
            violations.push(violation(
                DocumentKind::Http,
                "",
                format!("{name}: {} answers with status {}{wait}{times}", attempt.url, attempt.status),
            ));
        }
    }
    if violations.is_empty() && (dark || facts.attempts().next().is_none()) { Err(no_answer(facts)) } else { Ok(violations) }
}

fn private_address(facts: &Facts) -> Judgement {
    let refused = facts.attempts().find_map(|(channel, attempt)| {
        attempt.unseen.as_ref().filter(|unseen| unseen.reason == UnseenReason::AddressRefused).map(|unseen| (channel, attempt, unseen))
    });
    match refused {
        Some((channel, attempt, unseen)) => {
            let target = attempt.redirects.last().map_or(&attempt.url, |hop| &hop.to);
            fail_if(true, || violation(DocumentKind::Http, "", format!("{}: {target} was not requested: {}", channel.name(), unseen.text)))
        }
        None if facts.attempts().any(|(_, attempt)| attempt.status != 0) => Ok(Vec::new()),
        None => Err(no_answer(facts)),
    }
}

fn no_answer(facts: &Facts) -> Skip {
    match facts.attempts().find_map(|(_, attempt)| attempt.unseen.as_ref()) {
        Some(unseen) => Skip::Unseen(format!("there was no answer: {}", unseen.text)),
        None => Skip::NotEvaluated("nothing was requested".to_owned()),
    }
}

pub(super) fn is_plain_http(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() != "https")
}

/// `localhost`, 127/8 or `::1`.
pub(super) fn is_loopback_url(url: &str) -> bool {
    match Url::parse(url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
