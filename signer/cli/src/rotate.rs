//! `root rotate`, `delegate rotate` and `delegate revoke`: holders and keys of the server come and go. What the new holders have not
//! signed is staged anew with the same
//! content, so that a rotation is complete when everything it staged is.

use crate::args::{DelegateRevokeArgs, DelegateRotateArgs, HolderChange, RootRotateArgs};
use crate::ceremony::Holders;
use crate::documents::Signers;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::stage::Stage;
use crate::{ceremony, describe, edge, embargo, release};
use jiff::Timestamp;
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{OnlineKeys, OnlineRole, PublicKey, TargetsMetadata};
use std::collections::BTreeMap;

/// Digits of a key id that stand for the key: with fewer, a name that is mistyped could be somebody's id.
const MIN_ID_DIGITS: usize = 8;

/// `root rotate`
pub fn root(args: &RootRotateArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let expires = edge::in_days(now, args.expires_days)?;
    if let Some(file) = &args.online_keys {
        let online = ceremony::read_online_keys(file)?;
        let staged = stage_online(&mut stage, online, expires, now, args.new_epoch)?;
        stage.folder.write_online_keys(&stage.online_keys)?;
        let next =
            "let the holders sign with `sluice-sign sign`; the server signs with the new keys from the publication on";
        return describe::print_staged(&stage, json, |id| staged.contains(id), next);
    }
    let change = Change::read(&args.change, &stage)?;
    let staged = stage_holders(&mut stage, &args.role, &change, expires, now)?;
    finish(stage, &change, json, "let enough of the old and of the new holders sign with `sluice-sign sign`", &staged)
}

/// Stages the next root with other holders of a role, and the top targets document when its new holders have not signed it.
pub fn stage_holders(
    stage: &mut Stage,
    name: &str,
    change: &Change,
    expires: Timestamp,
    now: Timestamp,
) -> anyhow::Result<Vec<DocumentId>> {
    let (repository, role) = match name {
        "root" => (Repository::Image, "root"),
        "targets" => (Repository::Image, "targets"),
        "director-root" => (Repository::Director, "root"),
        other => {
            let message = format!("{other:?} has no holders in a root");
            return Err(Failure::refused(message, "give root, targets or director-root; products: `delegate rotate`"));
        }
    };
    let mut root = complete_root(stage, repository)?;
    let role_keys = change.apply(name, root.role(role)?, &root.keys)?;
    root.keys.extend(change.added());
    root.roles.insert(role.to_owned(), role_keys.clone());
    let (id, signed) = next_root(stage, repository, &mut root, expires);

    let signers = Signers { keys: root.keys, role_keys };
    let top = if role == "targets" { stage.targets("targets")? } else { None };
    let top = top.filter(|_| stage.find_staged(Repository::Image, "targets").is_none());
    let top = if stage.is_signed_by("targets", &signers)? { None } else { top };
    stage.put(&id, signed, now)?;
    let mut staged = vec![id];
    if let Some(top) = top {
        let id = DocumentId::image("targets", top.version.saturating_add(1));
        stage.put(&id, TargetsMetadata { version: id.version, expires, ..top }.to_json(), now)?;
        staged.push(id);
    }
    if role == "targets" {
        staged.extend(stage.find_staged(Repository::Image, "targets").map(|(id, _)| id.clone()));
    }
    Ok(staged)
}

/// Stages the next of each root that does not name the server's keys: the successors, where there are any. What a root says
/// of one role stays with what it says of the others, so both come together or not at all.
pub fn stage_online(
    stage: &mut Stage,
    online: OnlineKeys,
    expires: Timestamp,
    now: Timestamp,
    new_epoch: bool,
) -> anyhow::Result<Vec<DocumentId>> {
    let mut documents = Vec::new();
    for repository in [Repository::Image, Repository::Director] {
        let mut root = complete_root(stage, repository)?;
        let mut changed = new_epoch;
        if new_epoch {
            root.epoch = next_epoch(stage, repository)?;
        }
        for role in OnlineRole::ALL {
            let key = online.wanted(role);
            let wanted = RoleKeys::new([key], 1);
            if role.in_root(&root, repository).is_none_or(|named| *named == wanted) {
                continue;
            }
            changed = true;
            root.keys.insert(key.keyid().to_owned(), key.clone());
            match role {
                OnlineRole::Snapshot | OnlineRole::Timestamp => drop(root.roles.insert(role.name().to_owned(), wanted)),
                OnlineRole::Director => drop(root.roles.insert("targets".to_owned(), wanted)),
                OnlineRole::Entitlement => root.entitlement = Some(wanted),
            }
        }
        if changed {
            documents.push(next_root(stage, repository, &mut root, expires));
        }
    }
    if documents.is_empty() && stage.online_keys != online {
        // A run that was cut after the roots were staged, before the key list was written.
        stage.online_keys = online;
        let roots = stage.staged.iter().map(|(id, _)| id).filter(|id| id.role == "root");
        return Ok(roots.cloned().collect());
    }
    if documents.is_empty() {
        let next = "make a key with `sluice-server keys rotate ROLE`, and export the keys again";
        return Err(Failure::refused("both roots name these keys of the server already", next));
    }
    stage.online_keys = online;
    stage.put_all(&documents, now)?;
    Ok(documents.into_iter().map(|(id, _)| id).collect())
}

