//! A repository as its devices see it: fetched from a server and verified from the first root on, without a state.

use crate::folder::DocumentId;
use crate::http::Http;
use crate::stage::Stage;
use crate::status;
use anyhow::Context as _;
use jiff::Timestamp;
use sluice_signer::publish::Repository;
use sluice_signer::{Refresh, TrustedRepository, VerifyError};

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
    for document in status::complete(stage)? {
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
