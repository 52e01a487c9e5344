//! Cuts secrets out of bodies before anything rests on disk.
//!
//! The text is edited in place: what is no secret keeps its spelling, and a document that was one stays one (and one
//! that was broken stays broken), so that an entry keeps its identity and history can be replayed from what was kept.
//! Where the shape of a body is not understood, too much is cut rather than too little.

use std::collections::BTreeSet;

use super::LIFECYCLE_DEPTH;
use super::json::{self, Lexer, Path, Step, TokenKind};
use super::material::SECRET;
use crate::model::Body;
use crate::model::json::Value;

/// The body without its secrets, and the pointers of the values that became `""`; `None` where nothing needs cutting.
///
/// In JSON these are the values of `d p q dp dq qi oth k priv` in each entry of `keys`, in each object that has a `kty`,
/// and anywhere in what is neither a key set nor a discovery document; and strings that hold a PEM private key or
/// such a document as text. null, empty strings and empty arrays stay. In anything else the same is cut
/// by the look of the text, and the one pointer `""` says so.
#[must_use]
pub fn redact(bytes: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    // By the look of it there is nothing: the usual case, and cheap. Only names may hide, behind escapes.
    let by_look = by_look(bytes);
    if by_look.is_none() && !contains(bytes, b"\\u") && !bytes.contains(&0) {
        return None;
    }
    match json::read(bytes, LIFECYCLE_DEPTH) {
        Ok(parsed) => by_structure(bytes, !is_key_set_or_metadata(&parsed.value)),
        Err(_) => broken(bytes, by_look),
    }
}

/// The body as it may be stored; its hash stays that of the bytes as served.
#[must_use]
pub fn redacted(body: &Body) -> Body {
    let Some((bytes, cut)) = redact(&body.bytes) else {
        return body.clone();
    };
    let pointers: BTreeSet<String> = body.redacted.iter().cloned().chain(cut).collect();
    Body { sha256: body.sha256, bytes, redacted: pointers.into_iter().collect() }
}

fn broken(bytes: &[u8], look: Option<Vec<u8>>) -> Option<(Vec<u8>, Vec<String>)> {
    let whole = Some((Vec::new(), vec![String::new()]));
    // UTF-16 or UTF-32: nothing that we could edit.
    if bytes.contains(&0) {
        let narrow: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        return if by_look(&narrow).is_some() { whole } else { None };
    }
    let cut = look?;
    // What broke the document may have stood in a secret: it must not heal. Nor may what is left look like another one.
    let unfit = json::read(&cut, LIFECYCLE_DEPTH).is_ok() || by_look(&cut).is_some();
    if unfit { whole } else { Some((cut, vec![String::new()])) }
}

/// A key set, or an object without `keys`; anything else is not understood.
fn is_key_set_or_metadata(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.member("keys").is_none_or(|keys| keys.as_array().is_some()))
}

/// A value to be cut.
struct Cut {
    start: usize,
    end: usize,
    pointer: String,
}

/// An open array or object.
#[derive(Default)]
struct Frame {
    start: usize,
    /// Every secret member in it is cut.
    is_key: bool,
    /// The member that comes next has a secret's name.
    secret: bool,
    /// Members of secret names; they count once it is known to be a key.
    candidates: Vec<Cut>,
    /// An array that has no element so far.
    empty_array: bool,
    /// Where it is itself the value of a secret member: its pointer.
    pointer: Option<String>,
}

