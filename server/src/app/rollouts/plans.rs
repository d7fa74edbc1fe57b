//! Plans: made and edited as drafts, and held against everything that could never work.

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::decide::{ProductView, ReleaseView};
use sluice_catalog::id::RolloutId;
use sluice_catalog::principal::Permission;
use sluice_catalog::release::Artifact;
use sluice_catalog::rollout::{Rollout, RolloutState, Rules, Selector};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::rollout::{RolloutCreate, RolloutDetail};

use super::super::{Actor, App, Made};
use super::{audience, moved_meanwhile};
use crate::error::{Error, Result};
use crate::store::Because;

/// Most entries in one list of a selector.
const MAX_SELECTOR: usize = 1000;

impl App {
    /// Makes a rollout as a draft.
    pub async fn rollout_create(&self, actor: &Actor, request: &RolloutCreate) -> Result<Made<RolloutDetail>> {
        let mut rollout = self.rollout_planned(actor, request)?;
        let now = rollout.created_at;
        let mut tx = self.store.begin().await?;
        if let Some(there) = tx.rollout_by_name(&request.name).await? {
            drop(tx);
            if same_plan(&there, &rollout) {
                return Ok(Made::Same(self.rollout_get(actor, &request.name).await?));
            }
            return Err(Error::conflict(format!("there is another rollout `{}`", request.name)));
        }
        rollout.salt = hex::encode(self.dice.bytes::<8>());
        tx.rollout_put(&rollout).await?;
        let because = Because { actor: actor.name(), cause: "created", evidence: None };
        tx.rollout_transition_add(&rollout, now, because).await?;
        tx.generation_raise("rollouts").await?;
        let subject = format!("rollout:{}", rollout.name);
        tx.audit_add(now, actor.name(), "rollout.create", &subject, &plan_detail(&rollout, request)).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(Made::New(self.rollout_get(actor, &request.name).await?))
    }

    /// Writes another plan over one that has not started. Whoever edits it is its author from then on, and approvals of the plan
    /// before count no more.
    pub async fn rollout_edit(&self, actor: &Actor, name: &Slug, request: &RolloutCreate) -> Result<RolloutDetail> {
        if *name != request.name {
            return Err(Error::invalid("name", format!("the plan is of `{}`, not of `{name}`", request.name)));
        }
        let planned = self.rollout_planned(actor, request)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let there = tx.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        if !matches!(there.state, RolloutState::Draft | RolloutState::Review | RolloutState::Approved) {
            return Err(Error::new(
                Kind::WrongState,
                format!(
                    "rollout {name} is {}: a plan that has started is not edited; halt it and make another",
                    there.state.as_str()
                ),
            ));
        }
        if same_plan(&there, &planned) {
            drop(tx);
            return self.rollout_get(actor, name).await;
        }
        let edited = Rollout { id: there.id, salt: there.salt.clone(), created_at: there.created_at, ..planned };
        tx.rollout_put(&edited).await?;
        let draft = Rollout { state: RolloutState::Draft, ..edited };
        let because = Because { actor: actor.name(), cause: "edited: approvals count no more", evidence: None };
        if !tx.rollout_move(&there, &draft, now, because).await? {
            return Err(moved_meanwhile(name));
        }
        tx.generation_raise("rollouts").await?;
        let detail = plan_detail(&draft, request);
        tx.audit_add(now, actor.name(), "rollout.edit", &format!("rollout:{name}"), &detail).await?;
        tx.commit().await?;
        self.refresh().await?;
        self.rollout_get(actor, name).await
    }

