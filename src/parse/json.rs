//! The one JSON reader: RFC 8259 to the letter, numbers and duplicate members kept, every error with its place.
//!
//! It accepts exactly what `corpus/oracle.py` accepts: UTF-8 without a byte order mark, no unpaired surrogate
//! anywhere, nesting within a limit, also in what a later duplicate hides. It must never recurse over its
//! input, take more than linear time or memory, or put a piece of the text into an error.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::model::json::{Object, Value};
use crate::model::{Problem, ProblemKind};

/// No caller gets deeper than this: values are dropped and printed recursively.
pub const DEEPEST: usize = 1000;

/// At most so many repeated members are listed; one is as wrong as a million.
const MOST_DUPLICATES: usize = 1000;

/// A value and the members that its objects repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub value: Value,
    /// One for each repetition, with the pointer of the repeated member.
    pub duplicates: Vec<Problem>,
}

/// Where a text stops being JSON, and why; never a piece of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} at line {line}, column {column} (byte {offset})")]
pub struct JsonError {
    /// In bytes, from 0.
    pub offset: usize,
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub text: &'static str,
}

/// Reads a whole text that nests at most `depth` arrays and objects (and never more than [`DEEPEST`]).
///
/// # Errors
/// The text is no JSON in the sense above.
pub fn read(bytes: &[u8], depth: usize) -> Result<Parsed, JsonError> {
    let mut lexer = Lexer::new(bytes, depth.min(DEEPEST))?;
    let mut builder = Builder::new(bytes.len());
    while let Some(token) = lexer.next()? {
        builder.take(token.kind);
    }
    let value = builder.root.expect("the lexer ends without an error only after one whole value");
    Ok(Parsed { value, duplicates: builder.duplicates })
}

/// Line and column (both from 1) of the value that a JSON Pointer names; of duplicates the last counts.
#[must_use]
pub fn locate(bytes: &[u8], pointer: &str) -> Option<(usize, usize)> {
    let wanted = pointer_tokens(pointer)?;
    let mut lexer = Lexer::new(bytes, usize::MAX).ok()?;
    let mut path = Path::default();
    // How many of the open containers lead to the wanted value.
    let mut led = 0;
    let mut found = None;
    while let Some(token) = lexer.next().ok()? {
        if token.kind.starts_value() {
            let depth = path.steps.len();
            let leads = led == depth && path.steps.last().is_none_or(|step| step.is_named(&wanted[depth - 1]));
            if leads {
                found = (depth == wanted.len()).then_some(token.start);
                led += usize::from(depth < wanted.len() && token.kind.opens());
            }
        }
        path.follow(&token.kind);
        led = led.min(path.steps.len());
    }
    let (line, column) = position(bytes, found?);
    Some((line, column))
}

/// One reference token of a JSON Pointer, escaped as RFC 6901 §3 asks.
#[must_use]
pub fn escape_pointer(token: &str) -> Cow<'_, str> {
    if token.contains(['~', '/']) { Cow::Owned(token.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(token) }
}

fn pointer_tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let tokens = pointer.strip_prefix('/')?.split('/');
    Some(tokens.map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn position(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    // Continuation bytes belong to the character before them.
    let column = 1 + before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    (line, column)
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKind<'a> {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Name(Cow<'a, str>),
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
}

impl TokenKind<'_> {
    pub(crate) fn opens(&self) -> bool {
        matches!(self, Self::ObjectStart | Self::ArrayStart)
    }

    pub(crate) fn starts_value(&self) -> bool {
        !matches!(self, Self::ObjectEnd | Self::ArrayEnd | Self::Name(_))
    }
}

/// A token and the bytes it covers.
#[derive(Debug, Clone)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind<'a>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

enum Expect {
    Value,
    ValueOrEnd,
    NameOrEnd,
    CommaOrEnd,
}

