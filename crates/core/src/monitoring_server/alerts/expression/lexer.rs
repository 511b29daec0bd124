//! Words of an expression, and where they are.

/// A word with its place in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) at: usize,
    pub(super) length: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Name(String),
    Number(f64),
    Text(String),
    /// `&&`, `<=`, `(` and the like.
    Sign(&'static str),
    End,
}

/// Place, length, problem.
pub(super) type Wrong = (usize, usize, String);

/// The longer ones first.
const SIGNS: [&str; 21] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "+", "-", "*",
    "/", "%", "?",
];

pub(super) fn words(source: &str) -> Result<Vec<Token>, Wrong> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (word, length) =
            word(rest).map_err(|(from, length, what)| (at + from, length, what))?;
        words.push(Token { word, at, length });
        at += length;
    }
    words.push(Token { word: Word::End, at: source.trim_end().len(), length: 0 });
    Ok(words)
}

fn word(rest: &str) -> Result<(Word, usize), Wrong> {
    let first = rest.chars().next().unwrap_or_default();
    if first.is_ascii_digit() {
        return number(rest);
    }
    if first == '"' || first == '\'' {
        return text(rest, first);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        return Ok((Word::Name(rest[..length].to_owned()), length));
    }
    match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        Some("?") => Err((0, 1, "a choice with ? is not part of what is understood".to_owned())),
        Some(sign) => Ok((Word::Sign(sign), sign.len())),
        None if first == '=' => Err((0, 1, "one = alone is nothing; equal is ==".to_owned())),
        None if first == '&' || first == '|' => {
            Err((0, 1, format!("one {first} alone is nothing; write it twice")))
        }
        None => Err((0, first.len_utf8(), format!("{first:?} has no meaning here"))),
    }
}

fn number(rest: &str) -> Result<(Word, usize), Wrong> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    let mut length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    // 1e-3
    if rest[..length].ends_with(['e', 'E']) && rest[length..].starts_with(['-', '+']) {
        let more = &rest[length + 1..];
        length += 1 + more.find(|c: char| !c.is_ascii_digit()).unwrap_or(more.len());
    }
    let text = &rest[..length];
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && !text.ends_with('.') => {
            Ok((Word::Number(number), length))
        }
        Ok(_) | Err(_) => Err((0, length, format!("{text} is not a number"))),
    }
}

fn text(rest: &str, quote: char) -> Result<(Word, usize), Wrong> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\'' | '\\')) => text.push(c),
                other => {
                    let what = other.map_or_else(String::new, |c| c.to_string());
                    return Err((at, 2, format!("\\{what} is not an escape that is understood")));
                }
            },
            c if c == quote => return Ok((Word::Text(text), at + c.len_utf8())),
            c => text.push(c),
        }
    }
    Err((0, rest.lines().next().map_or(1, str::len), "this text has no end".to_owned()))
}
