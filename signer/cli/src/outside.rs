//! A repository as its devices see it: fetched from a server and verified from the first root on, without a state.

use crate::folder::DocumentId;
use crate::http::Http;
use crate::stage::Stage;
use crate::{embargo, status};
use anyhow::Context as _;
use jiff::Timestamp;
use sluice_signer::publish::{NewDocument, Repository};
use sluice_signer::{Envelope, FileMeta, Refresh, SnapshotMetadata, TimestampMetadata, TrustedRepository, VerifyError};
use std::collections::BTreeMap;

/// Walks the image repository of a server as a device from a warehouse does, and holds every complete document of the folder
/// against what came. Returns what differs, one line each.
pub fn differences(stage: &Stage, base: &str, http: &Http, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let Some(first) = stage.image_roots.first() else { return Ok(Vec::new()) };
    let mut device = TrustedRepository::from_root(first, &stage.limits)?;
    let fetch = |file: &str, limit| http.document(&format!("{base}/metadata/{file}"), limit);
    let mut refresh = Refresh::new();
    // Before there is a targets document a server has no snapshot, and devices have nothing to look for.
    while stage.sealed.contains_key("targets") {
        let Some(ask) = refresh.next(&device, now)? else { break };
        let document = fetch(&ask.file, ask.limit)?;
        refresh.give(&mut device, document.as_deref(), now)?;
    }
    let mut differences = Vec::new();
    let (documents, secret) = embargo::parted(stage, status::publishable(stage, now)?.0, now)?;
    for document in secret {
        if device.wanted_role(&document.role).is_some_and(|shown| shown.version >= document.version) {
            let (role, version) = (document.role, document.version);
            differences.push(format!("{role}: the server shows version {version} before its moment"));
        }
    }
    for document in documents {
        let id = DocumentId { repository: document.repository, role: document.role.clone(), version: document.version };
        let name = id.name();
        let served = match (document.repository, document.role.as_str()) {
            (Repository::Director, _) => {
                http.document(&format!("{base}/director/{}", id.file()), stage.limits.root_bytes)?
            }
            (_, "root" | "targets") => fetch(&id.file(), stage.limit(&id.role))?,
            (_, role) => {
                let wanted = device.wanted_role(role).with_context(|| format!("{role} is not in the snapshot"))?;
                let served = fetch(&wanted.file, wanted.limit)?;
                let bytes = served
                    .as_deref()
                    .ok_or_else(|| VerifyError::Missing { role: role.to_owned(), file: wanted.file.clone() })?;
                device.update_targets(role, "targets", bytes, now)?;
                served
            }
        };
        match served {
            Some(bytes) if bytes == document.bytes => {}
            Some(_) => differences
                .push(format!("{name}: the server has another document than version {} here", document.version)),
            None => differences.push(format!("{name}: the server does not have version {}", document.version)),
        }
    }
    Ok(differences)
}

/// When the server is still in the signing epoch before that of the folder's roots: the documents of that epoch, and the roots of the
/// next one. Else none, and all of them.
pub fn of_ending_epoch(
    stage: &Stage,
    documents: Vec<NewDocument>,
    base: &str,
    http: &Http,
) -> anyhow::Result<(Vec<NewDocument>, Vec<NewDocument>)> {
    let newest = stage.complete_epoch(Repository::Image)?;
    let mut first = None;
    for (version, bytes) in (1..).zip(&stage.image_roots) {
        if stage.read_root(bytes)?.epoch == newest {
            first = Some(version);
            break;
        }
    }
    let has = |version: u64| -> anyhow::Result<bool> {
        let url = format!("{base}/metadata/{version}.root.json");
        Ok(http.document(&url, stage.limits.root_bytes)?.is_some())
    };
    match first {
        Some(first) if first > 1 && has(1)? && !has(first)? => {}
        _ => return Ok((Vec::new(), documents)),
    }
    let (mut ending, mut next) = (Vec::new(), Vec::new());
    for document in documents {
        let rises = document.role == "root" && stage.read_root(&document.bytes)?.epoch == newest;
        if rises { &mut next } else { &mut ending }.push(document);
    }
    Ok((ending, next))
}

/// Those of these documents that the server does not show. What it says is not verified: it only saves requests, and the server
/// checks whatever is sent.
pub fn lacking(
    stage: &Stage,
    documents: Vec<NewDocument>,
    base: &str,
    http: &Http,
) -> anyhow::Result<Vec<NewDocument>> {
    let limits = &stage.limits;
    let shown = shown(stage, base, http)?;
    let mut lacking = Vec::new();
    for document in documents {
        let known = if document.role == "root" {
            let folder = match document.repository {
                Repository::Image => "metadata",
                Repository::Director => "director",
            };
            http.document(&format!("{base}/{folder}/{}.root.json", document.version), limits.root_bytes)?.is_some()
        } else {
            shown.get(&document.role).is_some_and(|meta| meta.version >= document.version)
        };
        if !known {
            lacking.push(document);
        }
    }
    Ok(lacking)
}

/// What the server's snapshot lists, which is not verified.
pub fn shown(stage: &Stage, base: &str, http: &Http) -> anyhow::Result<BTreeMap<String, FileMeta>> {
    let limits = &stage.limits;
    if let Some(timestamp) = http.document(&format!("{base}/metadata/timestamp.json"), limits.timestamp_bytes)? {
        let envelope = Envelope::parse("timestamp", &timestamp, limits.timestamp_bytes, limits)?;
        let version = TimestampMetadata::from_json(envelope.signed())?.snapshot.version;
        let url = format!("{base}/metadata/{version}.snapshot.json");
        if let Some(snapshot) = http.document(&url, limits.snapshot_bytes)? {
            let envelope = Envelope::parse("snapshot", &snapshot, limits.snapshot_bytes, limits)?;
            return Ok(SnapshotMetadata::from_json(envelope.signed(), limits)?.roles);
        }
    }
    Ok(BTreeMap::new())
}
