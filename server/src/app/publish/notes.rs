//! Release notes: a signed target in Markdown.

use sluice_catalog::{Digest, Kind};
use sluice_signer::publish::AcceptedTarget;

use crate::app::App;
use crate::error::{Error, Result};

/// Longest release notes.
const MAX_NOTES_LEN: u64 = 64 * 1024;
/// Longest header, characters.
const MAX_HEADER_LEN: usize = 200;

/// Header and body of the notes at a target path; empty when a release has none.
pub(super) async fn read(app: &App, targets: &[AcceptedTarget], path: Option<&str>) -> Result<(String, String)> {
    let Some(path) = path else { return Ok((String::new(), String::new())) };
    let unverified = |detail: String| Error::new(Kind::Unverified, detail);
    let target = targets
        .iter()
        .find(|target| target.target.path == path)
        .ok_or_else(|| unverified(format!("release notes {path} are not a signed target")))?;
    if target.target.length > MAX_NOTES_LEN {
        return Err(unverified(format!(
            "release notes {path}: {} bytes, at most {MAX_NOTES_LEN}",
            target.target.length
        )));
    }
    let bytes = app.blobs.read_all(Digest(target.target.sha256), MAX_NOTES_LEN).await?;
    let text = String::from_utf8(bytes).map_err(|_| unverified(format!("release notes {path} are no UTF-8 text")))?;
    Ok(split(&text))
}

/// The first line without its `#` is the header, the rest the body.
fn split(text: &str) -> (String, String) {
    let text = text.trim_start();
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let header = first.trim_start_matches('#').trim().chars().take(MAX_HEADER_LEN).collect();
    (header, rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_header() {
        assert_eq!(split("# 2.4.1\n\n- fixes\n"), ("2.4.1".into(), "- fixes".into()));
        assert_eq!(split(""), (String::new(), String::new()));
        assert_eq!(split("only"), ("only".into(), String::new()));
    }
}
