//! The key timeline as geometry: each key's life a bar in bounds, hundreds of keys a density band.
//!
//! Horizontal places are percentages, so that the drawing stretches with the page and its text does not.

use std::fmt;

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::availability::{Availability, Outage};
use super::changes::short;
use crate::ledger::{KeyRecord, Ledger, Life};
use crate::model::{Thumbprint, visible};

/// More keys than this are folded into a density band; so many still fit on one printed page.
const FOLD_ABOVE: usize = 24;
/// Keys drawn as bars beside a density band: the latest of those still published.
const BARS_BESIDE_BAND: usize = 8;
const BUCKETS: usize = 160;

const AXIS: u32 = 26;
const ROW: u32 = 35;
const BAR_AT: u32 = 17;
const BAND: u32 = 84;
/// Percent; shorter lives would not be seen.
const LEAST_WIDTH: f64 = 0.35;

/// A share of the drawing's width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", self.0)
    }
}

/// The drawing.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    pub(super) height: u32,
    /// Where the drawing ends and the axis labels begin.
    pub(super) floor: u32,
    pub(super) ticks: Vec<Tick>,
    /// When the key set could not be looked at.
    pub(super) blind: Vec<Stretch>,
    pub(super) band: Option<Band>,
    pub(super) rows: Vec<Row>,
    pub(super) description: String,
}

#[derive(Debug, Clone)]
pub(super) struct Tick {
    pub(super) x: Percent,
    pub(super) label: String,
    /// SVG `text-anchor`.
    pub(super) anchor: &'static str,
}

/// A part of the width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) x: Percent,
    pub(super) width: Percent,
}

/// How many keys were published at the same time.
#[derive(Debug, Clone)]
pub(super) struct Band {
    pub(super) steps: Vec<Step>,
    pub(super) top: u32,
    pub(super) most: usize,
    pub(super) floor: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) at: Stretch,
    pub(super) y: u32,
    pub(super) height: u32,
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) text_y: u32,
    pub(super) bar_y: u32,
    pub(super) label: String,
    pub(super) detail: String,
    pub(super) note: String,
    pub(super) present: bool,
    pub(super) lives: Vec<Bar>,
}

/// One uninterrupted presence.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) certain: Stretch,
    /// It may have been there already, or still.
    pub(super) perhaps: Vec<Stretch>,
    /// It was there before the drawing begins, or before anybody looked.
    pub(super) from_before: Option<Percent>,
    pub(super) title: String,
}

/// The period drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) since: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    pub(super) tz: Tz,
}

impl Window {
    /// A window of at least a minute.
    pub(super) fn new(since: DateTime<Utc>, until: DateTime<Utc>, tz: Tz) -> Self {
        Self { since: since.min(until - Duration::minutes(1)), until, tz }
    }

    fn x(&self, at: DateTime<Utc>) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "seconds of centuries fit a double exactly")]
        let share = (at - self.since).num_seconds() as f64 / (self.until - self.since).num_seconds() as f64;
        (share * 100.0).clamp(0.0, 100.0)
    }

    fn stretch(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Stretch {
        let (x, end) = (self.x(from), self.x(to));
        Stretch { x: Percent(x), width: Percent(end - x) }
    }

    fn touches(&self, life: &Life) -> bool {
        life.from <= self.until && life.gone.is_none_or(|gone| gone >= self.since)
    }

    fn shown(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.tz).format("%Y-%m-%d %H:%M").to_string()
    }
}

