//! Bringing an image into the inactive slot: by patch while it streams in, or whole. Nothing here can touch the slot that
//! runs.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest as _, Sha256};
use sluice_catalog::Digest;
use sluice_catalog::device::DecoderProfile;
use sluice_catalog::rollout::Failure;
use sluice_delta::{Applier, ApplyBudget, ApplyError, Head, Limits as PatchLimits};
use sluice_signer::director::{Delta, FullEncoding};

use crate::agent::Agent;
use crate::attempt::{Attempt, Encoding};
use crate::blob::{Blob, BlobFailure};
use crate::error::{AgentError, shown};
use crate::failpoint::failpoint;
use crate::offer::Plan;
use crate::slot;

/// Largest window of a zstd frame that is decoded, bytes. The format promises at most 8 MiB; a frame that claims more
/// would reserve memory by its own claim.
const MAX_ZSTD_WINDOW_BYTES: u64 = 8 << 20;
/// The name that documents give to the native patch container, version 1.
const PATCH_FORMAT: &str = "sluice-1";
/// Bytes copied at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// A slot that holds the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// How it came.
    pub encoding: Option<Encoding>,
    /// Bytes received.
    pub bytes: u64,
}

/// Why a slot does not hold the image.
#[derive(Debug)]
pub(crate) enum InstallError {
    /// The patch cannot be used; the full image can.
    Patch {
        /// Why.
        detail: String,
        /// Whether the patch is at fault. A budget or a damaged running slot is the device's own matter.
        at_fault: bool,
        /// Bytes received.
        bytes: u64,
    },
    /// The connection broke too often. What is in the slot is good to go on from.
    Interrupted {
        /// Bytes received.
        bytes: u64,
        /// Why.
        detail: String,
    },
    /// The URL is no longer good.
    Expired {
        /// Bytes received.
        bytes: u64,
    },
    /// It will not work by trying again.
    Failed {
        /// The class.
        failure: Failure,
        /// Why.
        detail: String,
        /// Bytes received.
        bytes: u64,
    },
    /// This machine failed, or was asked to stop.
    Local(AgentError),
}

impl From<AgentError> for InstallError {
    fn from(error: AgentError) -> Self {
        Self::Local(error)
    }
}

impl InstallError {
    fn patch(detail: impl Into<String>) -> Self {
        Self::Patch { detail: detail.into(), at_fault: true, bytes: 0 }
    }

    /// What a broken stream means. `None` when the stream is not what broke.
    fn of_blob(blob: &Blob<'_>) -> Option<Self> {
        let bytes = blob.received();
        Some(match blob.failure()?.clone() {
            BlobFailure::Unreachable(detail) => Self::Interrupted { bytes, detail },
            BlobFailure::Expired => Self::Expired { bytes },
            BlobFailure::Gone(detail) => Self::Failed { failure: Failure::DownloadFailed, detail, bytes },
            BlobFailure::WrongLength(detail) => {
                Self::Failed { failure: Failure::DigestMismatch, detail: format!("wrong length: {detail}"), bytes }
            }
            BlobFailure::Stopped => Self::Local(AgentError::Stopped),
        })
    }

    /// Trouble with a slot's file: no room ends the attempt, anything else is this machine's matter.
    fn of_slot(path: &Path, error: std::io::Error, bytes: u64) -> Self {
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
            return Self::Failed {
                failure: Failure::OutOfSpace,
                detail: format!("{}: {error}", path.display()),
                bytes,
            };
        }
        Self::Local(AgentError::io(path)(error))
    }
}

