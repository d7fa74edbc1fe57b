//! `sluice-server keys`: the online keys in files and tokens, looked at and changed beside a running server.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sluice_server::clock::{Clock, Dice};
use sluice_server::config::Settings;
use sluice_server::keys::{Home, Keys, Listed, end_branches};
use sluice_server::setup;
use sluice_server::store::Store;
use sluice_signer::{NamedKeys, OnlineRole};
use sluice_token::{Scheme, TokenKey, TokenUri};

use super::{Common, runtime};

/// How long `--measure` lets each token sign.
const MEASURE_MS: i64 = 2_000;
/// Threads that ask for signatures meanwhile: as many calls as the server makes at once.
const MEASURE_THREADS: usize = 4;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print the public keys that offline roots name, as JSON; makes the keys on the first run.
    Export {
        #[command(flatten)]
        common: Common,
    },
    /// List the keys: whose they are, which sign, which wait, and where each is.
    List {
        /// Let each token sign for two seconds, too, and say how many signatures a second it makes.
        #[arg(long)]
        measure: bool,
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
        /// Make it in a token, which it can never leave: a PKCS#11 URI such as
        /// `pkcs11:token=LABEL?module-path=FILE&pin-source=file:/PATH`. `;object=NAME` gives the key that label.
        #[arg(long, value_name = "URI")]
        token: Option<String>,
        /// Make it in a file, although `keys_token` is set.
        #[arg(long, conflicts_with = "token")]
        file: bool,
        /// Kind of a key in a token; `keys_scheme` unless given.
        #[arg(long, value_parser = schemes(), conflicts_with = "file")]
        scheme: Option<Scheme>,
        /// Take up the key that the URI names, which is in the token already, instead of making one.
        #[arg(long, requires = "token", conflicts_with = "scheme")]
        adopt: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the private keys that have had their time, those in tokens, too.
    Forget {
        #[command(flatten)]
        common: Common,
    },
}

fn schemes() -> impl TypedValueParser<Value = Scheme> {
    PossibleValuesParser::new(Scheme::NAMES).try_map(|name| name.parse::<Scheme>())
}

pub fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Export { common } => export(&common),
        KeysCommand::List { measure, common } => list(&common, measure),
        KeysCommand::Rotate { role, again, token, file, scheme, adopt, common } => {
            let settings = settings(&common)?;
            let mut home = if file { Home::Files } else { settings.home()? };
            if let Some(text) = token {
                let uri = TokenUri::parse(&text).context("--token")?;
                let scheme = settings.keys_scheme.parse().map_err(|error| anyhow!("keys_scheme: {error}"))?;
                home = Home::Token { uri, scheme, adopt };
            }
            if let (Home::Token { scheme: kept, .. }, Some(scheme)) = (&mut home, scheme) {
                *kept = scheme;
            }
            rotate(&settings, role, again, &home)
        }
        KeysCommand::Forget { common } => {
            println!("{} deleted", Keys::forget(&settings(&common)?.keys)?);
            Ok(())
        }
    }
}

fn settings(common: &Common) -> anyhow::Result<Settings> {
    setup::settings(&common.data, &common.overrides())
}

fn named(settings: &Settings) -> anyhow::Result<NamedKeys> {
    runtime()?.block_on(async {
        let store = Store::open(&settings.database).await?;
        store.migrate().await.context("migrating the database")?;
        let named = store.named_keys().await.context("reading the published roots");
        store.close().await;
        named
    })
}

/// The same as a server that starts now goes by.
pub fn named_now(settings: &Settings) -> anyhow::Result<NamedKeys> {
    let mut named = named(settings)?;
    end_branches(&mut named, Clock::default().now());
    Ok(named)
}

/// The keys, and which of them the published roots name.
fn keys(settings: &Settings) -> anyhow::Result<(Keys, NamedKeys)> {
    let keys = Keys::open(&settings.keys, Some(&settings.home()?), Dice)?;
    // With one key for each role there is nothing to tell apart, and no need for a database.
    let named = if keys.is_rotating() { named(settings)? } else { NamedKeys::default() };
    Ok((keys, named))
}

fn export(common: &Common) -> anyhow::Result<()> {
    let (keys, named) = keys(&settings(common)?)?;
    println!("{}", serde_json::to_string_pretty(&keys.export(&named)?)?);
    Ok(())
}

fn rotate(settings: &Settings, role: OnlineRole, again: bool, home: &Home) -> anyhow::Result<()> {
    let (keys, named) = keys(settings)?;
    let (key, file) = keys.make_next_in(home, role, &named, again, Dice)?;
    println!("the next {} key is {}", role.name(), key.keyid());
    println!("in {}; nothing is signed with it yet", file.display());
    if let Home::Token { .. } = home {
        println!("The file says where in the token the key is; the private key stays there.");
    }
    println!();
    println!(
        "next: copy the file to the keys folders of all replicas, when they do not share one, and to your backup;"
    );
    println!("      `sluice-server keys export > online-keys.json`, or GET /api/v1/online-keys;");
    println!("      `sluice-sign root rotate --repo DIR --online-keys online-keys.json`; holders sign; publish.");
    println!("The server signs with the new key from the moment of that publication on.");
    Ok(())
}

fn list(common: &Common, measure: bool) -> anyhow::Result<()> {
    let settings = settings(common)?;
    let keys = Keys::load(&settings.keys, false, Dice)?;
    let named = named_now(&settings)?;
    for one in keys.list(&named) {
        let key = one.key.public();
        println!("{:<12} {:<20} {} {}", one.role.name(), one.state.words(), key.keyid(), key.scheme());
        println!("             in {}", place(&one));
        if let (true, None, Some(key)) = (measure, &one.trouble, one.key.in_token()) {
            println!("             {} signatures a second", measured(key)?);
        }
    }
    if let Some(missing) = keys.missing(&named) {
        println!("{missing}");
    }
    for missing in keys.missing_of_branches(&named) {
        println!("{missing}");
    }
    Ok(())
}

fn place(one: &Listed) -> String {
    let file = one.file.display();
    match one.key.in_token() {
        None => file.to_string(),
        Some(key) => match &one.trouble {
            None => format!("{} ({file})", key.uri()),
            Some(trouble) => format!("{} ({file}), but {trouble}", key.uri()),
        },
    }
}

/// Signatures a second that a token makes, of messages that are no documents.
fn measured(key: &TokenKey) -> anyhow::Result<u64> {
    let (clock, made) = (Clock::default(), AtomicU64::new(0));
    let end = clock.now().plus_ms(MEASURE_MS);
    let work = || -> anyhow::Result<()> {
        while clock.now() < end {
            let number = made.fetch_add(1, Ordering::Relaxed);
            key.sign(format!("signature {number} of a measurement").as_bytes())
                .map_err(|error| anyhow!(error.whole()))?;
        }
        Ok(())
    };
    std::thread::scope(|threads| {
        let started: Vec<_> = (0..MEASURE_THREADS).map(|_| threads.spawn(work)).collect();
        started.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread died"))?)
    })?;
    Ok(made.into_inner() * 1000 / MEASURE_MS.unsigned_abs())
}