/// Draws the keys of an issuer that lived in the period; `None` where none did.
pub(super) fn draw(ledger: &Ledger, jwks: Option<&Availability>, window: Window) -> Option<Timeline> {
    let keys = living(ledger, window);
    if keys.is_empty() {
        return None;
    }
    let seen_until = ledger.jwks.last_ok.unwrap_or(window.until).min(window.until);
    let folded = keys.len() > FOLD_ABOVE;
    let band = folded.then(|| density(&keys, window));
    let top = band.as_ref().map_or(0, |band| band.floor + 12);
    let drawn: Vec<&(&Thumbprint, &KeyRecord)> = if folded {
        let present: Vec<_> = keys.iter().filter(|(_, key)| key.present()).collect();
        present[present.len().saturating_sub(BARS_BESIDE_BAND)..].to_vec()
    } else {
        keys.iter().collect()
    };
    let rows: Vec<Row> =
        (0..).zip(drawn).map(|(index, (thumbprint, key))| row(top + index * ROW, thumbprint, key, seen_until, window)).collect();
    let floor = top + u32::try_from(rows.len()).unwrap_or(0) * ROW;
    Some(Timeline {
        height: floor + AXIS,
        floor,
        ticks: ticks(window),
        blind: jwks.map(|jwks| jwks.outages.iter().map(|outage| blind(outage, window)).collect()).unwrap_or_default(),
        description: describe(&keys, band.as_ref(), window),
        band,
        rows,
    })
}

/// The keys that lived in the window, by first appearance.
fn living(ledger: &Ledger, window: Window) -> Vec<(&Thumbprint, &KeyRecord)> {
    let mut keys: Vec<_> = ledger.keys.iter().filter(|(_, key)| key.lives.iter().any(|life| window.touches(life))).collect();
    keys.sort_by_key(|(thumbprint, key)| (key.first_seen(), *thumbprint));
    keys
}

/// The keys of the period as a table lists them: those still published first, then the latest gone.
pub(super) fn listed(ledger: &Ledger, window: Window) -> Vec<(&Thumbprint, &KeyRecord)> {
    let mut keys = living(ledger, window);
    keys.sort_by_key(|(thumbprint, key)| {
        (!key.present(), std::cmp::Reverse(key.lives.last().map(|life| life.last.unwrap_or(life.from))), *thumbprint)
    });
    keys
}

fn blind(outage: &Outage, window: Window) -> Stretch {
    let Stretch { x, width } = window.stretch(outage.from, outage.recovered.unwrap_or(window.until));
    Stretch { x, width: Percent(width.0.max(LEAST_WIDTH)) }
}

fn row(top: u32, thumbprint: &Thumbprint, key: &KeyRecord, seen_until: DateTime<Utc>, window: Window) -> Row {
    let lives: Vec<&Life> = key.lives.iter().filter(|life| window.touches(life)).collect();
    let first = lives.first().map_or(window.since, |life| life.from);
    let last = lives.last().map_or(window.until, |life| if life.gone.is_none() { seen_until } else { life.last.unwrap_or(life.from) });
    let begins = if lives.first().is_some_and(|life| life.after.is_none()) { "at least " } else { "" };
    Row {
        text_y: top + 12,
        bar_y: top + BAR_AT,
        label: kid_label(key),
        detail: format!("{} · {}", short(thumbprint), kind(key)),
        note: format!("{begins}{}", duration(last - first)),
        present: key.present(),
        lives: lives.into_iter().map(|life| bar(life, seen_until, window)).collect(),
    }
}

/// The key's label as drawn: its kid, hostile text made visible.
pub(super) fn kid_label(key: &KeyRecord) -> String {
    match key.kid.as_ref().or_else(|| key.kids.first()) {
        Some(kid) if kid.is_empty() => "(empty kid)".to_owned(),
        Some(kid) => visible(kid, 22),
        None => "(no kid)".to_owned(),
    }
}

/// `RSA 2048, RS256`, `EC P-256, ES256, enc`.
pub(super) fn kind(key: &KeyRecord) -> String {
    let text = |value: &Option<String>| value.as_deref().map(|value| visible(value, 16));
    let size = key.bits.map(|bits| bits.to_string()).or_else(|| text(&key.crv));
    let family: Vec<String> = [text(&key.kty), size].into_iter().flatten().collect();
    let usage = text(&key.usage).filter(|usage| usage != "sig");
    let family = (!family.is_empty()).then(|| family.join(" "));
    let parts: Vec<String> = [family, text(&key.alg), usage].into_iter().flatten().collect();
    if parts.is_empty() { "unknown type".to_owned() } else { parts.join(", ") }
}

