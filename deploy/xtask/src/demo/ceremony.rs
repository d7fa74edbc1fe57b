//! What the three holders do: keys, roots, signatures, releases.

use std::fs;

use anyhow::{Context, Result};

use super::programs::Programs;
use super::report::Report;
use super::server::Server;
use super::signed;
use super::story::exit;

/// The product line and its hardware.
pub const PRODUCT: &str = "acme-cam";
pub const HARDWARE: &str = "cam-r3";
/// The repository folder.
pub const REPO: &str = "repo";
/// The token that may publish.
pub const PUBLISH_TOKEN: &str = "release-desk.token";
/// Two of them sign.
pub const HOLDERS: [&str; 3] = ["holder-1", "holder-2", "holder-3"];
const KEYS: [&str; 4] = ["root", "targets", "director", PRODUCT];

/// Keys, both roots, the product's delegation; signed by the first two holders.
pub fn trust(programs: &Programs<'_>, report: &mut Report) -> Result<()> {
    programs.act("Three holders make their keys, each on a machine of their own; two signatures will be needed");
    for holder in HOLDERS {
        let folder = format!("holders/{holder}");
        fs::create_dir_all(programs.work().join(&folder))?;
        let passphrase = format!("{folder}/passphrase");
        fs::write(programs.work().join(&passphrase), format!("the passphrase of {holder}\n"))?;
        for key in KEYS {
            let name = format!("{holder}-{key}");
            let command = ["sluice-sign", "key", "new", &name, "--out", &folder, "--passphrase-file", &passphrase];
            // One shows how.
            if holder == HOLDERS[0] && key == KEYS[0] {
                programs.show(&command)?
            } else {
                programs.quiet(&command)?
            };
        }
    }
    programs.say(&format!("    … and {} more keys: every key is for one role only", HOLDERS.len() * KEYS.len() - 1));
    let public = |key: &str| HOLDERS.map(|holder| format!("holders/{holder}/{holder}-{key}.pub"));
    let mut init = vec!["sluice-sign", "root", "init", "--repo", REPO, "--online-keys", "online-keys.json"];
    let (root, targets, director) = (public("root"), public("targets"), public("director"));
    for (flag, files) in [("--holder", &root), ("--targets-holder", &targets), ("--director-holder", &director)] {
        init.extend(files.iter().flat_map(|file| [flag, file.as_str()]));
    }
    init.extend(["--threshold", "2"]);
    programs.show(&init)?;
    let product = public(PRODUCT);
    let mut delegate = vec!["sluice-sign", "delegate", "add", "--repo", REPO, "--product", PRODUCT];
    delegate.extend(product.iter().flat_map(|file| ["--holder", file.as_str()]));
    delegate.extend(["--threshold", "2"]);
    programs.show(&delegate)?;

    for key in KEYS {
        sign(programs, HOLDERS[0], key, key == "root")?;
    }
    let half = programs.run(&["sluice-sign", "verify", "--repo", REPO])?;
    report.expect("one signature of two is not enough", half.code == Some(1), exit(half.code));
    for key in KEYS {
        sign(programs, HOLDERS[1], key, key == "root")?;
    }
    let whole = programs.show(&["sluice-sign", "verify", "--repo", REPO])?;
    report.expect("with the second holder's signatures the trust stands", whole.code == Some(0), exit(whole.code));
    Ok(())
}

/// A holder's key signs whatever is staged for it.
pub fn sign(programs: &Programs<'_>, holder: &str, key: &str, shown: bool) -> Result<()> {
    let key = format!("holders/{holder}/{holder}-{key}.key");
    let passphrase = format!("holders/{holder}/passphrase");
    let command = ["sluice-sign", "sign", "--repo", REPO, "--key", &key, "--passphrase-file", &passphrase, "--yes"];
    if shown {
        programs.show(&command)?
    } else {
        programs.quiet(&command)?
    };
    Ok(())
}

/// Stages a release with its notes.
pub fn release(programs: &Programs<'_>, version: &str, order: &str, image: &str, facts: &[&str]) -> Result<()> {
    let component = format!("main={image}");
    let notes = format!("firmware/{version}.md");
    fs::write(programs.work().join(&notes), format!("# Acme Cam {version}\n\nWhat is new in {version}.\n"))?;
    let mut command = vec!["sluice-sign", "release", "new", "--repo", REPO, "--product", PRODUCT];
    command.extend(["--version", version, "--order", order, "--hw-id", HARDWARE, "--notes", &notes]);
    command.extend(["--component", &component]);
    command.extend(facts);
    programs.show(&command)?;
    Ok(())
}

/// Sends everything complete to the server.
pub fn publish(programs: &Programs<'_>, server: &Server) -> Result<()> {
    programs.show(&[
        "sluice-sign",
        "publish",
        "--repo",
        REPO,
        "--server",
        server.url(),
        "--token-file",
        PUBLISH_TOKEN,
    ])?;
    Ok(())
}

/// Two holders sign a staged release on machines without the repository; their signatures travel as files.
pub fn sign_detached(programs: &Programs<'_>, version: &str, holders: [&str; 2]) -> Result<()> {
    fs::create_dir_all(programs.work().join("usb"))?;
    let request = format!("usb/{version}.fwreq");
    programs.show(&["sluice-sign", "request", "--repo", REPO, "--out", &request])?;
    let mut merge = vec!["sluice-sign", "merge", "--repo", REPO];
    let files = holders.map(|holder| format!("usb/{holder}.fwsig"));
    for (holder, out) in std::iter::zip(holders, &files) {
        let key = format!("holders/{holder}/{holder}-{PRODUCT}.key");
        let passphrase = format!("holders/{holder}/passphrase");
        let mut command = vec!["sluice-sign", "sign", "--request", &request, "--out", out, "--key", &key];
        command.extend(["--passphrase-file", &passphrase, "--yes"]);
        programs.show(&command)?;
    }
    programs.say("They merge in any order:");
    merge.extend(files.iter().rev().map(String::as_str));
    programs.show(&merge)?;
    Ok(())
}

/// Signatures on the newest document of the product's role.
pub fn newest_signatures(programs: &Programs<'_>) -> Result<usize> {
    let folder = programs.work().join(REPO).join("metadata");
    let newest = (1_u32..)
        .map(|version| folder.join(format!("{version}.{PRODUCT}.json")))
        .skip_while(|path| !path.exists())
        .take_while(|path| path.exists())
        .last()
        .context("no document of the product")?;
    signed::signatures(&newest)
}
