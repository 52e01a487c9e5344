//! When something is due: an interval, or crontab's five fields with crontab's meaning; and the jitter that spreads polls.
//!
//! The `cron` crate walks the calendar, on wall-clock times only. Fields, weekdays, "day of month or weekday" and daylight
//! saving are ours, after Vixie's and Debian's cron. Never asks what time it is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};
use sha2::{Digest, Sha256};

/// A rule for due times.
#[derive(Debug, Clone, PartialEq)]
pub struct Cadence(Rule);

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Every(Duration),
    Cron(Arc<Crontab>),
}

/// Why a text is no cadence, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {write}")]
pub struct CadenceError {
    /// What is wrong.
    pub what: String,
    /// What to write.
    pub write: String,
}

impl Cadence {
    /// Due again and again after an interval; one below a second counts as a second.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self(Rule::Every(interval.max(Duration::seconds(1))))
    }

    /// Reads crontab's five fields (minute, hour, day of month, month, weekday) or a macro such as `@daily`.
    ///
    /// # Errors
    /// The text is no crontab line, or can never fire.
    pub fn cron(text: &str) -> Result<Self, CadenceError> {
        Ok(Self(Rule::Cron(Arc::new(Crontab::parse(text)?))))
    }

    /// The first due time after an instant, the fields being meant in a time zone; `None` when there is none any more.
    #[must_use]
    pub fn next_after(&self, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
        match &self.0 {
            Rule::Every(interval) => after.checked_add_signed(*interval),
            Rule::Cron(crontab) if crontab.fixed => crontab.next_fixed(after, tz),
            Rule::Cron(crontab) => crontab.next_following(after, tz),
        }
    }

    /// Whether due times are times of day, the same for every issuer of that schedule.
    #[must_use]
    pub fn by_the_clock(&self) -> bool {
        matches!(self.0, Rule::Cron(_))
    }

    /// The typical spacing of due times: the interval itself, or the median of the next gaps.
    #[must_use]
    pub fn interval_hint(&self, tz: Tz, now: DateTime<Utc>) -> Duration {
        let Rule::Cron(_) = &self.0 else {
            let Rule::Every(interval) = &self.0 else { return Duration::days(1) };
            return *interval;
        };
        let times: Vec<_> = std::iter::successors(self.next_after(now, tz), |at| self.next_after(*at, tz)).take(9).collect();
        let mut gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().unwrap_or(Duration::days(365))
    }
}

/// As the configuration writes it: `every 5m`, `cron "0 7 * * 1"`.
impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Every(interval) => write!(f, "every {}", duration_text(*interval)),
            Rule::Cron(crontab) => write!(f, "cron \"{}\"", crontab.text),
        }
    }
}

/// A stable delay that spreads equal schedules: from a hash of `seed`, at most a tenth of the interval and 30 s.
#[must_use]
pub fn jitter(seed: &str, interval: Duration) -> Duration {
    let most = (interval / 10).min(Duration::seconds(30)).num_milliseconds().max(0);
    let digest = Sha256::digest(seed.as_bytes());
    let hash = digest.iter().take(7).fold(0_i64, |hash, octet| hash << 8 | i64::from(*octet));
    Duration::milliseconds(hash % (most + 1))
}