fn bar(life: &Life, seen_until: DateTime<Utc>, window: Window) -> Bar {
    let last = if life.gone.is_none() { seen_until } else { life.last.unwrap_or(life.from) }.max(life.from);
    let mut certain = window.stretch(life.from, last);
    if certain.width.0 < LEAST_WIDTH {
        certain = Stretch { x: Percent(certain.x.0.min(100.0 - LEAST_WIDTH)), width: Percent(LEAST_WIDTH) };
    }
    let before = life.after.map(|after| window.stretch(after, life.from));
    let after = window.stretch(last, life.gone.unwrap_or(window.until));
    let clipped = life.after.is_none() || life.from < window.since;
    let end = life.gone.map_or_else(|| "still published".to_owned(), |gone| format!("gone by {}", window.shown(gone)));
    Bar {
        perhaps: before.into_iter().chain([after]).filter(|stretch| stretch.width.0 > 0.05).collect(),
        from_before: clipped.then_some(certain.x),
        title: format!("first seen {}, last seen {}, {end}", window.shown(life.from), window.shown(last)),
        certain,
    }
}

/// Counts the keys at the middle of each bucket; equal neighbours become one step.
fn density(keys: &[(&Thumbprint, &KeyRecord)], window: Window) -> Band {
    let mut changes = vec![0_i64; BUCKETS + 1];
    for life in keys.iter().flat_map(|(_, key)| &key.lives).filter(|life| window.touches(life)) {
        let (first, end) = (middle_after(window.x(life.from)), life.gone.map_or(BUCKETS, |gone| middle_after(window.x(gone))));
        changes[first] += 1;
        changes[end.max(first)] -= 1;
    }
    let counts: Vec<usize> = changes[..BUCKETS]
        .iter()
        .scan(0_i64, |alive, change| {
            *alive += change;
            Some(usize::try_from(*alive).unwrap_or(0))
        })
        .collect();
    let most = at_once(keys, window);
    let (top, floor) = (16, 16 + BAND);
    let mut from = 0;
    let mut steps = Vec::new();
    for run in counts.chunk_by(|a, b| a == b) {
        let height = scaled(run[0], most);
        steps.push(Step { at: buckets(from, run.len()), y: floor - height, height });
        from += run.len();
    }
    Band { steps, top, most, floor }
}

/// The first bucket whose middle is not left of `x`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "x is 0 to 100")]
fn middle_after(x: f64) -> usize {
    ((x * BUCKETS as f64 / 100.0 - 0.5).ceil().max(0.0) as usize).min(BUCKETS)
}

#[expect(clippy::cast_precision_loss, reason = "bucket numbers are small")]
fn buckets(from: usize, length: usize) -> Stretch {
    let share = |count: usize| count as f64 * 100.0 / BUCKETS as f64;
    Stretch { x: Percent(share(from)), width: Percent(share(length)) }
}

fn scaled(count: usize, most: usize) -> u32 {
    u32::try_from(count.min(most) * BAND as usize / most.max(1)).unwrap_or(BAND)
}

/// The most keys at the same time in the window.
fn at_once(keys: &[(&Thumbprint, &KeyRecord)], window: Window) -> usize {
    let lives = || keys.iter().flat_map(|(_, key)| &key.lives).filter(|life| window.touches(life));
    let mut steps: Vec<(DateTime<Utc>, i64)> = lives().map(|life| (life.from, 1)).collect();
    steps.extend(lives().filter_map(|life| Some((life.gone?, -1))));
    steps.sort_unstable();
    let (mut alive, mut most) = (0_i64, 0_i64);
    for (_, step) in steps {
        alive += step;
        most = most.max(alive);
    }
    usize::try_from(most).unwrap_or(0)
}

