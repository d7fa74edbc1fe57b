//! `cargo xtask demo`: the whole story with the real programs as separate processes, exactly as a user would run them.
//!
//! Nothing here knows our libraries. What the demo claims at its end it computes itself: SHA-256 of every slot against
//! the digests that the holders signed, and each device's bucket in the rollout from the published formula.

mod canary;
mod ceremony;
mod firmware;
mod fleet;
mod programs;
mod proxy;
mod report;
mod server;
mod signed;
mod story;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::steps::Steps;
use programs::{Programs, Transcript};
use report::Report;

/// What to play.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// End after the story instead of keeping the server up.
    #[arg(long)]
    once: bool,
    /// Print the report as JSON on standard output; the transcript goes to standard error.
    #[arg(long)]
    json: bool,
    /// Take a real firmware pair, fetched by `sluice-fixtures fetch NAME`; without this nothing is downloaded.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["old", "new"])]
    real: Option<String>,
    /// Take this file as the version in the field.
    #[arg(long, value_name = "FILE", requires = "new")]
    old: Option<PathBuf>,
    /// Take this file as the new version.
    #[arg(long, value_name = "FILE", requires = "old")]
    new: Option<PathBuf>,
    /// Keep the server's data in this empty database instead of SQLite.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Keep images and patches in this bucket instead of a folder.
    #[arg(long, value_name = "URL")]
    blobs: Option<String>,
    /// How many devices.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(4..=64))]
    devices: u16,
    /// Work in this empty folder and keep it [default: a temporary one].
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Take the programs from this folder instead of building them.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Plays the story. Success only if every expectation holds.
pub fn run(steps: &Steps, options: &Options) -> Result<ExitCode> {
    let transcript = Transcript::new(options.json);
    let folder = Folder::new(options)?;
    transcript.say(&format!("Everything happens in {}", folder.path.display()));
    let programs = Programs::new(steps, transcript, options.programs.as_deref(), &folder.path)?;
    let mut report = Report::default();
    let played = story::play(&programs, options, &mut report);
    // What was learned before something broke is part of the answer.
    let server = match played {
        Ok(server) => server,
        Err(error) => {
            folder.keep();
            report.print(transcript, options.json)?;
            return Err(error.context("the story broke off"));
        }
    };
    report.print(transcript, options.json)?;
    if !report.holds() {
        folder.keep();
        bail!("not every expectation holds; look into the folder named above");
    }
    if !options.once {
        transcript.say(&format!(
            "\nThe server stays up at {}. In the folder above, try\n  \
             export SLUICE_CTL_CONFIG={}\n  \
             sluicectl device list\n\
             Control-C ends it.",
            server.url(),
            folder.path.join(story::ADMIN_CONFIG).display()
        ));
        server.wait(steps)?;
    }
    drop(server);
    folder.remove();
    Ok(ExitCode::SUCCESS)
}

/// The folder everything happens in.
struct Folder {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Folder {
    fn new(options: &Options) -> Result<Self> {
        if let Some(path) = &options.dir {
            fs::create_dir_all(path).with_context(|| path.display().to_string())?;
            if fs::read_dir(path)?.next().is_some() {
                bail!("{} is not empty: every run begins with nothing", path.display());
            }
            return Ok(Self { path: path.canonicalize()?, temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("sluice-demo-").tempdir().context("a temporary folder")?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    /// Something went wrong: whoever looks for the cause needs the files.
    fn keep(self) {
        if let Some(temporary) = self.temporary {
            eprintln!("the folder stays: {}", temporary.keep().display());
        }
    }

    fn remove(self) {
        if let Some(temporary) = self.temporary {
            // A file that cannot be removed from a temporary folder is no failure of the demo.
            drop(temporary.close());
        }
    }
}
