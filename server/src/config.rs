//! Configuration: `sluice.toml`, then the environment, then the command line; later ones win.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use sluice_token::{Scheme, TokenUri};

use crate::keys::Home;

/// With less, the segments of a few threads alone take more than the bound.
const MIN_PATCH_MEMORY_MIB: u64 = 64;
/// A tebibyte: more is a mistake of unit.
const MAX_PATCH_MEMORY_MIB: u64 = 1 << 20;

/// With less, who reads events once a month misses some.
const MIN_EVENTS_DAYS: u32 = 31;
/// Ten years: more is a mistake of unit.
const MAX_EVENTS_DAYS: u32 = 3660;

/// A thousand a second from one address: more is no limit.
const MAX_ASKS: u32 = 60_000;

/// Everything that can be configured. Unknown settings are refused, so that a typing error is found at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the server listens, `ADDRESS:PORT`; port 0 takes any free one.
    pub listen: String,
    /// The base URL that clients see, such as `https://updates.example.com`. Made from `listen` unless given.
    pub public_url: Option<String>,
    /// `sqlite:PATH`, or `postgres://…` for several replicas. Relative paths are under the data folder.
    pub database: String,
    /// A folder, or `s3://BUCKET/PREFIX`. Relative paths are under the data folder.
    pub blobs: String,
    /// The folder with the online keys. Replicas share its content.
    pub keys: PathBuf,
    /// A PKCS#11 token in which online keys are made, as a URI; in files of that folder unless given.
    pub keys_token: Option<String>,
    /// The kind of keys made in it: `ed25519`, or `ecdsa-p256`, which every token makes.
    pub keys_scheme: String,
    /// Seconds between two polls of a device that runs what it should.
    pub poll_interval_s: u32,
    /// The snapshot is signed again when so much of its week has gone, in percent; 1 to 90.
    pub snapshot_renew_percent: u8,
    /// Approvals by others that every rollout must ask for, 2 to 5; 0 leaves it to the plans.
    pub min_approvals: u8,
    /// Days that an entitlement certificate lives, 1 to 90; a device fetches another when a third is left.
    pub certificate_days: u32,
    /// Patch jobs and other work run in this process with so many threads; 0 leaves them to `sluice-server worker`.
    pub worker_threads: usize,
    /// Patches larger than this percentage of the compressed full image are not offered.
    pub patch_max_percent: u8,
    /// MiB that making one patch may use beyond both images.
    pub patch_memory_mib: u64,
    /// Devices kept in memory.
    pub device_cache: usize,
    /// Days that events are kept.
    pub events_days: u32,
    /// Days that what devices were told is kept.
    pub decisions_days: u32,
    /// Enrolments, sessions, registrations and look-ups that one address may ask for in a minute, and at once.
    pub asks_per_minute: u32,
    /// The header in which the reverse proxy says who asks, such as `X-Forwarded-For`. Only behind a proxy that sets it.
    pub client_address_header: Option<String>,
    /// TLS, needed beyond loopback unless a proxy is trusted.
    pub tls: Option<Tls>,
    /// A reverse proxy in front terminates TLS.
    pub behind_tls_proxy: bool,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// The newest signing epoch that the verifier knows. It is what the code is, and no setting; tests play later code.
    #[serde(skip)]
    pub newest_epoch: u64,
}

/// Files of a TLS certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            public_url: None,
            database: "sqlite:sluice.db".into(),
            blobs: "blobs".into(),
            keys: "keys".into(),
            keys_token: None,
            keys_scheme: Scheme::Ed25519.name().into(),
            poll_interval_s: 300,
            snapshot_renew_percent: 50,
            min_approvals: 0,
            certificate_days: 30,
            worker_threads: 2,
            patch_max_percent: 70,
            patch_memory_mib: 2048,
            device_cache: 200_000,
            events_days: 400,
            decisions_days: 400,
            asks_per_minute: 600,
            client_address_header: None,
            tls: None,
            behind_tls_proxy: false,
            log_format: LogFormat::Text,
            newest_epoch: sluice_signer::limits::NEWEST_EPOCH,
        }
    }
}

/// The configuration that the first run writes: every setting, commented, at its default.
pub const TEMPLATE: &str = r#"# Sluice server configuration. Every line is a default; remove the # to change it.
# Relative paths are under the folder of this file.

# Where the server listens. Beyond loopback it needs TLS (see below).
#listen = "127.0.0.1:8080"
# The base URL that clients see, when it differs from the address above.
#public_url = "https://updates.example.com"

