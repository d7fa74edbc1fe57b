//! `root rotate`, `delegate rotate` and `delegate revoke`: holders come and go. What the new holders have not signed is staged anew with the same
//! content, so that a rotation is complete when everything it staged is.

use crate::args::{DelegateRevokeArgs, DelegateRotateArgs, HolderChange, RootRotateArgs};
use crate::ceremony::Holders;
use crate::documents::Signers;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::stage::Stage;
use crate::{describe, edge, release};
use jiff::Timestamp;
use sluice_signer::publish::Repository;
use sluice_signer::root::RoleKeys;
use sluice_signer::{PublicKey, TargetsMetadata};
use std::collections::BTreeMap;

/// Digits of a key id that stand for the key: with fewer, a name that is mistyped could be somebody's id.
const MIN_ID_DIGITS: usize = 8;

/// `root rotate`
pub fn root(args: &RootRotateArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let (repository, role) = match args.role.as_str() {
        "root" => (Repository::Image, "root"),
        "targets" => (Repository::Image, "targets"),
        "director-root" => (Repository::Director, "root"),
        other => {
            let message = format!("{other:?} has no holders in a root");
            return Err(Failure::refused(message, "give root, targets or director-root; products: `delegate rotate`"));
        }
    };
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let Some(mut root) = stage.root(repository)?.filter(|_| !stage.roots(repository).is_empty()) else {
        return Err(Failure::refused("there is no complete root yet", "see who must sign with `sluice-sign status`"));
    };
    let change = Change::read(&args.change, &stage)?;
    let expires = edge::in_days(now, args.expires_days)?;
    let role_keys = change.apply(&args.role, root.role(role)?, &root.keys)?;
    root.keys.extend(change.added());
    root.roles.insert(role.to_owned(), role_keys.clone());
    let named: Vec<&RoleKeys> = root.roles.values().chain(&root.entitlement).collect();
    let used = |keyid: &String| named.iter().any(|role| role.keyids.contains(keyid));
    let keys = root.keys.iter().filter(|(keyid, _)| used(keyid)).map(|(keyid, key)| (keyid.clone(), key.clone()));
    root.keys = keys.collect();
    root.version = u64::try_from(stage.roots(repository).len()).unwrap_or(u64::MAX).saturating_add(1);
    root.expires = expires;

    let signers = Signers { keys: root.keys.clone(), role_keys };
    let top = if role == "targets" { stage.targets("targets")? } else { None };
    let top = top.filter(|_| stage.find_staged(Repository::Image, "targets").is_none());
    let top = if stage.is_signed_by("targets", &signers)? { None } else { top };
    stage.put(&DocumentId { repository, role: "root".to_owned(), version: root.version }, root.to_json(), now)?;
    if let Some(top) = top {
        let version = top.version.saturating_add(1);
        let top = TargetsMetadata { version, expires, ..top };
        stage.put(&DocumentId::image("targets", version), top.to_json(), now)?;
    }
    let next = "let enough of the old and of the new holders sign with `sluice-sign sign`";
    finish(stage, &change, json, next, |id| {
        (id.repository == repository && id.role == "root") || (role == "targets" && id.role == "targets")
    })
}

/// `delegate rotate`
pub fn delegate(args: &DelegateRotateArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let unknown = || {
        let message = format!("product {} has no holders yet", args.product);
        Failure::refused(message, "give it to them with `sluice-sign delegate add`")
    };
    let mut top = stage.targets("targets")?.ok_or_else(unknown)?;
    let change = Change::read(&args.change, &stage)?;
    let delegation = top.delegations.iter_mut().find(|one| one.name == args.product).ok_or_else(unknown)?;
    delegation.keys = change.apply(&args.product, &delegation.keys, &top.delegation_keys)?;
    let signers = delegation.keys.clone();
    top.delegation_keys.extend(change.added());
    keep_used_keys(&mut top);
    top.version = stage.next_version("targets");
    top.expires = edge::in_days(now, args.expires_days)?;

    let signers = Signers { keys: top.delegation_keys.clone(), role_keys: signers };
    let product = match stage.previous(&args.product)? {
        Some(product) if stage.find_staged(Repository::Image, &args.product).is_none() => {
            (!stage.is_signed_by(&args.product, &signers)?).then_some(product)
        }
        _ => None,
    };
    stage.put(&DocumentId::image("targets", top.version), top.to_json(), now)?;
    if let Some(product) = product {
        let version = product.version.saturating_add(1);
        let expires = edge::in_days(now, release::expires_days(&args.product))?;
        let product = TargetsMetadata { version, expires, ..product };
        stage.put(&DocumentId::image(&args.product, version), product.to_json(), now)?;
    }
    let next = "let the holders of targets sign with `sluice-sign sign`, and those of the product when it is staged";
    finish(stage, &change, json, next, |id| id.role == "targets" || id.role == args.product)
}

