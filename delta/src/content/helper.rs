//! Speaks to helper programs, each of which codes with one other version of Zstandard.
//!
//! ```text
//! helper: "SLZS" minor(u8) patch(u8)                                       once
//! caller: level(u8) flags(u8) window log(u8) 0(u8) length(u64) content     for each stream
//! helper: 0(u8) length(u64) coded, or 1(u8)
//! ```
//!
//! Integers are little-endian. A helper is a trusted program, but what it says is held against bounds all the same.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    error::{ContentError, malformed},
    recipe::{Zstd, ZstdVersion},
};

/// First bytes that a helper says.
const MAGIC: [u8; 4] = *b"SLZS";

/// The helper programs that are there. Copies share them.
#[derive(Clone, Default)]
pub struct Helpers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    programs: Vec<(ZstdVersion, PathBuf)>,
    /// Started, and not coding at the moment.
    idle: Mutex<Vec<Running>>,
}

struct Running {
    version: ZstdVersion,
    child: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Helpers {
    /// No helpers: only the linked version codes.
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts each program to learn its version.
    ///
    /// # Errors
    /// A program that does not start, or does not speak like a helper.
    pub fn start(programs: &[&Path]) -> Result<Self, ContentError> {
        let mut shared = Shared::default();
        let mut idle = Vec::new();
        for &program in programs {
            let running = Running::start(program)?;
            shared.programs.push((running.version, program.to_owned()));
            idle.push(running);
        }
        shared.idle = Mutex::new(idle);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The versions that can be coded with, apart from the linked one: what a device declares.
    pub fn versions(&self) -> impl Iterator<Item = ZstdVersion> {
        self.shared.programs.iter().map(|program| program.0)
    }

    /// Whether there is a helper of this version.
    pub(crate) fn have(&self, version: ZstdVersion) -> bool {
        self.versions().any(|known| known == version)
    }

    /// Codes `content`. Each thread that codes at the same time has a process of its own.
    pub(crate) fn encode(&self, recipe: Zstd, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        let mut running = self.take(recipe.version)?;
        running.encode(recipe, content, out)?;
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(running);
        Ok(())
    }

    fn take(&self, version: ZstdVersion) -> Result<Running, ContentError> {
        {
            let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = idle.iter().position(|running| running.version == version) {
                return Ok(idle.swap_remove(at));
            }
        }
        let program = self.shared.programs.iter().find(|program| program.0 == version);
        let program = program.ok_or(ContentError::Unavailable { name: "zstd", version: version.to_string() })?;
        Running::start(&program.1).and_then(|running| {
            if running.version == version { Ok(running) } else { Err(malformed("helper", "changed its version")) }
        })
    }
}

impl Running {
    fn start(program: &Path) -> Result<Self, ContentError> {
        let mut child =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or(malformed("helper", "has no output"))?;
        let mut running = Self { version: ZstdVersion { minor: 0, patch: 0 }, child, requests, answers };
        let mut hello = [0; 6];
        running.answers.read_exact(&mut hello)?;
        let [magic @ .., minor, patch] = hello;
        if magic != MAGIC {
            return Err(malformed("helper", "does not speak like one"));
        }
        running.version = ZstdVersion { minor, patch };
        Ok(running)
    }

    fn encode(&mut self, recipe: Zstd, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        let requests = self.requests.as_mut().ok_or(malformed("helper", "has no input"))?;
        requests.write_all(&[recipe.level, recipe.flags(), recipe.window_log, 0])?;
        requests.write_all(&(content.len() as u64).to_le_bytes())?;
        requests.write_all(content)?;
        requests.flush()?;
        let mut status = [0; 1];
        self.answers.read_exact(&mut status)?;
        if status != [0] {
            return Err(malformed("helper", "refuses the settings"));
        }
        let mut len = [0; 8];
        self.answers.read_exact(&mut len)?;
        let len = u64::from_le_bytes(len);
        // Zstandard adds a header and three bytes a block to what it cannot compress.
        let limit = content.len() as u64 + content.len() as u64 / 256 + 1024;
        if len > limit {
            return Err(ContentError::OverLimit { field: "coded length", value: len, limit });
        }
        let before = out.len();
        (&mut self.answers).take(len).read_to_end(out)?;
        if (out.len() - before) as u64 != len {
            return Err(malformed("helper", "ended in its answer"));
        }
        Ok(())
    }
}

impl Drop for Running {
    /// A helper ends when its input does.
    fn drop(&mut self) {
        self.requests = None;
        // It may be in the middle of an answer that nobody reads.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
