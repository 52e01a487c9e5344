//! What may stand in the configuration file: every table, every name, its type and its sentence. Data only.
//!
//! The reader takes no name that is not here, and the JSON Schema is made from here: the two cannot disagree.

/// The names of one table.
pub(super) struct Shape {
    /// As people call it: `[monitor]`, `[[issuer]]`.
    pub(super) title: &'static str,
    pub(super) fields: &'static [Field],
}

/// One name.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// One sentence for the schema.
    pub(super) about: &'static str,
}

/// What a value must be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Flag,
    /// A whole number between two bounds.
    Whole(u64, u64),
    /// `90s`, `5m`, `4h`, `365d`, `2w`.
    Duration,
    /// `4MiB`, `64KiB` or bytes.
    Size,
    /// `99.5` or `"99.5%"`.
    Percent,
    /// A TOML date, or the same as text.
    Date,
    Choice(&'static [&'static str]),
    Texts,
    /// A text or several.
    TextOrTexts,
    /// `{ file = "…" }` or `{ env = "…" }`.
    Secret,
    Secrets,
    /// A text that may also be kept as a secret.
    TextOrSecret,
    /// Any names, each with a text.
    Labels,
    /// Rule ids, each with a severity or "off".
    Severities,
    /// Thumbprints or kids, or tables of one and the time of its withdrawal.
    RevokedKeys,
    Table(&'static Shape),
    Tables(&'static Shape),
    /// A table whose shape hangs on its `kind`.
    Channels,
    /// A name of the contract that this version does not have yet.
    NotYet {
        /// Its value may be a secret and is not shown.
        secret: bool,
    },
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: true, about }
}

const fn not_yet(name: &'static str, secret: bool) -> Field {
    Field { name, kind: Kind::NotYet { secret }, required: false, about: "" }
}

const EVERY: Field = optional("every", Kind::Duration, "The interval, at least 1s; or cron.");
const CRON: Field = optional("cron", Kind::Text, "crontab's five fields, in the monitor's timezone; or every.");

pub(super) static ROOT: Shape = Shape {
    title: "the file",
    fields: &[
        optional("alerts", Kind::Choice(&["channels", "none"]), "\"none\" sends no alerts, and allows running without any channel."),
        optional("monitor", Kind::Table(&MONITOR), "The monitor itself."),
        optional("limits", Kind::Table(&LIMITS), "What an issuer may send."),
        optional("policy", Kind::Table(&POLICY), "Thresholds and severities for every issuer."),
        optional("issuer", Kind::Tables(&ISSUER), "The issuers to watch."),
        optional("channel", Kind::Channels, "Where alerts and reports go."),
        optional("route", Kind::Tables(&ROUTE), "Which alerts go where; none: severity medium and above to every channel."),
        optional("report", Kind::Tables(&REPORT), "Reports sent on a schedule."),
    ],
};

pub(super) static MONITOR: Shape = Shape {
    title: "[monitor]",
    fields: &[
        optional("database", Kind::Text, "Where the history is kept: sqlite: and a path."),
        optional("listen", Kind::Text, "Loopback address and port of the web pages; \"off\" for none."),
        EVERY,
        CRON,
        optional("timezone", Kind::Text, "IANA name; of schedules and of times shown to people."),
        optional("concurrency", Kind::Whole(1, 10_000), "How many issuers are looked at at the same time."),
        optional("per_host", Kind::Whole(1, 1_000), "How many requests one host gets at the same time."),
        optional("proxy", Kind::Text, "An HTTP proxy for issuers and webhooks; environment proxies are not used."),
        optional("ca_file", Kind::Text, "PEM certificates that are added to the system's roots."),
        not_yet("rules", false),
        not_yet("heartbeat", true),
    ],
};

pub(super) static LIMITS: Shape = Shape {
    title: "[limits]",
    fields: &[
        optional("body", Kind::Size, "Bytes of one document after decompression."),
        optional("time", Kind::Duration, "For one whole document with its redirects."),
        optional("redirects", Kind::Whole(0, 20), "How many redirects are followed."),
        optional("keys", Kind::Whole(1, 100_000), "Keys of a set; those beyond are a finding and not judged."),
        optional("depth", Kind::Whole(1, 256), "Nesting of JSON."),
    ],
};

