//! What devices report about their attempts.

use sluice_catalog::device::{Device, Installed};
use sluice_catalog::id::{DeviceId, ReleaseId, RolloutId};
use sluice_catalog::release::Artifact;
use sluice_catalog::rollout::{AttemptState, Failure, MAX_LOG_LEN, clean_log};
use sluice_catalog::wire::device::{MAX_DETAIL_LEN, MAX_EVENTS, ReportRequest};
use sluice_catalog::{Kind, Time};

use super::App;
use crate::error::{Error, Result};
use crate::jobs;
use crate::store::Said;

/// What a report changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Events that moved an attempt or added to it.
    pub moved: u32,
}

impl App {
    /// Opens an attempt for an offer, unless it is open already. Durable before the offer is answered.
    pub async fn attempt_open(&self, device: DeviceId, release: ReleaseId, rollout: RolloutId) -> Result<()> {
        let mut tx = self.store.begin().await?;
        tx.device_lock(device).await?;
        if let Some(open) = tx.attempt_current(device).await?
            && open.release_id == release
            && open.rollout_id == rollout
        {
            return Ok(());
        }
        tx.attempt_open(device, release, rollout, self.now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes the beginning of an attempt: its first blob was asked for. One write per attempt.
    pub async fn attempt_began(&self, device: DeviceId) -> Result<()> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.device_lock(device).await?;
        if let Some(open) = tx.attempt_current(device).await?
            && open.state == AttemptState::Offered
        {
            tx.attempt_move(&open, AttemptState::Downloading, Said::default(), now).await?;
            tx.device_touch(device, now).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes a report. Durable before it is answered; repeats and latecomers change nothing.
    pub async fn report(&self, device: DeviceId, request: &ReportRequest) -> Result<Moved> {
        if request.events.len() > MAX_EVENTS {
            return Err(Error::invalid("events", format!("{} given, at most {MAX_EVENTS}", request.events.len())));
        }
        for (index, event) in request.events.iter().enumerate() {
            if event.detail.as_ref().is_some_and(|detail| detail.len() > MAX_DETAIL_LEN) {
                return Err(Error::invalid(
                    &format!("events[{index}].detail"),
                    format!("at most {MAX_DETAIL_LEN} bytes"),
                ));
            }
            if event.log.as_ref().is_some_and(|log| log.len() > MAX_LOG_LEN) {
                return Err(Error::invalid(&format!("events[{index}].log"), format!("at most {MAX_LOG_LEN} bytes")));
            }
            if let Some(encoding) = &event.encoding
                && !matches!(encoding.as_str(), "patch" | "zstd" | "raw")
            {
                return Err(Error::invalid(&format!("events[{index}].encoding"), "one of patch, zstd, raw"));
            }
            if matches!(event.state, AttemptState::Offered | AttemptState::Superseded) {
                return Err(Error::invalid(&format!("events[{index}].state"), "a state that a device can report"));
            }
        }
        let now = self.now();
        let mut moved = Moved::default();
        let mut tx = self.store.begin().await?;
        tx.device_lock(device).await?;
        let row = tx.device_get(device).await?.ok_or_else(|| Error::not_found("device", device))?;
        for event in &request.events {
            let Some(attempt) = tx.attempt_get(device, event.attempt).await? else {
                return Err(Error::new(Kind::NotFound, format!("this device has no attempt {}", event.attempt)));
            };
            // A device that calls itself healthy must have polled on the new version first: "written to disk" is not
            // success. Until then it counts as booted.
            let mut state = event.state;
            if state == AttemptState::Healthy && !self.runs(&mut tx, &row.device, attempt.release_id).await? {
                state = AttemptState::Booted;
            }
            // Texts are kept without what PostgreSQL takes in none, and what moves a terminal: a device that sends it must not lose
            // its report.
            let detail = event.detail.as_ref().map(|detail| clean_log(detail, MAX_DETAIL_LEN));
            let log = event.log.as_ref().map(|log| clean_log(log, MAX_LOG_LEN)).filter(|log| !log.is_empty());
            let said = Said {
                failure: event.failure,
                encoding: event.encoding.as_deref(),
                bytes: event.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
                detail: detail.as_deref(),
                log: log.as_deref(),
            };
            if attempt.state.may_become(state) {
                tx.attempt_move(&attempt, state, said, now).await?;
                moved.moved += 1;
                if state == AttemptState::Healthy
                    && let Some(train) = self.train_of(&row.device, attempt.release_id)
                {
                    tx.device_confirm_train(device, &train, now).await?;
                    tx.device_note(device, "device", "confirmed", now).await?;
                }
            } else if event.failure == Some(Failure::DeltaMismatch)
                && attempt.failure != Some(Failure::DeltaMismatch)
                && !attempt.state.is_final()
            {
                tx.attempt_move(&attempt, attempt.state, said, now).await?;
                moved.moved += 1;
            }
            if event.failure == Some(Failure::DeltaMismatch) && !row.device.patches_off {
                // This device gets full images; the server tries the patch again itself before others suffer.
                tx.device_patches_off(device, now).await?;
                jobs::recheck::enqueue(self, &mut tx, &row.device, attempt.release_id).await?;
            }
        }
        if moved.moved > 0 {
            tx.device_touch(device, now).await?;
            tx.commit().await?;
            self.device_changed(device);
        }
        Ok(moved)
    }

    /// A device that had called itself healthy on a version and polls on an older one went back by itself, days later perhaps: its
    /// success was none. What the device says of its attempt cannot say so, as that has ended.
    pub(super) async fn went_back(
        &self,
        tx: &mut crate::store::Tx,
        device: &Device,
        installed: &[Installed],
        now: Time,
    ) -> Result<()> {
        let Some(success) = tx.attempt_succeeded(device.id).await? else { return Ok(()) };
        let products = self.live.products_full();
        let Some((product, release)) = products.release(success.release_id) else { return Ok(()) };
        let older = installed.iter().any(|one| {
            let running = product.release_of_image(&one.component, one.sha256);
            let of_release =
                |image: &&Artifact| image.component == one.component && image.hw_ids.contains(device.hw_id.as_str());
            let was = release.artifacts.iter().find(of_release);
            was.is_some_and(|image| image.sha256 != one.sha256)
                && running.is_some_and(|running| running.release.order < release.release.order)
        });
        if older {
            let detail = Some("polled on an older version after it had been healthy");
            let said = Said { failure: Some(Failure::Unhealthy), detail, ..Said::default() };
            tx.attempt_move(&success, AttemptState::RolledBack, said, now).await?;
            tx.device_touch(device.id, now).await?;
        }
        Ok(())
    }

    /// Whether a device was last seen running every image that a release has for it.
    async fn runs(&self, tx: &mut crate::store::Tx, device: &Device, release: ReleaseId) -> Result<bool> {
        let installed = tx.installed_list(device.id).await?;
        let products = self.live.products();
        let view = products
            .get(device.product_id)
            .and_then(|product| product.releases().iter().find(|candidate| candidate.release.id == release));
        Ok(view.is_some_and(|view| {
            view.artifacts.iter().filter(|artifact| artifact.hw_ids.contains(device.hw_id.as_str())).all(|artifact| {
                installed.iter().any(|one| one.component == artifact.component && one.sha256 == artifact.sha256)
            })
        }))
    }

    fn train_of(&self, device: &Device, release: ReleaseId) -> Option<sluice_catalog::text::TrainName> {
        let products = self.live.products();
        let product = products.get(device.product_id)?;
        product.releases().iter().find(|view| view.release.id == release).map(|view| view.release.train.clone())
    }
}
