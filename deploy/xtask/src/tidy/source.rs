//! A Rust source as a flat list of tokens: comments and documentation are gone, strings are one token, and tokens of
//! test-only items are marked. Rules over tokens cannot be fooled by a word in a comment or in a string.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or a keyword.
    Word,
    /// Content of a string literal, escapes as written.
    Text,
    /// One character of punctuation or a bracket.
    Mark,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// As written; strings without their quotes.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
    /// Inside an item with `#[cfg(test)]`.
    pub test: bool,
}

/// A source file.
#[derive(Debug)]
pub struct RustFile {
    /// Path from the repository's root.
    pub path: String,
    /// Its tokens; empty when the file is not Rust, which the compiler reports better than we could.
    pub tokens: Vec<Token>,
}

impl RustFile {
    /// Reads a source.
    pub fn parse(path: &str, text: &str) -> Self {
        let mut tokens = Vec::new();
        if let Ok(stream) = TokenStream::from_str(text) {
            flatten(stream, false, &mut tokens);
        }
        Self { path: path.to_owned(), tokens }
    }

    /// Tokens that are not test-only.
    pub fn product_tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|token| !token.test)
    }

    /// String literals.
    pub fn texts(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|token| token.kind == TokenKind::Text)
    }

    /// Places where `words` follow each other, `::` being written as such: `["Timestamp", "::", "now"]`.
    pub fn sequences<'a>(&'a self, words: &'a [&'a str]) -> impl Iterator<Item = &'a Token> {
        let wanted: Vec<&str> =
            words.iter().flat_map(|word| if *word == "::" { vec![":", ":"] } else { vec![*word] }).collect();
        let matches = move |window: &[Token]| {
            window.iter().zip(&wanted).all(|(token, word)| token.kind != TokenKind::Text && token.text == *word)
        };
        let length = words.iter().map(|word| if *word == "::" { 2 } else { 1 }).sum::<usize>();
        self.tokens.windows(length).filter(move |window| matches(window)).filter_map(|window| window.first())
    }
}

fn flatten(stream: TokenStream, test: bool, out: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    // Inside the item that follows `#[cfg(test)]`, up to its body or its semicolon.
    let mut test_item = false;
    while let Some(tree) = trees.next() {
        let in_test = test || test_item;
        let line = tree.span().start().line;
        let mut push = |kind, text: String| out.push(Token { kind, text, line, test: in_test });
        match tree {
            TokenTree::Ident(word) => push(TokenKind::Word, word.to_string()),
            TokenTree::Literal(literal) => {
                if let Some(text) = string_content(&literal.to_string()) {
                    push(TokenKind::Text, text);
                }
            }
            TokenTree::Punct(mark) => {
                // An attribute: `#` or `#!` with a bracketed group.
                if mark.as_char() == '#' {
                    let before = out.len();
                    let mark = |text: &str| Token { kind: TokenKind::Mark, text: text.to_owned(), line, test: in_test };
                    out.push(mark("#"));
                    if matches!(trees.peek(), Some(TokenTree::Punct(inner)) if inner.as_char() == '!') {
                        out.push(mark("!"));
                        trees.next();
                    }
                    if let Some(TokenTree::Group(group)) = trees.peek() {
                        let words: String = group.stream().to_string().split_whitespace().collect();
                        if words.starts_with("doc=") {
                            trees.next();
                            out.truncate(before);
                        } else if words == "cfg(test)" {
                            test_item = true;
                        }
                    }
                } else {
                    push(TokenKind::Mark, mark.as_char().to_string());
                    if mark.as_char() == ';' {
                        test_item = false;
                    }
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(TokenKind::Mark, open.to_owned());
                let end = group.span_close().start().line;
                let is_body = group.delimiter() == Delimiter::Brace;
                flatten(group.stream(), in_test, out);
                out.push(Token { kind: TokenKind::Mark, text: close.to_owned(), line: end, test: in_test });
                if is_body {
                    test_item = false;
                }
            }
        }
    }
}

/// What stands between the quotes of a string literal of any kind; none for other literals.
fn string_content(literal: &str) -> Option<String> {
    let start = literal.find('"')?;
    let prefix = literal.get(..start)?;
    if !prefix.chars().all(|letter| matches!(letter, 'r' | 'b' | 'c' | '#')) {
        return None;
    }
    let body = literal.get(start + 1..)?;
    Some(body.get(..body.rfind('"')?)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<(String, bool)> {
        RustFile::parse("x.rs", source).texts().map(|token| (token.text.clone(), token.test)).collect()
    }

    #[test]
    fn comments_and_documentation_hold_no_tokens() {
        let file = RustFile::parse("x.rs", "//! SystemTime\n/// \"text\"\n/* Instant */ fn a() {} // rand\n");
        let words: Vec<_> = file.tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(words, ["fn", "a", "(", ")", "{", "}"]);
    }

    #[test]
    fn strings_of_all_kinds_are_one_token() {
        let source = "const A: [&str; 3] = [\"a \\\" b\", r#\"raw \"x\"\"#, \"c\"]; const B: &[u8] = b\"d\"; const C: char = '\"';";
        let found: Vec<_> = texts(source).into_iter().map(|(text, _)| text).collect();
        assert_eq!(found, ["a \\\" b", "raw \"x\"", "c", "d"]);
    }

    #[test]
    fn test_items_are_marked_and_end_with_their_body() {
        let source = "#[cfg(test)] use a::b; fn x() { \"1\" } #[cfg(test)] mod t { fn y() { \"2\" } } fn z() { \"3\" }";
        assert_eq!(texts(source), [("1".to_owned(), false), ("2".to_owned(), true), ("3".to_owned(), false)]);
    }

    #[test]
    fn sequences_find_paths_with_their_line() {
        let file = RustFile::parse("x.rs", "fn a() {\n  jiff::Timestamp::now();\n}");
        let lines: Vec<_> = file.sequences(&["Timestamp", "::", "now"]).map(|token| token.line).collect();
        assert_eq!(lines, [2]);
        assert_eq!(file.sequences(&["Zoned", "::", "now"]).count(), 0);
    }
}
