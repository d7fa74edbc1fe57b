//! `availableProductSoftwareByPid`: the newest software of a product, as at least eight independent clients ask for it.
//! Fields after `rules` and the type `Entitlement` are our extensions; older clients do not ask for them.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use sluice_catalog::decide::{self, ProductView, ReleaseView};
use sluice_catalog::product::{Channel, Visibility};
use sluice_catalog::rollout::{BUCKETS, Rollout, Selector};
use sluice_catalog::{Reason, Time};

use super::{Token, graphql_error};
use crate::error::Error;
use crate::http::{Shared, auth};
use crate::poll::CachedDevice;

/// What is asked about software.
#[derive(Debug, Default)]
pub struct SoftwareQuery;

/// Software of a product.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are those that clients ask for")]
struct ProductSoftware {
    id: ID,
    version: String,
    name: String,
    latest: bool,
    release_channel: Option<String>,
    supports_policies: bool,
    deprecated: bool,
    /// Whether the caller may not download it.
    blocked_download: bool,
    publish_date: String,
    notes: ReleaseNotes,
    product_build: ProductBuild,
    product: Product,
    updated_at: String,
    /// Ours: what the caller's contract says; null without a device's token.
    entitlement: Option<Entitlement>,
}

/// Release notes.
#[derive(Clone, Debug, SimpleObject)]
struct ReleaseNotes {
    id: ID,
    header: String,
    body: String,
}

/// What is downloaded.
#[derive(Debug, SimpleObject)]
struct ProductBuild {
    id: ID,
    version: String,
    build: String,
    url: Option<String>,
    archive_url: Option<String>,
    storage_path: String,
    category: String,
    description: String,
    rules: Option<Rules>,
    /// Ours: SHA-256 of the image, from offline-signed metadata.
    sha256: String,
    /// Ours: its length, bytes, as a decimal text (GraphQL's Int has 32 bits).
    size: String,
}

/// Rules of a build; we have none.
#[derive(Debug, SimpleObject)]
struct Rules {
    document: String,
}

/// A product.
#[derive(Debug, SimpleObject)]
struct Product {
    id: ID,
    name: String,
}

/// Ours: the decision about the caller.
#[derive(Debug, SimpleObject)]
struct Entitlement {
    /// `ALLOWED` or `DENIED`.
    outcome: String,
    /// The reason code.
    reason_code: String,
    /// The reason as a sentence.
    sentence: String,
    /// The newest version the caller is entitled to.
    newest_entitled_version: Option<String>,
}

#[Object]
impl SoftwareQuery {
    /// The newest software of a product. `releaseChannel` is null for general availability, or `preview` or `beta`.
    async fn available_product_software_by_pid(
        &self,
        context: &Context<'_>,
        pid: ID,
        release_channel: Option<String>,
    ) -> Result<Option<SoftwareAnswer>> {
        let shared = context.data::<Shared>()?;
        let channel = match release_channel.as_deref() {
            None | Some("" | "stable") => Channel::Stable,
            Some(name) => match name.parse() {
                Ok(channel) => channel,
                // A channel we do not have has no software.
                Err(_) => return Ok(None),
            },
        };
        let Some(product) = shared.app.live.products().by_pid(&pid).cloned() else { return Ok(None) };
        let device = device(shared, context, &product).await?;
        if product.product.visibility == Visibility::Gated && !device.as_deref().is_some_and(auth::in_service) {
            // What is gated stays hidden: version, notes and digest too.
            return Ok(None);
        }
        let now = shared.app.now();
        let newest = product.releases().iter().find(|release| {
            release.release.channel <= channel
                && release.release.withdrawn_at.is_none_or(|at| at > now)
                && is_out_for(device.as_deref(), &product, release, now)
                && product.rollouts.iter().any(|rollout| is_for_everyone(rollout, release, now))
        });
        Ok(newest.map(|release| {
            SoftwareAnswer(software(shared, &product, release, device.as_deref(), release_channel.clone(), now))
        }))
    }
}

/// Wraps the software so that `releaseNotes` can take its argument.
#[derive(Debug)]
struct SoftwareAnswer(ProductSoftware);

#[Object(name = "ProductSoftware")]
impl SoftwareAnswer {
    async fn id(&self) -> &ID {
        &self.0.id
    }
    async fn version(&self) -> &str {
        &self.0.version
    }
    async fn name(&self) -> &str {
        &self.0.name
    }
    async fn latest(&self) -> bool {
        self.0.latest
    }
    async fn release_channel(&self) -> Option<&str> {
        self.0.release_channel.as_deref()
    }
    async fn supports_policies(&self) -> bool {
        self.0.supports_policies
    }
    async fn deprecated(&self) -> bool {
        self.0.deprecated
    }
    async fn blocked_download(&self) -> bool {
        self.0.blocked_download
    }
    async fn publish_date(&self) -> &str {
        &self.0.publish_date
    }
    /// `refresh` is accepted and needs nothing: notes never change.
    async fn release_notes(&self, #[graphql(default)] refresh: Option<bool>) -> &ReleaseNotes {
        let _ = refresh;
        &self.0.notes
    }
    async fn product_build(&self) -> &ProductBuild {
        &self.0.product_build
    }
    async fn product(&self) -> &Product {
        &self.0.product
    }
    async fn updated_at(&self) -> &str {
        &self.0.updated_at
    }
    /// Ours: what the caller's contract says; null without a device's token.
    async fn entitlement(&self) -> Option<&Entitlement> {
        self.0.entitlement.as_ref()
    }
}

