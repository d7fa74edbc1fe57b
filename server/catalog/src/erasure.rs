//! Erasure of a device's identity: a pseudonym takes the place of its serial in every text that names it, and what was said of its
//! owner goes. Pure: the store hands texts in and writes what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;
use crate::audit::AuditEntry;
use crate::text::{ProductName, Serial};

/// What every pseudonym begins with.
pub const PREFIX: &str = "erased-";
/// Hexadecimal digits after it: 96 bits, so that no two devices ever share one.
pub const PSEUDONYM_HEX: usize = 24;
/// The action of the audit entries that name what an erasure altered.
pub const ERASE_DEVICE: &str = "device.erase";
/// Serials shorter than this are replaced where they stand as a serial, but not as a word in a sentence: `12` is too much else.
const WORD_MIN: usize = 6;
/// Members of an audit entry about the device that speak of its owner or are its key.
const PERSONAL: &[&str] =
    &["customer", "customer_id", "from_customer_id", "to_customer_id", "site", "mac", "tags", "label", "key"];
/// What stands in their place.
const GONE: &str = "erased";
/// Members whose text is a serial.
const SERIAL_MEMBERS: &[&str] = &["serial", "serials", "old", "new", "target", "device", "devices"];

/// Whether a serial is the pseudonym of an erased device.
pub fn is_erased(serial: &Serial) -> bool {
    serial.as_str().strip_prefix(PREFIX).is_some_and(|rest| {
        rest.len() == PSEUDONYM_HEX && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// An audit entry that an erasure altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Altered {
    /// Its number.
    pub seq: i64,
    /// [`AuditEntry::content_hash`] of what it says now.
    pub digest: Digest,
}

/// The part of an erasure's audit entry that a reader of the log needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureDetail {
    /// The entries that it altered.
    pub altered: Vec<Altered>,
}

/// Entries of one log that may be altered: holds the memory of a reader of a log that somebody made up.
const ALTERED_MAX: usize = 1_000_000;

/// Why a log is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// It does not follow the one before.
    #[error("entry {0} was altered, or one before it")]
    Broken(i64),
    /// It says something else than it did, and no erasure says so.
    #[error("entry {0} was altered, and no erasure names what it says now")]
    Altered(i64),
    /// An erasure says that it was altered, but it was put back.
    #[error("entry {0} says again what an erasure took out of it")]
    PutBack(i64),
    /// More than a reader keeps in mind.
    #[error("more than {ALTERED_MAX} entries up to entry {0} were altered")]
    TooMany(i64),
}

/// Follows a log from its first entry. Entries keep the hashes that they were written with, so the chain holds over those that an
/// erasure altered; each of these must say what the last erasure that names it says that it says.
#[derive(Debug, Default)]
pub struct LogCheck {
    altered: BTreeMap<i64, Digest>,
    named: BTreeMap<i64, Digest>,
}

impl LogCheck {
    /// Takes the next entry in, after the one with this hash.
    pub fn take(&mut self, entry: &AuditEntry, prev: Digest) -> Result<(), LogFault> {
        if entry.prev_hash != prev {
            return Err(LogFault::Broken(entry.seq));
        }
        if !entry.follows(prev) {
            self.altered.insert(entry.seq, entry.content_hash());
        } else if entry.action == ERASE_DEVICE
            && let Ok(detail) = serde_json::from_str::<ErasureDetail>(&entry.detail)
        {
            // Only what came before: an entry cannot be excused beforehand.
            let before = detail.altered.iter().filter(|altered| altered.seq < entry.seq);
            self.named.extend(before.map(|altered| (altered.seq, altered.digest)));
        }
        if self.altered.len().max(self.named.len()) > ALTERED_MAX {
            return Err(LogFault::TooMany(entry.seq));
        }
        Ok(())
    }