const UNITS: [(&str, i64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Reads a duration as users write it: a whole number and one of `s m h d w`, at most a hundred years.
///
/// # Errors
/// The text is none.
pub fn parse_duration(text: &str) -> Result<Duration, CadenceError> {
    let refuse = || CadenceError {
        what: format!("{text:?} is no duration"),
        write: "write a number and a unit, such as 90s, 5m, 4h or 365d".to_owned(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
    let (number, unit) = text.split_at(digits);
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    let total = number.parse::<i64>().ok().and_then(|number| number.checked_mul(*seconds)).ok_or_else(refuse)?;
    if total > 36_525 * 86_400 {
        return Err(CadenceError {
            what: format!("{text:?} is longer than a hundred years"),
            write: "write a shorter duration, such as 365d".to_owned(),
        });
    }
    Ok(Duration::seconds(total))
}

/// The shortest text that [`parse_duration`] reads back: `5m`, `90s`, `365d`. Parts of a second are dropped.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.num_seconds();
    // Nobody says "52w" for a year of policy: weeks are read, not written.
    let (unit, size) = UNITS.into_iter().skip(1).find(|(_, size)| seconds != 0 && seconds % size == 0).unwrap_or(("s", 1));
    format!("{}{unit}", seconds / size)
}

#[derive(Debug, Clone)]
struct Crontab {
    text: String,
    /// Neither minute nor hour begins with a star: the job means a time of day, not the ticking of the clock.
    fixed: bool,
    /// Due where any of them is: a restricted day of month and a restricted weekday are alternatives.
    schedules: Vec<cron::Schedule>,
}

impl PartialEq for Crontab {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Crontab {
    fn parse(text: &str) -> Result<Self, CadenceError> {
        let text = text.trim();
        let line = if text.starts_with('@') { expand(text)? } else { text };
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CadenceError {
                what: format!("{text:?} has {} fields", fields.len()),
                write: "write crontab's five: minute, hour, day of month, month, weekday, such as \"*/5 * * * *\"".to_owned(),
            });
        };
        let head = format!("0 {} {}", MINUTE.parse(minute)?.text(), HOUR.parse(hour)?.text());
        let (days, months, weekdays) = (DAY.parse(day)?.text(), MONTH.parse(month)?.text(), WEEKDAY.parse(weekday)?.text());
        // As in Vixie's cron, a field that begins with a star (`*/2` too) restricts together with the other one; two that do not
        // are alternatives.
        let lines = if day.starts_with('*') || weekday.starts_with('*') {
            vec![format!("{head} {days} {months} {weekdays}")]
        } else {
            vec![format!("{head} {days} {months} *"), format!("{head} * {months} {weekdays}")]
        };
        let mut schedules = Vec::with_capacity(lines.len());
        for line in &lines {
            let schedule = cron::Schedule::from_str(line)
                .map_err(|error| CadenceError { what: format!("{text:?} is no schedule ({error})"), write: EXAMPLE.to_owned() })?;
            // The crate would look for 30 Feb in every year until 2100, at each call.
            if schedule.after(&DateTime::UNIX_EPOCH).next().is_some() {
                schedules.push(schedule);
            }
        }
        if schedules.is_empty() {
            return Err(CadenceError {
                what: format!("{text:?} can never be due"),
                write: format!("no month of \"{month}\" has a day of \"{day}\""),
            });
        }
        Ok(Self { text: text.to_owned(), fixed: !minute.starts_with('*') && !hour.starts_with('*'), schedules })
    }

    /// The next wall-clock time, daylight saving aside.
    fn next_wall(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.schedules.iter().filter_map(|schedule| schedule.after(&after.and_utc()).next()).min().map(|at| at.naive_utc())
    }

    /// A time of day happens once: when the clock skips it, at the first instant after the gap; when it comes twice, at the first.
    fn next_fixed(&self, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
        let mut wall = after.with_timezone(&tz).naive_local();
        loop {
            wall = self.next_wall(wall)?;
            let at = match tz.from_local_datetime(&wall).earliest() {
                Some(at) => Some(at),
                None => GapInfo::new(&wall, &tz).and_then(|gap| gap.end),
            };
            // Later wall-clock times never come earlier, so the first instant that is ahead is the next one.
            if let Some(at) = at.map(|at| at.to_utc()).filter(|at| *at > after) {
                return Some(at);
            }
        }
    }

    /// A job with a star for the hour or minute follows the clock: nothing in a gap, and each pass of a repeated hour.
    fn next_following(&self, after: DateTime<Utc>, tz: Tz) -> Option<DateTime<Utc>> {
        let mut wall = after.with_timezone(&tz).naive_local() - set_back(after, tz);
        let mut next: Option<DateTime<Utc>> = None;
        while let Some(candidate) = self.next_wall(wall) {
            wall = candidate;
            let passes = tz.from_local_datetime(&candidate);
            let ahead = [passes.earliest(), passes.latest()].into_iter().flatten().map(|at| at.to_utc()).filter(|at| *at > after);
            next = ahead.chain(next).min();
            if next.is_some_and(|next| passes.earliest().is_some_and(|first| first.to_utc() >= next)) {
                break;
            }
        }
        next
    }
}

/// By how much the clock will be set back within a day: so far back may lie wall-clock times that are still to come.
fn set_back(after: DateTime<Utc>, tz: Tz) -> Duration {
    let offset = |at: DateTime<Utc>| tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let tomorrow = after.checked_add_signed(Duration::days(1)).unwrap_or(after);
    Duration::seconds(i64::from((offset(after) - offset(tomorrow)).max(0)))
}

const EXAMPLE: &str = "write five fields, such as \"*/5 * * * *\" or \"0 7 * * mon-fri\"";

fn expand(text: &str) -> Result<&'static str, CadenceError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => {
            return Err(CadenceError {
                what: format!("{text:?} is no schedule"),
                write: "write @hourly, @daily, @weekly, @monthly, @yearly or five fields".to_owned(),
            });
        }
    })
}

