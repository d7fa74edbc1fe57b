//! Writes the frozen sample of the signed documents, version 1, into a folder. It was run once; the files are kept as
//! they are, so that every later version of this library is tested against them.

#[path = "../tests/it/sample.rs"]
#[expect(dead_code, reason = "the tests use more of the sample than this writer does")]
mod sample;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(std::path::PathBuf::from) else {
        eprintln!("usage: freeze_tuf_v1 FOLDER");
        std::process::exit(2);
    };
    for (name, bytes) in sample::frozen_documents() {
        let file = folder.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, bytes)?;
    }
    Ok(())
}
