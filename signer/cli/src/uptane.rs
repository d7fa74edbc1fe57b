//! `uptane`: what an ECU would do with a director and an image repository, decided by the verifier that devices have. It is how
//! the public Uptane test vectors are run against this program, so it reads documents of the old spelling too.
//!
//! Trusted documents are kept in `director/` and `image/` of the state folder, each as soon as it is trusted.

use crate::args::UptaneArgs;
use crate::client::Client;
use crate::failure::{self, Failure};
use crate::http::Http;
use crate::{edge, output};
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::uptane::{Assignment, assignments, confirm};
use sluice_signer::{Limits, Refresh, TrustedRepository, VerifyError, legacy};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

#[derive(Default, Serialize)]
struct Report {
    accepted: bool,
    /// Why not.
    error: Option<String>,
    director: Option<Versions>,
    image: Option<Versions>,
    /// What each ECU would install.
    ecus: Vec<Installs>,
}

#[derive(Serialize)]
struct Versions {
    root: u64,
    timestamp: Option<u64>,
    snapshot: Option<u64>,
    targets: Option<u64>,
}

#[derive(Serialize)]
struct Installs {
    ecu: String,
    hw_id: String,
    path: String,
    /// The role of the image repository that signed the image.
    role: String,
    length: u64,
    sha256: String,
    /// Whether the image itself was downloaded, and is the signed one.
    downloaded: bool,
}

/// `uptane`. Whatever keeps an ECU from installing is exit code 1, because those who run vectors know accepted or not.
pub fn run(args: &UptaneArgs, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    if args.ecu.len() != args.hw.len() {
        let message = format!("{} ECUs and {} hardware ids are given", args.ecu.len(), args.hw.len());
        return Err(Failure::refused(message, "give each --ecu its --hw"));
    }
    let vehicle: BTreeMap<String, String> = args.ecu.iter().cloned().zip(args.hw.iter().cloned()).collect();
    let mut report = Report::default();
    match verify(args, &vehicle, now, &mut report) {
        Ok(()) => report.accepted = true,
        Err(error) => {
            eprintln!("error: {error:#}");
            report.error = Some(format!("{error:#}"));
        }
    }
    output::print(json, &report, || text(&report))?;
    Ok(ExitCode::from(if report.accepted { 0 } else { failure::INCOMPLETE }))
}

fn text(report: &Report) -> String {
    if !report.accepted {
        return "refused".to_owned();
    }
    let mut lines = vec!["accepted".to_owned()];
    for ecu in &report.ecus {
        lines.push(format!("{}: {}, {} bytes, signed by {}", ecu.ecu, ecu.path, ecu.length, ecu.role));
    }
    lines.join("\n")
}

fn verify(
    args: &UptaneArgs,
    vehicle: &BTreeMap<String, String>,
    now: Timestamp,
    report: &mut Report,
) -> anyhow::Result<()> {
    let token = args.token_file.as_deref().map(edge::secret_file).transpose()?;
    let http = Http::new(token, args.timeout);
    let (director_folder, image_folder) = (args.state.join("director"), args.state.join("image"));

    let mut director = open(&director_folder, &args.director_url, &http, now).context("director")?;
    let before = director.trusted.targets("targets").cloned();
    let refreshed = director.refresh_but(Refresh::of_director(), Some("targets"));
    report.director = Some(versions(&director.trusted));
    let new_targets = refreshed.context("director")?;
    let offered = director.trusted.targets("targets").context("the director has no targets")?;
    let wanted = assignments(offered, vehicle, before.as_ref())?;
    if let Some(bytes) = new_targets {
        // Not before: release counters are compared with those of the last director's document that was good.
        director.keep("targets", &bytes)?;
    }

    let mut image = open(&image_folder, &args.image_url, &http, now).context("image repository")?;
    let refreshed = image.refresh(Refresh::new());
    report.image = Some(versions(&image.trusted));
    refreshed.context("image repository")?;
    for assignment in wanted.into_values() {
        report.ecus.push(install(args, &mut image, &http, assignment)?);
    }
    Ok(())
}

/// Takes up the trusted documents, or trusts the first root that the repository serves.
fn open<'a>(folder: &'a Path, url: &'a str, http: &'a Http, now: Timestamp) -> anyhow::Result<Client<'a>> {
    let mut client = match Client::open(folder, (url, http), now, legacy::trust)? {
        Some(client) => client,
        None => Client::trust(folder, &first_root(url, http)?, (url, http), now, legacy::trust)?,
    };
    // In the old spelling a version does not tell which of its documents it is.
    client.reuse_roles = false;
    Ok(client)
}

fn first_root(url: &str, http: &Http) -> anyhow::Result<Vec<u8>> {
    for file in ["1.root.json", "root.json"] {
        let url = format!("{}/{file}", url.trim_end_matches('/'));
        if let Some(bytes) = http.document(&url, Limits::default().root_bytes)? {
            return Ok(bytes);
        }
    }
    Err(VerifyError::Missing { role: "root".to_owned(), file: "1.root.json".to_owned() }.into())
}

fn install(args: &UptaneArgs, image: &mut Client<'_>, http: &Http, assignment: Assignment) -> anyhow::Result<Installs> {
    let found = image.find(&assignment.target.path).context("image repository")?;
    confirm(&assignment, found.as_ref())?;
    let target = assignment.target;
    if !args.no_images {
        http.check_target(&format!("{}/{}", targets_url(args), image.place(&target)), &target).context("image")?;
    }
    Ok(Installs {
        ecu: assignment.ecu,
        hw_id: assignment.hw_id,
        role: found.map(|found| found.role).unwrap_or_default(),
        length: target.length,
        sha256: hex::encode(target.sha256),
        path: target.path,
        downloaded: !args.no_images,
    })
}

fn targets_url(args: &UptaneArgs) -> String {
    match &args.targets_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let url = args.image_url.trim_end_matches('/');
            format!("{}/targets", url.strip_suffix("/metadata").unwrap_or(url))
        }
    }
}

fn versions(trusted: &TrustedRepository) -> Versions {
    Versions {
        root: trusted.root_version(),
        timestamp: trusted.timestamp_version(),
        snapshot: trusted.snapshot_version(),
        targets: trusted.targets("targets").map(|targets| targets.version),
    }
}
