//! Writes BSDIFF40, which `bspatch` applies: the matcher's pieces as one list of commands, and three bzip2 streams.

use std::ops::ControlFlow;

use bzip2::{Action, Compress, Compression, Status};

use super::{MATCHED_AT_ONCE, Phase, Profile, Progress, Report, Work, check_lengths, parse::Piece, segment};
use crate::{error::DiffError, views::Views};

/// Most bytes that one command adds or inserts: `bspatch` hands the count to a function that takes an `int`.
const MAX_COUNT: u64 = i32::MAX as u64;

/// Bytes compressed between two reports of progress.
const STEP: usize = 1 << 20;

/// Work factor of the compressor: its own default.
const WORK_FACTOR: u32 = 30;

/// Makes a BSDIFF40 patch that turns `old` into `new`, on the threads of the current rayon pool.
///
/// It never refers to bytes outside the old image. `progress` is called from any thread; [`ControlFlow::Break`] cancels.
///
/// # Errors
/// Images that are too long, or cancelled.
pub fn write_bsdiff40(
    old: &[u8],
    new: &[u8],
    progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Vec<u8>, DiffError> {
    check_lengths(old, new, u64::MAX)?;
    let report = Report::new(progress, new);
    let views = Views::plain(old.len() as u64, new.len() as u64);
    let cuts = segment::cuts(&views, MATCHED_AT_ONCE);
    let sampled_from = Profile::Default.sampled_from();
    let work = Work { cuts: &cuts, coded: &[], sampled_from, memory: None, report: &report };
    let commands = work.pieces(old, new)?.iter().zip(&cuts).map(|(pieces, cut)| commands(pieces, cut.start)).collect();
    let streams = Streams::new(old, new, &joined(commands));

    let report = Report::new(progress, new);
    report.phase(Phase::Compress)?;
    // The control stream is no part of the new image.
    let control = || bzip2(&streams.control, &|_| report.beat());
    let told = |stream| bzip2(stream, &|bytes| report.add(bytes));
    let (control, (diff, extra)) =
        rayon::join(control, || rayon::join(|| told(&streams.diff), || told(&streams.extra)));
    let (control, diff, extra) = (control?, diff?, extra?);

    let mut patch = crate::foreign::BSDIFF40_MAGIC.to_vec();
    for len in [control.len(), diff.len(), new.len()] {
        patch.extend_from_slice(&(len as u64).to_le_bytes());
    }
    for stream in [control, diff, extra] {
        patch.extend_from_slice(&stream);
    }
    Ok(patch)
}

/// A part of the new image that comes from the old one, with the literal bytes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Command {
    /// Where it begins in the new image.
    start: u64,
    /// Where it comes from in the old image; means nothing when `add` is 0.
    from: u64,
    /// Bytes of the old image, to which differences are added.
    add: u64,
    /// Literal bytes behind them.
    insert: u64,
}

/// Commands for `new`, which stands at `offset`.
fn commands(pieces: &[Piece], offset: u64) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for piece in pieces {
        let (start, len) = (offset + piece.start as u64, (piece.end - piece.start) as u64);
        match (piece.shift, commands.last_mut()) {
            (Some(shift), _) => {
                let from = (piece.start as i64 + shift) as u64;
                commands.push(Command { start, from, add: len, insert: 0 });
            }
            (None, Some(last)) => last.insert += len,
            (None, None) => commands.push(Command { start, from: 0, add: 0, insert: len }),
        }
    }
    commands
}

/// One list of all commands: what was cut where the matcher was cut is joined again, what is too long is divided.
fn joined(parts: Vec<Vec<Command>>) -> Vec<Command> {
    let mut whole: Vec<Command> = Vec::new();
    for command in parts.into_iter().flatten() {
        match whole.last_mut() {
            Some(last) if command.add == 0 => last.insert += command.insert,
            Some(last) if last.insert == 0 && last.from + last.add == command.from => {
                last.add += command.add;
                last.insert = command.insert;
            }
            _ => whole.push(command),
        }
    }
    whole.into_iter().flat_map(|command| divided(command, MAX_COUNT)).collect()
}

