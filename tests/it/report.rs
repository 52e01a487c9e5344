//! The audit report, from a store to one HTML file.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chrono::Duration;
use issuerwatch::model::{Channel, FindingState, Grade, IssuerId, RuleText, Severity, Unseen, UnseenReason};
use issuerwatch::report::{self, IssuerSection, Options, Report, Sight};
use issuerwatch::store::StoreError;

use crate::estate::{self, Memory, at, begin, now, span};

fn options() -> Options<'static> {
    Options { issuer: None, since: None, until: None, tz: chrono_tz::UTC, generated: now(), rule_text: &estate::rule_text }
}

fn demo() -> Report {
    report::gather(&mut estate::demo(), options()).unwrap()
}

fn html(report: &Report) -> String {
    report::html::render(report).unwrap()
}

fn section<'a>(report: &'a Report, id: &str) -> &'a IssuerSection {
    report.issuers.iter().find(|issuer| issuer.id.as_str() == id).unwrap()
}

/// The part of the page about one issuer.
fn article(page: &str, id: &str) -> String {
    let start = page.find(&format!("<h3>{id}")).unwrap_or_else(|| panic!("no section for {id}"));
    page[start..].split("</article>").next().unwrap().to_owned()
}

fn issuers_of_good_size(count: u32) -> Memory {
    let (demo, mut memory) = (estate::demo(), Memory::default());
    let templates = ["acme-workforce", "partner-sso", "billing-b2b"];
    for number in 0..count {
        let (old, id) = (templates[number as usize % 3], IssuerId::new(format!("issuer-{number:03}")));
        let row = demo.rows.iter().find(|row| row.issuer.as_str() == old).unwrap();
        memory.rows.push(issuerwatch::store::IssuerRow { issuer: id.clone(), ..row.clone() });
        for finding in demo.findings.iter().filter(|finding| finding.issuer.as_str() == old) {
            memory.findings.push(issuerwatch::model::Finding { issuer: id.clone(), ..finding.clone() });
        }
        for event in demo.events.iter().filter(|event| event.issuer.as_str() == old) {
            memory.events.push(issuerwatch::model::Event { issuer: id.clone(), ..event.clone() });
        }
        for day in 0..104_u32 {
            let from = f64::from(day);
            let failed = Unseen::new(UnseenReason::Status, 500 + number % 9);
            memory.spans.push(span(id.as_str(), from, from + 0.5, 3, None, None));
            memory.spans.push(span(id.as_str(), from + 0.75, from + 0.75, 1, None, (day % 2 == 0).then_some(&failed)));
        }
    }
    memory
}