/// The epoch after that of the complete root: of one that is staged already it would be the next but one.
fn next_epoch(stage: &Stage, repository: Repository) -> anyhow::Result<u64> {
    let complete = stage.complete_epoch(repository)?;
    let known = stage.limits.newest_epoch;
    if complete >= known {
        let message = format!("the roots are of signing epoch {complete}, and this program knows epochs to {known}");
        return Err(Failure::refused(message, "begin the next epoch with the sluice-sign that knows it"));
    }
    Ok(complete + 1)
}

/// The newest root, staged or complete, once there is a complete one.
fn complete_root(stage: &Stage, repository: Repository) -> anyhow::Result<RootMetadata> {
    stage
        .root(repository)?
        .filter(|_| !stage.roots(repository).is_empty())
        .ok_or_else(|| Failure::refused("there is no complete root yet", "see who must sign with `sluice-sign status`"))
}

/// The document that follows the complete root, without keys that no role names any more.
fn next_root(
    stage: &Stage,
    repository: Repository,
    root: &mut RootMetadata,
    expires: Timestamp,
) -> (DocumentId, sluice_signer::Json) {
    let named: Vec<&RoleKeys> = root.roles.values().chain(&root.entitlement).collect();
    let used = |keyid: &String| named.iter().any(|role| role.keyids.contains(keyid));
    root.keys = root.keys.iter().filter(|(id, _)| used(id)).map(|(id, key)| (id.clone(), key.clone())).collect();
    root.version = u64::try_from(stage.roots(repository).len()).unwrap_or(u64::MAX).saturating_add(1);
    root.expires = expires;
    (DocumentId { repository, role: "root".to_owned(), version: root.version }, root.to_json())
}

/// `delegate rotate`
pub fn delegate(args: &DelegateRotateArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let change = Change::read(&args.change, &stage)?;
    let role = stage.asked_role(&args.product, args.embargo)?;
    let goes_on = embargo::goes_on_from(&stage, &role, args.go_on_from, now)?;
    let staged = stage_product(&mut stage, (&role, goes_on), &change, edge::in_days(now, args.expires_days)?, now)?;
    let next = "let the holders of targets sign with `sluice-sign sign`, and those of the product when it is staged";
    finish(stage, &change, json, next, &staged)
}

/// Stages the top targets document with other holders of a product, and the product's when they have not signed it.
pub fn stage_product(
    stage: &mut Stage,
    (product, goes_on): (&str, Option<TargetsMetadata>),
    change: &Change,
    expires: Timestamp,
    now: Timestamp,
) -> anyhow::Result<Vec<DocumentId>> {
    let unknown = || {
        let message = format!("product {product} has no holders yet");
        Failure::refused(message, "give it to them with `sluice-sign delegate add`")
    };
    let mut top = stage.targets("targets")?.ok_or_else(unknown)?;
    let delegation = top.delegations.iter_mut().find(|one| one.name == product).ok_or_else(unknown)?;
    delegation.keys = change.apply(product, &delegation.keys, &top.delegation_keys)?;
    let signers = delegation.keys.clone();
    top.delegation_keys.extend(change.added());
    keep_used_keys(&mut top);
    top.version = stage.next_version("targets");
    top.expires = expires;

    let signers = Signers { keys: top.delegation_keys.clone(), role_keys: signers };
    let document = match stage.previous(product)? {
        Some(document) if stage.find_staged(Repository::Image, product).is_none() => match goes_on {
            Some(shown) => Some(TargetsMetadata { version: document.version, ..shown }),
            None => (!stage.is_signed_by(product, &signers)?).then_some(document),
        },
        _ => None,
    };
    let id = DocumentId::image("targets", top.version);
    stage.put(&id, top.to_json(), now)?;
    let mut staged = vec![id];
    if let Some(document) = document {
        let id = DocumentId::image(product, document.version.saturating_add(1));
        let expires = edge::in_days(now, release::expires_days(product))?;
        stage.put(&id, TargetsMetadata { version: id.version, expires, ..document }.to_json(), now)?;
    }
    staged.extend(stage.find_staged(Repository::Image, product).map(|(id, _)| id.clone()));
    Ok(staged)
}

/// `delegate revoke`
pub fn revoke(args: &DelegateRevokeArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let role = stage.asked_role(&args.product, args.embargo)?;
    let top = stage.targets("targets")?.filter(|top| top.delegation(&role).is_some());
    let Some(mut top) = top else {
        let message = format!("product {role} has no holders");
        return Err(Failure::refused(message, "see the products with `sluice-sign status`"));
    };
    if stage.find_staged(Repository::Image, &role).is_some() {
        let message = format!("a document of product {role} is staged, and nobody could sign it any more");
        let next = format!("drop it with `sluice-sign discard --role {role}`");
        return Err(Failure::refused(message, &next));
    }
    top.delegations.retain(|one| one.name != role);
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

fn finish(mut stage: Stage, change: &Change, json: bool, next: &str, staged: &[DocumentId]) -> anyhow::Result<()> {
    stage.folder.add_holders(change.new.names())?;
    stage.holders = stage.folder.holders()?;
    describe::print_staged(&stage, json, |id| staged.contains(id), next)
}

/// A change of holders, with names made into key ids.
pub struct Change {
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

    /// One holder leaves and another comes.
    pub fn replace(lost: &str, name: &str, replacement: PublicKey) -> Self {
        Self {
            new: Holders(vec![(name.to_owned(), replacement)]),
            leaving: vec![(lost.to_owned(), vec![lost.to_owned()])],
            threshold: None,
        }
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
