//! Text without its secrets, for people who are not to have them: what a support bundle holds.
//!
//! Nobody knows every secret by its look. So whatever has a name that sounds like one loses its value, whatever its
//! value is; and private keys, PICCOLO's own tokens, passwords in addresses and what is presented by `Authorization`
//! are removed wherever they stand. Rather too much than too little: a path behind `key:` is no loss.

/// What stands in the place of a secret.
pub const REMOVED: &str = "[removed]";
/// A name that has one of these in it, whatever its case, is that of a secret.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "apikey",
    "cookie",
    "signature",
];
/// A name that is one of these, or ends with one behind `_`, `-` or `.`.
const SECRET_ENDS: [&str; 4] = ["key", "pass", "pwd", "pin"];
/// What PICCOLO makes begins so, whatever its case: tokens that let boards join, and those of the HTTPS port.
const TOKEN_PREFIXES: [&str; 4] =
    ["piccolo1-", "piccolo_api_", "piccolo_code_", "piccolo_session_"];
/// A token is longer than the words that begin as it does.
const TOKEN_CHARS_MIN: usize = 24;
/// What stands before a word that is presented.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// The text without its secrets; lines that hold none stay as they are.
pub fn redact(text: &str) -> String {
    let text = without_private_keys(text);
    let mut out = String::with_capacity(text.len());
    // the indentation of a name whose value is in the lines below it
    let mut below: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
        let blank = line.trim().is_empty();
        if below.is_some_and(|of| blank || indent > of) {
            continue;
        }
        let (line, opens) = without_values(line);
        below = opens.then_some(indent);
        out.push_str(&line);
    }
    out
}

/// Also where the lines of a key are one string of JSON. Of one that does not end, the rest of the text.
fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    const DASHES: &str = "-----";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let label = &rest[at + BEGIN.len()..];
        let label_end = label.find(DASHES).unwrap_or(label.len());
        let after = &label[label_end..];
        if !label[..label_end].contains("PRIVATE KEY") {
            let kept = rest.len() - after.len();
            out.push_str(&rest[..kept]);
            rest = after;
            continue;
        }
        out.push_str(&rest[..at]);
        out.push_str(REMOVED);
        let end = after.find(END).map(|end| &after[end + END.len()..]);
        rest = end.and_then(|end| Some(&end[end.find(DASHES)? + DASHES.len()..])).unwrap_or("");
    }
    out.push_str(rest);
    out
}

/// One line, and whether the lines that are further in are a secret too.
fn without_values(line: &str) -> (String, bool) {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let name_len = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_len);
        if name.is_empty() {
            let (kept, next) = rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
            // `://user:password@host`
            if let Some(host) = kept.strip_prefix('/').and(host_behind_password(next))
                && out.ends_with(':')
            {
                out.push_str("//");
                out.push_str(REMOVED);
                out.push('@');
                rest = host;
                continue;
            }
            out.push_str(kept);
            rest = next;
            continue;
        }
        if is_token(name) {
            out.push_str(REMOVED);
            rest = after;
            continue;
        }
        out.push_str(name);
        rest = after;
        if SCHEMES.contains(&lower(name).as_str())
            && let Some(presented) = rest.strip_prefix(' ')
        {
            out.push(' ');
            out.push_str(REMOVED);
            rest = behind_word(presented);
            continue;
        }
        if !is_secret(name) {
            continue;
        }
        let Some((separator, value)) = separated(name, rest) else { continue };
        out.push_str(separator);
        let (behind, opens) = behind_value(separator, value);
        if opens {
            out.push_str(REMOVED);
            out.push('\n');
            return (out, true);
        }
        let value = &value[..value.len() - behind.len()];
        match value.chars().next() {
            _ if matches!(value.trim(), "" | "null" | "\"\"" | "''") => out.push_str(value),
            Some(quote @ ('"' | '\'')) => out.push_str(&format!("{quote}{REMOVED}{quote}")),
            Some(_) | None => out.push_str(REMOVED),
        }
        rest = behind;
    }
    (out, false)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn is_token(word: &str) -> bool {
    let word = lower(word);
    word.len() >= TOKEN_CHARS_MIN && TOKEN_PREFIXES.iter().any(|prefix| word.contains(prefix))
}

fn is_secret(name: &str) -> bool {
    let name = lower(name);
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
    let joined = name.replace(['_', '-'], "");
    SECRET_WORDS.iter().any(|word| joined.contains(word))
        || SECRET_ENDS.contains(&last)
        || joined.ends_with("privatekey")
}

/// What is between a name and its value, and the rest.
fn separated<'a>(name: &str, rest: &'a str) -> Option<(&'a str, &'a str)> {
    let unquoted = rest.trim_start_matches(['"', '\'', '\\']);
    let at = unquoted.trim_start_matches(' ');
    let separator = at.chars().next().filter(|c| matches!(c, ':' | '='));
    let value = match separator {
        Some(_) => at[1..].trim_start_matches(' '),
        // `--password WORD`
        None if name.starts_with("--") && unquoted.starts_with(' ') => at,
        None => return None,
    };
    Some(rest.split_at(rest.len() - value.len()))
}

