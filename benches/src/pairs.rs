//! Patches of one pair: made, applied, compared byte for byte, and timed; ours in each profile, and the classic algorithm
//! with a strong compressor behind it, in the same run on the same machine.

use std::io::{Cursor, Write as _};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rayon::ThreadPoolBuilder;
use serde::Serialize;
use sluice_delta::{ApplyOptions, DiffOptions, Profile, apply, diff};

use crate::clock::{Took, timed};
use crate::peers::{Peer, peer_of};

/// Level of the compressor behind bsdiff: the strongest that people use without asking for more memory.
const ZSTD_LEVEL: i32 = 19;

/// One pair's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The pair's name.
    pub pair: String,
    /// Bytes of the old image.
    pub old_bytes: u64,
    /// Bytes of the new image.
    pub new_bytes: u64,
    /// The best peer's program, if the pair is in the table.
    pub peer: Option<&'static str>,
    /// Bytes of its patch.
    pub peer_bytes: Option<u64>,
    /// Ours.
    pub ours: Vec<Ours>,
    /// The `bsdiff` crate's output, compressed by zstd -19.
    pub bsdiff: Rival,
}

/// Our patch in one profile.
#[derive(Clone, Debug, Serialize)]
pub struct Ours {
    /// The profile.
    pub profile: &'static str,
    /// Bytes of the patch.
    pub bytes: u64,
    /// Bytes divided by the best peer's.
    pub of_peer: Option<f64>,
    /// Memory that applying declares, bytes.
    pub apply_ram: u64,
    /// Processor seconds to make it on one thread.
    pub generate_cpu_s: f64,
    /// Seconds that passed making it on one thread.
    pub generate_one_s: f64,
    /// Seconds that passed making it on two threads.
    pub generate_two_s: f64,
    /// Processor seconds to apply it, with the hash of the old image and the hashes of the output.
    pub apply_cpu_s: f64,
}

/// Another program's patch, made in this run.
#[derive(Clone, Debug, Serialize)]
pub struct Rival {
    /// Bytes of the patch.
    pub bytes: u64,
    /// Bytes divided by the best peer's.
    pub of_peer: Option<f64>,
    /// Processor seconds to make it.
    pub generate_cpu_s: f64,
    /// Processor seconds to apply it.
    pub apply_cpu_s: f64,
}

/// Measures one pair: each step `repeat` times, of which the best counts. `say` hears each step.
pub fn measure(pair: &str, old: &[u8], new: &[u8], repeat: u32, say: &dyn Fn(&str)) -> Result<Measured> {
    let peer = peer_of(pair);
    // The strongest first: that is what the table is about.
    let profiles = [Profile::Default, Profile::Fast];
    let ours = profiles
        .map(|profile| measure_ours(pair, old, new, profile, peer, repeat, say))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    Ok(Measured {
        pair: pair.to_owned(),
        old_bytes: old.len() as u64,
        new_bytes: new.len() as u64,
        peer: peer.map(|peer| peer.program),
        peer_bytes: peer.map(|peer| peer.bytes),
        ours,
        bsdiff: measure_bsdiff(pair, old, new, peer, repeat, say)?,
    })
}

/// The best of several runs, and the result of the last.
fn best<T>(repeat: u32, mut work: impl FnMut() -> Result<T>) -> Result<(T, Took)> {
    let (first, mut took) = timed(&mut work);
    let mut result = first?;
    for _ in 1..repeat {
        let (again, took_again) = timed(&mut work);
        (result, took) = (again?, took.best(took_again));
    }
    Ok((result, took))
}

