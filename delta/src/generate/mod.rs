//! Making patches: blocks that both images share, an index of what is left of the old one, then every segment of the new image
//! by itself.
//!
//! Segments are independent, so they go through rayon and the patch is the same for any number of threads.

#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "offsets of images that fit in memory are far below 2^63, and a shift applied to its own interval is not negative"
)]

mod blocks;
#[cfg(feature = "foreign")]
mod bsdiff40;
mod buckets;
mod candidates;
mod changes;
mod encode;
mod full;
mod head;
mod index;
mod layout;
mod lookup;
mod lzma;
mod matcher;
mod memory;
mod mixer;
#[cfg(test)]
mod noise;
mod options;
mod parse;
mod pieces;
mod samples;
mod segment;
mod views;
#[cfg(feature = "foreign")]
mod zstd_prefix;

use std::{
    ops::{ControlFlow, Range},
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

#[cfg(feature = "foreign")]
pub use self::{bsdiff40::write_bsdiff40, zstd_prefix::write_zstd};
use self::{changes::Changes, layout::Layout};
pub use self::{
    full::{Full, FullEncoding, FullOptions, best_full},
    options::{DiffOptions, Phase, Profile, Progress, UnknownProfile},
};
use crate::{
    apply::memory::{further, sum as memory_of},
    content::{ContentError, Plan},
    error::DiffError,
    head::{Head, Segment},
    limits::{ApplyBudget, Limits, MAX_SEGMENT_LEN, MAX_SEGMENTS, MIN_SEGMENT_SHIFT},
    mcu,
    views::Views,
};

/// Longest old image the generator takes: it is held in memory.
const MAX_OLD_LEN: u64 = 1 << 33;

/// How often views are matched again with what is known of moves. A second time gains 0.7 % on an executable and 0.9 % on
/// programs in a file system; a third time gains a third of that, and each takes as long as the first.
const LOOKS: usize = 2;

/// Bytes of the new image that are matched at once where a format has no segments of its own.
#[cfg(feature = "foreign")]
const MATCHED_AT_ONCE: u32 = 4 << 20;

/// Longest new image the generator takes: it is held in memory.
const MAX_NEW_LEN: u64 = 1 << 33;

/// A patch, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The whole patch.
    pub bytes: Vec<u8>,
    /// Its first `head_len` bytes are the head.
    pub head_len: u32,
    /// What the head says.
    pub head: Head,
}

impl Patch {
    /// SHA-256 of the head: what a director signs together with `head_len`.
    pub fn head_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes[..self.head_len as usize]).into()
    }
}

/// Makes the patch that turns `old` into `new`, on the threads of the current rayon pool.
///
/// `progress` is called from any thread, in any order within a phase; [`ControlFlow::Break`] cancels.
///
/// # Errors
/// Inputs or options out of range, a patch that would need more than the budget, or cancelled.
pub fn diff(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Patch, DiffError> {
    // A microcontroller counts in 32 bits.
    let most = if options.profile == Profile::Mcu { u64::from(u32::MAX) } else { u64::MAX };
    check_lengths(old, new, most)?;
    let segment_len = segment_len(new.len() as u64, options)?;
    let report = Report::new(progress, new);
    if options.inside && options.profile.unfolds() {
        report.phase(Phase::Contents)?;
        if let Some(built) = views::build(old, new, options) {
            report.total.store(built.views.new_len, Ordering::Relaxed);
            let views::Built { views, old: old_view, new: new_view, layouts, coded } = built;
            let images = Images { old, new, old_view: &old_view, new_view: &new_view };
            match patch(&images, views, layouts, &coded, segment_len, options, &report) {
                // What the device cannot unfold stays as it is.
                Err(DiffError::OverBudget { .. }) => {}
                made => return made,
            }
            report.total.store(new.len() as u64, Ordering::Relaxed);
        }
    }
    let views = Views::plain(old.len() as u64, new.len() as u64);
    let images = Images { old, new, old_view: old, new_view: new };
    patch(&images, views, None, &[], segment_len, options, &report)
}

/// Both images, and what segments see of them.
struct Images<'a> {
    old: &'a [u8],
    new: &'a [u8],
    old_view: &'a [u8],
    new_view: &'a [u8],
}

impl Images<'_> {
    fn part(&self, cut: &Range<u64>) -> &[u8] {
        &self.new_view[cut.start as usize..cut.end as usize]
    }
}