/// What follows a value in its line, and whether it goes on in lines that are further in.
fn behind_value<'a>(separator: &str, value: &'a str) -> (&'a str, bool) {
    let line = value.trim_end_matches(['\n', '\r']);
    let of_yaml = separator.contains(':');
    if of_yaml && (line.trim().is_empty() || line.starts_with(['|', '>', '[', '{', '&', '!'])) {
        return ("", true);
    }
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let mut escaped = false;
        for (at, c) in value.char_indices().skip(1) {
            if c == quote && !escaped {
                return (&value[at + 1..], false);
            }
            escaped = c == '\\' && !escaped;
        }
        // it goes on in the next line
        return ("", true);
    }
    if of_yaml {
        let plain = line.trim_end_matches(',');
        if plain == "null" {
            return (&value[plain.len()..], false);
        }
        // the whole line, whatever is in it, and what it goes on with
        return ("", true);
    }
    (behind_word(value), false)
}

fn behind_word(value: &str) -> &str {
    let end = value.find(|c: char| c.is_whitespace() || matches!(c, ',' | '&' | ';' | ')'));
    &value[end.unwrap_or(value.len())..]
}

/// `//user:password@host/...` behind its first sign.
fn host_behind_password(rest: &str) -> Option<&str> {
    let rest = rest.strip_prefix('/')?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '<'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    Some(&rest[authority.rfind('@')? + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2hunter2";

    /// `{}` stands for the secret before, and for what is in its place afterwards.
    fn check(text: &str) {
        let redacted = redact(&text.replace("{}", SECRET));
        assert_eq!(redacted, text.replace("{}", REMOVED));
    }

    /// Where what is around the secret may go with it.
    fn check_gone(text: &str) {
        let redacted = redact(&text.replace("{}", SECRET));
        assert!(!redacted.contains("hunter2"), "{redacted}");
        assert!(redacted.contains(REMOVED), "{redacted}");
    }

    #[test]
    fn what_has_the_name_of_a_secret_loses_its_value() {
        check("store:\n  user: piccolo\n  password: {}\n  endpoints: [a]\n");
        check("channels:\n- password: {}\n  host: mail\n");
        check("{\n  \"api_token\": \"{}\",\n  \"name\": \"a\"\n}\n");
        check("login with password={} user=me\n");
        check("run: tool --password {} --verbose\n");
        check("secret.database: {}\nplain: 1\n");
        check("PICCOLO_AGENT_TOKEN={}\n");
        check("'API-Key': '{}'\n");
        check("key: {}\ncolour: red\n");
        check("token={}&x=1 token={}\n");
    }

    #[test]
    fn a_value_of_several_lines_goes_as_a_whole() {
        for text in [
            "a:\n  key: |\n    {}\n\n    {}\n  b: 1\n",
            "passphrase:\n  {}\nb: 1\n",
            "passphrase: one\n  {}\nb: 1\n",
            "passphrase: \"one\n  {}\"\nb: 1\n",
            "\"secrets\": [\n  \"{}\"\n],\nb: 1\n",
            "say \"{\\\"token\\\":\\\"{}\\\"}\"\nb: 1\n",
        ] {
            check_gone(text);
            assert!(redact(text).contains("b: 1"), "{text}");
        }
    }

    #[test]
    fn keys_and_tokens_go_wherever_they_stand() {
        check("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\nx\n");
        for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            check_gone(&format!("x -----BEGIN {kind}-----\n{{}}\n-----END {kind}----- y\n"));
            check_gone(&format!("\"x\": \"-----BEGIN {kind}-----\\n{{}}\\n\"\n{{}}"));
        }
        let join = format!("PICCOLO1-{}-{}", "0".repeat(52), "1".repeat(26));
        let program = format!("piccolo_api_{}", "a1".repeat(32));
        for token in [format!("x.{join}"), join, program] {
            assert_eq!(
                redact(&format!("joined with {token}, and\n")),
                "joined with [removed], and\n"
            );
        }
        check("asked with Bearer {} by me\n");
        check("fetching https://{}@host/path\n");
    }

    #[test]
    fn what_is_no_secret_stays_to_the_letter() {
        for text in [
            "",
            "name: board-1\nlabels:\n  site: seoul\n",
            "{\"call\": \"CreateToken\", \"target\": \"n1\"}\n",
            "\"token\": null,\npassword=\n",
            "see https://host/a@b and mail me@host\n",
            "the key was renewed; keyboard: qwerty\n",
            "한국어: 값\n\ttab\r\n",
        ] {
            check(text);
        }
    }
}
