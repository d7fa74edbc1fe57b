//! Embargo roles in a repository folder: which role signs in advance for a product, what of it is secret, and how a release comes
//! into the product's own role when it was announced.

use crate::args::{ReleaseAdoptArgs, ReleaseNewArgs};
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{Complete, DocumentId, Folder};
use crate::stage::Stage;
use crate::{describe, edge};
use jiff::Timestamp;
use sluice_signer::embargo::{is_role_name, is_secret, product_of, signs_for};
use sluice_signer::publish::{NewDocument, Repository};
use sluice_signer::{Envelope, TargetsMetadata, time};
use std::collections::BTreeSet;

impl Documents {
    /// The product whose images a role may sign.
    pub fn product_of(&self, role: &str) -> anyhow::Result<String> {
        let top = self.targets("targets")?;
        let delegation = top.as_ref().and_then(|top| top.delegation(role));
        Ok(delegation.map_or(role, signs_for).to_owned())
    }

    /// The roles that sign in advance for a product.
    pub fn embargo_roles(&self, product: &str) -> anyhow::Result<Vec<String>> {
        let Some(top) = self.targets("targets")? else { return Ok(Vec::new()) };
        let of_product = top.delegations.iter().filter(|one| product_of(one) == Some(product));
        Ok(of_product.map(|one| one.name.clone()).collect())
    }

    /// The other roles that sign images of the product of this one.
    fn peer_roles(&self, role: &str) -> anyhow::Result<Vec<String>> {
        let product = self.product_of(role)?;
        let mut roles = self.embargo_roles(&product)?;
        roles.push(product);
        roles.retain(|peer| peer != role);
        Ok(roles)
    }

    /// The newest documents of the other roles of the product, staged or complete.
    pub fn peers(&self, role: &str) -> anyhow::Result<Vec<(String, TargetsMetadata)>> {
        let mut peers = Vec::new();
        for peer in self.peer_roles(role)? {
            peers.extend(self.targets(&peer)?.map(|document| (peer, document)));
        }
        Ok(peers)
    }

    /// The complete ones of them.
    pub fn complete_peers(&self, role: &str) -> anyhow::Result<Vec<TargetsMetadata>> {
        self.peer_roles(role)?.iter().filter_map(|peer| self.previous(peer).transpose()).collect()
    }

    /// Whether a complete document tells nothing that is not announced yet.
    pub fn is_announced(&self, role: &str, now: Timestamp) -> anyhow::Result<bool> {
        Ok(self.previous(role)?.is_some_and(|document| !is_secret(&document, now)))
    }

    /// The newest complete document of a role that tells nothing which is not announced. While the newest of all waits, its moment says
    /// nothing about those before it, which may have been put off by it: one counts that never had a moment, or whose releases
    /// the product's own role has taken over.
    pub fn announced(&self, role: &str, now: Timestamp) -> anyhow::Result<Option<&Complete>> {
        if self.is_announced(role, now)? {
            return Ok(self.sealed.get(role));
        }
        let own = self.previous(&self.product_of(role)?)?;
        for earlier in self.earlier.get(role).into_iter().flatten() {
            let envelope = Envelope::parse(role, &earlier.1, self.limits.targets_bytes, &self.limits)?;
            let document = TargetsMetadata::from_json(role, envelope.signed(), &self.limits)?;
            let mut targets = document.targets.iter();
            let taken_over =
                own.as_ref().is_some_and(|own| targets.all(|(path, one)| own.targets.get(path) == Some(one)));
            if document.not_before.is_none() || (taken_over && !is_secret(&document, now)) {
                return Ok(Some(earlier));
            }
        }
        Ok(None)
    }