fn measure_ours(
    pair: &str,
    old: &[u8],
    new: &[u8],
    profile: Profile,
    peer: Option<&Peer>,
    repeat: u32,
    say: &dyn Fn(&str),
) -> Result<Ours> {
    let options = DiffOptions { profile, ..DiffOptions::default() };
    let make = || Ok(diff(old, new, &options, &|_| ControlFlow::Continue(()))?);
    // Measured inside the pool: with one thread all the work is on the thread whose time is read.
    let on = |threads: usize| -> Result<_> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().context("making threads")?;
        pool.install(|| best(repeat, make))
    };
    say(&format!("{pair}: {profile}, one thread"));
    let (patch, one) = on(1)?;
    say(&format!("{pair}: {profile}, two threads"));
    let (same, two) = on(2)?;
    ensure!(patch == same, "{pair}: the patch depends on the number of threads");
    say(&format!("{pair}: {profile}, applying"));
    let (output, applied) = best(repeat, || {
        let mut output = Vec::with_capacity(new.len());
        apply(Cursor::new(old), patch.bytes.as_slice(), &mut output, &ApplyOptions::default())?;
        Ok(output)
    })?;
    ensure!(output == new, "{pair}: the patch does not make the new image");
    let bytes = patch.bytes.len() as u64;
    Ok(Ours {
        profile: profile.name(),
        bytes,
        of_peer: peer.map(|peer| peer.ratio(bytes)),
        apply_ram: patch.head.ram,
        generate_cpu_s: one.cpu.as_secs_f64(),
        generate_one_s: one.wall.as_secs_f64(),
        generate_two_s: two.wall.as_secs_f64(),
        apply_cpu_s: applied.cpu.as_secs_f64(),
    })
}

fn measure_bsdiff(
    pair: &str,
    old: &[u8],
    new: &[u8],
    peer: Option<&Peer>,
    repeat: u32,
    say: &dyn Fn(&str),
) -> Result<Rival> {
    say(&format!("{pair}: bsdiff with zstd -{ZSTD_LEVEL}"));
    let (patch, made) = best(repeat, || {
        let mut raw = Vec::new();
        bsdiff::diff(old, new, &mut raw)?;
        let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        encoder.write_all(&raw)?;
        Ok(encoder.finish()?)
    })?;
    say(&format!("{pair}: bsdiff, applying"));
    let (output, applied) = best(repeat, || {
        let raw = zstd::decode_all(patch.as_slice())?;
        let mut output = Vec::with_capacity(new.len());
        bsdiff::patch(old, &mut raw.as_slice(), &mut output)?;
        Ok(output)
    })?;
    ensure!(output == new, "{pair}: bsdiff's patch does not make the new image");
    let bytes = patch.len() as u64;
    Ok(Rival {
        bytes,
        of_peer: peer.map(|peer| peer.ratio(bytes)),
        generate_cpu_s: made.cpu.as_secs_f64(),
        apply_cpu_s: applied.cpu.as_secs_f64(),
    })
}

/// Seconds as a table shows them: short ones with more places.
pub fn seconds(seconds: f64) -> String {
    let places = match seconds {
        s if s < 0.1 => 4,
        s if s < 1.0 => 3,
        s if s < 10.0 => 2,
        _ => 1,
    };
    format!("{seconds:.places$}")
}

/// A whole number with commas.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as a table shows it.
pub fn duration(duration: Duration) -> String {
    seconds(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_measured_and_both_patches_make_the_new_image() {
        let old = sluice_fixtures::image(3, 64 << 10).unwrap();
        let new = sluice_fixtures::evolve(&old, 3, sluice_fixtures::Change::Patchlevel).unwrap();
        let steps = std::cell::RefCell::new(Vec::new());
        let measured = measure("seeded", &old, &new, 2, &|step| steps.borrow_mut().push(step.to_owned())).unwrap();
        let [default, fast] = measured.ours.as_slice() else { panic!("two profiles") };
        assert_eq!((default.profile, fast.profile), ("default", "fast"));
        assert!(default.bytes > 0 && default.bytes <= fast.bytes && fast.bytes < measured.new_bytes);
        assert!(default.generate_cpu_s > 0.0 && default.apply_cpu_s > 0.0 && default.generate_two_s > 0.0);
        assert!(measured.bsdiff.bytes > 0);
        assert_eq!((measured.peer, default.of_peer), (None, None));
        assert_eq!(steps.borrow().len(), 8);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(33_554_432), "33,554,432");
        let shown = [0.00041, 0.1234, 1.234, 12.34].map(seconds);
        assert_eq!(shown, ["0.0004", "0.123", "1.23", "12.3"]);
        assert_eq!(duration(Duration::from_millis(2500)), "2.50");
    }
}
