//! Rollouts of a world: filters, ramps, rates, and how they go on.

use super::*;
use crate::Period;
use crate::rollout::Rates;

/// A filter, and whether it holds of a device at a moment, said in another way.
type Plainly = fn(&DeviceView, &ProductView, Time) -> bool;

/// The filters of a world.
pub(in crate::decide) const FILTERS: [(&str, Plainly); 6] = [
    (r#"tag = "a""#, |device, _, _| device.device.tags.contains("a")),
    (r#"not tag = "a" or site = "hall""#, |device, _, _| {
        device.device.site.as_ref().is_some_and(|site| site.as_str() == "hall") || device.device.tags.is_empty()
    }),
    (r#"version < "v3""#, |device, product, _| runs(device).is_some_and(|runs| runs < 3) && is_known(product, 3)),
    (r#"plan = "plus""#, |device, _, at| {
        use crate::cover::Standing;
        device.covers.iter().any(|cover| !matches!(cover.standing_at(at, at), Standing::Outside))
    }),
    ("last_seen < 20d", |device, _, at| age_ms(device, at).is_some_and(|age| age < 20 * DAY_MS)),
    (r#"hardware in ("cam-r3", "x") and last_seen >= 10d"#, |device, _, at| {
        age_ms(device, at).is_none_or(|age| age >= 10 * DAY_MS)
    }),
];

/// The number of the oldest release of which it runs an image.
fn runs(device: &DeviceView) -> Option<i64> {
    device.installed.iter().map(|one| one.version.as_str().strip_prefix('v').unwrap().parse().unwrap()).min()
}

fn is_known(product: &ProductView, order: i64) -> bool {
    product.releases().iter().any(|release| release.release.order == order)
}

fn age_ms(device: &DeviceView, at: Time) -> Option<i64> {
    device.last_seen.map(|seen| (at.as_ms() - seen.as_ms()).max(0))
}

/// What a rollout is like beside its share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// The number of a filter; what is no such number is none.
    pub filter: Option<usize>,
    /// Days of each stage's ramp.
    pub ramp: u32,
    /// Days through a site; 0 is none.
    pub rate: u32,
}

/// The same rollout through its sites in half of the time.
pub(in crate::decide) fn faster(rollout: &Rollout) -> Rollout {
    let mut made = rollout.clone();
    made.rules.rates.per_site = made.rules.rates.per_site.map(|period| Period::seconds(period.as_s() / 2));
    made
}

impl World {
    pub(super) fn rollout(&mut self, order: i64, percent: u8, weight: i32, plan: Plan) {
        let mut made = rollout_of(order, percent);
        made.id = RolloutId(uuid(1000 + u128::try_from(self.rollouts.len()).unwrap()));
        made.salt = format!("salt-{}", self.rollouts.len());
        made.weight = weight;
        made.stages.0.push(Stage::of(100));
        for stage in &mut made.stages.0 {
            stage.ramp = Period::days(plan.ramp);
        }
        made.rules.rates = Rates { per_site: (plan.rate > 0).then(|| Period::days(plan.rate)), ..Rates::default() };
        made.selector.filter =
            plan.filter.and_then(|number| FILTERS.get(number)).map(|(text, _)| text.parse().unwrap());
        (made.opened_at, made.stage_since) = (self.at(), self.at());
        self.rollouts.push(made);
        self.note_rollouts();
    }

    /// Makes of a rollout what it is to be.
    pub(super) fn change(&mut self, number: usize, to: impl Fn(&Rollout) -> Rollout) {
        let count = self.rollouts.len().max(1);
        if let Some(rollout) = self.rollouts.get_mut(number % count) {
            *rollout = to(rollout);
        }
        self.note_rollouts();
    }
}
