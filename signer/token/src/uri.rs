//! PKCS#11 URIs (RFC 7512): which token, which key in it, and which module knows the token.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::path::PathBuf;

/// Bytes of a URI; those of real tokens have about 200.
const MAX_URI_BYTES: usize = 4_096;
/// What a value may hold as it is (RFC 7512, section 2.3: `unreserved`).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A path in a query may hold slashes, too, which is easier to read.
const ESCAPED_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// Why a URI is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("a PKCS#11 URI begins with pkcs11:")]
    Scheme,
    /// More bytes than any URI of a key has.
    #[error("{length} bytes are over the limit of {MAX_URI_BYTES} for a PKCS#11 URI")]
    TooLong {
        /// Bytes given.
        length: usize,
    },
    /// A part that is no `NAME=VALUE`.
    #[error("{part:?} in a PKCS#11 URI is no NAME=VALUE")]
    Part {
        /// The part.
        part: String,
    },
    /// An attribute that would narrow the choice in a way that is not supported: to ignore it could choose another key.
    #[error(
        "attribute {name:?} of PKCS#11 URIs is not supported; token, serial, manufacturer, model, object, id and type are"
    )]
    Unknown {
        /// The attribute.
        name: String,
    },
    /// The same attribute twice.
    #[error("attribute {name} stands twice in the PKCS#11 URI")]
    Twice {
        /// The attribute.
        name: String,
    },
    /// A value that is no UTF-8.
    #[error("the value of {name} in the PKCS#11 URI is no UTF-8")]
    Text {
        /// The attribute.
        name: String,
    },
    /// A PIN that everybody reads who sees the command line or the file.
    #[error(
        "pin-value puts the PIN where others read it; leave it out and give it when asked, or name a file by \
         pin-source=file:/PATH"
    )]
    PinValue,
    /// A source of the PIN that is no file. Programs would be run by whoever writes a URI.
    #[error("pin-source {found:?} in a PKCS#11 URI is not supported; file:/ABSOLUTE/PATH is")]
    PinSource {
        /// The source.
        found: String,
    },
}

/// A key in a token, or with neither object nor id the token alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenUri {
    /// Label of the token.
    pub token: Option<String>,
    /// Serial number of the token.
    pub serial: Option<String>,
    /// Manufacturer of the token.
    pub manufacturer: Option<String>,
    /// Model of the token.
    pub model: Option<String>,
    /// Label of the key.
    pub object: Option<String>,
    /// Id of the key (`CKA_ID`).
    pub id: Option<Vec<u8>>,
    /// The library that talks to the token.
    pub module_path: Option<PathBuf>,
    /// The file with the PIN in its first line.
    pub pin_source: Option<PathBuf>,
}

impl TokenUri {
    /// Whether a text means a URI of this kind, rather than a file.
    pub fn is_one(text: &str) -> bool {
        text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"))
    }

    /// Reads a URI.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX_URI_BYTES {
            return Err(UriError::TooLong { length: text.len() });
        }
        if !Self::is_one(text) {
            return Err(UriError::Scheme);
        }
        let rest = text.get(7..).unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        let mut kind = None;
        for (name, value) in parts(path, ';')? {
            match name {
                "token" => set(&mut uri.token, name, text_of(name, value)?)?,
                "serial" => set(&mut uri.serial, name, text_of(name, value)?)?,
                "manufacturer" => set(&mut uri.manufacturer, name, text_of(name, value)?)?,
                "model" => set(&mut uri.model, name, text_of(name, value)?)?,
                "object" => set(&mut uri.object, name, text_of(name, value)?)?,
                "id" => set(&mut uri.id, name, percent_decode_str(value).collect())?,
                // Both halves of a pair are looked for whatever it says.
                "type" => set(&mut kind, name, text_of(name, value)?)?,
                _ => return Err(UriError::Unknown { name: name.to_owned() }),
            }
        }
        for (name, value) in parts(query, '&')? {
            match name {
                "module-path" => set(&mut uri.module_path, name, PathBuf::from(text_of(name, value)?))?,
                "pin-source" => set(&mut uri.pin_source, name, pin_file(text_of(name, value)?)?)?,
                "pin-value" => return Err(UriError::PinValue),
                // RFC 7512 lets readers ignore queries that they do not know: they choose no other key.
                _ => {}
            }
        }
        Ok(uri)
    }

    /// Whether everything that this URI asks of token and key holds of another one.
    pub fn covers(&self, other: &Self) -> bool {
        fn holds<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        holds(self.token.as_ref(), other.token.as_ref())
            && holds(self.serial.as_ref(), other.serial.as_ref())
            && holds(self.object.as_ref(), other.object.as_ref())
            && holds(self.id.as_ref(), other.id.as_ref())
            && holds(self.module_path.as_ref(), other.module_path.as_ref())
    }
}

/// The path of a `file:` URI, with or without an empty host.
fn pin_file(source: String) -> Result<PathBuf, UriError> {
    let path = source.strip_prefix("file:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match path {
        // One slash: two would be read as a host.
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(format!("/{}", path.trim_start_matches('/')))),
        _ => Err(UriError::PinSource { found: source }),
    }
}

