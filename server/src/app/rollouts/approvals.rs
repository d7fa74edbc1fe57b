//! Approvals: two people other than the author sign a plan's digest, each with a key that an administrator enrolled for them.

use ed25519_dalek::Signature;
use serde_json::json;
use sluice_catalog::principal::{Permission, PrincipalKind};
use sluice_catalog::rollout::{Rollout, RolloutState, approval_message};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::{ApproverEnrol, ApproverKey, RolloutApproval, RolloutApprove, RolloutDetail};
use sluice_catalog::{Digest, Kind};

use super::super::enrol::public_key;
use super::super::{Actor, App, Made};
use super::moved_meanwhile;
use crate::error::{Error, Result};
use crate::store::{ApprovalRow, Because, Tx};

impl App {
    /// Every approver's key.
    pub async fn approver_list(&self, actor: &Actor) -> Result<Vec<ApproverKey>> {
        actor.need(Permission::Read)?;
        Ok(self.store.approver_list().await?)
    }

    /// Enrols a key for a person. It is an administrator's to do and never one's own: who could enrol a key with a token could
    /// approve with a stolen one.
    pub async fn approver_enrol(
        &self,
        actor: &Actor,
        name: &Slug,
        request: &ApproverEnrol,
    ) -> Result<Made<ApproverKey>> {
        actor.need(Permission::Principals)?;
        let key = public_key(&request.public_key)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let principal = tx.principal_by_name(name).await?.ok_or_else(|| Error::not_found("principal", name))?;
        if principal.name.as_str() == actor.name() {
            return Err(Error::new(Kind::Forbidden, "another administrator enrols your key: nobody enrols their own"));
        }
        if principal.kind != PrincipalKind::Person || principal.disabled_at.is_some() {
            return Err(Error::new(
                Kind::WrongState,
                format!("{name} is no person with an account: only people approve"),
            ));
        }
        let public_key = hex::encode(key.as_bytes());
        if let Some((owner, revoked_at)) = tx.approver_key(key.as_bytes()).await? {
            if owner == principal.id && revoked_at.is_none() {
                return Ok(Made::Same(ApproverKey {
                    principal: name.clone(),
                    public_key,
                    created_at: now,
                    revoked_at,
                }));
            }
            return Err(Error::conflict(
                "this key was enrolled before, for someone else or taken away: make a new one",
            ));
        }
        tx.approver_add(principal.id, key.as_bytes(), now).await?;
        let detail = json!({"public_key": public_key});
        tx.audit_add(now, actor.name(), "approver.enrol", &format!("principal:{name}"), &detail).await?;
        tx.commit().await?;
        Ok(Made::New(ApproverKey { principal: name.clone(), public_key, created_at: now, revoked_at: None }))
    }

