//! What is wrong with a configuration: every problem at once, each with its place and with what to write instead.
//!
//! The text that is shown has secrets blotted out.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// The text that problems point into.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

/// A place in the configuration's text, kept to report a problem that only others can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub(super) Range<usize>);

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub write: String,
    /// Line and column, both from 1; `None` where it is about what is not there.
    pub at: Option<(usize, usize)>,
    span: Option<Range<usize>>,
}

/// At least one problem, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    source: Source,
    items: Vec<Problem>,
}

impl Source {
    /// Takes the text with the given parts blotted out, byte for byte, so that places stay.
    pub(super) fn new(name: &str, text: &str, blots: &[Range<usize>]) -> Self {
        let hidden = |at: usize| blots.iter().any(|blot| blot.contains(&at));
        let shown: String = text
            .char_indices()
            .flat_map(|(at, c)| match hidden(at) && c != '\n' {
                true => std::iter::repeat_n('*', c.len_utf8()),
                false => std::iter::repeat_n(c, 1),
            })
            .collect();
        Self { name: name.into(), text: shown.into() }
    }

    pub(super) fn problem(&self, span: Option<Range<usize>>, message: impl Into<String>, write: impl Into<String>) -> Problem {
        let span = span.map(|span| span.start.min(self.text.len())..span.end.min(self.text.len()));
        let at = span.as_ref().and_then(|span| self.text.get(..span.start)).map(|before| {
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
            (line, column)
        });
        Problem { message: message.into(), write: write.into(), at, span }
    }

    /// `None` where there is no problem.
    pub(super) fn problems(&self, mut items: Vec<Problem>) -> Option<Problems> {
        items.sort_by_key(|problem| problem.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
        items.dedup();
        (!items.is_empty()).then(|| Problems { source: self.clone(), items })
    }
}

/// The text may hold what is nobody's business, such as the address of a webhook.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.name)
    }
}

impl Problem {
    /// Where in the text.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.span.clone().map(Place)
    }
}

impl Problems {
    /// Each problem.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.items.iter()
    }

    /// All problems with line, column, caret and what to write; with colours for a terminal.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<String> = self.items.iter().map(|problem| self.render_one(problem, &renderer)).collect();
        shown.join("\n\n")
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let Some(span) = problem.span.clone() else {
            return renderer.render(&[title.element(Level::HELP.message(problem.write.as_str()))]);
        };
        let caret = AnnotationKind::Primary.span(span).label(problem.write.as_str());
        renderer.render(&[title.element(Snippet::source(&*self.source.text).path(&*self.source.name).annotation(caret))])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
