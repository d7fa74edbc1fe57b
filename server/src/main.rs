//! `sluice-server`: one binary with modes.

mod keys_command;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use sluice_server::clock::Clock;
use sluice_server::config::Settings;
use sluice_server::setup::{self, Overrides};
use sluice_server::{failpoint, http, keys, serve, telemetry};

/// Threads get so long to end when everything has stopped.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

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
    /// PKCS#11 URI of a token in which the online keys are made, such as
    /// `pkcs11:token=LABEL?module-path=FILE&pin-source=file:/PATH`.
    #[arg(long, env = "SLUICE_KEYS_TOKEN", value_name = "URI")]
    keys_token: Option<String>,
}

impl Common {
    fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            database: self.database.clone(),
            blobs: self.blobs.clone(),
            keys_token: self.keys_token.clone(),
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
        command: keys_command::KeysCommand,
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
        Mode::Keys { command } => keys_command::run(command),
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

/// Runs the server. When it has stopped, a call into a token that hangs does not keep the process.
fn run_to_the_end(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WAIT);
    done
}

fn listen_and_serve(data: &Path, overrides: &Overrides, workers: bool) -> anyhow::Result<()> {
    let settings = setup::settings(data, overrides)?;
    telemetry::log(settings.log_format);
    run_to_the_end(async {
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
    run_to_the_end(async {
        let app = setup::app(&settings, &common.data, Clock::default()).await?;
        let background = serve::background(&app, settings.worker_threads.max(1));
        println!("working; stop with Ctrl-C");
        serve::stop_signal().await?;
        background.stop().await;
        Ok(())
    })
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
    let settings: Settings = setup::settings(&common.data, &common.overrides())?;
    let shown = Settings { database: setup::redacted(&settings.database), ..settings.clone() };
    println!("{}", toml::to_string_pretty(&shown)?);
    settings.home()?.check().context("keys_token")?;
    // As comments: what stands above is a configuration.
    for line in keys::check_folder(&settings.keys, || keys_command::named_now(&settings))? {
        println!("# {line}");
    }
    Ok(())
}