/// One of the five fields.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// The names of the values from `low` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day of month", low: 1, high: 31, names: &[] };
const MONTH: Field =
    Field { name: "month", low: 1, high: 12, names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] };
/// 0 and 7 are both Sunday.
const WEEKDAY: Field = Field { name: "weekday", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The values of a field, Sunday as 0.
struct Values {
    field: &'static Field,
    set: BTreeSet<u32>,
}

impl Field {
    fn parse(&'static self, text: &str) -> Result<Values, CadenceError> {
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step, part)?)),
                None => (part, None),
            };
            let (first, last) = self.range(range, step.is_some(), part)?;
            set.extend((first..=last).step_by(step.unwrap_or(1)).map(|value| if self.is_weekday() { value % 7 } else { value }));
        }
        Ok(Values { field: self, set })
    }

    fn range(&self, range: &str, stepped: bool, part: &str) -> Result<(u32, u32), CadenceError> {
        if range == "*" {
            return Ok((self.low, if self.is_weekday() { 6 } else { self.high }));
        }
        let Some((first, last)) = range.split_once('-') else {
            let value = self.value(range, part)?;
            if stepped {
                return Err(self.refuse(part, &format!("write a range before the step, such as {range}-{}/5", self.high)));
            }
            return Ok((value, value));
        };
        let (first, mut last) = (self.value(first, part)?, self.value(last, part)?);
        // `fri-sun`: at the end of a range Sunday is the seventh day.
        if self.is_weekday() && last == 0 && first > 0 {
            last = 7;
        }
        if first > last {
            return Err(self.refuse(part, "write the smaller value first, or two ranges, such as 22-23,0-2"));
        }
        Ok((first, last))
    }

    fn step(&self, step: &str, part: &str) -> Result<usize, CadenceError> {
        let count = if self.is_weekday() { 7 } else { self.high - self.low + 1 };
        match number(step) {
            Some(0) => Err(self.refuse(part, "write a step of 1 or more")),
            // crontab would take */90 in the minutes for "at minute 0 of each hour", which nobody means.
            Some(step) if step > count => {
                Err(self.refuse(part, &format!("write a step of {count} at most; longer intervals: every = \"90m\"")))
            }
            Some(step) => Ok(step as usize),
            None => Err(self.refuse(part, "write a whole number after the slash, such as */5")),
        }
    }

    fn value(&self, text: &str, part: &str) -> Result<u32, CadenceError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32 + self.low);
        named.or_else(|| number(text)).filter(|value| (self.low..=self.high).contains(value)).ok_or_else(|| {
            let names = match (self.names.first(), self.names.last()) {
                (Some(first), Some(last)) => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            self.refuse(part, &format!("write {} to {}{names}, *, a list, a range or a step such as */5", self.low, self.high))
        })
    }

    fn is_weekday(&self) -> bool {
        self.high == 7
    }

    fn refuse(&self, part: &str, write: &str) -> CadenceError {
        CadenceError { what: format!("{part:?} is no {}", self.name), write: write.to_owned() }
    }
}

/// A number without sign; `u32::from_str` alone would take `+5`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Values {
    /// As the crate wants it. It numbers weekdays from Sunday = 1, so they go by name.
    fn text(&self) -> String {
        let all = if self.field.is_weekday() { 7 } else { self.field.high - self.field.low + 1 };
        if self.set.len() == all as usize {
            return "*".to_owned();
        }
        let name = |value: &u32| match self.field.is_weekday() {
            true => self.field.names[*value as usize].to_owned(),
            false => value.to_string(),
        };
        self.set.iter().map(name).collect::<Vec<_>>().join(",")
    }
}