/// `delegate revoke`
pub fn revoke(args: &DelegateRevokeArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let top = stage.targets("targets")?.filter(|top| top.delegation(&args.product).is_some());
    let Some(mut top) = top else {
        let message = format!("product {} has no holders", args.product);
        return Err(Failure::refused(message, "see the products with `sluice-sign status`"));
    };
    if stage.find_staged(Repository::Image, &args.product).is_some() {
        let message = format!("a document of product {} is staged, and nobody could sign it any more", args.product);
        let next = format!("drop it with `sluice-sign discard --role {}`", args.product);
        return Err(Failure::refused(message, &next));
    }
    top.delegations.retain(|one| one.name != args.product);
    keep_used_keys(&mut top);
    top.version = stage.next_version("targets");
    top.expires = edge::in_days(now, args.expires_days)?;
    stage.put(&DocumentId::image("targets", top.version), top.to_json(), now)?;
    let next = "let the holders of targets sign with `sluice-sign sign`, then `sluice-sign publish`";
    describe::print_staged(&stage, json, |id| id.role == "targets", next)
}

/// Drops keys that no product names any more.
fn keep_used_keys(top: &mut TargetsMetadata) {
    let used = |keyid: &String| top.delegations.iter().any(|one| one.keys.keyids.contains(keyid));
    let keys = top.delegation_keys.iter().filter(|(keyid, _)| used(keyid));
    top.delegation_keys = keys.map(|(keyid, key)| (keyid.clone(), key.clone())).collect();
}

fn finish(
    mut stage: Stage,
    change: &Change,
    json: bool,
    next: &str,
    touched: impl Fn(&DocumentId) -> bool,
) -> anyhow::Result<()> {
    stage.folder.add_holders(change.new.names())?;
    stage.holders = stage.folder.holders()?;
    describe::print_staged(&stage, json, touched, next)
}

/// A change of holders, with names made into key ids.
struct Change {
    new: Holders,
    /// Key ids that a name stands for: whoever left before may have had it, too.
    leaving: Vec<(String, Vec<String>)>,
    threshold: Option<u32>,
}

impl Change {
    fn read(change: &HolderChange, stage: &Stage) -> anyhow::Result<Self> {
        let leaving = change.remove.iter().map(|name| {
            let by_id = name.len() >= MIN_ID_DIGITS;
            let of_name =
                |(keyid, holder): &(&String, &String)| *holder == name || (by_id && keyid.starts_with(name.as_str()));
            (name.clone(), stage.holders.iter().filter(of_name).map(|(keyid, _)| keyid.clone()).collect())
        });
        Ok(Self { new: Holders::read(&change.add)?, leaving: leaving.collect(), threshold: change.threshold })
    }

    fn added(&self) -> BTreeMap<String, PublicKey> {
        self.new.keys().map(|key| (key.keyid().to_owned(), key.clone())).collect()
    }

    /// The role after the change. What would change nothing is a mistake.
    fn apply(&self, role: &str, before: &RoleKeys, keys: &BTreeMap<String, PublicKey>) -> anyhow::Result<RoleKeys> {
        let mut after = before.clone();
        for (name, keyids) in &self.leaving {
            let known: Vec<&String> = keyids.iter().filter(|keyid| before.keyids.contains(*keyid)).collect();
            let [keyid] = known[..] else {
                let message = match known.len() {
                    0 => format!("{name} is no holder of {role}"),
                    more => format!("{more} holders of {role} are called {name}"),
                };
                return Err(Failure::refused(
                    message,
                    "holders are called as their .pub files were; a key id does as well",
                ));
            };
            after.keyids.remove(keyid);
        }
        for key in self.new.keys() {
            let twin =
                keys.iter().any(|(keyid, known)| before.keyids.contains(keyid) && known.material() == key.material());
            if twin {
                let message = format!("{} is a holder of {role} already", crate::output::short_id(key.keyid()));
                return Err(Failure::refused(message, "give the key of somebody else"));
            }
            after.keyids.insert(key.keyid().to_owned());
        }
        after.threshold = self.threshold.unwrap_or(before.threshold);
        if after == *before {
            return Err(Failure::refused("nothing would change", "give --add, --remove or another --threshold"));
        }
        Ok(after)
    }
}
