//! What is known of a rollout's attempts at a moment, from one reading: what moves it and what people are shown of it cannot disagree.

use sluice_catalog::rollout::{Class, Counts, MIN_STOP, Rollout, Stats};
use sluice_catalog::wire::live::{Bytes, Reached};
use sluice_catalog::{TextSet, Time};

use super::super::App;
use crate::error::Result;
use crate::store::{Controls, Reaching};

/// Silent attempts from which on it is worth counting the controls: a stop rule needs as many.
const WORTH_CONTROLS: u64 = MIN_STOP;

/// What was read of a rollout's attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// For gates and stop rules.
    pub stats: Stats,
    /// For people.
    pub reaching: Vec<Reaching>,
}

impl Figures {
    fn of(reaching: Vec<Reaching>) -> Self {
        let mut stats = Stats::default();
        for group in &reaching {
            let Some(class) = group.class else { continue };
            let add = |counts: &mut Counts| counts.count(class, group.count, group.matured, group.of_stage);
            if group.fresh {
                add(stats.fresh.entry(group.hardware.clone()).or_default());
            }
            add(stats.hardware.entry(group.hardware.clone()).or_default());
        }
        Self { stats, reaching }
    }

    /// All devices.
    pub fn devices(&self) -> Reached {
        let mut devices = Reached::default();
        for group in &self.reaching {
            devices.add(group.state, group.class, group.count);
        }
        devices
    }

    /// Whether so many are not heard of that it matters whether others are.
    fn wants_controls(&self, excluded: &TextSet) -> bool {
        let left = self.reaching.iter().filter(|group| !excluded.contains(&group.hardware));
        let unheard = left.filter(|group| matches!(group.class, Some(Class::Silent | Class::Lost)));
        unheard.map(|group| group.count).sum::<u64>() >= WORTH_CONTROLS
    }
}

/// Puts the controls beside the treated.
fn add_controls(stats: &mut Stats, controls: Vec<Controls>) {
    for Controls { hardware, controls, silent } in controls {
        let counts = stats.hardware.entry(hardware).or_default();
        counts.controls = u64::try_from(controls).unwrap_or(0);
        counts.controls_silent = u64::try_from(silent).unwrap_or(0);
    }
}

impl App {
    /// What is known of a rollout's attempts, with the controls where they matter.
    pub(super) async fn rollout_figures(&self, rollout: &Rollout, now: Time) -> Result<Figures> {
        let mature_before = rollout.mature_before(now);
        let mut figures = Figures::of(self.store.attempt_progress(rollout, mature_before).await?);
        if rollout.rules.stop.silent.is_some() && figures.wants_controls(&rollout.excluded) {
            let products = self.live.products_full();
            if let Some((product, _)) = products.release(rollout.release_id) {
                let controls = self.store.attempt_controls(rollout, product, (now, mature_before)).await?;
                add_controls(&mut figures.stats, controls);
            }
        }
        Ok(figures)
    }

    /// How far a rollout's devices are.
    pub(super) async fn rollout_devices(&self, rollout: &Rollout, now: Time) -> Result<Reached> {
        Ok(Figures::of(self.store.attempt_progress(rollout, rollout.mature_before(now)).await?).devices())
    }

    /// Bytes that a rollout's downloads took, and those that patches saved.
    pub(super) async fn rollout_bytes(&self, rollout: &Rollout) -> Result<Bytes> {
        let mut bytes = Bytes::default();
        let products = self.live.products_full();
        let Some((_, release)) = products.release(rollout.release_id) else { return Ok(bytes) };
        let encodings = self.live.encodings();
        for (hardware, encoding, attempts, taken) in self.store.attempt_bytes(rollout).await? {
            let taken = u64::try_from(taken).unwrap_or(0);
            bytes.sent = bytes.sent.saturating_add(taken);
            if encoding.as_deref() == Some("patch") {
                let images = release.artifacts.iter().filter(|image| image.hw_ids.contains(&hardware));
                let full = images.map(|image| {
                    let smallest = encodings.of(image.sha256).fulls.iter().map(|full| full.length).min();
                    smallest.map_or(image.length, |length| length.min(image.length))
                });
                let full = u64::try_from(full.sum::<i64>()).unwrap_or(0);
                let saved = full.saturating_mul(u64::try_from(attempts).unwrap_or(0)).saturating_sub(taken);
                bytes.saved = bytes.saved.saturating_add(saved);
            }
        }
        Ok(bytes)
    }
}
