//! The reader of filters: recursive descent over ASCII words, texts in quotation marks and signs. Every refusal says where, what was
//! expected and, of a name, which one may have been meant.

use super::{Compare, Field, MAX_DEPTH, MAX_FILTER_LEN, MAX_TERMS, MAX_VALUES, Node};
use crate::Period;
use crate::text::{HardwareId, ProductName, Slug, Version};

/// Every field, as it is told to who wrote another.
const FIELDS: [&str; 9] = ["product", "hardware", "version", "customer", "site", "tag", "group", "plan", "last_seen"];
/// Characters of what was found that are shown.
const SHOWN: usize = 24;

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FilterError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl FilterError {
    pub(super) fn too_long(length: usize) -> Self {
        Self { column: 1, message: format!("{length} bytes; at most {MAX_FILTER_LEN}") }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Text,
    Sign,
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    /// Of a text what stands between the marks.
    text: &'a str,
    at: usize,
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    fn shown(&self) -> String {
        match self.kind {
            Kind::End => "the end".to_owned(),
            Kind::Text => format!("\"{}\"", self.text.chars().take(SHOWN).collect::<String>()),
            Kind::Word | Kind::Sign => format!("`{}`", self.text.chars().take(SHOWN).collect::<String>()),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    if text.len() > MAX_FILTER_LEN {
        return Err(FilterError::too_long(text.len()));
    }
    let mut reader = Reader { text, at: 0, ahead: None, terms: 0, values: 0 };
    let node = reader.any(0)?;
    let rest = reader.next()?;
    match rest.kind {
        Kind::End => Ok(node),
        _ => Err(reader.expected(&rest, "`and`, `or` or the end")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    ahead: Option<Token<'a>>,
    terms: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, at: usize, message: impl Into<String>) -> FilterError {
        let before = self.text.get(..at).unwrap_or(self.text);
        FilterError { column: before.chars().count() + 1, message: message.into() }
    }

    fn expected(&self, token: &Token<'_>, what: &str) -> FilterError {
        self.error(token.at, format!("expected {what}, found {}", token.shown()))
    }

    fn peek(&mut self) -> Result<Token<'a>, FilterError> {
        let token = self.next()?;
        self.ahead = Some(token);
        Ok(token)
    }

    fn next(&mut self) -> Result<Token<'a>, FilterError> {
        if let Some(token) = self.ahead.take() {
            return Ok(token);
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let at = self.at + (rest.len() - trimmed.len());
        let token = |kind, text: &'a str| Token { kind, text, at };
        let Some(first) = trimmed.chars().next() else {
            self.at = at;
            return Ok(token(Kind::End, ""));
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (found, length) = if is_word(first) {
            let length = trimmed.find(|c| !is_word(c)).unwrap_or(trimmed.len());
            (token(Kind::Word, trimmed.get(..length).unwrap_or_default()), length)
        } else if first == '"' {
            let inside = trimmed.get(1..).unwrap_or_default();
            let Some(length) = inside.find('"') else {
                return Err(self.error(at, "this quotation mark is not closed"));
            };
            (token(Kind::Text, inside.get(..length).unwrap_or_default()), length + 2)
        } else {
            let signs = ["<=", ">=", "!=", "=", "<", ">", "(", ")", ","];
            let Some(sign) = signs.into_iter().find(|sign| trimmed.starts_with(sign)) else {
                return Err(self.error(at, format!("`{}` means nothing in a filter", first.escape_default())));
            };
            (token(Kind::Sign, trimmed.get(..sign.len()).unwrap_or_default()), sign.len())
        };
        self.at = at + length;
        Ok(found)
    }

    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.peek()?.is_word("or") {
            self.next()?;
            parts.push(self.all(depth)?);
        }
        Ok(joined(parts, Node::Any, |part| match part {
            Node::Any(parts) => Ok(parts),
            other => Err(other),
        }))
    }

    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut parts = vec![self.one(depth)?];
        while self.peek()?.is_word("and") {
            self.next()?;
            parts.push(self.one(depth)?);
        }
        Ok(joined(parts, Node::All, |part| match part {
            Node::All(parts) => Ok(parts),
            other => Err(other),
        }))
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        let first = self.next()?;
        if depth > MAX_DEPTH {
            return Err(
                self.error(first.at, format!("brackets and `not` stand in each other {MAX_DEPTH} deep at most"))
            );
        }
        if first.is_word("not") {
            return Ok(not(self.one(depth + 1)?));
        }
        if first.is_sign("(") {
            let inside = self.any(depth + 1)?;
            let end = self.next()?;
            return if end.is_sign(")") { Ok(inside) } else { Err(self.expected(&end, "`and`, `or` or `)`")) };
        }
        self.term(first)
    }

    fn term(&mut self, name: Token<'a>) -> Result<Node, FilterError> {
        if name.kind != Kind::Word {
            return Err(self.expected(&name, &format!("a field ({}), `not` or `(`", FIELDS.join(", "))));
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.error(name.at, format!("at most {MAX_TERMS} terms")));
        }
        let field = match name.text {
            "product" => Field::Product,
            "hardware" => Field::Hardware,
            "customer" => Field::Customer,
            "site" => Field::Site,
            "tag" | "group" => Field::Tag,
            "plan" => Field::Plan,
            "version" => return self.version(),
            "last_seen" => return self.last_seen(),
            other => {
                let meant = nearest(other).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                let shown: String = other.chars().take(SHOWN).collect();
                return Err(self.error(name.at, format!("there is no field `{shown}`: {}{meant}", FIELDS.join(", "))));
            }
        };
        let operator = self.next()?;
        let Some((yes, texts)) = self.membership(operator)? else {
            let what = format!("`=`, `!=`, `in` or `not in`: {} has no order", field.as_str());
            return Err(self.expected(&operator, &what));
        };
        let mut names: Vec<String> = Vec::new();
        for token in texts {
            let checked = match field {
                Field::Product => token.text.parse::<ProductName>().map(String::from),
                Field::Hardware => token.text.parse::<HardwareId>().map(String::from),
                Field::Customer | Field::Site | Field::Tag | Field::Plan => {
                    token.text.parse::<Slug>().map(String::from)
                }
            };
            let value = checked.map_err(|error| self.error(token.at, error.to_string()))?;
            if !names.contains(&value) {
                names.push(value);
            }
        }
        let is = Node::Is(field, names);
        Ok(if yes { is } else { not(is) })
    }

    fn version(&mut self) -> Result<Node, FilterError> {
        let operator = self.next()?;
        if let Some(compare) = comparison(&operator) {
            let value = self.value()?;
            let version = value.text.parse().map_err(|error| self.error(value.at, format!("{error}")))?;
            return Ok(Node::Version(compare, version));
        }
        let Some((yes, texts)) = self.membership(operator)? else {
            return Err(self.expected(&operator, "`=`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`"));
        };
        let mut versions: Vec<Version> = Vec::new();
        for token in texts {
            let version = token.text.parse().map_err(|error| self.error(token.at, format!("{error}")))?;
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        let runs = Node::Runs(versions);
        Ok(if yes { runs } else { not(runs) })
    }

    fn last_seen(&mut self) -> Result<Node, FilterError> {
        let operator = self.next()?;
        let Some(compare) = comparison(&operator) else {
            return Err(self.expected(&operator, "`<`, `<=`, `>` or `>=`, such as last_seen < 30d"));
        };
        let value = self.next()?;
        if value.kind != Kind::Word {
            return Err(self.expected(&value, "a length of time, such as 45m, 24h or 30d"));
        }
        let period: Period = value.text.parse().map_err(|error| self.error(value.at, format!("{error}")))?;
        Ok(Node::LastSeen(compare, period))
    }

    /// `=` and `!=` with a value, `in` and `not in` with several; nothing when the operator is another. Whether it is to be one of them.
    fn membership(&mut self, operator: Token<'a>) -> Result<Option<(bool, Vec<Token<'a>>)>, FilterError> {
        if operator.is_sign("=") || operator.is_sign("!=") {
            return Ok(Some((operator.is_sign("="), vec![self.value()?])));
        }
        let yes = !operator.is_word("not");
        let word = if yes { operator } else { self.next()? };
        if !word.is_word("in") {
            return if yes { Ok(None) } else { Err(self.expected(&word, "`in`")) };
        }
        let open = self.next()?;
        if !open.is_sign("(") {
            return Err(self.expected(&open, "`(` and values, such as (\"a\", \"b\")"));
        }
        let mut values = vec![self.value()?];
        loop {
            let token = self.next()?;
            if token.is_sign(")") {
                return Ok(Some((yes, values)));
            }
            if !token.is_sign(",") {
                return Err(self.expected(&token, "`,` or `)`"));
            }
            values.push(self.value()?);
        }
    }

    fn value(&mut self) -> Result<Token<'a>, FilterError> {
        let token = self.next()?;
        if token.kind != Kind::Text {
            return Err(self.expected(&token, "a value in quotation marks"));
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error(token.at, format!("at most {MAX_VALUES} values")));
        }
        Ok(token)
    }
}

