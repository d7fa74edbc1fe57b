//! What approvers sign: a digest over everything that decides who gets what. Any edit makes another digest, so no approval
//! survives one.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Rollout, Rules, Selector, Stages};
use crate::Digest;
use crate::id::{ReleaseId, RolloutId};
use crate::text::{ProductName, Slug, Version};

/// In the order in which it is hashed.
#[derive(Serialize)]
struct Plan<'a> {
    id: RolloutId,
    name: &'a Slug,
    author: &'a str,
    product: &'a ProductName,
    version: &'a Version,
    release: ReleaseId,
    salt: &'a str,
    weight: i32,
    stages: &'a Stages,
    selector: &'a Selector,
    rules: &'a Rules,
}

impl Rollout {
    /// The digest of its plan: SHA-256 over `sluice rollout plan 1`, a line feed, and the plan as JSON. Approvers compute it
    /// themselves from what they are shown.
    pub fn plan_digest(&self, product: &ProductName, version: &Version) -> Digest {
        let plan = Plan {
            id: self.id,
            name: &self.name,
            author: &self.author,
            product,
            version,
            release: self.release_id,
            salt: &self.salt,
            weight: self.weight,
            stages: &self.stages,
            selector: &self.selector,
            rules: &self.rules,
        };
        // Texts and numbers alone: there is nothing that JSON cannot say.
        let json = serde_json::to_string(&plan).unwrap_or_default();
        Digest(Sha256::new().chain_update("sluice rollout plan 1\n").chain_update(json).finalize().into())
    }
}

/// What an approver's key signs.
pub fn approval_message(digest: Digest) -> Vec<u8> {
    format!("sluice rollout approve 1\n{digest}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::rollout::{Preset, RolloutState, Stage};

    #[test]
    fn every_part_of_a_plan_is_in_its_digest_and_its_progress_is_not() {
        let (product, version) = ("cam".parse().unwrap(), "2.4".parse().unwrap());
        let rollout = sample(Preset::Normal.stages(), Preset::Normal.rules());
        let digest = rollout.plan_digest(&product, &version);
        let edits: [fn(&mut Rollout); 9] = [
            |r| r.name = "other".parse().unwrap(),
            |r| r.author = "mallory".into(),
            |r| r.salt = "pepper".into(),
            |r| r.weight = 1,
            |r| r.stages.0.push(Stage::of(100)),
            |r| r.selector.sites = ["hall"].into_iter().collect(),
            |r| r.selector.filter = Some(r#"tag = "vip""#.parse().unwrap()),
            |r| r.rules.approvals = 0,
            |r| r.release_id = ReleaseId(uuid::Uuid::from_u128(77)),
        ];
        for edit in edits {
            let mut edited = rollout.clone();
            edit(&mut edited);
            assert_ne!(edited.plan_digest(&product, &version), digest);
        }
        assert_ne!(rollout.plan_digest(&product, &"2.5".parse().unwrap()), digest);
        let mut moved = rollout;
        (moved.state, moved.stage, moved.reached) = (RolloutState::Paused, 3, 77);
        assert_eq!(moved.plan_digest(&product, &version), digest);
    }
}
