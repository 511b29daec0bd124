//! From words to a tree whose types fit: both at once, so that an error has the place of what does not fit.

use super::{
    BYTES_MAX, Binary, DEPTH_MAX, Expression, Method, PARTS_MAX, Part,
    lexer::{Token, Word, Wrong, words},
};
use crate::{
    monitoring_server::{
        NODE_FIGURES,
        alerts::{
            facts::{Field, Kind},
            rule::On,
        },
    },
    near::closest,
};

pub(super) fn parse(text: &str, on: On) -> Result<Expression, Wrong> {
    if text.len() > BYTES_MAX {
        return Err((BYTES_MAX, 1, format!("it has more than {BYTES_MAX} bytes")));
    }
    if text.trim().is_empty() {
        return Err((0, 1, "it is empty".to_owned()));
    }
    let mut parser = Parser { words: words(text)?, next: 0, on, parts: 0, depth: 0 };
    let Typed { part, kind, .. } = parser.binary(0)?;
    let rest = parser.peek().clone();
    if rest.word != Word::End {
        return Err((
            rest.at,
            rest.length,
            "here it should end, or go on with an operator".to_owned(),
        ));
    }
    Ok(Expression { root: part, kind })
}

struct Parser {
    words: Vec<Token>,
    next: usize,
    on: On,
    parts: usize,
    depth: usize,
}

/// A part with its type and its place.
struct Typed {
    part: Part,
    kind: Kind,
    at: usize,
    end: usize,
}

impl Typed {
    fn wrong<T>(&self, problem: String) -> Result<T, Wrong> {
        Err((self.at, self.end.saturating_sub(self.at).max(1), problem))
    }

    fn expect(&self, kind: Kind, what: &str) -> Result<(), Wrong> {
        if self.kind == kind {
            return Ok(());
        }
        self.wrong(format!("{what} takes {kind}, and this is {}", self.kind))
    }
}

/// How tightly an operator binds, the loosest first.
fn operator(word: &Word) -> Option<(u8, Binary, &'static str)> {
    let sign = match word {
        Word::Sign(sign) => *sign,
        Word::Name(name) if name == "in" => "in",
        Word::Name(_) | Word::Number(_) | Word::Text(_) | Word::End => return None,
    };
    let (binds, operator) = match sign {
        "||" => (1, Binary::Or),
        "&&" => (2, Binary::And),
        "==" => (3, Binary::Equal),
        "!=" => (3, Binary::Differs),
        "<" => (3, Binary::Less),
        "<=" => (3, Binary::LessOrEqual),
        ">" => (3, Binary::More),
        ">=" => (3, Binary::MoreOrEqual),
        "in" => (3, Binary::In),
        "+" => (4, Binary::Plus),
        "-" => (4, Binary::Minus),
        "*" => (5, Binary::Times),
        "/" => (5, Binary::Over),
        "%" => (5, Binary::Rest),
        _ => return None,
    };
    Some((binds, operator, sign))
}