const MANY: u64 = 1_000_000;

/// Every parameter of the rule catalogue; those that no rule reads yet are kept all the same.
pub(super) static POLICY: Shape = Shape {
    title: "[policy]",
    fields: &[
        optional("max_key_age", Kind::Duration, "A key published for longer is a finding."),
        optional("max_token_lifetime", Kind::Duration, "How long the issuer's tokens live."),
        optional("max_verifier_cache", Kind::Duration, "How long verifiers keep a key set."),
        optional(
            "min_overlap",
            Kind::Duration,
            "How long an old key stays beside its successor; unset: max_token_lifetime + max_verifier_cache.",
        ),
        optional("min_enc_overlap", Kind::Duration, "The same for encryption keys."),
        optional("prepublication", Kind::Duration, "How long a new key is published before it signs."),
        optional("expected_cadence", Kind::Duration, "How often keys are expected to rotate."),
        optional("max_retention", Kind::Duration, "How long a retired key may stay published."),
        optional("max_revocation_delay", Kind::Duration, "Until when every verifier must have let go of a withdrawn key."),
        optional("retire_confirm", Kind::Duration, "How long a key must be absent to count as retired."),
        optional("revocation_grace", Kind::Duration, "How long a revoked key may still be served."),
        optional("pin_grace", Kind::Duration, "How long a pinned key may be absent."),
        optional("flap_window", Kind::Duration, "The window in which returning key sets count as flapping."),
        optional("split_confirm", Kind::Duration, "After which time differing answers are confirmed."),
        optional("max_rotations_per_day", Kind::Whole(1, MANY), "More new keys in a day are a finding."),
        optional("parallel_active", Kind::Whole(1, MANY), "How many keys sign at the same time on purpose."),
        optional("dynamic_keys", Kind::Flag, "The issuer makes keys all the time by design."),
        optional("change_windows", Kind::Tables(&CHANGE_WINDOW), "When changes are expected."),
        optional("pinned_thumbprints", Kind::Texts, "The only keys that may appear (RFC 7638, SHA-256)."),
        optional("pin_mode", Kind::Choice(&["exact", "subset"]), "Whether every pinned key must be there."),
        optional("revoked_keys", Kind::RevokedKeys, "Thumbprints or kids withdrawn on purpose."),
        optional("verifiers", Kind::Texts, "The verifier profiles whose caches count."),
        optional("allowed_algs", Kind::Texts, "The only signature algorithms that may be used."),
        optional("extra_algs", Kind::Texts, "Algorithm names beyond the registered ones that are known here."),
        optional("lazy_algs", Kind::Texts, "Algorithms whose keys the issuer makes on demand."),
        optional("allowed_curves", Kind::Texts, "The only curves that may be used."),
        optional("min_rsa_bits", Kind::Whole(512, 65_536), "The policy's least RSA modulus."),
        optional("rsa_target_bits", Kind::Whole(512, 65_536), "The RSA modulus aimed at."),
        optional("fermat_rounds", Kind::Whole(1, MANY), "Steps of the search for close primes."),
        optional("pq_deadline", Kind::Date, "From when a post-quantum key must be published."),
        optional("max_keys", Kind::Whole(1, MANY), "More keys in a set are a finding."),
        optional("max_bytes", Kind::Size, "A larger key set is a finding."),
        optional("max_redirects", Kind::Whole(0, 20), "More redirects are a finding."),
        optional("max_jwks_cache", Kind::Duration, "The longest cache lifetime of a key set."),
        optional("min_jwks_cache", Kind::Duration, "The shortest cache lifetime of a key set."),
        optional("cache_bust_param", Kind::Text, "A query parameter that gets round caches."),
        optional("cert_warn", Kind::Duration, "How long before its end a certificate is a finding."),
        optional("require_tls13", Kind::Flag, "TLS 1.3 must be offered."),
        optional("ua_variants", Kind::Texts, "User-Agent texts to compare."),
        optional("fail_threshold", Kind::Whole(1, 1_000), "After how many failed polls in a row an endpoint counts as down."),
        optional("outage_alert", Kind::Duration, "After which time a total outage is critical."),
        optional("slo_availability", Kind::Percent, "The least share of polls that succeed."),
        optional("slo_latency", Kind::Duration, "The 95th percentile of answers."),
        optional("clock_skew", Kind::Duration, "How far clocks may differ."),
        optional("allowed_hosts", Kind::Texts, "Other hosts that endpoints, keys and redirects may be on."),
        optional("issuer_alias", Kind::Texts, "Other identifiers that the issuer may announce."),
        optional("issuer_template", Kind::Text, "The identifier with its placeholder, as a multi-tenant document has it."),
        optional("expected_iss", Kind::Text, "The iss of tokens, where it differs from the issuer."),
        optional("expected_aud", Kind::TextOrTexts, "The audiences that tokens may have."),
        optional("allow_none_code_flow", Kind::Flag, "The alg none is tolerated for ID tokens of the code flow."),
        optional("single_issuer_clients", Kind::Flag, "Every client uses this one issuer."),
        optional("sender_constraint", Kind::Choice(&["dpop", "mtls", "either"]), "How tokens are bound to their sender."),
        optional("role", Kind::Choice(&["provider", "client"]), "Whose key set it is."),
        optional("assurance", Kind::Choice(&["consumer", "enterprise", "internal"]), "Who relies on the issuer."),
        optional("criticality", Kind::Text, "How much hangs on the issuer."),
        optional("issuer_group", Kind::Text, "Issuers of one group may share keys."),
        optional("verifier_group", Kind::Text, "Issuers of one group are trusted by the same verifiers."),
        optional("concentration_pct", Kind::Percent, "The largest share of critical issuers on one host."),
        optional("owner_review", Kind::Duration, "How old an owner's confirmation may be."),
        optional("max_waiver", Kind::Duration, "The longest waiver of a critical rule."),
        optional("severity", Kind::Severities, "Rule id to severity, or \"off\"."),
    ],
};