fn describe(keys: &[(&Thumbprint, &KeyRecord)], band: Option<&Band>, window: Window) -> String {
    let present = keys.iter().filter(|(_, key)| key.present()).count();
    let most = band.map_or_else(|| at_once(keys, window), |band| band.most);
    let lives = match median_life(keys) {
        Some(life) => format!(" Half of those that are gone were published for {} or less.", duration(life)),
        None => String::new(),
    };
    let folded =
        if band.is_some() { " The band counts the keys published at the same time; bars are the latest still published." } else { "" };
    let plural = if keys.len() == 1 { "key" } else { "keys" };
    format!(
        "{} {plural} published between {} and {}, at most {most} at the same time; {present} in the last key set seen.{lives}{folded}",
        keys.len(),
        window.shown(window.since),
        window.shown(window.until)
    )
}

fn median_life(keys: &[(&Thumbprint, &KeyRecord)]) -> Option<Duration> {
    let ended = |life: &Life| life.gone.map(|_| life.last.unwrap_or(life.from) - life.from);
    let mut lives: Vec<Duration> = keys.iter().flat_map(|(_, key)| &key.lives).filter_map(ended).collect();
    lives.sort_unstable();
    (lives.len() > 2).then(|| lives[lives.len() / 2])
}

/// A duration in words, by its one or two largest units: `3 d 4 h`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let seconds = length.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days @ 1..=9, hours @ 1.., _) => format!("{days} d {hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

/// Ticks at round local times, at most six.
fn ticks(window: Window) -> Vec<Tick> {
    const MOST: i64 = 6;
    const SECONDS: [i64; 16] = [10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 2 * 86_400, 7 * 86_400];
    let length = (window.until - window.since).num_seconds();
    let start = window.since.with_timezone(&window.tz).naive_local();
    let end = window.until.with_timezone(&window.tz).naive_local();
    let (places, format) = match SECONDS.into_iter().find(|step| length / step < MOST) {
        Some(step) => (
            every_seconds(start, end, step),
            if step < 60 {
                "%H:%M:%S"
            } else if step < 86_400 {
                "%H:%M"
            } else {
                "%-d %b"
            },
        ),
        None => {
            let months = length / (30 * 86_400);
            let step = [1_u32, 2, 3, 6, 12, 24, 60, 120].into_iter().find(|step| months / i64::from(*step) < MOST).unwrap_or(1_200);
            (every_months(start, end, step), "%b %Y")
        }
    };
    places.into_iter().filter_map(|place| tick(place, format, window)).collect()
}

fn every_seconds(start: NaiveDateTime, end: NaiveDateTime, step: i64) -> Vec<NaiveDateTime> {
    // Whole steps since a Monday midnight, so that weeks begin on Mondays.
    let origin = NaiveDate::from_ymd_opt(1970, 1, 5).unwrap_or_default().and_time(NaiveTime::MIN);
    let first = (start - origin).num_seconds().div_euclid(step) + 1;
    (first..first + 8)
        .map_while(|count| origin.checked_add_signed(Duration::try_seconds(count * step)?))
        .take_while(|at| *at < end)
        .collect()
}

fn every_months(start: NaiveDateTime, end: NaiveDateTime, step: u32) -> Vec<NaiveDateTime> {
    let january = NaiveDate::from_ymd_opt(start.year(), 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
    (0..)
        .map_while(|count: u32| january.checked_add_months(Months::new(count.checked_mul(step)?)))
        .skip_while(|at| *at <= start)
        .take_while(|at| *at < end)
        .take(12)
        .collect()
}

fn tick(place: NaiveDateTime, format: &str, window: Window) -> Option<Tick> {
    let at = window.tz.from_local_datetime(&place).earliest()?;
    let x = window.x(at.to_utc());
    let midnight = place.hour() == 0 && place.minute() == 0 && place.second() == 0;
    let format = if format == "%H:%M" && midnight { "%-d %b" } else { format };
    let anchor = if x < 5.0 {
        "start"
    } else if x > 95.0 {
        "end"
    } else {
        "middle"
    };
    Some(Tick { x: Percent(x), label: place.format(format).to_string(), anchor })
}
