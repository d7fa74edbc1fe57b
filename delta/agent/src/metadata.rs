//! Refreshing the trusted documents: the director's root chain, and the image repository as the TUF specification has it
//! in section 5. Every body is read up to the signer's limit for its kind and no further.

use sluice_signer::{Found, Lookup, Refresh, RootUpdate, VerifyError, Wanted};

use crate::agent::Agent;
use crate::error::AgentError;
use crate::http::Request;
use crate::state::write_json;

impl Agent<'_> {
    /// Takes every next director root until the server has no more.
    pub(crate) fn walk_director_root(&mut self) -> Result<(), AgentError> {
        let (before, folder) = (self.director.root_version(), self.folder("director"));
        self.director.set_newest_epoch(self.epoch());
        // The verifier refuses more than `root_rotations` in one process; the range bounds the requests as well.
        for _ in 0..=self.limits.root_rotations {
            let path = format!("{folder}/{}.root.json", self.director.root_version() + 1);
            let Some(bytes) = self.fetch_document("director root", &path, self.limits.root_bytes)? else { break };
            let RootUpdate { rotated, .. } = match self.director.update_root(&bytes) {
                // The old holders say that it goes on in a way that is not for this program. The poll tells what is.
                Err(error @ VerifyError::LaterEpoch { .. }) => {
                    (self.host.log)(&format!("director {error}"));
                    break;
                }
                taken => taken.map_err(refused("director root"))?,
            };
            if rotated.contains("targets") {
                // The old director key may have set both to anything.
                self.kept.last_version = 0;
                self.kept.attested_time = None;
                self.kept.held = None;
            }
            self.kept.root = String::from_utf8_lossy(self.director.root_bytes()).into_owned();
            self.save_director()?;
        }
        if self.director.root_version() != before {
            (self.host.log)(&format!("director root is now version {}", self.director.root_version()));
        }
        Ok(())
    }

    /// Refreshes root, timestamp, snapshot and top targets, and keeps whatever verified.
    pub(crate) fn refresh_repository(&mut self) -> Result<(), AgentError> {
        let refreshed = self.refresh_documents();
        // A document that is refused changes nothing, and those before it are good: a rollback check must not lose them.
        write_json(&self.state.image_metadata(), &self.repository.state())?;
        refreshed
    }

    fn refresh_documents(&mut self) -> Result<(), AgentError> {
        let (now, folder, mut refresh) = (self.now(), self.folder("metadata"), Refresh::new());
        self.repository.set_newest_epoch(self.epoch());
        loop {
            let Some(ask) = refresh.next(&self.repository, now).map_err(refused("image repository"))? else {
                return Ok(());
            };
            let (what, path) = (name_of(ask.role), format!("{folder}/{}", ask.file));
            let document = if ask.optional {
                self.fetch_document(what, &path, ask.limit)?
            } else {
                Some(self.must_fetch(what, &path, ask.limit)?)
            };
            refresh.give(&mut self.repository, document.as_deref(), now).map_err(refused(what))?;
        }
    }

    /// Finds what offline keys signed about a path, loading delegated roles on the way.
    pub(crate) fn find_target(&mut self, path: &str) -> Result<Found, AgentError> {
        let now = self.now();
        // The verifier bounds the roles visited; one more round than that finds or fails.
        for _ in 0..=self.limits.visited_roles {
            match self.repository.target(path, now).map_err(refused("image repository"))? {
                Lookup::Found(found) => {
                    write_json(&self.state.image_metadata(), &self.repository.state())?;
                    return Ok(*found);
                }
                Lookup::NeedsRole { role, parent, wanted } => {
                    let bytes = self.fetch_wanted("delegated targets", &wanted)?;
                    self.repository
                        .update_targets(&role, &parent, &bytes, now)
                        .map_err(refused("delegated targets"))?;
                }
                Lookup::NotFound => break,
            }
        }
        Err(AgentError::OfferRefused(format!("no offline-signed document lists {}", crate::error::shown(path))))
    }

    /// Loads every role that signs images of this device's product.
    pub(crate) fn load_product(&mut self) -> Result<(), AgentError> {
        let now = self.now();
        for _ in 0..=self.limits.visited_roles {
            let Some((role, wanted)) = self.repository.wanted_of_product(self.config.product.as_str()) else { break };
            let bytes = self.fetch_wanted("delegated targets", &wanted)?;
            self.repository.update_targets(&role, "targets", &bytes, now).map_err(refused("delegated targets"))?;
        }
        Ok(())
    }

    /// Where the documents for this device are: those of the newest signing epoch, or of the one that it is at. What the server
    /// says of that is not signed, so it chooses between two places and no more.
    fn folder(&self, repository: &str) -> String {
        match self.kept.branch {
            Some(epoch) if u64::from(epoch) == self.epoch() => format!("/{repository}/epoch-{epoch}"),
            _ => format!("/{repository}"),
        }
    }

    fn fetch_wanted(&mut self, what: &'static str, wanted: &Wanted) -> Result<Vec<u8>, AgentError> {
        self.must_fetch(what, &format!("{}/{}", self.folder("metadata"), wanted.file), wanted.limit)
    }

    fn must_fetch(&mut self, what: &'static str, path: &str, limit: u64) -> Result<Vec<u8>, AgentError> {
        self.fetch_document(what, path, limit)?.ok_or_else(|| AgentError::Protocol {
            what: what.to_owned(),
            detail: format!("the server has no {path}, although signed metadata names it"),
        })
    }

    /// `None` when the server says that there is none. Only 404 says so: anything else that is not the document could
    /// hide a newer one.
    fn fetch_document(&mut self, what: &'static str, path: &str, limit: u64) -> Result<Option<Vec<u8>>, AgentError> {
        let request = Request { what, path, bearer: None, if_none_match: None, post: None, limit };
        let reply = self.call_authorised(&request)?;
        match reply.status {
            200 => Ok(Some(reply.body)),
            404 => Ok(None),
            _ => Err(reply.denied(what)),
        }
    }
}

/// What an image repository's document is called in messages.
fn name_of(role: &'static str) -> &'static str {
    if role == "root" { "image root" } else { role }
}

fn refused(what: &'static str) -> impl FnOnce(VerifyError) -> AgentError {
    move |source| AgentError::Refused { what, source: Box::new(source) }
}