    /// The numbers of the entries that erasures altered, when all of the log was taken in.
    pub fn end(self) -> Result<Vec<i64>, LogFault> {
        if let Some((seq, _)) = self.altered.iter().find(|(seq, digest)| self.named.get(seq) != Some(digest)) {
            return Err(LogFault::Altered(*seq));
        }
        if let Some(seq) = self.named.keys().find(|seq| !self.altered.contains_key(seq)) {
            return Err(LogFault::PutBack(*seq));
        }
        Ok(self.altered.into_keys().collect())
    }
}

/// Puts a pseudonym in a serial's place.
#[derive(Clone, Copy, Debug)]
pub struct Redaction<'a> {
    /// The device's product.
    pub product: &'a ProductName,
    /// Its serial.
    pub serial: &'a Serial,
    /// What takes its place.
    pub pseudonym: &'a Serial,
}

impl Redaction<'_> {
    /// A sentence or a path without the serial; nothing when it does not name the device. `PRODUCT/SERIAL` of another product is
    /// another device.
    pub fn text(&self, text: &str) -> Option<String> {
        self.words(text, self.serial.as_str().len() >= WORD_MIN)
    }

    /// The same for a sentence of ours about this device, in which even a short word can only be its serial.
    pub fn sentence(&self, text: &str) -> Option<String> {
        self.words(text, true)
    }

    fn words(&self, text: &str, bare: bool) -> Option<String> {
        let of_serial = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+');
        let mut written = String::with_capacity(text.len());
        let (mut rest, mut before, mut changed) = (text, "", false);
        while let Some(start) = rest.find(of_serial) {
            let (gap, from) = rest.split_at(start);
            let (word, after) = from.split_at(from.find(|c| !of_serial(c)).unwrap_or(from.len()));
            written.push_str(gap);
            let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let named = match gap {
                "/" => before == self.product.as_str() || before.ends_with(&format!(":{}", self.product)),
                _ => bare,
            };
            if named && core == self.serial.as_str() {
                let at = word.find(core).unwrap_or(0);
                written.push_str(&word[..at]);
                written.push_str(self.pseudonym.as_str());
                written.push_str(&word[at + core.len()..]);
                changed = true;
            } else {
                written.push_str(word);
            }
            (before, rest) = (word, after);
        }
        written.push_str(rest);
        changed.then_some(written)
    }

    /// A JSON text without the serial; nothing when it does not name the device. What is no JSON is taken as a sentence.
    pub fn json(&self, text: &str) -> Option<String> {
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { return self.text(text) };
        self.value(&mut value, None, None).then(|| value.to_string())
    }

    /// Whether the value was changed. `product` is the nearest that the value stands under.
    fn value(&self, value: &mut Value, member: Option<&str>, product: Option<&str>) -> bool {
        let own = product.is_none_or(|product| product == self.product.as_str());
        match value {
            Value::String(text) => {
                let is_serial = member.is_some_and(|member| SERIAL_MEMBERS.contains(&member));
                let new = if is_serial && own && text == self.serial.as_str() {
                    Some(self.pseudonym.to_string())
                } else {
                    self.words(text, own && self.serial.as_str().len() >= WORD_MIN)
                };
                let changed = new.is_some();
                if let Some(new) = new {
                    *text = new;
                }
                changed
            }
            Value::Array(items) => {
                let mut changed = false;
                for item in items {
                    changed |= self.value(item, member, product);
                }
                changed
            }
            Value::Object(members) => {
                let nearest = members.get("product").and_then(Value::as_str).map(str::to_owned);
                let product = nearest.as_deref().or(product);
                let mut changed = false;
                for (name, item) in members.iter_mut() {
                    changed |= self.value(item, Some(name), product);
                }
                changed
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// An audit entry as it reads after the erasure, under the hashes that it has; nothing when it does not name the device.
    pub fn entry(&self, entry: &AuditEntry) -> Option<AuditEntry> {
        let named = entry.subject.strip_prefix("device:").and_then(|name| name.split_once('/'));
        let own = named == Some((self.product.as_str(), self.serial.as_str()));
        let mut new = entry.clone();
        if let Some(subject) = self.text(&entry.subject) {
            new.subject = subject;
        }
        if own && entry.actor.strip_prefix("device:") == Some(self.serial.as_str()) {
            new.actor = format!("device:{}", self.pseudonym);
        }
        match serde_json::from_str::<Value>(&entry.detail) {
            Ok(mut detail) => {
                let mut changed = self.value(&mut detail, None, named.map(|(product, _)| product));
                if own && let Some(members) = detail.as_object_mut() {
                    for (_, value) in
                        members.iter_mut().filter(|(name, value)| PERSONAL.contains(&name.as_str()) && !value.is_null())
                    {
                        *value = GONE.into();
                        changed = true;
                    }
                }
                if changed {
                    new.detail = detail.to_string();
                }
            }
            Err(_) => {
                if let Some(detail) = self.text(&entry.detail) {
                    new.detail = detail;
                }
            }
        }
        (new != *entry).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    const PSEUDONYM: &str = "erased-0123456789abcdef01234567";

    fn with<T>(serial: &str, ask: impl FnOnce(Redaction<'_>) -> T) -> T {
        let (product, serial, pseudonym) =
            ("cam".parse().unwrap(), serial.parse().unwrap(), PSEUDONYM.parse().unwrap());
        ask(Redaction { product: &product, serial: &serial, pseudonym: &pseudonym })
    }

    #[test]
    fn a_pseudonym_is_known_by_its_form() {
        assert!(is_erased(&PSEUDONYM.parse().unwrap()));
        for other in ["erased-1", "erased-0123456789ABCDEF01234567", "SN-000001"] {
            assert!(!is_erased(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_serial_is_a_whole_word() {
        with("SN-00042", |redaction| {
            let same = |text: &str| assert_eq!(redaction.text(text), None, "{text}");
            let new =
                |text: &str| assert_eq!(redaction.text(text), Some(text.replace("SN-00042", PSEUDONYM)), "{text}");
            new("SN-00042");
            new("replaced by SN-00042, RMA 7");
            new("device:cam/SN-00042");
            new("swap_started|device:cam/SN-00042|1700");
            new("broken: SN-00042.");
            same("SN-000421");
            same("XSN-00042");
            same("SN-00042.1");
            same("device:router/SN-00042");
            same("device:webcam/SN-00042");
            same("");
        });
    }

    #[test]
    fn a_short_serial_is_no_word() {
        with("42", |redaction| {
            assert_eq!(redaction.text("42 devices"), None);
            assert_eq!(redaction.sentence("replaced by 42, RMA 7"), Some(format!("replaced by {PSEUDONYM}, RMA 7")));
            assert_eq!(redaction.text("device:cam/42"), Some(format!("device:cam/{PSEUDONYM}")));
            let told =
                redaction.json(r#"{"days":42,"named":[{"product":"cam","serial":"42"}],"version":"42"}"#).unwrap();
            assert_eq!(
                told,
                format!(r#"{{"days":42,"named":[{{"product":"cam","serial":"{PSEUDONYM}"}}],"version":"42"}}"#)
            );
            assert_eq!(redaction.json(r#"{"product":"router","serial":"42"}"#), None);
        });
    }

    #[test]
    fn an_entry_about_the_device_loses_its_owner_too() {
        let entry = |subject: &str, detail: &str| AuditEntry {
            seq: 1,
            at: Time::EPOCH,
            actor: "device:SN-00042".into(),
            action: "device.enrol".into(),
            subject: subject.into(),
            detail: detail.into(),
            prev_hash: Digest([0; 32]),
            hash: Digest([1; 32]),
        };
        with("SN-00042", |redaction| {
            let told = entry("device:cam/SN-00042", r#"{"customer":"globex","hw_id":"r3","key":"00ff","site":null}"#);
            let new = redaction.entry(&told).unwrap();
            assert_eq!(new.actor, format!("device:{PSEUDONYM}"));
            assert_eq!(new.subject, format!("device:cam/{PSEUDONYM}"));
            assert_eq!(new.detail, r#"{"customer":"erased","hw_id":"r3","key":"erased","site":null}"#);
            assert_eq!((new.hash, new.prev_hash), (told.hash, told.prev_hash));
            assert_eq!(redaction.entry(&new), None, "once is enough");
            assert_eq!(redaction.entry(&entry("device:router/SN-00042", r#"{"customer":"globex"}"#)), None);
        });
    }

    fn log() -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for (action, detail) in [("device.create", "{}".to_owned()), ("device.state", r#"{"to":"retired"}"#.to_owned())]
        {
            add(&mut entries, action, detail);
        }
        entries
    }

    fn add(entries: &mut Vec<AuditEntry>, action: &str, detail: String) {
        let prev_hash = entries.last().map_or(Digest([0; 32]), |entry| entry.hash);
        let mut entry = AuditEntry {
            seq: i64::try_from(entries.len()).unwrap() + 1,
            at: Time::EPOCH,
            actor: "ann".into(),
            action: action.into(),
            subject: "device:cam/SN-00042".into(),
            detail,
            prev_hash,
            hash: prev_hash,
        };
        entry.hash = entry.content_hash();
        entries.push(entry);
    }

    fn erase(entries: &mut Vec<AuditEntry>, seqs: &[usize]) {
        let mut altered = Vec::new();
        for seq in seqs {
            entries[seq - 1].subject.push('x');
            altered.push(Altered { seq: entries[seq - 1].seq, digest: entries[seq - 1].content_hash() });
        }
        add(entries, ERASE_DEVICE, serde_json::to_string(&ErasureDetail { altered }).unwrap());
    }

    fn check(entries: &[AuditEntry]) -> Result<Vec<i64>, LogFault> {
        let (mut check, mut prev) = (LogCheck::default(), Digest([0; 32]));
        for entry in entries {
            check.take(entry, prev)?;
            prev = entry.hash;
        }
        check.end()
    }

    #[test]
    fn a_log_holds_over_what_erasures_altered_and_nothing_else() {
        assert_eq!(check(&log()), Ok(vec![]));
        let mut erased = log();
        erase(&mut erased, &[1]);
        assert_eq!(check(&erased), Ok(vec![1]));
        let mut other = erased.clone();
        other[1].detail = "{}".into();
        assert_eq!(check(&other), Err(LogFault::Altered(2)), "no erasure names it");
        let mut again = erased.clone();
        again[0].subject = "device:cam/other".into();
        assert_eq!(check(&again), Err(LogFault::Altered(1)), "altered again");
        let mut back = erased.clone();
        back[0].subject = "device:cam/SN-00042".into();
        assert_eq!(check(&back), Err(LogFault::PutBack(1)));
        let mut forged = erased.clone();
        forged[2].detail = r#"{"altered":[]}"#.into();
        assert!(check(&forged).is_err(), "an erasure's own entry is never altered");
        let mut broken = erased.clone();
        broken[0].hash = broken[0].content_hash();
        assert_eq!(check(&broken), Err(LogFault::Broken(2)));
        let first = erased[0].clone();
        erase(&mut erased, &[1, 2]);
        assert_eq!(check(&erased), Ok(vec![1, 2]), "the last erasure counts");
        erased[0] = first;
        assert_eq!(check(&erased), Err(LogFault::Altered(1)), "and only the last");
    }

    #[test]
    fn an_entry_is_not_excused_beforehand() {
        let mut entries = log();
        let detail = ErasureDetail { altered: vec![Altered { seq: 4, digest: Digest([7; 32]) }] };
        add(&mut entries, ERASE_DEVICE, serde_json::to_string(&detail).unwrap());
        assert_eq!(check(&entries), Ok(vec![]));
    }
}
