//! Why does this device get, or not get, that version? At any moment, by what was known at any moment.

use std::sync::Arc;

use sluice_catalog::decide::{self, ProductView, Why};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial, Version};
use sluice_catalog::wire::device::WhyResponse;
use sluice_catalog::{Kind, Time};

use super::reach::Reach;
use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::CachedDevice;
use crate::poll::views::{self, Moment};

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// About this version only.
    pub version: Option<&'a Version>,
    /// At this moment; now when absent.
    pub at: Option<Time>,
    /// By what was known then; by what is known now when absent.
    pub known_at: Option<Time>,
}

impl App {
    /// The whole trace for a device. It answers from the database, not from a cache, with the function that decides for the
    /// device itself.
    pub async fn why(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        question: Question<'_>,
    ) -> Result<Why> {
        let reach = actor.need_within(Permission::Read)?;
        let now = self.now();
        let row = self.device_within(reach, product, serial).await?;
        let view = self.product_view(product)?;
        if let Some(version) = question.version
            && view.release_of_version(version).is_none()
        {
            return Err(Error::not_found("version", format!("{product} {version}")));
        }
        if let Some(known_at) = question.known_at.filter(|known_at| *known_at > now) {
            return Err(Error::invalid(
                "known_at",
                format!("{known_at} is to come: nobody knows yet what will be known"),
            ));
        }
        let at = question.at.unwrap_or_else(|| question.known_at.unwrap_or(now));
        // What the device was like, and how far rollouts were, at the moment asked about, as far as that was known.
        let moment = at.min(question.known_at.unwrap_or(now));
        let past = moment < now;
        if let Some(since) = self.device_since(reach, &row).await?
            && moment < since.at
        {
            return Err(Error::not_found("device", format!("{product}/{serial} as of {moment}")));
        }
        let (device, installed) = match self.store.device_at(row.device.id, moment).await? {
            Some(then) if past => (then.device()?, then.installed()?),
            // Of a device that was there before its changes were noted the present record is the best that there is.
            None if question.known_at.is_some()
                && (row.device.created_at > moment
                    || !self.store.device_history(row.device.id, Time::EPOCH, 1).await?.is_empty()) =>
            {
                return Err(Error::not_found("device", format!("{product}/{serial} as of {moment}")));
            }
            _ => (row.device.clone(), self.store.installed_list(row.device.id).await?),
        };
        let known_at = question.known_at;
        // Of the past only the last contact of all is known: who was heard of later was heard of then.
        let last_seen = row.last_seen_at.map(|seen| seen.min(moment));
        let when = Moment { at: at.min(moment), known_at, failed_by: past.then_some(moment), last_seen };
        let device = views::view_of(&self.store, &self.live, device, installed, when).await?;
        let view = if past { Arc::new(self.product_at(&view, moment, known_at).await?) } else { view };
        let version = question.version.cloned();
        // Every gate of every release, and again at each boundary ahead: work for a core and not for the runtime of the database.
        let explain = move || decide::why(&device, &view, version.as_ref(), at);
        let why = tokio::task::spawn_blocking(explain).await.map_err(Error::internal)?;
        let why = Why { known_at, ..why };
        if reach == Reach::Everything {
            return Ok(why);
        }
        let within = self.contracts_within(reach, why.contracts().into_iter().collect()).await?;
        Ok(why.within(&within))
    }

    /// What a device is told about itself. It waits for no database, and decides on a thread of its own.
    pub async fn device_why(&self, device: Arc<CachedDevice>, version: Option<Version>) -> Result<WhyResponse> {
        let now = self.now();
        let product =
            self.live.products().get(device.view.device.product_id).cloned().ok_or_else(|| {
                Error::new(Kind::Unavailable, "this device's product is not loaded yet; try again later")
            })?;
        let asked = version.clone();
        let tell = move || decide::told(&device.view, &product, asked.as_ref(), now);
        let told = tokio::task::spawn_blocking(tell).await.map_err(Error::internal)?;
        told.ok_or_else(|| Error::not_found("version", version.as_ref().map_or("", Version::as_str)))
    }

    /// A product as it was: rollouts as far as they were at a moment, stopped or not, and releases by what was known.
    async fn product_at(&self, view: &ProductView, moment: Time, known_at: Option<Time>) -> Result<ProductView> {
        let mut then = self.releases_at(view, moment, known_at).await?;
        then.stopped = self.store.stopped_at(moment).await?;
        Ok(then)
    }

    async fn releases_at(&self, view: &ProductView, moment: Time, known_at: Option<Time>) -> Result<ProductView> {
        let mut rollouts = Vec::new();
        for rollout in &view.rollouts {
            if let Some(then) = self.store.rollout_then(rollout, moment).await? {
                rollouts.push(then);
            }
        }
        let Some(known_at) = known_at else {
            return Ok(ProductView::new(view.product.clone(), view.releases().to_vec(), rollouts));
        };
        let facts = self.store.release_facts(true).await?;
        let known = facts.iter().map(|row| Ok((row.release_id, row.known()?))).collect::<Result<Vec<_>>>()?;
        Ok(view.known_at(&known, rollouts, known_at))
    }
}
