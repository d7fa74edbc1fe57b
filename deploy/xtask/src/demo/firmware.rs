//! The three images of the story: the version in the field, the feature release, and the security fix for the field.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Options;
use super::programs::Programs;

/// Length of the made-up firmware: large enough for several segments, small enough to watch.
const MADE_UP_LEN: &str = "4MiB";
/// Places that the security fix changes in a real image, bytes of each, and the distance between two.
const FIX_PLACES: usize = 24;
const FIX_LEN: usize = 16;

/// Paths, relative to the folder of the demo.
pub struct Firmware {
    /// What runs in the field.
    pub old: String,
    /// The feature release.
    pub new: String,
    /// The security fix for those who stay on the old train.
    pub fix: String,
    /// Where they come from, in words.
    pub source: String,
}

impl Firmware {
    /// Makes, fetches or takes the images.
    pub fn prepare(programs: &Programs<'_>, options: &Options) -> Result<Self> {
        let folder = programs.work().join("firmware");
        fs::create_dir_all(&folder)?;
        let (old, new, fix) = ("firmware/1.0.0.bin", "firmware/2.0.0.bin", "firmware/1.0.1.bin");
        let of = |source: String| Self { old: old.into(), new: new.into(), fix: fix.into(), source };
        if let Some(name) = &options.real {
            let said = programs.show(&["sluice-fixtures", "fetch", name, "--json"])?.json()?;
            let file = |side: &str| said[0][side].as_str().map(PathBuf::from).context("the fetched pair has two files");
            take(&file("old")?, &file("new")?, &folder)?;
            return Ok(of(format!("the real pair {name}")));
        }
        if let (Some(old), Some(new)) = (&options.old, &options.new) {
            take(old, new, &folder)?;
            return Ok(of(format!("{} and {}", old.display(), new.display())));
        }
        programs.show(&["sluice-fixtures", "image", "--seed", "1", "--len", MADE_UP_LEN, "--out", old])?;
        let evolve = ["sluice-fixtures", "evolve", "--in", old, "--seed"];
        programs.show(&[&evolve[..], &["2", "--change", "minor", "--out", new]].concat())?;
        programs.show(&[&evolve[..], &["3", "--change", "patchlevel", "--out", fix]].concat())?;
        Ok(of(format!("made-up firmware of {MADE_UP_LEN} with realistic structure")))
    }
}

/// Copies a given pair, and makes the security fix from its old side: the same image with a few places replaced, as a
/// fix that changes some instructions and constants.
fn take(old: &Path, new: &Path, folder: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let (mut image, new) = (read(old)?, read(new)?);
    ensure!(image != new, "old and new are the same image");
    fs::write(folder.join("1.0.0.bin"), &image)?;
    fs::write(folder.join("2.0.0.bin"), &new)?;
    fix(&mut image);
    fs::write(folder.join("1.0.1.bin"), &image)?;
    Ok(())
}

/// An image with a few places of another replaced, as a maintenance release that changes little.
pub fn patched(programs: &Programs<'_>, from: &str, to: &str) -> Result<String> {
    let mut image = fs::read(programs.work().join(from)).with_context(|| from.to_owned())?;
    fix(&mut image);
    fs::write(programs.work().join(to), &image).with_context(|| to.to_owned())?;
    Ok(to.to_owned())
}

fn fix(image: &mut [u8]) {
    let distance = (image.len() / FIX_PLACES).max(FIX_LEN);
    for (place, part) in image.chunks_mut(distance).enumerate() {
        for (at, byte) in part.iter_mut().take(FIX_LEN).enumerate() {
            *byte = byte.wrapping_mul(5).wrapping_add(u8::try_from((place * 37 + at * 11 + 1) % 256).unwrap_or(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_changes_little_and_keeps_the_length() {
        let old: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let mut fixed = old.clone();
        fix(&mut fixed);
        let changed = old.iter().zip(&fixed).filter(|(a, b)| a != b).count();
        assert!((1..1000).contains(&changed), "{changed}");
        let mut tiny = vec![7];
        fix(&mut tiny);
        assert_ne!(tiny, [7]);
    }
}