impl Parser {
    fn peek(&self) -> &Token {
        // the last word is the end, and nothing goes past it
        &self.words[self.next.min(self.words.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is = matches!(&self.peek().word, Word::Sign(found) if *found == sign);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &'static str) -> Result<usize, Wrong> {
        let token = self.take();
        if token.word == Word::Sign(sign) {
            return Ok(token.at + token.length);
        }
        Err((token.at, token.length, format!("here {sign} is missing")))
    }

    /// Counts what is made, and how deep it is.
    fn deeper<T>(
        &mut self,
        within: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        let Token { at, length, .. } = *self.peek();
        self.depth += 1;
        self.parts += 1;
        if self.depth > DEPTH_MAX {
            return Err((at, length, format!("it is nested more than {DEPTH_MAX} deep")));
        }
        if self.parts > PARTS_MAX {
            return Err((at, length, format!("it has more than {PARTS_MAX} parts")));
        }
        let made = within(self)?;
        self.depth -= 1;
        Ok(made)
    }

    fn binary(&mut self, least: u8) -> Result<Typed, Wrong> {
        let mut left = self.deeper(Self::unary)?;
        while let Some((binds, operator, sign)) = operator(&self.peek().word) {
            if binds <= least {
                break;
            }
            self.take();
            let right = self.deeper(|parser| parser.binary(binds))?;
            left = combine(operator, sign, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Typed, Wrong> {
        let Token { at, .. } = *self.peek();
        let negates = self.takes("!");
        if !negates && !self.takes("-") {
            return self.postfix();
        }
        let inner = self.deeper(Self::unary)?;
        let (kind, sign) = if negates { (Kind::Bool, "!") } else { (Kind::Number, "-") };
        inner.expect(kind, sign)?;
        let (boxed, end) = (Box::new(inner.part), inner.end);
        let part = if negates { Part::Not(boxed) } else { Part::Negative(boxed) };
        Ok(Typed { part, kind, at, end })
    }

    /// A value, and what hangs on it: fields, entries, methods.
    fn postfix(&mut self) -> Result<Typed, Wrong> {
        let mut value = self.primary()?;
        loop {
            if self.takes("[") {
                let key = self.deeper(|parser| parser.binary(0))?;
                key.expect(Kind::Text, "a key")?;
                let end = self.expect("]")?;
                value = entry(value, key.part, end)?;
            } else if self.takes(".") {
                let name = self.take();
                let Word::Name(text) = &name.word else {
                    return Err((name.at, name.length, "here a name is missing".to_owned()));
                };
                let end = name.at + name.length;
                if self.takes("(") {
                    value = self.method(value, text, &name)?;
                } else {
                    is_figure(&value, text).map_err(|problem| (name.at, name.length, problem))?;
                    value = entry(value, Part::Text(text.clone()), end)?;
                }
            } else {
                return Ok(value);
            }
        }
    }

    fn method(&mut self, of: Typed, name: &str, token: &Token) -> Result<Typed, Wrong> {
        let method = match name {
            "startsWith" => Method::StartsWith,
            "endsWith" => Method::EndsWith,
            "contains" => Method::Contains,
            _ => {
                let problem = format!("there is no method {name}: startsWith, endsWith, contains");
                return Err((token.at, token.length, problem));
            }
        };
        of.expect(Kind::Text, name)?;
        let argument = self.deeper(|parser| parser.binary(0))?;
        argument.expect(Kind::Text, name)?;
        let end = self.expect(")")?;
        let part = Part::Method(method, Box::new(of.part), Box::new(argument.part));
        Ok(Typed { part, kind: Kind::Bool, at: of.at, end })
    }

    fn primary(&mut self) -> Result<Typed, Wrong> {
        let token = self.take();
        let Token { at, length, .. } = token;
        let end = at + length;
        let typed = |part, kind| Ok(Typed { part, kind, at, end });
        match token.word {
            Word::Number(number) => typed(Part::Number(number), Kind::Number),
            Word::Text(text) => typed(Part::Text(text), Kind::Text),
            Word::Name(name) => match name.as_str() {
                "true" | "false" => typed(Part::Bool(name == "true"), Kind::Bool),
                "has" | "size" => self.function(&name, at),
                _ => self.field(name, at, end),
            },
            Word::Sign("(") => {
                let inner = self.deeper(|parser| parser.binary(0))?;
                let end = self.expect(")")?;
                Ok(Typed { at, end, ..inner })
            }
            Word::Sign("[") => self.list(at),
            Word::Sign(sign) => {
                Err((at, length, format!("here a value is missing, before {sign}")))
            }
            Word::End => Err((at, 1, "here a value is missing".to_owned())),
        }
    }

    fn function(&mut self, name: &str, at: usize) -> Result<Typed, Wrong> {
        self.expect("(")?;
        let inner = self.deeper(|parser| parser.binary(0))?;
        let end = self.expect(")")?;
        if name == "size" {
            if matches!(inner.kind, Kind::Bool | Kind::Number) {
                return inner.wrong(format!("{} has no size", inner.kind));
            }
            let part = Part::Size(Box::new(inner.part));
            return Ok(Typed { part, kind: Kind::Number, at, end });
        }
        if !matches!(inner.part, Part::Field(_) | Part::Entry(..)) {
            return inner.wrong("has() takes a field, as has(node.metrics.load1)".to_owned());
        }
        Ok(Typed { part: Part::Has(Box::new(inner.part)), kind: Kind::Bool, at, end })
    }

    fn list(&mut self, at: usize) -> Result<Typed, Wrong> {
        let mut parts = Vec::new();
        while !self.takes("]") {
            if !parts.is_empty() {
                self.expect(",")?;
            }
            let item = self.deeper(|parser| parser.binary(0))?;
            item.expect(Kind::Text, "a list")?;
            parts.push(item.part);
        }
        let end = self.words.get(self.next - 1).map_or(at, |token| token.at + token.length);
        Ok(Typed { part: Part::List(parts), kind: Kind::Texts, at, end })
    }

    /// `node.status`: the longest name that is a field.
    fn field(&mut self, subject: String, at: usize, end: usize) -> Result<Typed, Wrong> {
        if !["node", "container", "cluster"].contains(&subject.as_str()) {
            let problem =
                format!("there is no {subject}: a rule speaks of {}", self.on.speaks_of());
            return Err((at, end - at, problem));
        }
        if !self.takes(".") {
            return Err((at, end - at, format!("here .NAME is missing, as {subject}.name")));
        }
        let name = self.take();
        let Word::Name(text) = &name.word else {
            return Err((name.at, name.length, "here a name is missing".to_owned()));
        };
        let path = format!("{subject}.{text}");
        let end = name.at + name.length;
        match Field::find(&path) {
            Some(field) if field.is_of(self.on) => {
                Ok(Typed { part: Part::Field(field), kind: field.kind(), at, end })
            }
            Some(_) => {
                let (on, of) = (self.on.name(), self.on.speaks_of());
                let problem = format!("a rule on {on} does not know {path}: it speaks of {of}");
                Err((at, end - at, problem))
            }
            None => {
                let near = Field::near(&path).map(|near| format!("; did you mean {near}?"));
                Err((at, end - at, format!("there is no {path}{}", near.unwrap_or_default())))
            }
        }
    }
}

/// A figure that no agent tells is a mistake: nothing would ever be known of it. Who has an agent of their own names its
/// figures in brackets.
fn is_figure(of: &Typed, name: &str) -> Result<(), String> {
    if of.kind != Kind::NumberMap || NODE_FIGURES.contains(&name) {
        return Ok(());
    }
    let near = match closest(name, NODE_FIGURES.into_iter()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", NODE_FIGURES.join(", ")),
    };
    Err(format!("no node tells {name} (one of an agent of your own is [\"{name}\"]); {near}"))
}

/// A number that is the same for every subject.
fn constant(part: &Part) -> Option<f64> {
    match part {
        Part::Number(number) => Some(*number),
        Part::Negative(part) => constant(part).map(|number| -number),
        Part::Binary(operator, left, right) => operator.computed(constant(left)?, constant(right)?),
        Part::Bool(_) | Part::Text(_) | Part::Field(_) | Part::List(_) | Part::Entry(..) => None,
        Part::Not(_) | Part::Has(_) | Part::Size(_) | Part::Method(..) => None,
    }
}

/// What never has a value is a mistake: whatever depends on it is never known.
fn can_be_known(operator: Binary, left: &Typed, right: &Typed) -> Result<(), Wrong> {
    let (a, b) = (constant(&left.part), constant(&right.part));
    if matches!(operator, Binary::Over | Binary::Rest) && b == Some(0.0) {
        return right.wrong("nothing can be divided by 0: this never has a value".to_owned());
    }
    match (a, b) {
        (Some(a), Some(b)) if operator.computed(a, b).is_none() => left
            .wrong("what comes out is too large for a number: this never has a value".to_owned()),
        _ => Ok(()),
    }
}

fn entry(of: Typed, key: Part, end: usize) -> Result<Typed, Wrong> {
    let kind = match of.kind {
        Kind::TextMap => Kind::Text,
        Kind::NumberMap => Kind::Number,
        Kind::Bool | Kind::Number | Kind::Text | Kind::Texts => {
            return of.wrong(format!("this is {}, which has no entries", of.kind));
        }
    };
    Ok(Typed { part: Part::Entry(Box::new(of.part), Box::new(key)), kind, at: of.at, end })
}

/// A text that is nothing that the field can be is a mistake: the comparison would always have the same end.
fn can_be(field: &Typed, words: &Typed) -> Result<(), Wrong> {
    let Part::Field(name) = field.part else { return Ok(()) };
    let Some(known) = name.words() else { return Ok(()) };
    let texts = if let Part::List(texts) = &words.part {
        texts.as_slice()
    } else {
        std::slice::from_ref(&words.part)
    };
    for text in texts {
        if let Part::Text(text) = text
            && !known.contains(text)
        {
            let (path, all) = (name.path(), known.join(", "));
            return words.wrong(format!("{path} is never {text:?}: {all}"));
        }
    }
    Ok(())
}

fn combine(operator: Binary, sign: &str, left: Typed, right: Typed) -> Result<Typed, Wrong> {
    let kind = match operator {
        Binary::Or | Binary::And => {
            left.expect(Kind::Bool, sign)?;
            right.expect(Kind::Bool, sign)?;
            Kind::Bool
        }
        Binary::Equal | Binary::Differs => {
            if matches!(left.kind, Kind::Texts | Kind::TextMap | Kind::NumberMap) {
                return left.wrong(format!("{} cannot be compared", left.kind));
            }
            right.expect(left.kind, &format!("{sign} after {}", left.kind))?;
            can_be(&left, &right)?;
            can_be(&right, &left)?;
            Kind::Bool
        }
        Binary::Less | Binary::LessOrEqual | Binary::More | Binary::MoreOrEqual => {
            left.expect(Kind::Number, sign)?;
            right.expect(Kind::Number, sign)?;
            Kind::Bool
        }
        Binary::In => {
            left.expect(Kind::Text, sign)?;
            if matches!(right.kind, Kind::Bool | Kind::Number | Kind::Text) {
                return right
                    .wrong(format!("in looks into a list or a map, and this is {}", right.kind));
            }
            can_be(&left, &right)?;
            Kind::Bool
        }
        Binary::Plus | Binary::Minus | Binary::Times | Binary::Over | Binary::Rest => {
            left.expect(Kind::Number, sign)?;
            right.expect(Kind::Number, sign)?;
            can_be_known(operator, &left, &right)?;
            Kind::Number
        }
    };
    let (at, end) = (left.at, right.end);
    let part = Part::Binary(operator, Box::new(left.part), Box::new(right.part));
    Ok(Typed { part, kind, at, end })
}
