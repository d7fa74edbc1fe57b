//! Systems that keep contracts elsewhere: when each was last heard of, and how long it may be silent.

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::principal::Permission;
use sluice_catalog::source::{ContractSource, Heard, MAX_STALE_HOURS, Silence, SourceSet, SourceView};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::MAX_PAGE;

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::store::Tx;

const HOUR_MS: i64 = 3_600_000;
/// The part of the silence that it may keep after which copies in memory are told that a source was heard of. Until then they know an older
/// time, and take it for stale so much too early at most; telling each time would drop every copy with each word.
const ANNOUNCE_PART: i64 = 4;

impl App {
    /// Sources after a name.
    pub async fn source_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<ContractSource>> {
        actor.need(Permission::Read)?;
        let now = self.now();
        Ok(self.store.source_list(after, limit).await?.into_iter().map(|heard| shown(heard, now)).collect())
    }

    /// A source says that it lives and that nothing changed.
    pub async fn source_touch(&self, actor: &Actor, name: &Slug) -> Result<ContractSource> {
        actor.need(Permission::Contracts)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        // A misspelt name must not look like a source that lives.
        self.source_row(&mut tx, name).await?;
        let mut dropped = self.source_heard(&mut tx, actor, name, now).await?;
        let (heard, _) = self.source_row(&mut tx, name).await?;
        if heard.silence.is_some() {
            // Nothing else changed while it was silent.
            tx.heard_anew(&Heard { silence: None, ..heard }, now).await?;
            tx.source_announce(name, now).await?;
            dropped = true;
        }
        let heard = self.source_row(&mut tx, name).await?.0;
        tx.commit().await?;
        if dropped {
            self.devices.forget_all();
        }
        Ok(shown(heard, now))
    }

    /// Sets how long a source may be silent. It does not count as heard of by that, unless it is new.
    pub async fn source_set(&self, actor: &Actor, name: &Slug, request: &SourceSet) -> Result<ContractSource> {
        actor.need(Permission::Contracts)?;
        if request.stale_after_hours.is_some_and(|hours| !(1..=MAX_STALE_HOURS).contains(&hours)) {
            return Err(Error::invalid("stale_after_hours", format!("1 to {MAX_STALE_HOURS}, or none")));
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.source_add(name, now).await?;
        tx.source_lock(name).await?;
        let (heard, _) = self.source_row(&mut tx, name).await?;
        let stale_after_ms = request.stale_after_hours.map(|hours| i64::from(hours) * HOUR_MS);
        if heard.stale_after_ms == stale_after_ms {
            tx.commit().await?;
            return Ok(shown(heard, now));
        }
        let after = Heard { stale_after_ms, ..heard.clone() };
        tx.heard_anew(&after, now).await?;
        tx.source_announce(name, heard.at).await?;
        let detail = json!({"stale_after_hours": request.stale_after_hours,
            "before": heard.stale_after_ms.map(|ms| ms / HOUR_MS)});
        tx.audit_add(now, actor.name(), "source.set", &format!("source:{name}"), &detail).await?;
        tx.commit().await?;
        self.devices.forget_all();
        Ok(shown(after, now))
    }

    /// Notes, in the transaction of what it tells, that a source was heard of, and locks it. True when copies of devices in memory are
    /// to be dropped. A word alone is no entry in the audit log; its first one and one after a silence are.
    pub(super) async fn source_heard(&self, tx: &mut Tx, actor: &Actor, name: &Slug, now: Time) -> Result<bool> {
        let made = tx.source_add(name, now).await?;
        tx.source_lock(name).await?;
        let (heard, announced_at) = self.source_row(tx, name).await?;
        let subject = format!("source:{name}");
        if made {
            tx.audit_add(now, actor.name(), "source.create", &subject, &json!({})).await?;
            return Ok(false);
        }
        // Of the source itself: what it has not told yet is about contracts.
        let view = SourceView { heard: Heard { silence: None, ..heard.clone() }, judged_at: None };
        if let Some(stale) = view.stale_at(now) {
            // What it had not told when it fell silent again is known from before the first of the silences.
            let before = heard.untold().unwrap_or(heard.at);
            tx.heard_anew(&Heard { at: now, silence: Some(Silence { before, back: now }), ..heard }, now).await?;
            tx.source_announce(name, now).await?;
            let detail = json!({"silent_s": stale.age_s, "last": stale.heard_at});
            tx.audit_add(now, actor.name(), "source.back", &subject, &detail).await?;
            return Ok(true);
        }
        tx.heard_on(name, now).await?;
        let told = heard.stale_after_ms.is_none_or(|ms| now < announced_at.plus_ms(ms / ANNOUNCE_PART));
        if !told {
            tx.source_announce(name, now).await?;
        }
        Ok(!told)
    }

    async fn source_row(&self, tx: &mut Tx, name: &Slug) -> Result<(Heard, Time)> {
        tx.source_get(name).await?.ok_or_else(|| Error::not_found("contract source", name))
    }

    /// Sets the gauge of ages.
    pub async fn source_ages(&self) -> Result<()> {
        let now = self.now();
        let sources = self.store.source_list("", MAX_PAGE).await?;
        self.metrics.source_ages(sources.into_iter().map(|heard| {
            let shown = shown(heard, now);
            (shown.name.to_string(), shown.age_s)
        }));
        Ok(())
    }
}

fn shown(heard: Heard, now: Time) -> ContractSource {
    let view = SourceView { heard: Heard { silence: None, ..heard }, judged_at: None };
    let stale = view.stale_at(now).is_some();
    let heard = view.heard;
    ContractSource {
        age_s: (now.as_ms() - heard.at.as_ms()).max(0) / 1000,
        heard_at: heard.at,
        stale_after_hours: heard.stale_after_ms.and_then(|ms| u32::try_from(ms / HOUR_MS).ok()),
        name: heard.source,
        stale,
    }
}