/// Makes a patch between views, whose programs `layouts` tell unless the views are the images. `coded` are ranges of the old
/// view that resemble nothing but themselves.
fn patch(
    images: &Images<'_>,
    mut views: Views,
    layouts: Option<[Layout; 2]>,
    coded: &[Range<usize>],
    segment_len: u32,
    options: &DiffOptions,
    report: &Report<'_>,
) -> Result<Patch, DiffError> {
    let cuts = segment::cuts(&views, segment_len);
    let profile = options.profile;
    let sampled_from = profile.sampled_from();
    let work = Work { cuts: &cuts, coded, sampled_from, memory: options.memory, report };
    let mut pieces = work.pieces(images.old_view, images.new_view)?;
    let mut mixer = profile.mix(images.new_view.len()).filter(|_| !cuts.is_empty()).map(|params| {
        let layouts = layouts.unwrap_or_else(|| [images.old_view, images.new_view].map(Layout::plain));
        mixer::Mixer::new(layouts, [images.old_view.len(), images.new_view.len()], params, profile)
    });
    if let Some(mixer) = &mut mixer {
        for _ in 0..LOOKS {
            // What is known of moves after one look makes moved code the same bytes for the next.
            mixer.moved(&pieces, cuts.iter().map(|cut| cut.start));
            let (old, new) = mixer.normalised(images.old_view, images.new_view);
            for (pieces, next) in pieces.iter_mut().zip(work.pieces(&old, &new)?) {
                // What is taken for references and is none makes matches worse.
                if segment::literals(&next) <= segment::literals(pieces) {
                    *pieces = next;
                }
            }
        }
    }
    report.phase(Phase::Code)?;
    let (old_view, kept) = views::prune(&mut views, images.old_view, &mut pieces);
    if let Some(kept) = kept {
        mixer = mixer.map(|mixer| mixer.pruned(&kept));
    }
    if let Some(mixer) = &mut mixer {
        let starts = cuts.iter().map(|cut| cut.start);
        let changes = Changes::new(&old_view, images.new_view, &pieces, starts);
        mixer.only_changed([old_view.len(), images.new_view.len()], &changes);
        mixer.moved(&pieces, cuts.iter().map(|cut| cut.start));
    }
    let lead = mixer.as_ref().map(|mixer| segment::lead(&pieces, &cuts, views.old_len, mixer, profile)).transpose()?;
    let code = |(cut, pieces): (&Range<u64>, &Vec<parse::Piece>)| {
        report.beat()?;
        let coded = match &mixer {
            None => segment::code(&old_view, images.part(cut), cut.start, pieces, profile)?,
            Some(mixer) => segment::code_mixed(&old_view, images.part(cut), cut.start, pieces, mixer, profile)?,
        };
        report.add(cut.end - cut.start)?;
        Ok(coded)
    };
    // One by one: a segment takes long enough, and no thread is left with several at the end.
    let coded = || cuts.par_iter().zip(&pieces).with_max_len(1).map(code).collect::<Result<Vec<_>, DiffError>>();
    let hash = |image| Sha256::digest(image).into();
    let (coded, (old_sha256, new_sha256)) =
        rayon::join(coded, || rayon::join(|| hash(images.old), || hash(images.new)));
    let coded = coded?;
    let (mix, map) = mixer.map(|mixer| (mixer.params, mixer.bound)).unzip();
    let map = map.flatten();

    let (lead, lead_bytes) = lead.unzip();
    let segments = table(&cuts, &coded, &views, images.new);
    let own = memory_of(&segments, lead.as_ref(), mix, &views);
    let own = if profile == Profile::Mcu { size_of::<mcu::Memory>() as u64 } else { own };
    let needs = needs(&views, own, options.budget)?;
    let uniform = cuts.iter().rev().skip(1).all(|cut| cut.end - cut.start == u64::from(segment_len));
    let draft = head::Draft {
        old_len: images.old.len() as u64,
        old_sha256,
        new_len: images.new.len() as u64,
        new_sha256,
        coded_views: if views.is_plain() { None } else { Some(segment::code_views(&views)?) },
        ram: needs.ram,
        ram_per_thread: further(&segments, mix, &views) + needs.ram - own,
        scratch: needs.scratch,
        mix,
        map,
        lead,
        segments: &segments,
        segment_shift: uniform.then_some(segment_len.trailing_zeros() as u8),
    };
    let mut bytes = draft.encode();
    let head = Head::parse(&bytes, &Limits::default())
        .map_err(|error| DiffError::Internal { stage: "head", reason: error.to_string() })?;
    bytes.extend(lead_bytes.unwrap_or_default());
    for coded in &coded {
        bytes.extend_from_slice(&coded.bytes);
    }
    Ok(Patch { bytes, head_len: head.head_len, head })
}

/// How the views are matched.
struct Work<'a> {
    cuts: &'a [Range<u64>],
    coded: &'a [Range<usize>],
    sampled_from: usize,
    memory: Option<u64>,
    report: &'a Report<'a>,
}

impl Work<'_> {
    /// Where each byte of each segment comes from. The views may be normalised ones.
    fn pieces(&self, old: &[u8], new: &[u8]) -> Result<Vec<Vec<parse::Piece>>, DiffError> {
        let Self { cuts, coded, sampled_from, memory, report } = *self;
        report.phase(Phase::Blocks)?;
        let input = matcher::Input { old, new, leave_out: coded, cuts, sampled_from, memory };
        let matcher = matcher::Matcher::new(&input, report)?;
        report.phase(Phase::Segments)?;
        let of_segment = |(number, cut): (usize, &Range<u64>)| {
            report.beat()?;
            let part = &new[cut.start as usize..cut.end as usize];
            let pieces = segment::pieces(&matcher, number, part, cut.start, &|| report.beat())?;
            report.add(cut.end - cut.start)?;
            Ok(pieces)
        };
        cuts.par_iter().enumerate().with_max_len(1).map(of_segment).collect()
    }
}

