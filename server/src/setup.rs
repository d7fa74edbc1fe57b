//! Starting: configuration, first run, and putting the application together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sluice_catalog::Digest;
use sluice_catalog::wire::admin::OnlineKeys;
use sluice_signer::NamedKeys;

use crate::app::{App, AskLimits, Expiries, Fleets, Notices, Publisher, Rules};
use crate::blobs::Blobs;
use crate::clock::{Clock, Dice};
use crate::config::{Settings, TEMPLATE};
use crate::keys::{self, Keys, write_secret};
use crate::poll::{Devices, Live};
use crate::store::Store;
use crate::telemetry::Metrics;

/// What the command line overrides.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The configuration file; `sluice.toml` in the data folder unless given.
    pub config: Option<PathBuf>,
    /// See [`Settings::listen`].
    pub listen: Option<String>,
    /// See [`Settings::database`].
    pub database: Option<String>,
    /// See [`Settings::blobs`].
    pub blobs: Option<String>,
    /// See [`Settings::public_url`].
    pub public_url: Option<String>,
    /// See [`Settings::keys_token`].
    pub keys_token: Option<String>,
}

/// Reads the configuration. On the first run it writes a commented one, so that there is something to edit.
pub fn settings(data: &Path, overrides: &Overrides) -> anyhow::Result<Settings> {
    std::fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
    let path = overrides.config.clone().unwrap_or_else(|| data.join("sluice.toml"));
    if !path.exists() && overrides.config.is_none() {
        std::fs::write(&path, TEMPLATE).with_context(|| format!("writing {}", path.display()))?;
    }
    let mut settings = Settings::read(&path)?;
    if let Some(listen) = &overrides.listen {
        settings.listen.clone_from(listen);
    }
    if let Some(database) = &overrides.database {
        settings.database.clone_from(database);
    }
    if let Some(blobs) = &overrides.blobs {
        settings.blobs.clone_from(blobs);
    }
    if let Some(url) = &overrides.public_url {
        settings.public_url = Some(url.clone());
    }
    if let Some(uri) = &overrides.keys_token {
        settings.keys_token = Some(uri.clone());
    }
    // Paths on the command line are the caller's, those in the file are the folder's.
    let data = std::path::absolute(data)?;
    settings.resolve(&data)
}

/// Opens database, blobs and keys, migrates, and loads the snapshots.
pub async fn app(settings: &Settings, data: &Path, clock: Clock) -> anyhow::Result<Arc<App>> {
    app_with(settings, data, clock, &[]).await
}

/// [`app`] with options for the blob store, see [`Blobs::open_with`].
pub async fn app_with(
    settings: &Settings,
    data: &Path,
    clock: Clock,
    blob_options: &[(&str, &str)],
) -> anyhow::Result<Arc<App>> {
    let dice = Dice;
    // object_store speaks TLS through whatever provider the process has installed.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let store = Store::open(&settings.database)
        .await
        .with_context(|| format!("opening the database {}", redacted(&settings.database)))?;
    store.migrate().await.context("migrating the database")?;
    let blobs = Blobs::open_with(&settings.blobs, blob_options)?;
    let mut named = store.named_keys().await.context("reading the published roots")?;
    keys::end_branches(&mut named, clock.now());
    let keys = Keys::open(&settings.keys, named.now.is_empty().then_some(&settings.home()?), dice)?;
    keys.check_tokens(&named)?;
    check_keys(&store, &keys, &named).await?;
    let bootstrap = bootstrap_token(&store, data, dice).await?;
    let app = Arc::new(App {
        store,
        blobs,
        clock,
        dice,
        keys,
        rules: Rules {
            poll_interval_s: settings.poll_interval_s,
            patch_max_percent: settings.patch_max_percent,
            patch_memory: settings.patch_memory_mib << 20,
            snapshot_renew_percent: settings.snapshot_renew_percent,
            min_approvals: settings.min_approvals,
            certificate_days: settings.certificate_days,
            events_days: settings.events_days,
            decisions_days: settings.decisions_days,
            newest_epoch: settings.newest_epoch,
            bootstrap,
        },
        live: Live::default(),
        devices: Devices::new(settings.device_cache),
        metrics: Metrics::default(),
        publisher: Publisher::new(format!("{}-{}", std::process::id(), hex::encode(dice.bytes::<4>()))),
        expiries: Expiries::default(),
        limits_of_asking: AskLimits::new(settings.asks_per_minute, settings.client_address_header.clone()),
        notices: Notices::default(),
        fleets: Fleets::default(),
        watch: crate::app::Watch::default(),
        series: crate::app::Series::default(),
        lives: crate::app::Lives::default(),
        runtime: tokio::runtime::Handle::current(),
    });
    app.refresh().await.map_err(anyhow::Error::new).context("reading the catalogue")?;
    app.notices_begin().await.map_err(anyhow::Error::new).context("beginning to tell events")?;
    Ok(app)
}

/// Replicas on one database must hold the keys that its roots name: documents signed by others would be refused by every
/// device. Before there are roots, they must hold the keys that will be exported for them.
async fn check_keys(store: &Store, keys: &Keys, named: &NamedKeys) -> anyhow::Result<()> {
    if !named.now.is_empty() {
        // Keys that wait to follow are enough to start: roots that name them can be published then, and nothing before.
        keys.online(named)?;
        if let Some(missing) = keys.missing(named) {
            tracing::error!("{missing}; until then this server signs nothing");
        }
        for missing in keys.missing_of_branches(named) {
            tracing::warn!("{missing}");
        }
        return Ok(());
    }
    let export = OnlineKeys { next: BTreeMap::new(), ..keys.export(named)? };
    let ours = Digest::of(serde_json::to_string(&export)?.as_bytes()).to_string();
    let mut tx = store.begin().await?;
    match tx.meta_get("online_keys").await? {
        Some(theirs) if theirs == ours => {}
        Some(_) => anyhow::bail!(
            "this database belongs to other online keys: copy the keys folder of the server that made it, or set `keys`"
        ),
        None => {
            tx.meta_put("online_keys", &ours).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// The bootstrap token's digest, while no principal is there; the token itself is in a file that only its owner reads.
async fn bootstrap_token(store: &Store, data: &Path, dice: Dice) -> anyhow::Result<Option<Digest>> {
    let path = data.join("bootstrap-token");
    if store.principal_exists().await? {
        if path.exists() {
            // Spent: it opens nothing any more, and lying around it only worries people.
            std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        return Ok(None);
    }
    if !path.exists() {
        write_secret(&path, dice.secret("slb").as_bytes())?;
    }
    let token = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(Digest::of(token.trim().as_bytes())))
}

/// A database URL without its password, for messages.
pub fn redacted(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            let _ = parsed.set_password(Some("…"));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}
