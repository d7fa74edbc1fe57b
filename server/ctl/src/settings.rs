//! From what was typed to what is meant: which server, which token, which certificates.
//!
//! A token in the configuration belongs to the server beside it and is sent to no other: `--server elsewhere` never
//! carries it along.

use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cli::GlobalArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
use crate::secret;

/// Longest configuration file, bytes: a token and two addresses; more is a wrong file.
const CONFIG_MAX_LEN: u64 = 64 << 10;

/// The configuration file, as `sluicectl login` writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The server's address.
    pub server: String,
    /// The token for that server.
    pub token: String,
    /// Certificates (PEM) that the server's certificate has to come from; the public ones unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the file; none is no error.
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let shown = || path.display().to_string();
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow::Error::new(error).context(shown()).into()),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = file.metadata().with_context(shown)?.permissions().mode();
            if mode & 0o077 != 0 {
                eprintln!("sluicectl: {} holds a token and others can read it: chmod 600 it", path.display());
            }
        }
        let mut text = String::new();
        file.take(CONFIG_MAX_LEN).read_to_string(&mut text).with_context(shown)?;
        // The parser's message quotes the line it stumbles over, which may be the token's.
        toml::from_str(&text).map(Some).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            Failure::Usage(format!("{}: line {line} is not understood; `sluicectl login` writes it anew", shown()))
        })
    }

    /// Writes the file, readable by its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let text = toml::to_string(self).context("the configuration")?;
        let note = "# Written by `sluicectl login`. Holds a token: keep it to yourself.\n";
        Ok(secret::replace(path, &format!("{note}{text}"))?)
    }
}

/// What was meant.
pub struct Settings {
    /// The server's address, without a slash at the end.
    pub server: Option<String>,
    /// The token to send.
    pub token: Option<String>,
    /// The token given for this command alone, not the remembered one.
    pub typed_token: Option<String>,
    /// Where the configuration stands or will stand.
    pub config_path: PathBuf,
    /// Certificates to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Where results go.
    pub output: Output,
    plain_http: bool,
}

impl Settings {
    /// Brings arguments, environment and configuration file together.
    pub fn new(global: &GlobalArgs) -> Result<Self, Failure> {
        let config_path = match &global.config {
            Some(path) => path.clone(),
            None => default_config_path()?,
        };
        let config = ConfigFile::read(&config_path)?;
        let server = match &global.server {
            Some(server) => Some(normal_address(server)?),
            None => config.as_ref().map(|config| normal_address(&config.server)).transpose()?,
        };
        let of_this_server = config.filter(|config| server.is_some() && normal_address(&config.server).ok() == server);
        let typed_token = if let Some(path) = &global.token_file {
            Some(secret::read_token(path)?)
        } else if let Ok(text) = env::var("SLUICE_TOKEN") {
            Some(secret::parse_token(&text).map_err(|rule| Failure::Usage(format!("SLUICE_TOKEN: {rule}")))?)
        } else {
            None
        };
        let token = typed_token.clone().or_else(|| of_this_server.as_ref().map(|config| config.token.clone()));
        let ca_file = global.ca_file.clone().or_else(|| of_this_server.and_then(|config| config.ca_file));
        let output = Output { json: global.json };
        Ok(Self { server, token, typed_token, config_path, ca_file, output, plain_http: global.plain_http })
    }

    /// The server, or what to type.
    pub fn server(&self) -> Result<&str, Failure> {
        self.server.as_deref().ok_or_else(|| {
            Failure::Usage("no server is named: give --server URL, or `sluicectl login --server URL` once".into())
        })
    }

    /// A client that sends the token meant, if there is one.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_with(self.token.clone())
    }

    /// A client that sends this token.
    pub fn client_with(&self, token: Option<String>) -> Result<Client, Failure> {
        let server = self.server()?;
        if token.is_some() && !self.plain_http && !is_private(server) {
            return Err(Failure::Usage(format!(
                "{server} is plain HTTP beyond this machine: anyone on the way could read the token. Use https://, or \
                 --plain-http if the way is private"
            )));
        }
        Client::new(server, token, self.ca_file.as_deref())
    }
}

/// Where the configuration stands unless told otherwise.
fn default_config_path() -> Result<PathBuf, Failure> {
    let folder = match env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => {
            env::home_dir().ok_or_else(|| Failure::Usage("no home folder: give --config FILE".into()))?.join(".config")
        }
    };
    Ok(folder.join("sluice").join("ctl.toml"))
}

/// An address with scheme and host and without a slash at the end, so that two spellings of one server are equal.
fn normal_address(text: &str) -> Result<String, Failure> {
    let wrong = || Failure::Usage(format!("server `{text}`: write http://HOST:PORT or https://HOST[:PORT]"));
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.trim_end_matches('/');
    let host_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '/' | '~');
    if !matches!(scheme.as_str(), "http" | "https") || rest.is_empty() || !rest.chars().all(host_ok) {
        return Err(wrong());
    }
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    Ok(format!("{scheme}://{}{path}", host.to_ascii_lowercase()))
}

/// Whether a token travels unread: over TLS, or without leaving this machine.
fn is_private(server: &str) -> bool {
    let Some(rest) = server.strip_prefix("http://") else { return true };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_one_server_are_equal() {
        assert_eq!(normal_address("HTTPS://Updates.Example/").unwrap(), "https://updates.example");
        assert_eq!(normal_address("http://[::1]:8080").unwrap(), "http://[::1]:8080");
        assert!(normal_address("updates.example").is_err());
        assert!(normal_address("ftp://updates.example").is_err());
        assert!(normal_address("https://user@updates.example").is_err(), "secrets do not belong in addresses");
        assert!(normal_address("https://updates.example?x").is_err());
    }

    #[test]
    fn only_this_machine_is_private_over_plain_http() {
        for private in ["https://updates.example", "http://127.0.0.1:8080", "http://[::1]:8080/x", "http://localhost"] {
            assert!(is_private(private), "{private}");
        }
        for open in
            ["http://updates.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://localhost.example"]
        {
            assert!(!is_private(open), "{open}");
        }
    }
}