fn by_structure(bytes: &[u8], everywhere: bool) -> Option<(Vec<u8>, Vec<String>)> {
    let mut lexer = Lexer::new(bytes, LIFECYCLE_DEPTH).ok()?;
    let mut path = Path::default();
    let mut pointers = Pointers { left: bytes.len() + 65536 };
    let mut frames: Vec<Frame> = Vec::new();
    let mut cuts: Vec<Cut> = Vec::new();
    while let Some(token) = lexer.next().ok()? {
        let is_secret = frames.last().is_some_and(|frame| frame.secret);
        if token.kind.starts_value()
            && let Some(frame) = frames.last_mut()
        {
            frame.empty_array = false;
        }
        match &token.kind {
            TokenKind::ObjectStart | TokenKind::ArrayStart => frames.push(Frame {
                start: token.start,
                is_key: everywhere || is_entry(&path, &token.kind),
                empty_array: token.kind == TokenKind::ArrayStart,
                pointer: is_secret.then(|| pointers.take(&path)),
                ..Frame::default()
            }),
            TokenKind::Name(name) => {
                if let Some(frame) = frames.last_mut() {
                    frame.is_key |= name == "kty";
                    frame.secret = SECRET.contains(&name.as_ref());
                }
            }
            TokenKind::ObjectEnd | TokenKind::ArrayEnd => {
                let Some(frame) = frames.pop() else { continue };
                if frame.is_key {
                    cuts.extend(frame.candidates);
                }
                if let (Some(pointer), Some(parent), false) = (frame.pointer, frames.last_mut(), frame.empty_array) {
                    parent.candidates.push(Cut { start: frame.start, end: token.end, pointer });
                }
            }
            TokenKind::String(text) if holds_secret(text) => {
                cuts.push(Cut { start: token.start, end: token.end, pointer: pointers.take(&path) });
            }
            TokenKind::Null => {}
            TokenKind::String(text) if text.is_empty() => {}
            TokenKind::Bool(_) | TokenKind::Number(_) | TokenKind::String(_) => {
                if is_secret && let Some(frame) = frames.last_mut() {
                    frame.candidates.push(Cut { start: token.start, end: token.end, pointer: pointers.take(&path) });
                }
            }
        }
        path.follow(&token.kind);
    }
    (!cuts.is_empty()).then(|| apply(bytes, cuts))
}

/// An object that stands directly in a top-level `keys`.
fn is_entry(path: &Path, token: &TokenKind<'_>) -> bool {
    *token == TokenKind::ObjectStart && matches!(&path.steps[..], [Step::Name(name), Step::Index(_)] if name == "keys")
}

/// Writes pointers while they stay in proportion to the document.
struct Pointers {
    left: usize,
}

impl Pointers {
    fn take(&mut self, path: &Path) -> String {
        let length = path.steps.iter().map(|step| if let Step::Name(name) = step { name.len() + 1 } else { 8 }).sum::<usize>();
        if length > self.left {
            return String::new();
        }
        self.left -= length;
        path.pointer()
    }
}

fn apply(bytes: &[u8], mut cuts: Vec<Cut>) -> (Vec<u8>, Vec<String>) {
    cuts.sort_by_key(|cut| (cut.start, std::cmp::Reverse(cut.end)));
    let mut out = Vec::with_capacity(bytes.len());
    let mut pointers = BTreeSet::new();
    let mut done = 0;
    for cut in cuts {
        // Within one that is cut already.
        if cut.start < done {
            continue;
        }
        out.extend_from_slice(&bytes[done..cut.start]);
        out.extend_from_slice(b"\"\"");
        done = cut.end;
        pointers.insert(cut.pointer);
    }
    out.extend_from_slice(&bytes[done..]);
    (out, pointers.into_iter().collect())
}

/// A PEM private key, or a document with secret members as the text of a string.
fn holds_secret(text: &str) -> bool {
    (text.contains("PRIVATE KEY") || text.contains("kty")) && by_look(text.as_bytes()).is_some()
}

/// The text without what looks like a secret member's value or a PEM private key.
fn by_look(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        let cut = match bytes[at] {
            // What takes its place must neither join its neighbours nor be a quotation mark.
            b'-' => pem(bytes, at).map(|end| (at, end, &b"#"[..])),
            b'"' | b'\'' | b'\\' | b'&' => quoted_member(bytes, at),
            b'd' | b'p' | b'q' | b'o' | b'k' => bare_member(bytes, at),
            _ => None,
        };
        let Some((start, end, instead)) = cut else {
            at += 1;
            continue;
        };
        out.extend_from_slice(&bytes[done..start]);
        out.extend_from_slice(instead);
        done = end;
        at = end;
    }
    (done > 0).then(|| {
        out.extend_from_slice(&bytes[done..]);
        out
    })
}

/// The end of a PEM private key that begins here; the text's end where it has none.
fn pem(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes[at..].strip_prefix(b"-----BEGIN ")?;
    let label = &rest[..rest.len().min(64)];
    find(label, b"PRIVATE KEY").filter(|place| find(label, b"-----").is_none_or(|dashes| place < &dashes))?;
    let Some(end) = find(&bytes[at..], b"-----END ") else {
        return Some(bytes.len());
    };
    let after = at + end + b"-----END ".len();
    Some(find(&bytes[after..], b"-----").map_or(bytes.len(), |dashes| after + dashes + 5))
}

