//! What is signed and not announced: documents of embargo roles are held until the moment that is signed in them, and then
//! published like any other. Nobody can have one published earlier; whoever may can drop it.

use sluice_catalog::principal::Permission;
use sluice_catalog::wire::publish::Held;
use sluice_catalog::{Digest, Kind};
use sluice_signer::publish::Repository as SignedRepository;
use sluice_signer::{Accepted, Envelope, ImageDocuments, Limits, NewDocument, TargetsMetadata};

use serde_json::json;

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::{HeldRow, Tx};

impl App {
    /// Everything that waits, the next first.
    pub async fn held_list(&self, actor: &Actor) -> Result<Vec<Held>> {
        actor.need(Permission::Embargo)?;
        self.store.held_all().await?.iter().map(shown).collect()
    }

    /// Drops what waits of a role. Its holders can sign it once more, under a later version.
    pub async fn held_drop(&self, actor: &Actor, role: &str) -> Result<()> {
        actor.need(Permission::Embargo)?;
        let mut tx = self.store.begin().await?;
        // A publication at this moment waits here, or is waited for.
        tx.generation_raise("documents").await?;
        let held = tx.held_all().await?.into_iter().find(|row| row.role == role);
        let held = held.ok_or_else(|| Error::not_found("held document of role", role))?;
        tx.held_remove(role).await?;
        tx.audit_add(self.now(), actor.name(), "embargo.drop", role, &document(&held)).await?;
        tx.commit().await?;
        self.refresh().await
    }

    /// Publishes what waits and whose moment has come; whether anything was. What was published meanwhile may stand against it:
    /// then it stays, with the reason.
    pub(super) async fn embargo_tick(&self) -> Result<bool> {
        let (mut published, mut failed) = (false, None);
        for held in self.store.held_due(self.now()).await? {
            let new = NewDocument {
                repository: SignedRepository::Image,
                role: held.role.clone(),
                version: held.version.unsigned_abs(),
                bytes: held.body.clone(),
            };
            match self.publish(&Actor::Server, vec![new]).await {
                Ok(_) => {
                    tracing::info!(role = held.role, version = held.version, "what was held was published");
                    published = true;
                }
                // Somebody else was at it, or a part is away: tried again at the next tick. The others do not wait for it.
                Err(error) if matches!(error.kind, Kind::Conflict | Kind::Unavailable | Kind::Internal) => {
                    let (role, version) = (&held.role, held.version);
                    tracing::warn!(role, version, error = %error, "what is held could not be published yet");
                    failed = failed.or(Some(error));
                }
                Err(error) => self.embargo_refuse(&held, &error.detail).await?,
            }
        }
        failed.map_or(Ok(published), Err)
    }

    async fn embargo_refuse(&self, held: &HeldRow, reason: &str) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.generation_raise("documents").await?;
        if !tx.held_refuse(&held.role, held.version, reason).await? {
            return Ok(());
        }
        // The reason tells what it is: it stands in the list alone.
        tx.audit_add(self.now(), Actor::Server.name(), "embargo.refuse", &held.role, &document(held)).await?;
        tx.commit().await?;
        self.metrics.embargo_refused.inc();
        let (role, version) = (&held.role, held.version);
        tracing::warn!(
            role,
            version,
            "what was held was not published at its moment; next: see why with `sluicectl held list`, then sign a later version of \
             {role} and publish it, or `sluicectl held drop {role}`"
        );
        self.refresh().await
    }
}

/// Refuses to hold a document of a role of which nothing is shown: many clients refuse a role on their way that the snapshot does
/// not list, and would find nothing of the product.
pub(super) fn check_shown(accepted: &Accepted) -> Result<()> {
    let unseen = |role: &&String| !accepted.documents_after.roles.contains_key(*role);
    match accepted.documents_after.held.keys().find(unseen) {
        None => Ok(()),
        Some(role) => Err(Error::new(
            Kind::Unverified,
            format!(
                "{role}: nothing of it is shown yet; publish its first document, which is empty, before: `sluice-sign publish` sends both"
            ),
        )),
    }
}

/// Writes what waits after a publication, and says so in the audit log without a word of what it is. What no longer waits is
/// returned.
pub(super) async fn write(
    app: &App,
    tx: &mut Tx,
    actor: &Actor,
    before: &ImageDocuments,
    accepted: &Accepted,
) -> Result<Vec<HeldRow>> {
    let (now, after) = (app.now(), &accepted.documents_after);
    let rows = tx.held_all().await?;
    for (role, body) in after.held.iter().filter(|(role, body)| before.held.get(*role) != Some(body)) {
        let found =
            accepted.documents.iter().find(|one| one.role == *role).and_then(|one| Some((one, one.held_until?)));
        let Some((accepted_document, moment)) = found else {
            return Err(Error::internal(anyhow::anyhow!("held document {role} was not sent")));
        };
        let row = HeldRow {
            role: role.clone(),
            version: super::publish::version(accepted_document.version)?,
            product: product(role, after)?,
            not_before: sluice_catalog::Time::from_ms(moment.as_millisecond()),
            body: body.clone(),
            held_at: now,
            held_by: actor.name().to_owned(),
            refused: None,
        };
        let mut detail = document(&row);
        if let Some(old) = rows.iter().find(|old| old.role == *role) {
            detail["instead_of"] = old.version.into();
        }
        tx.held_put(&row).await?;
        tx.audit_add(now, actor.name(), "embargo.hold", role, &detail).await?;
    }
    let gone: Vec<HeldRow> = rows.into_iter().filter(|row| !after.held.contains_key(&row.role)).collect();
    for row in &gone {
        tx.held_remove(&row.role).await?;
    }
    Ok(gone)
}

/// The product for which an embargo role signs, by the top targets document that stands.
fn product(role: &str, documents: &ImageDocuments) -> Result<String> {
    let limits = Limits::default();
    let top = documents.targets.as_deref().unwrap_or_default();
    let envelope = Envelope::parse("targets", top, limits.targets_bytes, &limits).map_err(Error::internal)?;
    let top = TargetsMetadata::from_json("targets", envelope.signed(), &limits).map_err(Error::internal)?;
    let product = top.delegation(role).and_then(sluice_signer::embargo::product_of);
    product.map(str::to_owned).ok_or_else(|| Error::internal(anyhow::anyhow!("{role} is no embargo role")))
}

/// What the audit log says of a document that waits: everybody who may read reads it, so neither product nor version nor moment.
fn document(held: &HeldRow) -> serde_json::Value {
    json!({"document": format!("image/{} {}", held.role, held.version), "sha256": Digest::of(&held.body)})
}

fn shown(held: &HeldRow) -> Result<Held> {
    let limits = Limits::default();
    let corrupt = |error: sluice_signer::VerifyError| Error::internal(anyhow::anyhow!("{}: {error}", held.role));
    let envelope = Envelope::parse(&held.role, &held.body, limits.targets_bytes, &limits).map_err(corrupt)?;
    let metadata = TargetsMetadata::from_json(&held.role, envelope.signed(), &limits).map_err(corrupt)?;
    let releases = metadata.targets.values().filter_map(|target| target.release(&held.role, &limits).ok()?);
    let mut releases: Vec<(u64, String)> = releases.map(|release| (release.order, release.version)).collect();
    releases.sort();
    releases.dedup();
    Ok(Held {
        role: held.role.clone(),
        version: held.version,
        product: held.product.clone(),
        not_before: held.not_before,
        releases: releases.into_iter().map(|(_, version)| version).collect(),
        held_at: held.held_at,
        held_by: held.held_by.clone(),
        refused: held.refused.clone(),
    })
}