    /// The rollout that a plan asks for, checked, as a draft.
    fn rollout_planned(&self, actor: &Actor, request: &RolloutCreate) -> Result<Rollout> {
        actor.need(Permission::Rollouts)?;
        let (stages, rules) = request.resolve().map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        self.enough_approvals(&rules)?;
        if !(-1000..=1000).contains(&request.weight) {
            return Err(Error::invalid("weight", "-1000 to 1000"));
        }
        check_selector(&request.selector)?;
        let now = self.now();
        rules
            .schedule
            .opens_after(rules.start_at.map_or(now, |at| at.max(now)))
            .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let product = self.product_view(&request.product)?;
        let release = product
            .release_of_version(&request.version)
            .ok_or_else(|| Error::not_found("version", format!("{} {}", request.product, request.version)))?;
        if release.release.withdrawn_at.is_some() {
            return Err(Error::new(Kind::WrongState, format!("{} was withdrawn", request.version)));
        }
        audience::check_versions(&product, &request.selector)?;
        leads_on(&product, release, &rules)?;
        Ok(Rollout {
            id: RolloutId::new(now, self.dice.id()),
            release_id: release.release.id,
            name: request.name.clone(),
            author: actor.name().to_owned(),
            state: RolloutState::Draft,
            salt: String::new(),
            weight: request.weight,
            stages,
            stage: 0,
            opened_at: now,
            stage_since: now,
            reached: 0,
            ran_ms: 0,
            judged_at: None,
            excluded: sluice_catalog::TextSet::default(),
            rules,
            selector: request.selector.clone(),
            created_at: now,
        })
    }

    /// Refuses a plan that asks for fewer approvals than the installation does.
    pub(super) fn enough_approvals(&self, rules: &Rules) -> Result<()> {
        let least = self.rules.min_approvals;
        if rules.approvals >= least {
            return Ok(());
        }
        Err(Error::invalid(
            "rules.approvals",
            format!(
                "{}; this installation asks for {least} at least (min_approvals): write it in the plan",
                rules.approvals
            ),
        ))
    }
}

pub(super) fn check_selector(selector: &Selector) -> Result<()> {
    let lists = [
        ("serials", &selector.serials),
        ("customers", &selector.customers),
        ("sites", &selector.sites),
        ("tags", &selector.tags),
        ("hw_ids", &selector.hw_ids),
    ];
    match lists.into_iter().find(|(_, set)| set.0.len() > MAX_SELECTOR) {
        Some((field, _)) => Err(Error::invalid(&format!("selector.{field}"), format!("at most {MAX_SELECTOR}"))),
        None => Ok(()),
    }
}

/// Going back leads forward: to a version that installs over the release on each of its hardware.
fn leads_on(product: &ProductView, release: &ReleaseView, rules: &Rules) -> Result<()> {
    let Some(version) = &rules.rollback_to else { return Ok(()) };
    let field = "rules.rollback_to";
    let to = product
        .release_of_version(version)
        .ok_or_else(|| Error::not_found(field, format!("{} {version}", product.product.name)))?;
    if to.release.order <= release.release.order {
        return Err(Error::invalid(
            field,
            format!(
                "{version} is older than {}, and devices install nothing older: publish what was good before under a new version",
                release.release.version
            ),
        ));
    }
    for image in &release.artifacts {
        for hardware in image.hw_ids.iter() {
            let fits = |other: &&Artifact| other.component == image.component && other.hw_ids.contains(hardware);
            let Some(over) = to.artifacts.iter().find(fits) else {
                let text = format!("{version} has no image for {} on {hardware}", image.component);
                return Err(Error::invalid(field, text));
            };
            if over.security_counter < image.security_counter
                || over.min_installed_order.is_some_and(|floor| release.release.order < floor)
            {
                return Err(Error::invalid(
                    field,
                    format!(
                        "{version} does not install over {} on {hardware}: its counter or its floor forbids it",
                        release.release.version
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn same_plan(one: &Rollout, other: &Rollout) -> bool {
    one.release_id == other.release_id
        && one.stages == other.stages
        && one.rules == other.rules
        && one.selector == other.selector
        && one.weight == other.weight
}

fn plan_detail(rollout: &Rollout, request: &RolloutCreate) -> serde_json::Value {
    json!({
        "product": request.product, "version": request.version, "stages": rollout.stages,
        "selector": rollout.selector, "weight": rollout.weight, "salt": rollout.salt, "rules": rollout.rules,
    })
}