pub(super) static CHANGE_WINDOW: Shape = Shape {
    title: "change_windows",
    fields: &[
        optional("from", Kind::Date, "When the window opens; or cron."),
        optional("until", Kind::Date, "When it closes."),
        optional("cron", Kind::Text, "When it opens again and again; with for."),
        optional("for", Kind::Duration, "How long it stays open."),
        optional("timezone", Kind::Text, "IANA name; unset: the monitor's."),
    ],
};

pub(super) static REVOKED_KEY: Shape = Shape {
    title: "revoked_keys",
    fields: &[
        optional("thumbprint", Kind::Text, "RFC 7638, SHA-256; or kid."),
        optional("kid", Kind::Text, "The key ID; or thumbprint."),
        optional("at", Kind::Date, "When it was withdrawn."),
    ],
};

pub(super) static ISSUER: Shape = Shape {
    title: "[[issuer]]",
    fields: &[
        required("id", Kind::Text, "A short name; the key of its history, so it stays when the URL changes."),
        optional("url", Kind::Text, "The issuer identifier, exactly; required but with profile jwks."),
        EVERY,
        CRON,
        optional("discovery_url", Kind::Text, "Where the discovery document is, if not at the well-known place."),
        optional("jwks_uri", Kind::Text, "A key set that is fetched instead of the one the document names; required with profile jwks."),
        optional("owner", Kind::Text, "Who answers for it."),
        optional("labels", Kind::Labels, "Anything to route and sort by."),
        optional("profile", Kind::Choice(&["oidc", "oauth", "key-publisher", "fapi2", "jwks"]), "Which documents and members it owes."),
        optional("rotation", Kind::Choice(&["managed", "autonomous"]), "managed: a new key needs expect or approve."),
        optional("allow_private", Kind::Flag, "Private and loopback addresses are allowed; link-local and metadata addresses never."),
        optional("allow_http_loopback", Kind::Flag, "http to loopback is allowed."),
        optional("policy", Kind::Table(&ISSUER_POLICY), "What differs from [policy]."),
        not_yet("packs", false),
        not_yet("preset", false),
        not_yet("canary", true),
    ],
};

