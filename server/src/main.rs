//! `sluice-server`: one binary with modes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use sluice_server::clock::{Clock, Dice};
use sluice_server::config::Settings;
use sluice_server::keys::Keys;
use sluice_server::setup::{self, Overrides};
use sluice_server::{failpoint, http, serve, telemetry};
use sluice_signer::{NamedKeys, OnlineRole};

/// Stores signed firmware releases and patches and hands them to devices by contract and rollout.
#[derive(Debug, Parser)]
#[command(name = "sluice-server", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Folder with configuration, keys and, unless configured otherwise, database and blobs.
    #[arg(long, default_value = "sluice-data", env = "SLUICE_DATA")]
    data: PathBuf,
    /// Configuration file; sluice.toml in the data folder unless given.
    #[arg(long, env = "SLUICE_CONFIG")]
    config: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://...`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
    /// A folder, or `s3://BUCKET/PREFIX` with the usual `AWS_...` variables.
    #[arg(long, env = "SLUICE_BLOBS")]
    blobs: Option<String>,
}

impl Common {
    fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            database: self.database.clone(),
            blobs: self.blobs.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Everything in one process: API, device surfaces and job workers.
    Serve {
        #[command(flatten)]
        common: Common,
        /// ADDRESS:PORT; port 0 takes any free one.
        #[arg(long, env = "SLUICE_LISTEN")]
        listen: Option<String>,
        /// The base URL that clients see.
        #[arg(long, env = "SLUICE_PUBLIC_URL")]
        public_url: Option<String>,
    },
    /// Only the surfaces; jobs are left to `worker`.
    Api {
        #[command(flatten)]
        common: Common,
        /// ADDRESS:PORT; port 0 takes any free one.
        #[arg(long, env = "SLUICE_LISTEN")]
        listen: Option<String>,
        /// The base URL that clients see.
        #[arg(long, env = "SLUICE_PUBLIC_URL")]
        public_url: Option<String>,
    },
    /// Only job workers.
    Worker {
        #[command(flatten)]
        common: Common,
    },
    /// Bring the database's schema up to date and stop.
    Migrate {
        #[command(flatten)]
        common: Common,
    },
    /// Read the configuration, say what it means, and stop.
    CheckConfig {
        #[command(flatten)]
        common: Common,
    },
    /// The server's online keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the OpenAPI document of the REST API.
    Openapi,
    /// Print the names of the points at which tests kill the server.
    #[command(hide = true)]
    Failpoints,
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print the public keys that offline roots name, as JSON; makes the keys on the first run.
    Export {
        #[command(flatten)]
        common: Common,
    },
    /// Make the key that is to follow the current one. It signs nothing until the published root names it.
    Rotate {
        /// Whose: `snapshot`, `timestamp`, `director` or `entitlement`.
        role: OnlineRole,
        /// Put a key away that waits already, and make another: when it may have been stolen, too.
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the private keys that have had their time.
    Forget {
        #[command(flatten)]
        common: Common,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.mode {
        Mode::Serve { common, listen, public_url } => {
            let overrides = Overrides { listen, public_url, ..common.overrides() };
            listen_and_serve(&common.data, &overrides, true)
        }
        Mode::Api { common, listen, public_url } => {
            let overrides = Overrides { listen, public_url, ..common.overrides() };
            listen_and_serve(&common.data, &overrides, false)
        }
        Mode::Worker { common } => worker(&common),
        Mode::Migrate { common } => migrate(&common),
        Mode::CheckConfig { common } => check_config(&common),
        Mode::Keys { command: KeysCommand::Export { common } } => keys_export(&common),
        Mode::Keys { command: KeysCommand::Rotate { role, again, common } } => keys_rotate(&common, role, again),
        Mode::Keys { command: KeysCommand::Forget { common } } => keys_forget(&common),
        Mode::Openapi => {
            println!("{}", http::api::openapi().to_pretty_json()?);
            Ok(())
        }
        Mode::Failpoints => {
            for name in failpoint::FAILPOINTS {
                println!("{name}");
            }
            Ok(())
        }
        Mode::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sluice-server", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")
}

fn listen_and_serve(data: &Path, overrides: &Overrides, workers: bool) -> anyhow::Result<()> {
    let settings = setup::settings(data, overrides)?;
    telemetry::log(settings.log_format);
    runtime()?.block_on(async {
        let app = setup::app(&settings, data, Clock::default()).await?;
        let running = serve::start(&app, &settings, workers)?;
        serve::write_address(data, &running.url)?;
        println!("listening on {}", running.url);
        if app.rules.bootstrap.is_some() {
            println!();
            println!("This server has no administrator yet. Make the first one:");
            println!(
                "  sluicectl bootstrap --server {} --token-file {} --name YOUR-NAME",
                running.url,
                data.join("bootstrap-token").display()
            );
            println!("Configuration: {}", data.join("sluice.toml").display());
        }
        running.run_until_stopped().await
    })
}

fn worker(common: &Common) -> anyhow::Result<()> {
    let settings = setup::settings(&common.data, &common.overrides())?;
    telemetry::log(settings.log_format);
    runtime()?.block_on(async {
        let app = setup::app(&settings, &common.data, Clock::default()).await?;
        let background = serve::background(&app, settings.worker_threads.max(1));
        println!("working; stop with Ctrl-C");
        stop_signal().await?;
        background.stop().await;
        Ok(())
    })
}

#[cfg(unix)]
async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

#[cfg(not(unix))]
async fn stop_signal() -> anyhow::Result<()> {
    Ok(tokio::signal::ctrl_c().await?)
}

fn migrate(common: &Common) -> anyhow::Result<()> {
    let settings = setup::settings(&common.data, &common.overrides())?;
    runtime()?.block_on(async {
        let store = sluice_server::store::Store::open(&settings.database).await?;
        store.migrate().await.context("migrating the database")?;
        store.close().await;
        println!("the {} database is up to date", store.engine_name());
        Ok(())
    })
}

fn check_config(common: &Common) -> anyhow::Result<()> {
    let mut settings: Settings = setup::settings(&common.data, &common.overrides())?;
    settings.database = setup::redacted(&settings.database);
    println!("{}", toml::to_string_pretty(&settings)?);
    Ok(())
}

/// The keys, and which of them the published roots name.
fn keys(settings: &Settings) -> anyhow::Result<(Keys, NamedKeys)> {
    let keys = Keys::load(&settings.keys, true, Dice)?;
    // With one key for each role there is nothing to tell apart, and no need for a database.
    let named = if keys.is_rotating() {
        runtime()?.block_on(async {
            let store = sluice_server::store::Store::open(&settings.database).await?;
            store.migrate().await.context("migrating the database")?;
            let named = store.named_keys().await.context("reading the published roots");
            store.close().await;
            named
        })?
    } else {
        NamedKeys::default()
    };
    Ok((keys, named))
}

fn keys_export(common: &Common) -> anyhow::Result<()> {
    let (keys, named) = keys(&setup::settings(&common.data, &common.overrides())?)?;
    println!("{}", serde_json::to_string_pretty(&keys.export(&named)?)?);
    Ok(())
}

fn keys_rotate(common: &Common, role: OnlineRole, again: bool) -> anyhow::Result<()> {
    let (keys, named) = keys(&setup::settings(&common.data, &common.overrides())?)?;
    let (key, file) = keys.make_next(role, &named, again, Dice)?;
    println!("the next {} key is {}", role.name(), key.keyid());
    println!("in {}; nothing is signed with it yet", file.display());
    println!();
    println!(
        "next: copy the file to the keys folders of all replicas, when they do not share one, and to your backup;"
    );
    println!("      `sluice-server keys export > online-keys.json`, or GET /api/v1/online-keys;");
    println!("      `sluice-sign root rotate --repo DIR --online-keys online-keys.json`; holders sign; publish.");
    println!("The server signs with the new key from the moment of that publication on.");
    Ok(())
}

fn keys_forget(common: &Common) -> anyhow::Result<()> {
    let settings = setup::settings(&common.data, &common.overrides())?;
    println!("{} deleted", Keys::forget(&settings.keys)?);
    Ok(())
}
