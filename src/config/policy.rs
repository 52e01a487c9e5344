//! `[policy]` and `[issuer.policy]`: the parameters of the rule catalogue, laid over those that hold already.

use toml::Spanned;

use super::build;
use super::raw::FAMILIES;
use super::reader::{Desk, Table, one_of};
use crate::cadence::Cadence;
use crate::policy::Policy;

/// Lays a table over a policy; the rule ids that it names are collected.
pub(super) fn apply(table: &Table<'_>, policy: &mut Policy, rules: &mut Vec<Spanned<String>>) {
    let duration = |name| table.duration(name).map(Spanned::into_inner);
    set(&mut policy.max_key_age, duration("max_key_age"));
    set(&mut policy.max_token_lifetime, duration("max_token_lifetime"));
    set(&mut policy.max_verifier_cache, duration("max_verifier_cache"));
    set(&mut policy.prepublication, duration("prepublication"));
    set(&mut policy.min_overlap, duration("min_overlap").map(Some));
    set(&mut policy.expected_cadence, table.duration_from("expected_cadence", "1s").map(Some));
    set(&mut policy.verifiers, table.plain_texts("verifiers"));
    set(&mut policy.allowed_algs, table.plain_texts("allowed_algs").map(Some));
    set(&mut policy.allowed_curves, table.plain_texts("allowed_curves"));
    set(&mut policy.fail_threshold, table.whole("fail_threshold").and_then(|number| u32::try_from(number).ok()));
    set(&mut policy.allowed_hosts, table.plain_texts("allowed_hosts"));
    set(&mut policy.issuer_alias, table.plain_texts("issuer_alias"));
    set(&mut policy.issuer_template, table.text("issuer_template").map(|text| Some(text.into_inner())));
    set(&mut policy.allow_none_code_flow, table.flag("allow_none_code_flow"));
    set(&mut policy.revoked_keys, table.revoked_keys("revoked_keys"));
    set(&mut policy.pinned_thumbprints, table.plain_texts("pinned_thumbprints"));
    severities(table, policy, rules);
    change_windows(table);

    for field in table.fields().iter().filter(|field| !TYPED.contains(&field.name) && table.sound(field)) {
        if let Some(written) = table.written(field.name) {
            policy.other.insert(field.name.to_owned(), written.to_owned());
        }
    }
}

/// The parameters with a field of their own.
const TYPED: [&str; 18] = [
    "max_key_age",
    "max_token_lifetime",
    "max_verifier_cache",
    "prepublication",
    "min_overlap",
    "expected_cadence",
    "verifiers",
    "allowed_algs",
    "allowed_curves",
    "fail_threshold",
    "allowed_hosts",
    "issuer_alias",
    "issuer_template",
    "allow_none_code_flow",
    "revoked_keys",
    "pinned_thumbprints",
    "severity",
    "change_windows",
];

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn severities(table: &Table<'_>, policy: &mut Policy, rules: &mut Vec<Spanned<String>>) {
    for (rule, severity) in table.severities("severity") {
        if is_rule_id(table.desk, &rule) {
            policy.severity.insert(rule.get_ref().clone(), severity);
            rules.push(rule);
        }
    }
}

/// Whether it has the form of a rule id; whether there is such a rule is found in `cli`.
pub(super) fn is_rule_id(desk: &Desk<'_>, rule: &Spanned<String>) -> bool {
    let text = rule.get_ref();
    let Some((family, name)) = text.split_once('/') else {
        desk.refuse(rule.span(), format!("{text:?} is no rule id"), "write family and name, such as \"key/rsa-too-small\"");
        return false;
    };
    if !FAMILIES.contains(&family) {
        desk.refuse(rule.span(), format!("there is no rule family {family:?}"), one_of(family, FAMILIES));
        return false;
    }
    if name.is_empty() {
        desk.refuse(rule.span(), format!("{text:?} is no rule id"), "write family and name, such as \"key/rsa-too-small\"");
    }
    !name.is_empty()
}

/// Each window is a span of time, or a schedule and a length. No rule reads them yet.
fn change_windows(table: &Table<'_>) {
    for window in table.tables("change_windows") {
        window.date("from");
        window.date("until");
        let schedule = window.text("cron");
        if let Some(Err(error)) = schedule.as_ref().map(|text| Cadence::cron(text.get_ref())) {
            window.desk.refuse(window.span_of("cron"), error.what, error.write);
        }
        window.duration_from("for", "1m");
        if let Some(text) = window.text("timezone") {
            build::timezone(window.desk, &text);
        }
        let once = window.has("from") && window.has("until") && !window.has("cron") && !window.has("for");
        let again = window.has("cron") && window.has("for") && !window.has("from") && !window.has("until");
        if !once && !again {
            let write = "write { from = 2027-01-30, until = 2027-01-31 } or { cron = \"0 22 * * sat\", for = \"4h\" }";
            window.desk.refuse(window.span(), "a change window is a span of time, or a schedule and a length", write);
        }
    }
}