impl Agent<'_> {
    /// Brings the image into the attempt's slot by the best way left. The caller checked that the slot does not run.
    pub(crate) fn write_slot(&self, plan: &Plan, attempt: &Attempt) -> Result<Written, InstallError> {
        let path = slot::path(&self.state.slots(), &plan.component, plan.slot);
        if slot::digest(&path)? == Some((plan.to.length, plan.to.sha256)) {
            // A rollout that was paused before the switch, or a kill before the step was recorded.
            return Ok(Written { encoding: attempt.encoding, bytes: 0 });
        }
        match &plan.target.delta {
            Some(delta) if attempt.fallback.is_none() && self.config.profile != DecoderProfile::Raw => {
                self.write_patched(plan, delta, &path)
            }
            _ => self.write_full(plan, &path),
        }
    }

    fn url(plan: &Plan, sha256: [u8; 32]) -> Result<&str, InstallError> {
        plan.urls.get(&Digest(sha256)).map(String::as_str).ok_or_else(|| InstallError::Failed {
            failure: Failure::DownloadFailed,
            detail: format!("the server gave no URL for {}", Digest(sha256).short()),
            bytes: 0,
        })
    }

    fn write_patched(&self, plan: &Plan, delta: &Delta, path: &Path) -> Result<Written, InstallError> {
        let unusable = |detail: String| InstallError::Patch { detail, at_fault: false, bytes: 0 };
        if delta.format != PATCH_FORMAT {
            return Err(unusable(format!("its format is {}, known is {PATCH_FORMAT}", shown(&delta.format))));
        }
        if delta.from_sha256 != plan.from.sha256.0 {
            return Err(InstallError::patch(format!(
                "it starts from {}, running is {}",
                Digest(delta.from_sha256).short(),
                plan.from.sha256.short()
            )));
        }
        if delta.ram > u64::from(self.config.ram_budget) {
            return Err(unusable(format!(
                "it needs {} bytes of memory, given are {}",
                delta.ram, self.config.ram_budget
            )));
        }
        // The record is not enough: a worn slot would turn a good patch into a wrong image.
        let old_path = slot::path(&self.state.slots(), &plan.component, plan.slot.other());
        if slot::digest(&old_path)? != Some((plan.from.length, plan.from.sha256)) {
            return Err(unusable("the running slot no longer has the digest of its image".to_owned()));
        }
        let mut blob = Blob::new(&self.http, self.host, Self::url(plan, delta.sha256)?, delta.length, 0);
        let streamed = self.stream_patch(plan, delta, &mut blob, &old_path, path);
        let bytes = blob.received();
        match streamed {
            Ok(()) => Ok(Written { encoding: Some(Encoding::Patch), bytes }),
            Err(InstallError::Patch { detail, at_fault, .. }) => Err(InstallError::Patch { detail, at_fault, bytes }),
            Err(other) => Err(other),
        }
    }

    /// Reads the patch once, forwards: head, then each segment authenticated, decoded and written before the next is read.
    fn stream_patch(
        &self,
        plan: &Plan,
        delta: &Delta,
        blob: &mut Blob<'_>,
        old_path: &Path,
        path: &Path,
    ) -> Result<(), InstallError> {
        let mut old = File::open(old_path).map_err(AgentError::io(old_path))?;
        let head = read_head(blob, delta)?;
        failpoint("agent.patch.head");
        check_head(&head, delta, plan)?;

        let budget = ApplyBudget { ram: u64::from(self.config.ram_budget), scratch: 0 };
        let refused = |error: ApplyError| InstallError::patch(error.to_string());
        let mut applier = Applier::new(&head, budget).map_err(refused)?;
        let mut out = slot::open_for_writing(path)?;
        let point = applier.resume_point(&mut out).map_err(refused)?;
        if point.segments_done > 0 {
            (self.host.log)(&format!(
                "{} of {} segments are in the slot already",
                point.segments_done,
                head.segments.len()
            ));
        }
        out.set_len(point.new_offset)
            .and_then(|()| out.seek(SeekFrom::Start(point.new_offset)))
            .map_err(|error| InstallError::of_slot(path, error, blob.received()))?;
        // `Applier::new` held the lead and every segment against the memory budget.
        let mut coded = Vec::with_capacity(head.longest_coded());
        if let Some(lead) = &head.lead {
            coded.resize(lead.coded_len as usize, 0);
            if blob.read_exact(&mut coded).is_err() {
                return Err(patch_stream_broke(blob));
            }
            applier.lead(&coded).map_err(refused)?;
        }
        blob.seek_to(point.patch_offset);
        for (index, segment) in (0u32..).zip(&head.segments).skip(point.segments_done as usize) {
            coded.resize(segment.coded_len as usize, 0);
            if blob.read_exact(&mut coded).is_err() {
                return Err(patch_stream_broke(blob));
            }
            match applier.segment(index, &coded, &mut old, &mut out) {
                Ok(()) => failpoint("agent.patch.segment"),
                Err(ApplyError::WriteNew(error)) => return Err(InstallError::of_slot(path, error, blob.received())),
                Err(ApplyError::ReadOld(error)) => return Err(AgentError::io(old_path)(error).into()),
                Err(error) => return Err(refused(error)),
            }
        }
        applier.finish().map_err(refused)?;
        seal(plan, &out, path, blob.received(), true)
    }

    fn write_full(&self, plan: &Plan, path: &Path) -> Result<Written, InstallError> {
        let full = &plan.target.full;
        let url = Self::url(plan, full.sha256)?;
        let mut out = slot::open_for_writing(path)?;
        match full.encoding {
            FullEncoding::Raw => {
                if full.sha256 != plan.target.sha256 || full.length != plan.target.length {
                    return Err(InstallError::Failed {
                        failure: Failure::DigestMismatch,
                        detail: "the director calls something else the raw image".to_owned(),
                        bytes: 0,
                    });
                }
                let resumed = self.write_raw(plan, url, &mut out, path)?;
                let sealed = seal(plan, &out, path, resumed.bytes, false);
                if resumed.from > 0 && matches!(sealed, Err(InstallError::Failed { .. })) {
                    // The part from before the interruption may not have survived it; one try from the beginning.
                    (self.host.log)("the resumed image has a wrong digest; once more from the beginning");
                    out.set_len(0).map_err(|error| InstallError::of_slot(path, error, resumed.bytes))?;
                    let again = self.write_raw(plan, url, &mut out, path)?;
                    let bytes = resumed.bytes + again.bytes;
                    seal(plan, &out, path, bytes, false)?;
                    return Ok(Written { encoding: Some(Encoding::Raw), bytes });
                }
                sealed?;
                Ok(Written { encoding: Some(Encoding::Raw), bytes: resumed.bytes })
            }
            FullEncoding::Zstd if self.config.profile == DecoderProfile::Raw => Err(InstallError::Failed {
                failure: Failure::Other,
                detail: "offered is zstd, this device takes raw images only".to_owned(),
                bytes: 0,
            }),
            FullEncoding::Zstd => {
                let bytes = self.write_zstd(plan, url, &mut out, path)?;
                seal(plan, &out, path, bytes, false)?;
                Ok(Written { encoding: Some(Encoding::Zstd), bytes })
            }
        }
    }

    /// Writes the raw image, going on behind what the slot has already; the digest is checked over all of it.
    fn write_raw(&self, plan: &Plan, url: &str, out: &mut File, path: &Path) -> Result<Resumed, InstallError> {
        let slot_error = |error| InstallError::of_slot(path, error, 0);
        let have = out.metadata().map_err(slot_error)?.len();
        let from = if have < plan.target.length { have } else { 0 };
        out.set_len(from).and_then(|()| out.seek(SeekFrom::Start(from))).map_err(slot_error)?;
        let mut blob = Blob::new(&self.http, self.host, url, plan.target.length, from);
        copy(&mut blob, out, path)?;
        Ok(Resumed { from, bytes: blob.received() })
    }

    /// Decodes one zstd frame into the slot while it comes in. Decoding restarts after a kill: the decoder's state is gone.
    fn write_zstd(&self, plan: &Plan, url: &str, out: &mut File, path: &Path) -> Result<u64, InstallError> {
        let full = &plan.target.full;
        out.set_len(0)
            .and_then(|()| out.seek(SeekFrom::Start(0)))
            .map_err(|error| InstallError::of_slot(path, error, 0))?;
        let mut source = Hashing { blob: Blob::new(&self.http, self.host, url, full.length, 0), hash: Sha256::new() };
        let mismatch = |detail: String, bytes| InstallError::Failed { failure: Failure::DigestMismatch, detail, bytes };
        let mut written = 0u64;
        let decoded: Result<(), String> = (|| {
            let mut decoder = StreamingDecoder::new_with_max_window_size(&mut source, MAX_ZSTD_WINDOW_BYTES)
                .map_err(|error| error.to_string())?;
            let mut block = vec![0; BLOCK_BYTES];
            loop {
                let read = decoder.read(&mut block).map_err(|error| error.to_string())?;
                if read == 0 {
                    return Ok(());
                }
                written += read as u64;
                if written > plan.target.length {
                    return Err(format!("it decodes to more than the signed {} bytes", plan.target.length));
                }
                // A storage error is told apart below by what the stream says.
                out.write_all(block.get(..read).unwrap_or_default()).map_err(|error| error.to_string())?;
                failpoint("agent.full.part");
            }
        })();
        let bytes = source.blob.received();
        if let Some(broken) = InstallError::of_blob(&source.blob) {
            return Err(broken);
        }
        if let Err(detail) = decoded {
            // What was written so far tells a full storage from a bad frame.
            return Err(match out.flush().and_then(|()| out.sync_data()) {
                Err(error) => InstallError::of_slot(path, error, bytes),
                Ok(()) => mismatch(format!("zstd: {detail}"), bytes),
            });
        }
        if source.blob.position() != full.length {
            return Err(mismatch("zstd: the frame ends before the signed length".to_owned(), bytes));
        }
        if source.hash.finalize()[..] != full.sha256 {
            return Err(mismatch("the download does not have the signed digest".to_owned(), bytes));
        }
        Ok(bytes)
    }
}

