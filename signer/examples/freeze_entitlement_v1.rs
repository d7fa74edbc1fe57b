//! Writes the frozen certificates, version 1, into a folder. It was run once; the files are kept as they are.

#[path = "../tests/it/sample.rs"]
#[expect(dead_code, reason = "the tests use more of the sample than this writer does")]
mod sample;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(std::path::PathBuf::from) else {
        eprintln!("usage: freeze_entitlement_v1 FOLDER");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in sample::frozen_certificates() {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