# SQLite for one server; PostgreSQL for as many replicas as wanted.
#database = "sqlite:sluice.db"
#database = "postgres://sluice@db.example.com/sluice"
# Images and patches: a folder, or a bucket (with the usual AWS_... variables).
#blobs = "blobs"
#blobs = "s3://bucket/prefix"
# The online keys. Replicas need the same ones.
#keys = "keys"
# A PKCS#11 token in which keys are made; the folder then says where they are. The file has the token's PIN.
#keys_token = "pkcs11:token=LABEL?module-path=/usr/lib/….so&pin-source=file:/run/secrets/pin"
# The kind of those keys: "ed25519", or "ecdsa-p256" for tokens that make no other.
#keys_scheme = "ed25519"

# Seconds between two polls of a device that runs what it should.
#poll_interval_s = 300
# The snapshot document is signed again when so much of its week has gone, in percent.
#snapshot_renew_percent = 50
# Approvals by others that every rollout must ask for: 2 to 5. 0 leaves it to the plans.
#min_approvals = 0
# Days that a device's entitlement certificate lives; it fetches another when a third is left.
#certificate_days = 30
# Threads for patch jobs in this process; 0 leaves them to `sluice-server worker`.
#worker_threads = 2
# A patch larger than this percentage of the compressed full image is not offered.
#patch_max_percent = 70
# MiB that making one patch may use beyond both images; with less, large images take longer.
#patch_memory_mib = 2048
# Devices kept in memory (about 2 kB each).
#device_cache = 200000
# Days that events (`sluicectl events`) are kept.
#events_days = 400
# Days that what devices were told (`sluicectl device history`) is kept.
#decisions_days = 400
# Enrolments, sessions, registrations and look-ups that one address may ask for in a minute.
#asks_per_minute = 600
# The header in which a reverse proxy says who asks; only behind a proxy that sets it. Without it all behind one are one address.
# client_address_header = "X-Forwarded-For"

# Own certificate ...
#[tls]
#certificate = "server.crt"
#key = "server.key"
# ... or a reverse proxy that terminates TLS.
#behind_tls_proxy = false

# "text" or "json".
#log_format = "text"
"#;