/// Makes the slot durable and reads it back: only an image whose digest offline keys signed may ever boot.
fn seal(plan: &Plan, out: &File, path: &Path, bytes: u64, patched: bool) -> Result<(), InstallError> {
    out.sync_all().map_err(|error| InstallError::of_slot(path, error, bytes))?;
    failpoint("agent.slot.written");
    if slot::digest(path)? == Some((plan.to.length, plan.to.sha256)) {
        return Ok(());
    }
    let detail = "the image in the slot does not have the digest that offline keys signed".to_owned();
    if patched {
        return Err(InstallError::patch(detail));
    }
    Err(InstallError::Failed { failure: Failure::DigestMismatch, detail, bytes })
}

struct Resumed {
    from: u64,
    bytes: u64,
}

/// Reads the head of a patch and holds it against the signed length and digest before a byte of it is parsed.
fn read_head(blob: &mut Blob<'_>, delta: &Delta) -> Result<Head, InstallError> {
    let limits = PatchLimits::default();
    let length = u32::try_from(delta.head_length).unwrap_or(u32::MAX);
    if length > limits.max_head_len {
        return Err(InstallError::patch(format!(
            "its head has {length} bytes, over the limit of {}",
            limits.max_head_len
        )));
    }
    let mut bytes = vec![0; length as usize];
    if blob.read_exact(&mut bytes).is_err() {
        return Err(patch_stream_broke(blob));
    }
    if Sha256::digest(&bytes)[..] != delta.head_sha256 {
        return Err(InstallError::patch("its head does not have the signed digest"));
    }
    Head::parse(&bytes, &limits).map_err(|error| InstallError::patch(error.to_string()))
}