pub(super) static ISSUER_POLICY: Shape = Shape { title: "[issuer.policy]", fields: POLICY.fields };

pub(super) const CHANNEL_KINDS: &[&str] = &["webhook", "email"];

pub(super) static WEBHOOK: Shape = Shape {
    title: "[[channel]] of kind webhook",
    fields: &[
        required("id", Kind::Text, "A short name for routes and reports."),
        required("kind", Kind::Choice(CHANNEL_KINDS), "webhook: a signed POST by Standard Webhooks."),
        required("url", Kind::TextOrSecret, "https, or http to loopback."),
        required("secrets", Kind::Secrets, "Signing secrets, whsec_ and base64; two while you change it."),
        not_yet("shape", false),
    ],
};

pub(super) static EMAIL: Shape = Shape {
    title: "[[channel]] of kind email",
    fields: &[
        required("id", Kind::Text, "A short name for routes and reports."),
        required("kind", Kind::Choice(CHANNEL_KINDS), "email: a message to each recipient by SMTP."),
        required("server", Kind::Text, "The host name of the mail server."),
        optional("port", Kind::Whole(1, 65_535), "Unset: 465 implicit, 587 starttls, 25 none."),
        optional("tls", Kind::Choice(&["implicit", "starttls", "none"]), "none only to loopback."),
        optional("user", Kind::Text, "With password."),
        optional("password", Kind::Secret, "With user."),
        optional("ca_file", Kind::Text, "PEM certificates that are added to the system's roots for this server."),
        required("from", Kind::Text, "The sender's address."),
        required("to", Kind::TextOrTexts, "The recipients; each gets a message of its own."),
    ],
};

pub(super) static ROUTE: Shape = Shape {
    title: "[[route]]",
    fields: &[
        optional("severity", Kind::Choice(SEVERITIES), "This and above; unset: medium."),
        optional("rule", Kind::TextOrTexts, "Only these rules."),
        optional("family", Kind::TextOrTexts, "Only rules of these families."),
        optional("issuer", Kind::TextOrTexts, "Only these issuers."),
        optional("labels", Kind::Labels, "Only issuers with all of these labels."),
        optional("owner", Kind::TextOrTexts, "Only issuers of these owners."),
        required("channels", Kind::TextOrTexts, "The ids of the channels."),
        optional("repeat", Kind::Duration, "Tell again while it is open."),
    ],
};

pub(super) static REPORT: Shape = Shape {
    title: "[[report]]",
    fields: &[
        EVERY,
        CRON,
        optional("period", Kind::Duration, "How far back it looks; unset: 7d."),
        optional("format", Kind::Choice(&["html"]), "html."),
        required("channels", Kind::TextOrTexts, "The ids of the channels."),
    ],
};

pub(super) static SECRET: Shape = Shape {
    title: "a secret",
    fields: &[
        optional("file", Kind::Text, "The file that holds it; a final line end is dropped."),
        optional("env", Kind::Text, "The environment variable that holds it."),
    ],
};

pub(super) const SEVERITIES: &[&str] = &["critical", "high", "medium", "low", "info"];

/// The first half of every rule id.
pub(super) const FAMILIES: &[&str] =
    &["transport", "discovery", "jwks", "key", "consistency", "rotation", "drift", "estate", "canary", "governance"];

/// Every table that a misplaced name may belong to.
pub(super) static SHAPES: &[&Shape] = &[&ROOT, &MONITOR, &LIMITS, &POLICY, &ISSUER, &WEBHOOK, &EMAIL, &ROUTE, &REPORT];

/// Names of the rule catalogue that this product has elsewhere, and what to write.
pub(super) const POLICY_ELSEWHERE: &[(&str, &str)] = &[
    ("max_verifier_cache_ttl", "it is called `max_verifier_cache`"),
    ("prepublication_lead", "it is called `prepublication`"),
    ("rotation_mode", "write `rotation` in [[issuer]]"),
    ("profiles", "write `profile` in [[issuer]]"),
    ("environment", "write `labels = { env = \"prod\" }` in [[issuer]]"),
    ("ca_bundle", "write `ca_file` in [monitor]"),
    ("private_network", "write `allow_private` in [[issuer]]"),
];