/// Cuts a text into tokens, and tells where it stops being JSON.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Container>,
    expect: Expect,
    depth: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8], depth: usize) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|error| failure(bytes, error.valid_up_to(), "not UTF-8"))?;
        if text.starts_with('\u{feff}') {
            return Err(failure(bytes, 0, "a byte order mark (RFC 8259 §8.1 forbids it)"));
        }
        Ok(Self { text, at: 0, open: Vec::new(), expect: Expect::Value, depth })
    }

    /// The next token; `None` after one whole value and nothing but white space.
    pub(crate) fn next(&mut self) -> Result<Option<Token<'a>>, JsonError> {
        self.skip_space();
        match self.expect {
            Expect::Value => self.value().map(Some),
            Expect::ValueOrEnd if self.peek() == Some(b']') => Ok(Some(self.close())),
            Expect::ValueOrEnd => self.value().map(Some),
            Expect::NameOrEnd if self.peek() == Some(b'}') => Ok(Some(self.close())),
            Expect::NameOrEnd => self.name().map(Some),
            Expect::CommaOrEnd => self.after_value(),
        }
    }

    fn after_value(&mut self) -> Result<Option<Token<'a>>, JsonError> {
        let Some(container) = self.open.last().copied() else {
            return if self.at == self.text.len() { Ok(None) } else { Err(self.fail("something follows the value")) };
        };
        match (container, self.peek()) {
            (Container::Object, Some(b',')) => {
                self.at += 1;
                self.skip_space();
                self.name().map(Some)
            }
            (Container::Array, Some(b',')) => {
                self.at += 1;
                self.skip_space();
                self.value().map(Some)
            }
            (Container::Object, Some(b'}')) | (Container::Array, Some(b']')) => Ok(Some(self.close())),
            (_, None) => Err(self.fail("the text ends too early")),
            (Container::Object, _) => Err(self.fail("expected a comma or the end of the object")),
            (Container::Array, _) => Err(self.fail("expected a comma or the end of the array")),
        }
    }

    fn close(&mut self) -> Token<'a> {
        let kind = match self.open.pop() {
            Some(Container::Object) => TokenKind::ObjectEnd,
            _ => TokenKind::ArrayEnd,
        };
        self.expect = Expect::CommaOrEnd;
        self.at += 1;
        Token { kind, start: self.at - 1, end: self.at }
    }

    fn open(&mut self, container: Container) -> Result<TokenKind<'a>, JsonError> {
        if self.open.len() >= self.depth {
            return Err(self.fail("nested too deeply"));
        }
        self.open.push(container);
        self.at += 1;
        Ok(match container {
            Container::Object => {
                self.expect = Expect::NameOrEnd;
                TokenKind::ObjectStart
            }
            Container::Array => {
                self.expect = Expect::ValueOrEnd;
                TokenKind::ArrayStart
            }
        })
    }

    fn value(&mut self) -> Result<Token<'a>, JsonError> {
        let start = self.at;
        // What opens a container sets another expectation.
        self.expect = Expect::CommaOrEnd;
        let kind = match self.peek() {
            Some(b'{') => self.open(Container::Object)?,
            Some(b'[') => self.open(Container::Array)?,
            Some(b'"') => TokenKind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => TokenKind::Number(self.number()?),
            None => return Err(self.fail("the text ends too early")),
            Some(_) => self.literal()?,
        };
        Ok(Token { kind, start, end: self.at })
    }

    fn literal(&mut self) -> Result<TokenKind<'a>, JsonError> {
        for (word, kind) in [("null", TokenKind::Null), ("true", TokenKind::Bool(true)), ("false", TokenKind::Bool(false))] {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        Err(self.fail("expected a value"))
    }

    fn name(&mut self) -> Result<Token<'a>, JsonError> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.fail(if self.peek().is_none() { "the text ends too early" } else { "expected a member name in quotes" }));
        }
        let name = self.string()?;
        let end = self.at;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.fail("expected a colon after the member name"));
        }
        self.at += 1;
        self.expect = Expect::Value;
        Ok(Token { kind: TokenKind::Name(name), start, end })
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.fail("expected a digit")) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let mut decoded: Option<String> = None;
        loop {
            let start = self.at;
            let rest = &self.text.as_bytes()[start..];
            self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
            let plain = &self.text[start..self.at];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match decoded {
                        None => Cow::Borrowed(plain),
                        Some(text) => Cow::Owned(text + plain),
                    });
                }
                Some(b'\\') => {
                    let text = decoded.get_or_insert_default();
                    text.push_str(plain);
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.fail("a control character in a string")),
                None => return Err(self.fail("the text ends within a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.fail("an unknown escape in a string")),
        };
        self.at += 1;
        Ok(escaped)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let start = self.at - 1;
        let first = self.hex4()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| failure(self.text.as_bytes(), start, "an unpaired surrogate"));
        }
        if self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 1;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let scalar = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(scalar).expect("a surrogate pair is a scalar value"));
            }
        }
        Err(failure(self.text.as_bytes(), start, "an unpaired surrogate"))
    }

    /// The four digits behind a `u`, which it stands at.
    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else {
            return Err(self.fail("expected four hexadecimal digits"));
        };
        self.at += 5;
        Ok(digits.iter().fold(0, |value, digit| value * 16 + char::from(*digit).to_digit(16).unwrap_or(0)))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail(&self, text: &'static str) -> JsonError {
        failure(self.text.as_bytes(), self.at, text)
    }
}

fn failure(bytes: &[u8], offset: usize, text: &'static str) -> JsonError {
    let (line, column) = position(bytes, offset);
    JsonError { offset, line, column, text }
}

/// One step of the way from the root to the value that comes next.
#[derive(Debug)]
pub(crate) enum Step {
    Name(String),
    Index(usize),
}