/// Holds what the head says against what both repositories signed.
fn check_head(head: &Head, delta: &Delta, plan: &Plan) -> Result<(), InstallError> {
    let rules = [
        (head.old_sha256 == plan.from.sha256.0 && head.old_len == plan.from.length, "starts from another image"),
        (head.new_sha256 == plan.to.sha256.0 && head.new_len == plan.to.length, "makes another image"),
        (head.patch_len() == delta.length, "has another length than was signed"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(InstallError::patch(format!("the patch {rule}"))),
        None => Ok(()),
    }
}

/// A patch that the server does not give, or not as signed, is no reason to fail the update. One that is gone is not
/// wrong: only what was signed and came differently is told as a mismatch.
fn patch_stream_broke(blob: &Blob<'_>) -> InstallError {
    match InstallError::of_blob(blob) {
        Some(InstallError::Failed { failure, detail, bytes }) => {
            InstallError::Patch { detail, at_fault: failure == Failure::DigestMismatch, bytes }
        }
        Some(other) => other,
        None => InstallError::patch("the patch ended early"),
    }
}

fn copy(blob: &mut Blob<'_>, out: &mut File, path: &Path) -> Result<(), InstallError> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = match blob.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) => {
                return Err(
                    InstallError::of_blob(blob).unwrap_or_else(|| InstallError::of_slot(path, error, blob.received()))
                );
            }
        };
        out.write_all(block.get(..read).unwrap_or_default())
            .map_err(|error| InstallError::of_slot(path, error, blob.received()))?;
        failpoint("agent.full.part");
    }
}

/// Hashes what passes through.
struct Hashing<'b> {
    blob: Blob<'b>,
    hash: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.blob.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}
