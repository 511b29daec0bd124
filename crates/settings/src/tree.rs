//! A YAML file as a tree of texts, each with its place.
//!
//! Scalars stay as they are written: what `1.30` or `no` means is the matter of whoever reads the setting. Settings need
//! no aliases, and a second document would be overlooked; both are refused.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser's events are not ours, and more may come"
)]

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::error::Problem;

/// Settings have three levels at most; a file cannot make us go deeper than the stack.
const DEPTH_MAX: usize = 16;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// `null`, or nothing after a key.
    Nothing,
    Text(String),
    List(Vec<Node>),
    /// In the file's order; no key is there twice.
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Node,
}

impl Content {
    /// As in `found ...`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) => "a single value",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// The document's root; an empty file is `Nothing`.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    let mut builder = Builder { parser: Parser::new_from_str(text) };
    let mut root = Node { at: Position { line: 1, column: 1 }, content: Content::Nothing };
    let mut documents = 0;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(root),
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Problem::at(position(span), "a second document begins here"));
                }
            }
            event => root = builder.node(event, span, 0)?,
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(event) => event.map_err(|error| broken(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let at = position(span);
        if depth > DEPTH_MAX {
            return Err(Problem::at(at, format!("more than {DEPTH_MAX} levels deep")));
        }
        let content = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Content::Nothing,
            Event::Scalar(text, ..) => Content::Text(text.into_owned()),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            _ => return Err(Problem::at(at, "aliases are not known here; write the value again")),
        };
        Ok(Node { at, content })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, _) => return Ok(Content::List(nodes)),
                (event, span) => nodes.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Content::Map(entries));
            }
            let at = position(span);
            let Event::Scalar(key, ..) = event else {
                return Err(Problem::at(at, "expected a key, found something longer"));
            };
            if entries.iter().any(|entry| entry.key == key) {
                return Err(Problem::at(at, format!("`{}` is given twice", key.escape_debug())));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key: key.into_owned(), at, value });
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn broken(error: &ScanError) -> Problem {
    let at = error.marker();
    let at = Position { line: at.line(), column: at.col() + 1 };
    Problem::at(at, error.info())
}
