//! Prints what compressed streams an image has, and how many of them are rebuilt byte for byte.
//!
//! `cargo run --release -p sluice-delta --example contents -- [--helper PROGRAM]... IMAGE...`

#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, clippy::disallowed_methods, reason = "prints times")]

use std::{collections::BTreeMap, env, error::Error, fs, path::Path, time::Instant};

use sluice_delta::content::{FindLimits, Found, Helpers, Side, find};

/// Sums over streams of one kind.
#[derive(Default)]
struct Sum {
    streams: usize,
    coded: u64,
    content: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut programs, mut images) = (Vec::new(), Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--helper" {
            programs.extend(arguments.next());
        } else {
            images.push(argument);
        }
    }
    let programs: Vec<&Path> = programs.iter().map(Path::new).collect();
    let helpers = Helpers::start(&programs)?;
    for name in images {
        let image = fs::read(&name)?;
        println!("{name}: {} bytes", image.len());
        for (title, side) in
            [("old", Side::Old), ("new", Side::New { unchanged: &|_| false, helpers: &helpers, whole_files: false })]
        {
            let begin = Instant::now();
            let found = find(&image, &FindLimits::default(), side);
            let seconds = begin.elapsed().as_secs_f64();
            let mut sums = BTreeMap::new();
            add(&found, 1, &mut sums);
            let covered: u64 = found.iter().map(|stream| stream.len).sum();
            let percent = covered as f64 * 100.0 / image.len() as f64;
            println!("  {title}: {covered} bytes ({percent:.1} %) in {seconds:.2} s");
            for ((depth, kind), sum) in sums {
                println!(
                    "    depth {depth} {kind}: {} streams, {} bytes, content {}",
                    sum.streams, sum.coded, sum.content
                );
            }
        }
    }
    Ok(())
}

fn add(found: &[Found], depth: u8, sums: &mut BTreeMap<(u8, String), Sum>) {
    for stream in found {
        let recipe = match &stream.recipe {
            None => String::new(),
            Some(recipe) => format!(" {recipe:?}"),
        };
        let sum = sums.entry((depth, format!("{}{recipe}", stream.codec.name()))).or_default();
        sum.streams += 1;
        sum.coded += stream.len;
        sum.content += stream.content.len() as u64;
        add(&stream.inner, depth + 1, sums);
    }
}