fn comparison(token: &Token<'_>) -> Option<Compare> {
    let known = [Compare::Less, Compare::AtMost, Compare::More, Compare::AtLeast];
    known.into_iter().find(|compare| token.is_sign(compare.as_str()))
}

/// Twice not is nothing.
fn not(node: Node) -> Node {
    match node {
        Node::Not(inner) => *inner,
        other => Node::Not(Box::new(other)),
    }
}

/// Parts joined; those that are joined in the same way are taken in, so that one meaning has one shape.
fn joined(parts: Vec<Node>, join: fn(Vec<Node>) -> Node, inner: fn(Node) -> Result<Vec<Node>, Node>) -> Node {
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        match inner(part) {
            Ok(parts) => all.extend(parts),
            Err(part) => all.push(part),
        }
    }
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            join(all)
        }
        None => join(all),
    }
}

/// The field that is nearest to a word, when it is near.
fn nearest(word: &str) -> Option<&'static str> {
    if word.len() > SHOWN {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let known = [("hw", "hardware"), ("hw_id", "hardware"), ("hw_ids", "hardware"), ("seen", "last_seen")];
    if let Some((_, meant)) = known.into_iter().find(|(alias, _)| *alias == lower) {
        return Some(meant);
    }
    let (distance, field) = FIELDS.iter().map(|field| (distance(&lower, field), *field)).min()?;
    (distance <= 2).then_some(field)
}

/// Changes that make one word of another (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (cell, against) in row.iter_mut().skip(1).zip(other.bytes()) {
            let best = (diagonal + usize::from(byte != against)).min(*cell + 1).min(left + 1);
            (diagonal, *cell, left) = (*cell, best, best);
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
