//! Reads back the JSON that [`Value::canonical`] wrote, numbers as they stand. Only for our own rows: what comes from an
//! issuer goes through `parse`.

use std::iter::Peekable;
use std::str::Chars;

use crate::model::json::{Object, Value};

/// A damaged row must not exhaust the stack.
const DEEPEST: u32 = 1100;

/// The value of a canonical text; `None` for any other text.
pub(super) fn read(text: &str) -> Option<Value> {
    let mut rest = text.chars().peekable();
    let value = value(&mut rest, DEEPEST)?;
    rest.next().is_none().then_some(value)
}

fn value(rest: &mut Peekable<Chars<'_>>, depth: u32) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    match rest.peek()? {
        '"' => string(rest).map(Value::String),
        '[' => items(rest, ']', |rest| value(rest, depth)).map(Value::Array),
        '{' => items(rest, '}', |rest| {
            let name = string(rest)?;
            rest.next_if_eq(&':')?;
            Some((name, value(rest, depth)?))
        })
        .map(|members| Value::Object(Object { members })),
        _ => Some(bare(rest)),
    }
}

fn items<T>(rest: &mut Peekable<Chars<'_>>, end: char, mut item: impl FnMut(&mut Peekable<Chars<'_>>) -> Option<T>) -> Option<Vec<T>> {
    rest.next();
    let mut items = Vec::new();
    if rest.next_if_eq(&end).is_some() {
        return Some(items);
    }
    loop {
        items.push(item(rest)?);
        match rest.next()? {
            ',' => {}
            other => return (other == end).then_some(items),
        }
    }
}

fn string(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    rest.next_if_eq(&'"')?;
    let mut text = String::new();
    loop {
        text.push(match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            },
            other => other,
        });
    }
}

/// `null`, `true`, `false`, or a number in whatever spelling it came.
fn bare(rest: &mut Peekable<Chars<'_>>) -> Value {
    let mut text = String::new();
    while let Some(character) = rest.next_if(|character| !matches!(character, ',' | ']' | '}')) {
        text.push(character);
    }
    match text.as_str() {
        "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::Number(text),
    }
}