/// Whether nothing is said of a release that keeps it from whoever asks: an embargo, or a block in the device's country. Of what is kept
/// back nothing is shown.
fn is_out_for(device: Option<&CachedDevice>, product: &ProductView, release: &ReleaseView, now: Time) -> bool {
    match device {
        None => {
            release.release.published_at <= now && release.embargo.as_ref().is_none_or(|embargo| embargo.until <= now)
        }
        Some(device) => !matches!(
            decide::entitled(&device.view, product, release, now, &mut ()).reason,
            Reason::Embargoed | Reason::CountryBlocked | Reason::NotPublished
        ),
    }
}

/// A rollout that has reached everyone: what a catalogue may show as available.
fn is_for_everyone(rollout: &Rollout, release: &ReleaseView, now: Time) -> bool {
    rollout.release_id == release.release.id
        && rollout.state.makes_offers()
        && rollout.selector == Selector::default()
        && rollout.excluded.is_empty()
        && u64::from(rollout.reach(now)) == BUCKETS
}

/// The device behind a session token of this product.
async fn device(shared: &Shared, context: &Context<'_>, product: &ProductView) -> Result<Option<Arc<CachedDevice>>> {
    let Some(token) = context.data::<Token>()?.0.as_deref() else { return Ok(None) };
    let Some(session) = shared.app.keys.tokens.session_open(token, shared.app.now()) else {
        let error = Error::new(sluice_catalog::Kind::Unauthenticated, "the session token is not ours or has ended");
        return Err(graphql_error(&error));
    };
    let device = auth::device(shared, session).await.map_err(|error| graphql_error(&error))?;
    Ok((device.view.device.product_id == product.product.id).then_some(device))
}

fn software(
    shared: &Shared,
    product: &ProductView,
    release: &ReleaseView,
    device: Option<&CachedDevice>,
    channel: Option<String>,
    now: Time,
) -> ProductSoftware {
    let r = &release.release;
    let verdict = device.map(|device| decide::entitled(&device.view, product, release, now, &mut ()));
    let artifact = release
        .artifacts
        .iter()
        .find(|artifact| device.is_none_or(|device| artifact.hw_ids.contains(device.view.device.hw_id.as_str())))
        .or_else(|| release.artifacts.first());
    let open = match (product.product.visibility, verdict) {
        (_, Some(verdict)) => verdict.pass,
        (Visibility::Public, None) => r.requires.is_empty(),
        (Visibility::Gated, None) => false,
    };
    let pid = product.product.pid.as_ref().map(ToString::to_string).unwrap_or_default();
    let file = artifact.and_then(|artifact| artifact.path.rsplit('/').next()).unwrap_or_default();
    let storage_path = format!("{pid}/{}/0/{file}", r.version);
    // A device's own URL carries its token; a public one is the same for everybody and can be cached.
    let url = open.then(|| match (device, artifact) {
        (Some(device), Some(artifact)) => {
            let token = shared.app.keys.tokens.blobs(device.view.device.id, &[artifact.sha256], now);
            format!("{}/v1/blobs/{}?token={token}", shared.url, artifact.sha256)
        }
        _ => format!("{}/{storage_path}", shared.url),
    });
    let entitlement = device.zip(verdict).map(|(device, verdict)| Entitlement {
        outcome: if verdict.pass { "ALLOWED" } else { "DENIED" }.to_owned(),
        reason_code: verdict.reason.code().to_owned(),
        sentence: verdict.reason.sentence().to_owned(),
        newest_entitled_version: decide::newest_entitled(&device.view, product, now)
            .map(|newest| newest.release.version.to_string()),
    });
    ProductSoftware {
        id: ID(r.id.to_string()),
        version: r.version.to_string(),
        name: product.product.title.clone(),
        latest: true,
        release_channel: channel,
        supports_policies: false,
        deprecated: false,
        blocked_download: !open,
        publish_date: r.published_at.to_string(),
        notes: ReleaseNotes { id: ID(r.id.to_string()), header: r.notes_header.clone(), body: r.notes_body.clone() },
        product_build: ProductBuild {
            id: ID(artifact.map(|artifact| artifact.id.to_string()).unwrap_or_default()),
            version: r.version.to_string(),
            build: "0".to_owned(),
            url: url.clone(),
            archive_url: url,
            storage_path,
            category: r.kind.as_str().to_owned(),
            description: r.notes_header.clone(),
            rules: None,
            sha256: artifact.map(|artifact| artifact.sha256.to_string()).unwrap_or_default(),
            size: artifact.map(|artifact| artifact.length.to_string()).unwrap_or_default(),
        },
        product: Product { id: ID(pid), name: product.product.title.clone() },
        updated_at: r.published_at.to_string(),
        entitlement,
    }
}
