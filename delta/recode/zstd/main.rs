//! Codes content with one exact version of Zstandard, as a helper of `sluice-delta`.
//!
//! The output of Zstandard changes between releases, and a program can link only one. Each release that firmware was made
//! with therefore has a program of its own; `delta/src/content/helper.rs` describes what goes over its pipes.

use std::io::{self, ErrorKind, Read, Write, stdin, stdout};

use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// Longest content: as the caller's `MAX_WHOLE_LEN`.
const MAX_CONTENT: usize = 128 << 20;

fn main() -> io::Result<()> {
    let (mut requests, mut answers) = (stdin().lock(), stdout().lock());
    let number = zstd_safe::version_number();
    answers.write_all(&[b'S', b'L', b'Z', b'S', (number / 100 % 100) as u8, (number % 100) as u8])?;
    answers.flush()?;
    loop {
        let mut request = [0; 12];
        match requests.read_exact(&mut request) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        let [level, flags, window_log, _, len @ ..] = request;
        let too_long = || io::Error::new(ErrorKind::InvalidInput, "the content is too long");
        let len =
            usize::try_from(u64::from_le_bytes(len)).ok().filter(|&len| len <= MAX_CONTENT).ok_or_else(too_long)?;
        let mut content = vec![0; len];
        requests.read_exact(&mut content)?;
        match encode(i32::from(level), flags, u32::from(window_log), &content) {
            Ok(coded) => {
                answers.write_all(&[0])?;
                answers.write_all(&(coded.len() as u64).to_le_bytes())?;
                answers.write_all(&coded)?;
            }
            Err(_) => answers.write_all(&[1])?,
        }
        answers.flush()?;
    }
}

/// Flags: bits 0 and 1 the mode (whole, stream, jobs), then checksum, content size, long-distance matching.
fn encode(level: i32, flags: u8, window_log: u32, content: &[u8]) -> Result<Vec<u8>, usize> {
    let mode = flags & 3;
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level))?;
    context.set_parameter(CParameter::ChecksumFlag(flags & 4 != 0))?;
    context.set_parameter(CParameter::ContentSizeFlag(flags & 8 != 0))?;
    if window_log > 0 {
        context.set_parameter(CParameter::WindowLog(window_log))?;
    }
    if flags & 16 != 0 {
        context.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    if mode == 0 {
        context.compress2(&mut coded, content)?;
        return Ok(coded);
    }
    if mode == 2 {
        context.set_parameter(CParameter::NbWorkers(1))?;
    }
    if flags & 8 != 0 {
        context.set_pledged_src_size(Some(content.len() as u64))?;
    }
    let mut input = InBuffer::around(content);
    {
        let mut output = OutBuffer::around(&mut coded);
        while input.pos < content.len() {
            context.compress_stream(&mut output, &mut input)?;
        }
        while context.end_stream(&mut output)? > 0 {}
    }
    Ok(coded)
}