    /// Whether a staged document, or the complete one that it follows, tells those who are not asked to sign it what is not announced.
    pub fn is_for_holders_alone(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<bool> {
        if self.is_secret(id, envelope, now)? {
            return Ok(true);
        }
        let follows = if is_role_name(&id.role) { self.previous(&id.role)? } else { None };
        Ok(follows.is_some_and(|document| is_secret(&document, now)))
    }

    /// Whether a complete document is needed to judge what is staged of another role of its product, and is no secret.
    pub fn is_public_peer(&self, role: &str, now: Timestamp) -> anyhow::Result<bool> {
        let staged = |peer: &String| self.find_staged(Repository::Image, peer).is_some();
        let needed = self.peer_roles(role)?.iter().any(staged);
        Ok(needed && self.is_announced(role, now)?)
    }

    /// Whether nobody but its holders may see a document yet.
    pub fn is_secret(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<bool> {
        if !is_role_name(&id.role) {
            return Ok(false);
        }
        Ok(is_secret(&TargetsMetadata::from_json(&id.role, envelope.signed(), &self.limits)?, now))
    }

    /// Roles of which a document is staged that nobody but its holders may see yet, or that follows one.
    pub fn secret_roles(&self, now: Timestamp) -> anyhow::Result<BTreeSet<String>> {
        let mut secret = BTreeSet::new();
        for (id, envelope) in &self.staged {
            if self.is_for_holders_alone(id, envelope, now)? {
                secret.insert(id.role.clone());
            }
        }
        Ok(secret)
    }

    /// The role that is meant by a product, or by its embargo role.
    pub fn asked_role(&self, product: &str, embargo: bool) -> anyhow::Result<String> {
        if embargo { self.embargo_role(product, None, "--product ROLE") } else { Ok(product.to_owned()) }
    }

    /// The embargo role of a product: the one named, or the only one.
    fn embargo_role(&self, product: &str, named: Option<&String>, how: &str) -> anyhow::Result<String> {
        let roles = self.embargo_roles(product)?;
        match (named, &roles[..]) {
            (Some(named), _) if roles.contains(named) => Ok(named.clone()),
            (Some(named), _) => {
                let message = format!("{named} is no embargo role of product {product}");
                Err(Failure::refused(message, "see the roles with `sluice-sign status`"))
            }
            (None, [one]) => Ok(one.clone()),
            (None, []) => Err(Failure::refused(
                format!("product {product} has no embargo role"),
                "add one with `sluice-sign delegate add --embargo`",
            )),
            (None, _) => Err(Failure::refused(
                format!("product {product} has several embargo roles: {}", roles.join(", ")),
                &format!("name one with {how}"),
            )),
        }
    }
}

impl Stage {
    /// Whether a document drops what the document of another role of its product, which waits, is about to take over.
    pub fn gives_away(
        &self,
        id: &DocumentId,
        envelope: &Envelope,
        waiting: &BTreeSet<(Repository, String)>,
    ) -> anyhow::Result<bool> {
        if !is_role_name(&id.role) {
            return Ok(false);
        }
        let new = TargetsMetadata::from_json(&id.role, envelope.signed(), &self.limits)?;
        let Some(before) = self.previous(&id.role)? else { return Ok(false) };
        let product = self.product_of(&id.role)?;
        if !waiting.contains(&(Repository::Image, product.clone())) {
            return Ok(false);
        }
        let (staged, complete) = (self.folder.staged()?, self.previous(&product)?);
        let Some((_, taker)) = staged.iter().find(|(staged, _)| staged.role == product) else { return Ok(false) };
        let taker = TargetsMetadata::from_json(&product, taker.signed(), &self.limits)?;
        let dropped = before.targets.keys().filter(|path| !new.targets.contains_key(*path));
        let signed = |path: &String| complete.as_ref().is_some_and(|complete| complete.targets.contains_key(path));
        Ok(dropped.into_iter().any(|path| taker.targets.contains_key(path) && !signed(path)))
    }
}

/// In which role, and until when, a release is kept secret.
pub fn role_and_moment(
    stage: &Stage,
    args: &ReleaseNewArgs,
    text: &str,
    now: Timestamp,
) -> anyhow::Result<(String, Timestamp)> {
    let role = stage.embargo_role(&args.product, args.embargo_role.as_ref(), "--embargo-role ROLE")?;
    let moment = edge::moment(text)?;
    if moment <= now {
        let message = format!("{}: --embargo-until {} has passed", role, time::format(moment));
        return Err(Failure::refused(message, "give a moment to come, or leave it out"));
    }
    if stage.previous(&role)?.is_none() {
        let message = format!("{role}: its first document, which is empty, is not complete yet");
        let next = "let its holders sign it, and publish it: clients that load every role need one that is shown";
        return Err(Failure::refused(message, next));
    }
    Ok((role, moment))
}

/// The content with which the new holders of a role go on, where it is not that of its newest document: one that waits for its moment
/// would be shown at once.
pub fn goes_on_from(
    stage: &Stage,
    role: &str,
    version: Option<u64>,
    now: Timestamp,
) -> anyhow::Result<Option<TargetsMetadata>> {
    let newest = stage.previous(role)?;
    let secret = newest.filter(|newest| is_secret(newest, now));
    let (secret, version) = match (secret, version) {
        (None, None) => return Ok(None),
        (None, Some(version)) => {
            let message = format!("{role}: --go-on-from {version}, and nothing of it waits for its moment");
            return Err(Failure::refused(message, "leave it out"));
        }
        (Some(secret), None) => {
            let moment = secret.not_before.map(time::format).unwrap_or_default();
            let message = format!("{role}: version {} waits for {moment}", secret.version);
            let next = "name the version that is shown now with --go-on-from (1 is the empty first one); sign what waits anew \
                        afterwards, with `sluice-sign release new`";
            return Err(Failure::refused(message, next));
        }
        (Some(secret), Some(version)) => (secret, version),
    };
    let id = DocumentId::image(role, version);
    let known = version < secret.version && stage.folder.is_sealed(&id);
    let shown = if known { Some(read(stage, &id)?) } else { None };
    match shown.filter(|shown| !is_secret(shown, now)) {
        Some(shown) => Ok(Some(shown)),
        None => {
            let message = format!("{role}: version {version} is none that is shown");
            Err(Failure::refused(message, "see the versions with `sluice-sign audit`"))
        }
    }
}

fn read(stage: &Stage, id: &DocumentId) -> anyhow::Result<TargetsMetadata> {
    let envelope = Envelope::parse(&id.role, &stage.folder.sealed(id)?, stage.limits.targets_bytes, &stage.limits)?;
    Ok(TargetsMetadata::from_json(&id.role, envelope.signed(), &stage.limits)?)
}

/// Parts what may be shown from what waits for its moment.
pub fn parted(
    stage: &Stage,
    documents: Vec<NewDocument>,
    now: Timestamp,
) -> anyhow::Result<(Vec<NewDocument>, Vec<NewDocument>)> {
    let (mut shown, mut secret) = (Vec::new(), Vec::new());
    for document in documents {
        let part = if document.repository == Repository::Image && is_role_name(&document.role) {
            let id = DocumentId::image(&document.role, document.version);
            if is_secret(&read(stage, &id)?, now) { &mut secret } else { &mut shown }
        } else {
            &mut shown
        };
        part.push(document);
    }
    Ok((shown, secret))
}

/// Refuses a top document with an embargo role of which no document is complete: many clients refuse a role on their way that the
/// snapshot does not list, and would find nothing of the product.
pub fn check_first_documents(stage: &Stage) -> anyhow::Result<()> {
    let Some(top) = stage.previous("targets")? else { return Ok(()) };
    let mut embargo = top.delegations.iter().filter(|one| product_of(one).is_some());
    match embargo.find(|one| !stage.sealed.contains_key(&one.name)) {
        None => Ok(()),
        Some(one) => {
            let message =
                format!("{}: its first document is not complete, and clients would refuse the product", one.name);
            Err(Failure::refused(message, "let its holders sign it; it is published with the top document"))
        }
    }
}

/// The newest complete document of an embargo role that was never a secret, before this one.
pub fn open_before(stage: &Stage, secret: &NewDocument) -> anyhow::Result<Option<NewDocument>> {
    for version in (1..secret.version).rev() {
        let id = DocumentId::image(&secret.role, version);
        if stage.folder.is_sealed(&id) && read(stage, &id)?.not_before.is_none() {
            return Ok(Some(NewDocument { version, bytes: stage.folder.sealed(&id)?, ..secret.clone() }));
        }
    }
    Ok(None)
}

/// `release adopt`
pub fn adopt(args: &ReleaseAdoptArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let prefix = format!("{}/{}/", args.product, args.version);
    let signs = |document: &TargetsMetadata| document.targets.keys().any(|path| path.starts_with(&prefix));
    let mut from = None;
    for role in stage.embargo_roles(&args.product)? {
        if stage.previous(&role)?.is_some_and(|document| signs(&document)) {
            from = Some(role);
        }
    }
    let Some(role) = from else {
        let message = format!("no embargo role of {} signed a release {}", args.product, args.version);
        return Err(Failure::refused(message, "see what was signed with `sluice-sign audit`"));
    };
    let (Some(complete), Some(mut embargo)) = (stage.previous(&role)?, stage.base(&role)?) else {
        return Err(Failure::refused(format!("{role} has no document"), "see `sluice-sign status`"));
    };
    let mut shown = false;
    for version in 1..=complete.version {
        let id = DocumentId::image(&role, version);
        if stage.folder.is_sealed(&id) {
            let document = read(&stage, &id)?;
            shown |= signs(&document) && !is_secret(&document, now);
        }
    }
    if !shown {
        let moment = complete.not_before.map(time::format).unwrap_or_default();
        let message = format!("{role}: version {} is shown from {moment} on, and not before", complete.version);
        return Err(Failure::refused(message, "take the release over when it was announced"));
    }
    let Some(mut own) = stage.base(&args.product)? else {
        let message = format!("product {} has no document of its own", args.product);
        return Err(Failure::refused(message, "let its holders sign the first with `sluice-sign sign`"));
    };
    let targets = complete.targets.iter().filter(|(path, _)| path.starts_with(&prefix));
    own.targets.extend(targets.map(|(path, target)| (path.clone(), target.clone())));
    embargo.targets.retain(|path, _| !path.starts_with(&prefix));
    let mut documents = Vec::new();
    for (role, mut document) in [(&args.product, own), (&role, embargo)] {
        document.version = stage.next_version(role);
        document.expires = edge::in_days(now, args.expires_days)?;
        documents.push((DocumentId::image(role, document.version), document.to_json()));
    }
    stage.put_all(&documents, now)?;
    let next = "let the holders of both roles sign with `sluice-sign sign`, then `sluice-sign publish`; the embargo role's document is \
                complete only after the product's";
    describe::print_staged(&stage, json, |id| documents.iter().any(|(staged, _)| staged == id), next)
}