fn parts(text: &str, separator: char) -> Result<Vec<(&str, &str)>, UriError> {
    text.split(separator)
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').ok_or_else(|| UriError::Part { part: part.to_owned() }))
        .collect()
}

fn text_of(name: &str, value: &str) -> Result<String, UriError> {
    let bytes: Vec<u8> = percent_decode_str(value).collect();
    String::from_utf8(bytes).map_err(|_| UriError::Text { name: name.to_owned() })
}

fn set<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    if field.is_some() {
        return Err(UriError::Twice { name: name.to_owned() });
    }
    *field = Some(value);
    Ok(())
}

impl fmt::Display for TokenUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pkcs11:")?;
        let texts = [
            ("token", &self.token),
            ("serial", &self.serial),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("object", &self.object),
        ];
        let mut separator = "";
        for (name, value) in texts {
            if let Some(value) = value {
                write!(formatter, "{separator}{name}={}", utf8_percent_encode(value, ESCAPED))?;
                separator = ";";
            }
        }
        if let Some(id) = &self.id {
            write!(formatter, "{separator}id=")?;
            for byte in id {
                write!(formatter, "%{byte:02X}")?;
            }
        }
        let mut separator = "?";
        for (name, path) in [("module-path=", &self.module_path), ("pin-source=file:", &self.pin_source)] {
            if let Some(path) = path {
                write!(formatter, "{separator}{name}{}", utf8_percent_encode(&path.to_string_lossy(), ESCAPED_PATH))?;
                separator = "&";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_of_a_uri_are_read() {
        let uri = TokenUri::parse(
            "pkcs11:token=Acme%20signing;object=root-a;id=%01%ff;type=private?module-path=/usr/lib/x.so&pin-source=file%3A/run/p%26n&x=y",
        )
        .unwrap();
        assert_eq!(uri.token.as_deref(), Some("Acme signing"));
        assert_eq!(uri.object.as_deref(), Some("root-a"));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.module_path, Some(PathBuf::from("/usr/lib/x.so")));
        assert_eq!(uri.pin_source, Some(PathBuf::from("/run/p&n")));
        assert_eq!(
            uri.to_string(),
            "pkcs11:token=Acme%20signing;object=root-a;id=%01%FF?module-path=/usr/lib/x.so&pin-source=file:/run/p%26n"
        );
        let with_host = TokenUri::parse("pkcs11:?pin-source=file:///run/pin").unwrap();
        assert_eq!(with_host.to_string(), "pkcs11:?pin-source=file:/run/pin");
    }

    #[test]
    fn a_uri_covers_what_is_all_it_asks_for() {
        let read = |text| TokenUri::parse(text).unwrap();
        let key = read("pkcs11:token=a;serial=1;object=x;id=%01?module-path=/m.so&pin-source=file:/p");
        for wanted in ["pkcs11:", "pkcs11:token=a", "pkcs11:token=a;object=x?pin-source=file:/other"] {
            assert!(read(wanted).covers(&key), "{wanted}");
        }
        for wanted in ["pkcs11:token=b", "pkcs11:object=y", "pkcs11:id=%02", "pkcs11:?module-path=/n.so"] {
            assert!(!read(wanted).covers(&key), "{wanted}");
        }
    }

    #[test]
    fn what_could_choose_another_key_is_refused() {
        for (text, reason) in [
            ("file:/x", "begins with pkcs11:"),
            ("pkcs11:token", "no NAME=VALUE"),
            ("pkcs11:slot-id=3", "\"slot-id\" of PKCS#11 URIs is not supported"),
            ("pkcs11:token=a;token=b", "token stands twice"),
            ("pkcs11:token=%ff", "no UTF-8"),
            ("pkcs11:token=a?pin-value=1234", "where others read it"),
            ("pkcs11:token=a?pin-source=|cat%20/etc/shadow", "file:/ABSOLUTE/PATH"),
            ("pkcs11:token=a?pin-source=file:pin", "file:/ABSOLUTE/PATH"),
            ("pkcs11:token=a?pin-source=file://host/pin", "file:/ABSOLUTE/PATH"),
        ] {
            let error = TokenUri::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert_eq!(
            TokenUri::parse(&format!("pkcs11:{}", "x".repeat(MAX_URI_BYTES))),
            Err(UriError::TooLong { length: MAX_URI_BYTES + 7 })
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            token in proptest::option::of(".{0,20}"),
            object in proptest::option::of(".{0,20}"),
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            path in proptest::option::of("/[a-z?&;=% /]{1,20}"),
            pin in proptest::option::of("/[a-z?&;=%][a-z?&;=% /]{0,20}"),
        ) {
            let (module_path, pin_source) = (path.map(PathBuf::from), pin.map(PathBuf::from));
            let uri = TokenUri { token, object, id, module_path, pin_source, ..TokenUri::default() };
            prop_assert_eq!(TokenUri::parse(&uri.to_string()).unwrap(), uri);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,100}") {
            let _ = TokenUri::parse(&text);
            let _ = TokenUri::parse(&format!("pkcs11:{text}"));
        }
    }
}