    /// Takes a key away. Approvals by it count no more, of whatever has not started.
    pub async fn approver_revoke(&self, actor: &Actor, key: &str) -> Result<()> {
        actor.need(Permission::Principals)?;
        let bytes = public_key(key)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if tx.approver_key(bytes.as_bytes()).await?.is_none() {
            return Err(Error::not_found("approver key", key));
        }
        if tx.approver_revoke(bytes.as_bytes(), now).await? {
            tx.audit_add(now, actor.name(), "approver.revoke", &format!("approver:{key}"), &json!({})).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes an approval. With the last one that is needed the rollout is approved.
    pub async fn rollout_approve(&self, actor: &Actor, name: &Slug, request: &RolloutApprove) -> Result<RolloutDetail> {
        actor.need(Permission::Rollouts)?;
        let Actor::Principal { principal, .. } = actor else {
            return Err(Error::new(Kind::Forbidden, "only a named person approves"));
        };
        let key = public_key(&request.public_key)?;
        let signature = signature(&request.signature)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        // Two who approve at once count each other.
        let rollout = tx.rollout_lock(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        if rollout.author == principal.name.as_str() {
            return Err(Error::new(Kind::Forbidden, format!("you wrote the plan of {name}: others approve it")));
        }
        match tx.approver_key(key.as_bytes()).await? {
            Some((owner, None)) if owner == principal.id => {}
            _ => {
                return Err(Error::new(
                    Kind::Forbidden,
                    format!(
                        "this key is not enrolled for {0}: an administrator does so with `sluicectl approver enrol {0}`",
                        principal.name
                    ),
                ));
            }
        }
        let (product, version) = self.rollout_release(&rollout)?;
        let digest = rollout.plan_digest(&product, &version);
        if digest != request.digest {
            return Err(Error::conflict(format!(
                "the plan of {name} is another by now: look at it again before you approve"
            )));
        }
        if key.verify_strict(&approval_message(digest), &signature).is_err() {
            return Err(Error::new(Kind::Unauthenticated, "the signature is not by this key over this plan"));
        }
        if !matches!(rollout.state, RolloutState::Review | RolloutState::Approved) {
            return Err(Error::new(
                Kind::WrongState,
                format!("rollout {name} is {}: it waits for no approval", rollout.state.as_str()),
            ));
        }
        let new = tx.approval_add(rollout.id, principal.id, digest, key.as_bytes(), &signature.to_bytes(), now).await?;
        let rows = tx.approval_list(rollout.id, digest).await?;
        let have = counting(&rows, &rollout.author).count();
        if new {
            let detail = json!({"digest": digest, "public_key": request.public_key, "have": have});
            tx.audit_add(now, actor.name(), "rollout.approve", &format!("rollout:{name}"), &detail).await?;
        }
        let enough = rollout.state == RolloutState::Review && have >= usize::from(rollout.rules.approvals);
        if enough {
            let approved = rollout.moved(RolloutState::Approved, rollout.stage, now);
            let cause = format!("{have} approvals of plan {digest}");
            let because = Because { actor: actor.name(), cause: &cause, evidence: None };
            if !tx.rollout_move(&rollout, &approved, now, because).await? {
                return Err(moved_meanwhile(name));
            }
            tx.generation_raise("rollouts").await?;
        }
        if new || enough {
            tx.commit().await?;
            self.refresh().await?;
        } else {
            drop(tx);
        }
        self.rollout_get(actor, name).await
    }

    /// Approvals of a plan as they stand.
    pub(super) async fn approvals(&self, rollout: &Rollout, digest: Digest) -> Result<Vec<RolloutApproval>> {
        let rows = self.store.approval_list(rollout.id, digest).await?;
        let author = &rollout.author;
        Ok(rows
            .into_iter()
            .map(|row| RolloutApproval { counts: counts(&row, author), principal: row.name, at: row.at })
            .collect())
    }

    /// Refuses to start a plan without enough approvals that count now: an approver may have lost account or key since.
    pub(super) async fn approved(&self, tx: &mut Tx, rollout: &Rollout) -> Result<()> {
        let need = usize::from(rollout.rules.approvals);
        if need == 0 {
            return Ok(());
        }
        let (product, version) = self.rollout_release(rollout)?;
        let rows = tx.approval_list(rollout.id, rollout.plan_digest(&product, &version)).await?;
        let have = counting(&rows, &rollout.author).count();
        if have < need {
            return Err(Error::new(
                Kind::WrongState,
                format!(
                    "rollout {} has {have} of {need} approvals that count: an approver lost account or key; another approves it, or the same with a new key",
                    rollout.name
                ),
            ));
        }
        Ok(())
    }
}

fn counts(row: &ApprovalRow, author: &str) -> bool {
    row.disabled_at.is_none() && row.revoked_at.is_none() && row.name.as_str() != author
}

fn counting<'a>(rows: &'a [ApprovalRow], author: &'a str) -> impl Iterator<Item = &'a ApprovalRow> {
    rows.iter().filter(move |row| counts(row, author))
}

fn signature(text: &str) -> Result<Signature> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| Error::invalid("signature", "an ed25519 signature, 128 hexadecimal digits"))?;
    Ok(Signature::from_bytes(&bytes))
}