/// What applying takes, which must be within the budget: `own`, and what reading old contents takes.
fn needs(views: &Views, own: u64, budget: ApplyBudget) -> Result<ApplyBudget, DiffError> {
    let over = |resource, needed, budget| DiffError::OverBudget { resource, needed, budget };
    let left = budget.ram.checked_sub(own).ok_or(over("memory", own, budget.ram))?;
    let left = ApplyBudget { ram: left, scratch: budget.scratch };
    match Plan::new(views.old_image_len(), &views.old_streams(), left) {
        Ok(plan) => Ok(ApplyBudget { ram: own + plan.ram, scratch: plan.scratch }),
        Err(ContentError::OverLimit { field: "scratch", value, .. }) => Err(over("scratch", value, budget.scratch)),
        Err(ContentError::OverLimit { value, .. }) => Err(over("memory", own + value, budget.ram)),
        Err(error) => Err(DiffError::Internal { stage: "old contents", reason: error.to_string() }),
    }
}

/// The segment table, but for places in the patch.
fn table(cuts: &[Range<u64>], coded: &[segment::Coded], views: &Views, new: &[u8]) -> Vec<Segment> {
    let mut resume_from = 0;
    let entry = |(cut, coded): (&Range<u64>, &segment::Coded)| {
        let image_end = views.image_offset(cut.end);
        let check = image_end.map(|end| {
            let mut check = [0; 8];
            check.copy_from_slice(&Sha256::digest(&new[resume_from as usize..end as usize])[..8]);
            resume_from = end;
            check
        });
        Segment {
            new_offset: cut.start,
            len: (cut.end - cut.start) as u32,
            patch_offset: 0,
            coded_len: coded.bytes.len() as u32,
            streams: coded.streams.clone(),
            coded_sha256: head::authenticator(&coded.bytes),
            image_end,
            check,
        }
    };
    cuts.iter().zip(coded).map(entry).collect()
}

/// What the matcher can hold, and the reader of the format, which takes `most` bytes.
fn check_lengths(old: &[u8], new: &[u8], most: u64) -> Result<(), DiffError> {
    for (image, len, limit) in [("old", old.len() as u64, MAX_OLD_LEN), ("new", new.len() as u64, MAX_NEW_LEN)] {
        let limit = limit.min(most);
        if len > limit {
            return Err(DiffError::TooLong { image, len, limit });
        }
    }
    Ok(())
}

/// The segment length to cut with: what was asked for, or by the size of the image.
fn segment_len(new_len: u64, options: &DiffOptions) -> Result<u32, DiffError> {
    let min = 1u32 << MIN_SEGMENT_SHIFT;
    if let Some(len) = options.segment_len {
        let too_many = new_len.div_ceil(u64::from(len.max(1))) > u64::from(MAX_SEGMENTS);
        return if len.is_power_of_two() && (min..=MAX_SEGMENT_LEN).contains(&len) && !too_many {
            Ok(len)
        } else {
            Err(DiffError::SegmentLen { len, min, max: MAX_SEGMENT_LEN })
        };
    }
    if options.profile == Profile::Mcu {
        return Ok(options::MCU_SEGMENT);
    }
    Ok(if new_len <= options::SMALL_IMAGE { options::SMALL_SEGMENT } else { options::LARGE_SEGMENT })
}

/// Carries progress to the caller and his answer back to the threads.
struct Report<'a> {
    progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync),
    phase: AtomicU8,
    /// Bytes of the new view, which is longer than the image when it unfolds.
    total: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl<'a> Report<'a> {
    fn new(progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync), new: &[u8]) -> Self {
        Self {
            progress,
            phase: AtomicU8::new(0),
            total: AtomicU64::new(new.len() as u64),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Begins a phase.
    fn phase(&self, phase: Phase) -> Result<(), DiffError> {
        self.done.store(0, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.beat()
    }

    /// Adds bytes of the new view that are finished in this phase.
    fn add(&self, bytes: u64) -> Result<(), DiffError> {
        self.tell(self.done.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }

    /// Gives the caller the chance to cancel.
    fn beat(&self) -> Result<(), DiffError> {
        self.tell(self.done.load(Ordering::Relaxed))
    }

    fn tell(&self, done: u64) -> Result<(), DiffError> {
        let phase = Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed))];
        let total = self.total.load(Ordering::Relaxed);
        let stopped = self.stop.load(Ordering::Relaxed);
        if stopped || (self.progress)(Progress { phase, done, total }).is_break() {
            self.stop.store(true, Ordering::Relaxed);
            return Err(DiffError::Cancelled);
        }
        Ok(())
    }
}