impl Settings {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no valid configuration", path.display()))
    }

    /// Makes relative paths absolute under the data folder and checks what can be checked without IO.
    pub fn resolve(mut self, data: &Path) -> anyhow::Result<Self> {
        let under = |path: &Path| if path.is_absolute() { path.to_owned() } else { data.join(path) };
        if let Some(path) = self.database.strip_prefix("sqlite:").map(|rest| rest.trim_start_matches("//")) {
            self.database = format!("sqlite:{}", under(Path::new(path)).display());
        } else if !self.database.starts_with("postgres://") && !self.database.starts_with("postgresql://") {
            bail!("database `{}`: sqlite:PATH or postgres://…", self.database);
        }
        if !self.blobs.starts_with("s3://") {
            self.blobs =
                under(Path::new(self.blobs.strip_prefix("file://").unwrap_or(&self.blobs))).display().to_string();
        }
        self.keys = under(&self.keys);
        if let Some(tls) = &mut self.tls {
            tls.certificate = under(&tls.certificate);
            tls.key = under(&tls.key);
        }
        let address: std::net::SocketAddr = self
            .listen
            .parse()
            .with_context(|| format!("listen `{}`: ADDRESS:PORT, such as 127.0.0.1:8080", self.listen))?;
        if !address.ip().is_loopback() && self.tls.is_none() && !self.behind_tls_proxy {
            bail!(
                "listen `{}` is beyond loopback: set [tls] with a certificate, or behind_tls_proxy = true when a proxy \
                 terminates TLS; device tokens must not travel in clear",
                self.listen
            );
        }
        self.home()?;
        if !(30..=86_400).contains(&self.poll_interval_s) {
            bail!("poll_interval_s {}: 30 to 86400", self.poll_interval_s);
        }
        if !(1..=90).contains(&self.snapshot_renew_percent) {
            bail!("snapshot_renew_percent {}: 1 to 90", self.snapshot_renew_percent);
        }
        let most = sluice_catalog::rollout::MAX_APPROVALS;
        // One approval is no second opinion on the first.
        if self.min_approvals != 0 && !(2..=most).contains(&self.min_approvals) {
            bail!("min_approvals {}: 2 to {most}, or 0 to leave it to the plans", self.min_approvals);
        }
        let days = crate::poll::certificate::MAX_DAYS;
        if !(1..=days).contains(&self.certificate_days) {
            bail!("certificate_days {}: 1 to {days}", self.certificate_days);
        }
        if !(1..=100).contains(&self.patch_max_percent) {
            bail!("patch_max_percent {}: 1 to 100", self.patch_max_percent);
        }
        for (name, days) in [("events_days", self.events_days), ("decisions_days", self.decisions_days)] {
            if !(MIN_EVENTS_DAYS..=MAX_EVENTS_DAYS).contains(&days) {
                bail!("{name} {days}: {MIN_EVENTS_DAYS} to {MAX_EVENTS_DAYS}");
            }
        }
        if !(1..=MAX_ASKS).contains(&self.asks_per_minute) {
            bail!("asks_per_minute {}: 1 to {MAX_ASKS}", self.asks_per_minute);
        }
        if let Some(header) = &self.client_address_header
            && (header.is_empty()
                || header.len() > 64
                || !header.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            bail!("client_address_header `{header}`: the name of a header, such as X-Forwarded-For");
        }
        if !(MIN_PATCH_MEMORY_MIB..=MAX_PATCH_MEMORY_MIB).contains(&self.patch_memory_mib) {
            bail!("patch_memory_mib {}: {MIN_PATCH_MEMORY_MIB} to {MAX_PATCH_MEMORY_MIB}", self.patch_memory_mib);
        }
        if let Some(url) = &self.public_url {
            url::Url::parse(url).with_context(|| format!("public_url `{url}` is no URL"))?;
        }
        Ok(self)
    }

    /// Where online keys are made.
    pub fn home(&self) -> anyhow::Result<Home> {
        let scheme = self.keys_scheme.parse().map_err(|error| anyhow!("keys_scheme: {error}"))?;
        let Some(text) = &self.keys_token else { return Ok(Home::Files) };
        let uri = TokenUri::parse(text).with_context(|| "keys_token")?;
        if uri.object.is_some() || uri.id.is_some() {
            bail!("keys_token `{text}`: a token for four keys, not one key: leave out object= and id=");
        }
        Ok(Home::Token { uri, scheme, adopt: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_uncommented_is_the_default() {
        let uncommented: String = TEMPLATE
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| !line.starts_with(' ') && !line.contains("example.com") && !line.contains("s3://"))
            .filter(|line| !line.contains("pkcs11:"))
            .filter(|line| !line.starts_with("[tls]") && !line.starts_with("certificate") && !line.starts_with("key ="))
            .fold(String::new(), |text, line| text + line + "\n");
        let settings: Settings = toml::from_str(&uncommented).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(toml::from_str::<Settings>(TEMPLATE).unwrap(), Settings::default());
    }

    #[test]
    fn beyond_loopback_needs_tls_and_typing_errors_are_found() {
        let open = Settings { listen: "0.0.0.0:80".into(), ..Settings::default() };
        assert!(open.clone().resolve(Path::new("/d")).unwrap_err().to_string().contains("beyond loopback"));
        assert!(Settings { behind_tls_proxy: true, ..open }.resolve(Path::new("/d")).is_ok());
        assert!(toml::from_str::<Settings>("listne = \"x\"").is_err());
        assert!(Settings { listen: "here".into(), ..Settings::default() }.resolve(Path::new("/d")).is_err());
    }

    #[test]
    fn approvals_are_two_at_least_or_left_to_the_plans() {
        let with = |min_approvals| Settings { min_approvals, ..Settings::default() }.resolve(Path::new("/d"));
        assert!(with(0).is_ok() && with(2).is_ok() && with(5).is_ok());
        for odd in [1, 6] {
            assert!(with(odd).unwrap_err().to_string().contains("min_approvals"));
        }
    }

    #[test]
    fn keys_are_made_in_files_or_in_a_whole_token() {
        let with =
            |uri: &str| Settings { keys_token: Some(uri.into()), ..Settings::default() }.resolve(Path::new("/d"));
        assert_eq!(Settings::default().home().unwrap(), Home::Files);
        assert!(matches!(with("pkcs11:token=a").unwrap().home().unwrap(), Home::Token { .. }));
        for (uri, reason) in [
            ("pkcs11:token=a;object=b", "leave out object="),
            ("/a/file", "begins with pkcs11:"),
            ("pkcs11:token=a?pin-value=1", "pin-source=file:/PATH"),
        ] {
            let error = format!("{:#}", with(uri).unwrap_err());
            assert!(error.contains(reason) && error.contains("keys_token"), "{uri}: {error}");
        }
        let other = Settings { keys_scheme: "rsa".into(), ..Settings::default() };
        assert!(other.resolve(Path::new("/d")).unwrap_err().to_string().contains("ecdsa-p256"));
    }

    #[test]
    fn paths_are_under_the_data_folder() {
        let settings = Settings::default().resolve(Path::new("/d")).unwrap();
        assert_eq!(settings.database, "sqlite:/d/sluice.db");
        assert_eq!(settings.blobs, "/d/blobs");
        assert_eq!(settings.keys, Path::new("/d/keys"));
    }
}