/// Also what `scripts/screenshot` is pointed at.
#[test]
fn the_page_is_one_file_without_scripts_or_external_assets() {
    let page = html(&demo());
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html"), &page).unwrap();
    assert!(page.contains(r#"content="default-src 'none'; style-src 'unsafe-inline'; img-src data:""#));
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("<img") && !page.contains("url("));
    let targets: Vec<&str> = page.split("href=\"").skip(1).chain(page.split("src=\"").skip(1)).collect();
    assert!(targets.iter().all(|target| target.starts_with('#')), "only links within the page");
}

#[test]
fn the_worst_issuer_comes_first_and_the_retired_last() {
    let report = demo();
    let order: Vec<&str> = report.issuers.iter().map(|issuer| issuer.id.as_str()).collect();
    assert_eq!(order, ["partner-sso", "acquired-co", "billing-b2b", "ephemeral-ci", "hostile", "acme-workforce", "old-portal"]);
}

#[test]
fn what_was_not_seen_is_never_called_clean() {
    let report = demo();
    assert_eq!(section(&report, "acquired-co").sight(), Sight::NeverSeen);
    assert_eq!(section(&report, "billing-b2b").sight(), Sight::NotSeenSince(at("2026-03-10T18:00:00Z")));
    let page = html(&report);
    assert!(page.contains("2 issuers could not be looked at"));
    let dark = article(&page, "billing-b2b");
    assert!(
        dark.contains("Not seen since 2026-03-10 18:00") && dark.contains("None on record") && !dark.contains("<strong>published</strong>")
    );
    let never = article(&page, "acquired-co");
    assert!(never.contains("Never seen; polled since 2026-02-19 00:00") && never.contains("No key set was judged"));
    assert!(page.contains("no canary configured"), "rules that were not judged are named");
}

#[test]
fn a_finding_comes_with_citation_controls_and_remediation() {
    let article = article(&html(&demo()), "partner-sso");
    for text in [
        "RSA key is shorter than 2048 bits",
        "RSA modulus has 1000 bits",
        "RFC 7518 §3.3; NIST SP 800-131A r2 §3 <span class=\"soft\">(not yet checked against its source)</span>",
        "NHI4<br>CSF PR.AA-04",
        "under a new <code>kid</code>",
        "<strong>never</strong>",
        "<span class=\"tag\">waived</span>",
        "<span class=\"tag\">possible</span>",
        "1 critical finding: RSA key is shorter than 2048 bits",
        "jwks_uri changed from https://sso.partner.example/jwks to https://sso.partner.example/oauth2/v1/keys.",
        "Advertised signing algorithms: added ES256.",
    ] {
        assert!(article.contains(text), "{text} is missing");
    }
}

#[test]
fn a_finding_of_a_rule_that_is_no_longer_known_is_still_shown() {
    let mut options = options();
    options.rule_text = &|_| None::<RuleText>;
    let page = html(&report::gather(&mut estate::demo(), options).unwrap());
    assert!(article(&page, "partner-sso").contains("</span> key/rsa-too-small <code"));
}

#[test]
fn hostile_text_is_escaped_shown_and_shortened() {
    let page = html(&demo());
    assert!(page.len() < 200_000, "{} bytes: a megabyte of kid is cut", page.len());
    assert!(!page.contains("<script>") && !page.contains("<img") && !page.contains("<svg onload") && !page.contains("<b>"));
    assert!(!page.contains('\u{202E}') && !page.contains('\0'));
    assert!(page.contains("⟨U+202E⟩") && page.contains("(empty kid)"));
    assert!(!page.contains("AAAAAAAAAA".repeat(20).as_str()));
}

#[test]
fn an_outage_is_an_interval_with_its_reason() {
    let report = demo();
    let availability = section(&report, "partner-sso").channel(Channel::Jwks).unwrap();
    assert_eq!((availability.polls, availability.answered, availability.percent().as_str()), (418, 411, "98.32 %"));
    let outage = &availability.outages[0];
    assert_eq!((outage.from, outage.recovered), (at("2025-12-13T00:00:00Z"), Some(at("2025-12-14T18:00:00Z"))));
    assert_eq!((outage.polls, outage.reason.as_str()), (7, "HTTP 503"));
    assert_eq!(section(&report, "partner-sso").channel(Channel::Discovery).unwrap().percent(), "100 %");
    let dark = section(&report, "billing-b2b").channel(Channel::Jwks).unwrap();
    assert_eq!(dark.outages[0].recovered, None);
    assert!(section(&report, "acquired-co").channel(Channel::Jwks).is_none(), "what was never asked for has no availability");
}

#[test]
fn a_single_failure_in_years_is_not_rounded_away() {
    let mut memory = estate::demo();
    memory.spans.push(span("old-portal", 21.0, 90.0, 1_000_000, None, None));
    memory.spans.push(span("old-portal", 91.0, 91.0, 1, None, Some(&Unseen::new(UnseenReason::Tls, "x"))));
    let report = report::gather(&mut memory, options()).unwrap();
    assert_eq!(section(&report, "old-portal").channel(Channel::Jwks).unwrap().percent(), "99.99 %");
}

#[test]
fn our_own_shutdown_is_no_outage() {
    let mut memory = estate::demo();
    let cancelled = Unseen::new(UnseenReason::Cancelled, "shutting down");
    memory.spans.push(span("old-portal", 21.0, 21.0, 1, Some(&cancelled), Some(&cancelled)));
    let report = report::gather(&mut memory, options()).unwrap();
    assert!(section(&report, "old-portal").availability.iter().all(|channel| channel.outages.is_empty() && channel.polls == 80));
}

#[test]
fn a_period_takes_its_part_of_a_long_quiet_span() {
    let report = report::gather(&mut estate::demo(), Options { since: Some(now() - Duration::days(10)), ..options() }).unwrap();
    assert_eq!(report.since, now() - Duration::days(10));
    let quiet = section(&report, "ephemeral-ci").channel(Channel::Jwks).unwrap();
    assert!((38..=42).contains(&quiet.polls), "{} polls in ten days of four", quiet.polls);
    assert!(section(&report, "partner-sso").channel(Channel::Jwks).unwrap().outages.is_empty());
    assert!(section(&report, "partner-sso").resolved.is_empty() && section(&report, "partner-sso").changes.is_empty());
    assert_eq!(section(&report, "partner-sso").open.len(), 4, "what is open is open, whenever it began");
}

#[test]
fn what_was_resolved_after_the_period_was_open_in_it() {
    let until = begin() + Duration::hours(12 * 24 + 6);
    let report = report::gather(&mut estate::demo(), Options { until: Some(until), ..options() }).unwrap();
    let partner = section(&report, "partner-sso");
    assert!(partner.open.iter().any(|finding| finding.rule == "transport/bad-status" && finding.state == FindingState::Resolved));
    assert!(!partner.open.iter().any(|finding| finding.rule == "rotation/unexpected-new-key"), "it began later");
    assert!(html(&report).contains("resolved since"));
}

#[test]
fn each_key_is_a_bar_and_uncertain_ends_are_lighter() {
    let article = article(&html(&demo()), "partner-sso");
    assert_eq!(article.matches("class=\"life\"").count(), 4);
    assert!(article.contains("<title id=\"issuer-1-t\">") && article.contains("<desc id=\"issuer-1-d\">4 keys published between"));
    assert!(article.contains("first seen 2026-02-17 00:00, last seen 2026-03-15 09:28, still published"));
    assert_eq!(article.matches("class=\"before\"").count(), 2, "two keys were there before anybody looked");
    assert!(article.matches("class=\"perhaps\"").count() >= 3);
    assert_eq!(article.matches("<g class=\"past\">").count(), 1);
    assert_eq!(article.matches("class=\"blind\"").count(), 1, "the outage is drawn");
    assert!(article.contains(">Jan 2026<"));
}

#[test]
fn hundreds_of_keys_are_folded_into_a_band() {
    let article = article(&html(&demo()), "ephemeral-ci");
    assert!(article.contains("600 keys published between") && article.contains("keys at the same time"));
    assert!(article.matches("class=\"band\"").count() > 20);
    assert!(article.matches("class=\"life\"").count() <= 8);
    assert!(article.contains("older keys are not listed") && article.contains("earlier polls with changes are not listed"));
    assert!(article.len() < 40_000, "{} bytes", article.len());
}

#[test]
fn a_demo_of_ninety_seconds_is_drawn_in_seconds() {
    let mut memory = estate::demo();
    memory.rows.retain(|row| row.issuer.as_str() == "acme-workforce");
    let first = now() - Duration::seconds(90);
    for key in memory.rows[0].ledger.keys.values_mut() {
        key.lives[0].from = first + Duration::seconds(i64::try_from(key.lives[0].polls).unwrap());
        (key.lives[0].after, key.lives[0].last, key.lives[0].gone) = (None, None, None);
    }
    memory.spans.clear();
    let page = html(&report::gather(&mut memory, Options { since: Some(first), ..options() }).unwrap());
    assert!(page.contains(">09:28:45<") || page.contains(">09:29:00<"), "ticks in seconds");
    assert!(page.contains("2026-03-15 09:30:00"), "times to the second");
}

#[test]
fn times_are_shown_in_the_configured_zone() {
    let page = html(&report::gather(&mut estate::demo(), Options { tz: chrono_tz::Europe::Berlin, ..options() }).unwrap());
    assert!(page.contains("Europe/Berlin") && article(&page, "partner-sso").contains("2026-02-17 01:00"));
}

#[test]
fn one_issuer_can_be_asked_for_and_an_unknown_one_is_refused() {
    let one = |id: &str| report::gather(&mut estate::demo(), Options { issuer: Some(IssuerId::new(id)), ..options() });
    let report = one("partner-sso").unwrap();
    assert_eq!((report.issuers.len(), report.title.as_str()), (1, "Signing keys and metadata of partner-sso"));
    assert_eq!(report.issuers[0].standing.grade, Some(Grade::F));
    assert_eq!(report.issuers[0].count(Severity::Critical), 1);
    assert!(matches!(one("nobody"), Err(StoreError::Refused(_))));
}

#[test]
fn an_empty_database_makes_a_report_that_says_so() {
    let report = report::gather(&mut Memory::default(), options()).unwrap();
    let page = html(&report);
    assert!(page.contains("No issuer was watched") && page.contains("The database holds no issuer"));
}

#[test]
fn a_large_estate_stays_small_enough_to_be_sent() {
    let mut memory = issuers_of_good_size(150);
    let page = html(&report::gather(&mut memory, options()).unwrap());
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
}