/// A range of the text, and what stands there instead.
type Replacement<'a> = (usize, usize, &'a [u8]);

/// A quoted secret name, a colon and a value that says something.
fn quoted_member(bytes: &[u8], at: usize) -> Option<Replacement<'_>> {
    let quote = quote(bytes, at)?;
    let name_at = at + quote.len();
    let window = &bytes[name_at..bytes.len().min(name_at + 40)];
    let name = &window[..find(window, quote)?];
    if !is_secret_name(name) {
        return None;
    }
    value(bytes, colon(bytes, name_at + name.len() + quote.len())?)
}

/// The same without quotes, as scripts write it; its value must be quoted.
fn bare_member(bytes: &[u8], at: usize) -> Option<Replacement<'_>> {
    if at > 0 && !matches!(bytes[at - 1], b'{' | b',' | b' ' | b'\t' | b'\r' | b'\n') {
        return None;
    }
    let length = bytes[at..].iter().take(5).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    if !is_secret_name(&bytes[at..at + length]) {
        return None;
    }
    let start = colon(bytes, at + length)?;
    quote(bytes, start)?;
    value(bytes, start)
}

/// Where the value behind a colon begins.
fn colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = skip_space(bytes, at);
    (bytes.get(at) == Some(&b':')).then(|| skip_space(bytes, at + 1))
}

fn value(bytes: &[u8], at: usize) -> Option<Replacement<'_>> {
    if let Some(quote) = quote(bytes, at) {
        let start = at + quote.len();
        let end = closing_quote(bytes, start, quote);
        return (end > start).then_some((start, end, &b""[..]));
    }
    let end = match bytes.get(at)? {
        b'[' if bytes.get(skip_space(bytes, at + 1)) == Some(&b']') => return None,
        b'[' | b'{' => closing_bracket(bytes, at),
        _ => {
            let length = bytes[at..]
                .iter()
                .take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b'"' | b'\'' | b'<' | b' ' | b'\t' | b'\r' | b'\n'))
                .count();
            if matches!(&bytes[at..at + length], b"" | b"null" | b"true" | b"false") {
                return None;
            }
            at + length
        }
    };
    Some((at, end, b"\"\""))
}

/// What may stand for a quotation mark: itself, behind backslashes (JSON within a string), or in HTML.
fn quote(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let slashes = rest.iter().take(8).take_while(|byte| **byte == b'\\').count();
    if matches!(rest.get(slashes), Some(b'"')) {
        return Some(&rest[..=slashes]);
    }
    let marks: [&[u8]; 5] = [b"'", b"&quot;", b"&#34;", b"&#x22;", b"&#39;"];
    marks.into_iter().find(|mark| rest.starts_with(mark)).map(|mark| &rest[..mark.len()])
}

fn closing_quote(bytes: &[u8], start: usize, quote: &[u8]) -> usize {
    if quote.len() > 1 {
        return find(&bytes[start..], quote).map_or(bytes.len(), |length| start + length);
    }
    let mut at = start;
    while at < bytes.len() && bytes[at] != quote[0] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

fn closing_bracket(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' => at = closing_quote(bytes, at + 1, b"\""),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

fn is_secret_name(raw: &[u8]) -> bool {
    if raw.is_empty() {
        return false;
    }
    let plain = |name: &[u8]| SECRET.iter().any(|secret| secret.as_bytes() == name);
    if plain(raw) {
        return true;
    }
    // `\u0064` is a d, with as many backslashes as its quotation marks have.
    let mut name = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let slashes = raw[at..].iter().take_while(|byte| **byte == b'\\').count();
        let digits = raw.get(at + slashes + 1..at + slashes + 5).filter(|_| slashes > 0 && raw[at + slashes] == b'u');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                name.push(code);
                at += slashes + 5;
            }
            None => {
                name.push(raw[at]);
                at += 1;
            }
        }
    }
    plain(&name)
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes.iter().skip(at).take_while(|byte| byte.is_ascii_whitespace()).count()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    find(bytes, wanted).is_some()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
