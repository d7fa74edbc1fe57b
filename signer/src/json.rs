//! Strict JSON in, canonical JSON out.
//!
//! The canonical form is the one of securesystemslib, the reference for TUF: objects sorted by code point, no white
//! space, strings escape only `"` and `\`, integers only, no Unicode normalisation. Signatures are over the canonical
//! form of the *parsed* value, so the parser refuses whatever two readers could understand differently: duplicate
//! keys, floating point numbers, integers beyond 2^53 − 1.

use crate::limits::{MAX_INTEGER, MAX_JSON_DEPTH};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// A JSON value that has a canonical form: there are no floating point numbers, and keys are unique and sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer within ±(2^53 − 1) when it was parsed.
    Int(i64),
    /// A text, exactly as given.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object. `BTreeMap` orders by UTF-8 bytes, which is the order of code points.
    Object(BTreeMap<String, Json>),
}

/// Why bytes are not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than the document's limit.
    #[error("{length} bytes are over the limit of {limit}")]
    TooLarge {
        /// Bytes given.
        length: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not JSON at all, or not UTF-8.
    #[error("no well-formed JSON at line {line}, column {column}")]
    Syntax {
        /// Line, from one.
        line: usize,
        /// Column, from one.
        column: usize,
    },
    /// One object has the same key twice: two readers would see two documents.
    #[error("duplicate key {key:?}")]
    DuplicateKey {
        /// The key, shortened.
        key: String,
    },
    /// A number with a fraction or an exponent, or beyond 64 bits.
    #[error("{value} is no integer; documents hold integers only")]
    NotInteger {
        /// The number as read.
        value: String,
    },
    /// An integer that some readers would round.
    #[error("integer {value} is beyond 2^53 - 1")]
    IntegerRange {
        /// The number.
        value: i128,
    },
    /// Nested deeper than the limit.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
}

impl Json {
    /// Parses one document of at most `limit` bytes.
    pub fn parse(bytes: &[u8], limit: u64) -> Result<Self, JsonError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > limit {
            return Err(JsonError::TooLarge { length, limit });
        }
        let fault = RefCell::new(None);
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let parsed =
            Strict { fault: &fault, depth: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        parsed.map_err(|error| fault.take().unwrap_or(JsonError::Syntax { line: error.line(), column: error.column() }))
    }

    /// The canonical bytes: what is signed and what key ids are hashed from.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }

    fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Text(text) => write_canonical_text(text, out),
            Self::List(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write_canonical(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_canonical_text(key, out);
                    out.push(b':');
                    value.write_canonical(out);
                }
                out.push(b'}');
            }
        }
    }

    /// Ordinary compact JSON with sorted keys: the bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// The member of an object, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Makes an object from its members.
    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Makes a list of texts.
    pub fn texts<'a>(items: impl IntoIterator<Item = &'a String>) -> Self {
        Self::List(items.into_iter().map(|item| Self::Text(item.clone())).collect())
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Numbers of ours come from bounded sources; one beyond the range is clamped, and then fails its own check on reading.
impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        formatter.write_str(&text)
    }
}

fn write_canonical_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

/// Reads a value as part of another format, as strictly as [`Json::parse`] does.
impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fault = RefCell::new(None);
        Strict { fault: &fault, depth: 0 }.deserialize(deserializer)
    }
}

/// Reads one value at one depth; the first rule that is broken is kept in `fault`, because serde carries only text.
#[derive(Clone, Copy)]
struct Strict<'a> {
    fault: &'a RefCell<Option<JsonError>>,
    depth: usize,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error, T>(self, error: JsonError) -> Result<T, E> {
        let message = error.to_string();
        *self.fault.borrow_mut() = Some(error);
        Err(E::custom(message))
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_JSON_DEPTH {
            return self.refuse(JsonError::TooDeep { limit: MAX_JSON_DEPTH });
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value without floating point numbers")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Json, E> {
        if value.unsigned_abs() > MAX_INTEGER.unsigned_abs() {
            return self.refuse(JsonError::IntegerRange { value: i128::from(value) });
        }
        Ok(Json::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Json, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.refuse(JsonError::IntegerRange { value: i128::from(value) }),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        self.refuse(JsonError::NotInteger { value: value.to_string() })
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(
                    match self.refuse::<A::Error, Json>(JsonError::DuplicateKey { key: crate::error::quote(&key) }) {
                        Err(error) => error,
                        Ok(_) => A::Error::custom("duplicate key"),
                    },
                );
            }
            let value = access.next_value_seed(inner)?;
            members.insert(key, value);
        }
        Ok(Json::Object(members))
    }
}
