//! The audit log: read it, and prove that nobody rewrote it.

use clap::Subcommand;
use serde::Serialize;
use sluice_catalog::Digest;
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::erasure::{LogCheck, LogFault};
use sluice_catalog::wire::admin::{MAX_PAGE, Page};

use crate::args::Paging;
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::list;
use crate::output::{fields, when};

/// Most pages that `verify` reads: five hundred million entries. Stops at a server that never ends its list.
const VERIFY_PAGES_MAX: u32 = 1_000_000;

#[derive(Subcommand)]
pub enum Command {
    /// List entries, oldest first.
    List(Paging),
    /// Read the whole log and compute its chain of hashes anew.
    ///
    /// Entries that the erasure of a device altered are accepted when they say what the erasure's own entry says that they say; their
    /// numbers are printed.
    ///
    /// Prints the number and hash of the last entry. Keep them somewhere else and give them to the next run as
    /// --pinned: the chain alone cannot tell that entries at its end are gone, or that all of it was written anew.
    Verify {
        /// An entry noted earlier, which must still be there.
        #[arg(long, value_name = "SEQ:HASH", value_parser = pin)]
        pinned: Option<Pin>,
    },
}

/// An entry noted earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    seq: i64,
    hash: Digest,
}

fn pin(text: &str) -> Result<Pin, String> {
    let (seq, hash) = text.split_once(':').ok_or("write SEQ:HASH")?;
    let seq = seq.parse().map_err(|_| format!("`{seq}` is no number"))?;
    Ok(Pin { seq, hash: hash.parse().map_err(|error: sluice_catalog::digest::DigestError| error.to_string())? })
}

/// What a whole and unaltered log ends with.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Verified {
    entries: i64,
    head: Digest,
    /// Entries that erasures altered, each as the erasure says.
    redacted: Vec<i64>,
}

/// The chain so far.
struct Chain {
    entries: i64,
    head: Digest,
    check: LogCheck,
    pinned: Option<Pin>,
}

impl Chain {
    fn new(pinned: Option<Pin>) -> Self {
        Self { entries: 0, head: Digest([0; 32]), check: LogCheck::default(), pinned }
    }

    /// Takes the next entry in.
    fn extend(&mut self, entry: &AuditEntry) -> Result<(), Failure> {
        if entry.seq != self.entries + 1 {
            return Err(Failure::Refused(format!(
                "audit log: entry {} follows entry {}: entries are missing",
                entry.seq, self.entries
            )));
        }
        self.check.take(entry, self.head).map_err(refused)?;
        if let Some(pin) = self.pinned.filter(|pin| pin.seq == entry.seq)
            && pin.hash != entry.hash
        {
            return Err(Failure::Refused(format!("audit log: entry {} is not the one noted earlier", entry.seq)));
        }
        (self.entries, self.head) = (entry.seq, entry.hash);
        Ok(())
    }

    fn end(self) -> Result<Verified, Failure> {
        if let Some(pin) = self.pinned.filter(|pin| pin.seq > self.entries) {
            return Err(Failure::Refused(format!(
                "audit log: it ends at entry {}, but entry {} was there",
                self.entries, pin.seq
            )));
        }
        let redacted = self.check.end().map_err(refused)?;
        Ok(Verified { entries: self.entries, head: self.head, redacted })
    }
}

fn refused(fault: LogFault) -> Failure {
    Failure::Refused(format!("audit log: {fault}"))
}

/// Numbers of redacted entries that are printed; `--json` has all of them.
const REDACTED_SHOWN: usize = 20;

fn shown(redacted: &[i64]) -> String {
    if redacted.is_empty() {
        return "none".to_owned();
    }
    let more = if redacted.len() > REDACTED_SHOWN { " …" } else { "" };
    let first: Vec<String> = redacted.iter().take(REDACTED_SHOWN).map(ToString::to_string).collect();
    format!("{} by erasures: {}{more}", redacted.len(), first.join(", "))
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(paging) => list(
                session,
                &path(&["audit"]),
                &[],
                &paging,
                &["SEQ", "AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL"],
                |entry: &AuditEntry| {
                    vec![
                        entry.seq.to_string(),
                        when(entry.at),
                        entry.actor.clone(),
                        entry.action.clone(),
                        entry.subject.clone(),
                        entry.detail.clone(),
                    ]
                },
            ),
            Self::Verify { pinned } => {
                let mut chain = Chain::new(pinned);
                let mut after = None;
                for _ in 0..VERIFY_PAGES_MAX {
                    let page: Page<AuditEntry> =
                        session.client.page(&path(&["audit"]), &[], after.as_deref(), MAX_PAGE)?;
                    page.items.iter().try_for_each(|entry| chain.extend(entry))?;
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                let verified = chain.end()?;
                session.out.result(&verified, |verified| {
                    fields(&[
                        ("entries", verified.entries.to_string()),
                        ("head", verified.head.to_string()),
                        ("chain", "whole and unaltered".to_owned()),
                        ("redacted", shown(&verified.redacted)),
                        ("next time", format!("--pinned {}:{}", verified.entries, verified.head)),
                    ])
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_catalog::Time;
    use sluice_catalog::audit::chain_hash;

    use super::*;

    fn log(length: i64) -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for seq in 1..=length {
            let prev_hash = entries.last().map_or(Digest([0; 32]), |entry| entry.hash);
            let at = Time::EPOCH.plus_s(seq);
            let hash = chain_hash(prev_hash, seq, at, "admin", "product.create", "product:cam", "{}");
            entries.push(AuditEntry {
                seq,
                at,
                actor: "admin".into(),
                action: "product.create".into(),
                subject: "product:cam".into(),
                detail: "{}".into(),
                prev_hash,
                hash,
            });
        }
        entries
    }

    fn verify(entries: &[AuditEntry], pinned: Option<Pin>) -> Result<Verified, String> {
        let mut chain = Chain::new(pinned);
        entries.iter().try_for_each(|entry| chain.extend(entry)).and_then(|()| chain.end()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_whole_log_verifies() {
        let entries = log(4);
        assert_eq!(verify(&entries, None), Ok(Verified { entries: 4, head: entries[3].hash, redacted: vec![] }));
        assert_eq!(verify(&[], None).unwrap().entries, 0);
    }

    #[test]
    fn altered_and_missing_entries_are_found() {
        let mut altered = log(4);
        altered[1].actor = "intruder".into();
        assert!(verify(&altered, None).unwrap_err().contains("entry 2 was altered"));
        let mut cut = log(4);
        cut.remove(2);
        assert!(verify(&cut, None).unwrap_err().contains("entry 4 follows entry 2"));
        assert!(verify(&log(4)[1..], None).is_err(), "the beginning is missing");
    }

    #[test]
    fn a_pin_finds_what_the_chain_cannot() {
        let entries = log(4);
        let pin = Pin { seq: 4, hash: entries[3].hash };
        assert!(verify(&entries, Some(pin)).is_ok());
        assert!(verify(&entries[..3], Some(pin)).unwrap_err().contains("ends at entry 3"));
        let other = Pin { seq: 2, hash: entries[3].hash };
        assert!(verify(&entries, Some(other)).unwrap_err().contains("not the one noted"));
    }

    #[test]
    fn a_pin_is_a_number_and_a_hash() {
        assert_eq!(pin(&format!("7:{}", "0".repeat(64))), Ok(Pin { seq: 7, hash: Digest([0; 32]) }));
        assert!(pin("7").is_err());
        assert!(pin("x:00").is_err());
    }
}