impl Step {
    fn is_named(&self, token: &str) -> bool {
        match self {
            Self::Name(name) => name == token,
            Self::Index(index) => index.to_string() == token,
        }
    }
}

/// The way to the value that comes next: one step for each open container.
#[derive(Debug, Default)]
pub(crate) struct Path {
    pub(crate) steps: Vec<Step>,
}

impl Path {
    /// Moves on; call it after the token was looked at.
    pub(crate) fn follow(&mut self, token: &TokenKind<'_>) {
        match token {
            TokenKind::ObjectStart => self.steps.push(Step::Name(String::new())),
            TokenKind::ArrayStart => self.steps.push(Step::Index(0)),
            TokenKind::Name(name) => {
                if let Some(Step::Name(last)) = self.steps.last_mut() {
                    last.clear();
                    last.push_str(name);
                }
            }
            TokenKind::ObjectEnd | TokenKind::ArrayEnd => {
                self.steps.pop();
                self.count();
            }
            _ => self.count(),
        }
    }

    /// The pointer of the value that comes next.
    pub(crate) fn pointer(&self) -> String {
        pointer_of(self.steps.iter().map(|step| match step {
            Step::Name(name) => escape_pointer(name),
            Step::Index(index) => Cow::Owned(index.to_string()),
        }))
    }

    fn count(&mut self) {
        if let Some(Step::Index(index)) = self.steps.last_mut() {
            *index += 1;
        }
    }
}

fn pointer_of<'a>(tokens: impl Iterator<Item = Cow<'a, str>>) -> String {
    let mut pointer = String::new();
    for token in tokens {
        pointer.push('/');
        pointer.push_str(&token);
    }
    pointer
}

/// Puts the tokens together again, without recursion.
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
    duplicates: Vec<Problem>,
    /// How many bytes of pointers may still be written: a long name over many duplicates must not multiply.
    budget: usize,
}

enum Open {
    Object { members: Vec<(String, Value)>, name: String },
    Array(Vec<Value>),
}

impl Builder {
    fn new(length: usize) -> Self {
        Self { open: Vec::new(), root: None, duplicates: Vec::new(), budget: length + 65536 }
    }

    fn take(&mut self, token: TokenKind<'_>) {
        let value = match token {
            TokenKind::ObjectStart => return self.open.push(Open::Object { members: Vec::new(), name: String::new() }),
            TokenKind::ArrayStart => return self.open.push(Open::Array(Vec::new())),
            TokenKind::Name(new) => {
                if let Some(Open::Object { name, .. }) = self.open.last_mut() {
                    *name = new.into_owned();
                }
                return;
            }
            TokenKind::ObjectEnd | TokenKind::ArrayEnd => match self.open.pop() {
                Some(Open::Object { members, .. }) => {
                    self.note_duplicates(&members);
                    Value::Object(Object { members })
                }
                Some(Open::Array(items)) => Value::Array(items),
                None => return,
            },
            TokenKind::Null => Value::Null,
            TokenKind::Bool(value) => Value::Bool(value),
            TokenKind::Number(text) => Value::Number(text.to_owned()),
            TokenKind::String(text) => Value::String(text.into_owned()),
        };
        match self.open.last_mut() {
            Some(Open::Object { members, name }) => members.push((std::mem::take(name), value)),
            Some(Open::Array(items)) => items.push(value),
            None => self.root = Some(value),
        }
    }

    fn note_duplicates(&mut self, members: &[(String, Value)]) {
        // Most objects are small; a hash for each of their names would cost more than looking.
        if members.len() <= 8 {
            for (index, (name, _)) in members.iter().enumerate() {
                if members[..index].iter().any(|(earlier, _)| earlier == name) {
                    self.note_duplicate(name);
                }
            }
            return;
        }
        let mut seen = HashSet::with_capacity(members.len());
        for (name, _) in members {
            if !seen.insert(name.as_str()) {
                self.note_duplicate(name);
            }
        }
    }

    fn note_duplicate(&mut self, name: &str) {
        if self.duplicates.len() >= MOST_DUPLICATES {
            return;
        }
        let length =
            name.len() + self.open.iter().map(|open| if let Open::Object { name, .. } = open { name.len() } else { 8 }).sum::<usize>();
        if self.budget < length {
            return;
        }
        self.budget -= length;
        let way = self.open.iter().map(|open| match open {
            Open::Object { name, .. } => escape_pointer(name),
            Open::Array(items) => Cow::Owned(items.len().to_string()),
        });
        self.duplicates.push(Problem {
            pointer: pointer_of(way.chain([escape_pointer(name)])),
            kind: ProblemKind::DuplicateMember,
            text: "the member stands here more than once; of duplicates the last counts".to_owned(),
        });
    }
}