/// The same in commands of at most `max` bytes each way.
fn divided(mut command: Command, max: u64) -> Vec<Command> {
    let mut parts = Vec::new();
    while command.add > max {
        parts.push(Command { add: max, insert: 0, ..command });
        command = Command { start: command.start + max, from: command.from + max, add: command.add - max, ..command };
    }
    while command.insert > max {
        parts.push(Command { insert: max, ..command });
        let end = command.add + max;
        command = Command { start: command.start + end, from: 0, add: 0, insert: command.insert - max };
    }
    parts.push(command);
    parts
}

/// The raw streams.
struct Streams {
    control: Vec<u8>,
    diff: Vec<u8>,
    extra: Vec<u8>,
}

impl Streams {
    fn new(old: &[u8], new: &[u8], commands: &[Command]) -> Self {
        let mut streams = Self { control: Vec::new(), diff: Vec::new(), extra: Vec::new() };
        let mut cursor = 0u64;
        // An image that begins with something moved needs a command that only seeks.
        let first = Command { start: 0, from: 0, add: 0, insert: 0 };
        let lead = commands.first().is_some_and(|command| command.add > 0 && command.from != 0).then_some(&first);
        let all: Vec<&Command> = lead.into_iter().chain(commands).collect();
        for (at, command) in all.iter().enumerate() {
            let start = command.start as usize;
            let middle = start + command.add as usize;
            let end = middle + command.insert as usize;
            let source = &old[command.from as usize..][..command.add as usize];
            streams.diff.extend(new[start..middle].iter().zip(source).map(|(new, old)| new.wrapping_sub(*old)));
            streams.extra.extend_from_slice(&new[middle..end]);
            cursor += command.add;
            let next = all.get(at + 1).filter(|next| next.add > 0).map_or(cursor, |next| next.from);
            for number in [command.add as i64, command.insert as i64, next as i64 - cursor as i64] {
                streams.control.extend_from_slice(&signed(number));
            }
            cursor = next;
        }
        streams
    }
}

/// A number of the format: the magnitude lowest byte first, and the sign in the highest bit.
fn signed(number: i64) -> [u8; 8] {
    let sign = if number < 0 { 1 << 63 } else { 0 };
    (number.unsigned_abs() | sign).to_le_bytes()
}

/// Compresses `raw`; `told` hears how many bytes more are done.
fn bzip2(raw: &[u8], told: &(dyn Fn(u64) -> Result<(), DiffError> + Sync)) -> Result<Vec<u8>, DiffError> {
    let failed = |reason: String| DiffError::Internal { stage: "bzip2", reason };
    let mut encoder = Compress::new(Compression::best(), WORK_FACTOR);
    let mut coded = Vec::with_capacity(STEP);
    let (mut done, mut reported) = (0, 0);
    loop {
        let step = &raw[done..raw.len().min(done + STEP)];
        let action = if done + step.len() == raw.len() { Action::Finish } else { Action::Run };
        if coded.capacity() - coded.len() < STEP {
            coded.reserve(STEP);
        }
        let status = encoder.compress_vec(step, &mut coded, action).map_err(|error| failed(error.to_string()))?;
        done = encoder.total_in() as usize;
        told((done - reported) as u64)?;
        reported = done;
        if status == Status::StreamEnd {
            return Ok(coded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Command = Command { start: 5, from: 100, add: 25, insert: 17 };

    #[test]
    fn numbers_have_a_sign_bit() {
        assert_eq!(signed(1), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(signed(-258), [2, 1, 0, 0, 0, 0, 0, 0x80]);
    }

    #[test]
    fn long_commands_are_divided() {
        let parts = divided(WHOLE, 10);
        let shape: Vec<_> = parts.iter().map(|part| (part.start, part.from, part.add, part.insert)).collect();
        assert_eq!(shape, [(5, 100, 10, 0), (15, 110, 10, 0), (25, 120, 5, 10), (40, 0, 0, 7)]);
        assert_eq!(divided(WHOLE, 25), [WHOLE]);
    }

    #[test]
    fn what_was_cut_is_joined() {
        let first = Command { insert: 0, ..WHOLE };
        let second = Command { start: 30, from: 125, add: 3, insert: 4 };
        let third = Command { start: 37, from: 0, add: 0, insert: 6 };
        let whole = joined(vec![vec![first], vec![second], vec![third]]);
        assert_eq!(whole, [Command { start: 5, from: 100, add: 28, insert: 10 }]);
    }
}
