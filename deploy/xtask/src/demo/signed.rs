//! What the holders signed, and the sums that the demo does itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes hashed at a time.
const BLOCK_LEN: usize = 64 << 10;
/// Buckets that a rollout spreads devices over; one is a hundredth of a percent.
const BUCKETS: u64 = 10_000;

/// SHA-256 of a file, in hexadecimal, and its length.
pub fn sha256_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_LEN];
    let mut length = 0;
    loop {
        let count = file.read(&mut block).with_context(|| path.display().to_string())?;
        if count == 0 {
            return Ok((hex::encode(hasher.finalize()), length));
        }
        hasher.update(&block[..count]);
        length += count as u64;
    }
}

/// A signed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub length: u64,
}

/// The images of a product by version, from the newest document of its role in the repository folder: what the holders
/// signed on their machines, not what any server says.
pub fn images(repository: &Path, product: &str) -> Result<BTreeMap<String, Image>> {
    let folder = repository.join("metadata");
    let suffix = format!(".{product}.json");
    let mut newest: Option<u64> = None;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        newest = newest.max(name.strip_suffix(&suffix).and_then(|version| version.parse().ok()));
    }
    let version = newest.with_context(|| format!("{}: no document of {product}", folder.display()))?;
    let document = json_file(&folder.join(format!("{version}{suffix}")))?;
    let targets = document["signed"]["targets"].as_object().context("a targets document has targets")?;
    let mut images = BTreeMap::new();
    for (path, target) in targets {
        // Notes and other papers have no component.
        let (Some(version), Some(_)) = (target["custom"]["version"].as_str(), target["custom"]["component"].as_str())
        else {
            continue;
        };
        let sha256 = target["hashes"]["sha256"].as_str().with_context(|| format!("{path}: no SHA-256"))?.to_owned();
        let length = target["length"].as_u64().with_context(|| format!("{path}: no length"))?;
        images.insert(version.to_owned(), Image { sha256, length });
    }
    ensure!(!images.is_empty(), "{product} has no images");
    Ok(images)
}

/// How many signatures the newest document of a role carries.
pub fn signatures(document: &Path) -> Result<usize> {
    Ok(json_file(document)?["signatures"].as_array().map_or(0, Vec::len))
}

fn json_file(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// A device's bucket in a rollout: the first eight bytes, big-endian, of SHA-256(salt ‖ the cohort id's 16 bytes),
/// modulo 10,000. A device is in a stage when its bucket is below the stage's percentage times 100.
pub fn bucket(salt: &str, cohort_id: &str) -> Result<u64> {
    let cohort = hex::decode(cohort_id.replace('-', "")).context("a cohort id is a UUID")?;
    ensure!(cohort.len() == 16, "a cohort id is a UUID");
    let hash = Sha256::new().chain_update(salt).chain_update(cohort).finalize();
    let first = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok(first % BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same vectors as the server's.
    #[test]
    fn buckets_are_the_published_vectors() {
        let vectors = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/catalog/tests/bucket-vectors.txt"),
        )
        .unwrap();
        let mut seen = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(bucket(words[0], words[1]).unwrap(), words[2].parse::<u64>().unwrap(), "{line}");
            seen += 1;
        }
        assert!(seen > 4, "{seen}");
    }

    #[test]
    fn images_are_read_from_the_newest_document() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = folder.path().join("metadata");
        fs::create_dir(&metadata).unwrap();
        let write = |version: u32, targets: &Value| {
            let document = serde_json::json!({ "signed": { "targets": targets }, "signatures": [{}, {}] });
            fs::write(metadata.join(format!("{version}.cam.json")), document.to_string()).unwrap();
        };
        write(9, &serde_json::json!({}));
        write(
            10,
            &serde_json::json!({
                "cam/1.0/main.bin": {
                    "length": 5, "hashes": { "sha256": "aa" }, "custom": { "version": "1.0", "component": "main" },
                },
                "cam/1.0/notes.md": { "length": 1, "hashes": { "sha256": "bb" } },
            }),
        );
        let images = images(folder.path(), "cam").unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images["1.0"], Image { sha256: "aa".into(), length: 5 });
        assert_eq!(signatures(&metadata.join("10.cam.json")).unwrap(), 2);
    }
}
