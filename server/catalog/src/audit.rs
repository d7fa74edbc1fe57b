//! The audit log: one entry for each mutation, written in the transaction of the change and chained by hashes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, Time};

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// 1, 2, 3 … without a gap.
    pub seq: i64,
    /// When.
    pub at: Time,
    /// The principal's name, `device:SERIAL`, `bootstrap`, or `server`.
    pub actor: String,
    /// What was done, such as `rollout.advance`.
    pub action: String,
    /// What it was done to, such as `rollout:spring`.
    pub subject: String,
    /// What changed (JSON).
    pub detail: String,
    /// The hash of the entry before.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub prev_hash: Digest,
    /// [`chain_hash`] of this entry.
    #[cfg_attr(feature = "sql", sqlx(try_from = "Vec<u8>"))]
    pub hash: Digest,
}

/// The hash of an entry: SHA-256 over the hash before, the sequence number and time as 8 big-endian bytes each, then
/// actor, action, subject and detail, each after its length as 8 big-endian bytes.
pub fn chain_hash(prev: Digest, seq: i64, at: Time, actor: &str, action: &str, subject: &str, detail: &str) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(prev.0);
    hasher.update(seq.to_be_bytes());
    hasher.update(at.as_ms().to_be_bytes());
    for text in [actor, action, subject, detail] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    Digest(hasher.finalize().into())
}

impl AuditEntry {
    /// The hash of what the entry says now. It is [`AuditEntry::hash`] unless it was altered.
    pub fn content_hash(&self) -> Digest {
        chain_hash(self.prev_hash, self.seq, self.at, &self.actor, &self.action, &self.subject, &self.detail)
    }

    /// Whether the entry is unaltered and follows the one whose hash is given.
    pub fn follows(&self, prev: Digest) -> bool {
        self.prev_hash == prev && self.hash == self.content_hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_entry_breaks_the_chain() {
        let genesis = Digest([0; 32]);
        let hash = chain_hash(genesis, 1, Time::EPOCH, "ann", "product.create", "product:cam", "{}");
        let mut entry = AuditEntry {
            seq: 1,
            at: Time::EPOCH,
            actor: "ann".into(),
            action: "product.create".into(),
            subject: "product:cam".into(),
            detail: "{}".into(),
            prev_hash: genesis,
            hash,
        };
        assert!(entry.follows(genesis));
        entry.actor = "bob".into();
        assert!(!entry.follows(genesis));
        // Moving a byte from one text to the next is no way around: lengths are hashed.
        let moved = chain_hash(genesis, 1, Time::EPOCH, "annp", "roduct.create", "product:cam", "{}");
        assert_ne!(hash, moved);
    }
}
