//! The light Markdown of rule documents as blocks that a template draws: paragraphs, lists, code and strong words.
//! No HTML passes: what is not known stays text.

/// A paragraph or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Paragraph(Vec<Inline>),
    List(Vec<Vec<Inline>>),
}

/// A stretch of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inline {
    Text(String),
    Code(String),
    Strong(String),
}

/// Reads the text of a rule document.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for part in text.split("\n\n").map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = String::new();
        let mut items: Vec<String> = Vec::new();
        for line in part.lines().map(str::trim) {
            match item(line) {
                Some(item) => items.push(item.to_owned()),
                None => join(items.last_mut().unwrap_or(&mut words), line),
            }
        }
        if !words.is_empty() {
            blocks.push(Block::Paragraph(inlines(&words)));
        }
        if !items.is_empty() {
            blocks.push(Block::List(items.iter().map(|item| inlines(item)).collect()));
        }
    }
    blocks
}

fn join(words: &mut String, line: &str) {
    if !words.is_empty() {
        words.push(' ');
    }
    words.push_str(line);
}

/// The text of a list item: `- text`, `* text` or `1. text`.
fn item(line: &str) -> Option<&str> {
    line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or_else(|| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < line.len()).then(|| rest.strip_prefix(". "))?
    })
}

fn inlines(text: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut plain = String::new();
    while !rest.is_empty() {
        if let Some((code, after)) = enclosed(rest, "`") {
            flush(&mut plain, &mut found);
            found.push(Inline::Code(code.to_owned()));
            rest = after;
        } else if let Some((strong, after)) = enclosed(rest, "**") {
            flush(&mut plain, &mut found);
            found.push(Inline::Strong(strong.to_owned()));
            rest = after;
        } else {
            let step = rest.chars().next().map_or(rest.len(), char::len_utf8);
            plain.push_str(&rest[..step]);
            rest = &rest[step..];
        }
    }
    flush(&mut plain, &mut found);
    found
}

fn flush(plain: &mut String, found: &mut Vec<Inline>) {
    if !plain.is_empty() {
        found.push(Inline::Text(std::mem::take(plain)));
    }
}

/// `mark…mark` at the beginning of a text: what is inside, and the rest.
fn enclosed<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (inside, after) = text.strip_prefix(mark)?.split_once(mark)?;
    (!inside.is_empty()).then_some((inside, after))
}

#[cfg(test)]
mod tests {
    use super::{Block, Inline, blocks};

    #[test]
    fn paragraphs_lists_code_and_strong_words_are_told_apart() {
        let read = blocks("Publish `kid`\nfirst.\n\n1. **wait** <b>\n   longer\n2. sign\n\n- a `b");
        let text = |text: &str| Inline::Text(text.to_owned());
        assert_eq!(
            read,
            [
                Block::Paragraph(vec![text("Publish "), Inline::Code("kid".to_owned()), text(" first.")]),
                Block::List(vec![vec![Inline::Strong("wait".to_owned()), text(" <b> longer")], vec![text("sign")]]),
                Block::List(vec![vec![text("a `b")]]),
            ]
        );
    }
}
