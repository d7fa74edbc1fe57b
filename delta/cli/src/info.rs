//! `sluice-delta info`.

use std::{fs::File, io::BufReader};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use sluice_delta::{Head, Limits, foreign::Format, read_head};

use crate::{args::InfoArgs, failure::Failure, foreign, print};

#[derive(Serialize)]
struct Info {
    bytes: u64,
    head_len: u32,
    features: u64,
    old_len: u64,
    old_sha256: String,
    new_len: u64,
    new_sha256: String,
    ram: u64,
    ram_per_thread: u64,
    scratch: u64,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    new_offset: u64,
    len: u32,
    patch_offset: u64,
    coded_len: u32,
    coded_sha256_128: String,
    check: String,
    streams: Vec<Stream>,
}

#[derive(Serialize)]
struct Stream {
    kind: &'static str,
    codec: &'static str,
    raw_len: u32,
    coded_len: u32,
}

pub fn run(args: &InfoArgs, json: bool) -> Result<()> {
    let file = File::open(&args.patch).with_context(|| format!("cannot open {}", args.patch.display()))?;
    let mut patch = BufReader::new(file);
    let format = foreign::recognise(&mut patch)?;
    if format != Format::Sluice {
        return foreign::info(format, &mut patch, json);
    }
    let head = read_head(&mut patch, &Limits::default(), None).map_err(Failure::Apply)?;
    print(json, &info(&head), &text(&head))
}

fn info(head: &Head) -> Info {
    let segment = |segment: &sluice_delta::Segment| Segment {
        new_offset: segment.new_offset,
        len: segment.len,
        patch_offset: segment.patch_offset,
        coded_len: segment.coded_len,
        coded_sha256_128: hex::encode(segment.coded_sha256),
        check: hex::encode(segment.check),
        streams: segment
            .streams
            .iter()
            .map(|stream| Stream {
                kind: stream.kind.name(),
                codec: stream.codec.name(),
                raw_len: stream.raw_len,
                coded_len: stream.coded_len,
            })
            .collect(),
    };
    Info {
        bytes: head.patch_len(),
        head_len: head.head_len,
        features: head.features,
        old_len: head.old_len,
        old_sha256: hex::encode(head.old_sha256),
        new_len: head.new_len,
        new_sha256: hex::encode(head.new_sha256),
        ram: head.ram,
        ram_per_thread: head.ram_per_thread,
        scratch: head.scratch,
        segments: head.segments.iter().map(segment).collect(),
    }
}

fn text(head: &Head) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["segment", "offset", "length", "coded", "stream", "codec", "raw", "coded"]);
    for (number, segment) in head.segments.iter().enumerate() {
        for (at, stream) in segment.streams.iter().enumerate() {
            let [number, offset, len, coded] = if at == 0 {
                [number as u64, segment.new_offset, u64::from(segment.len), u64::from(segment.coded_len)]
                    .map(|n| n.to_string())
            } else {
                Default::default()
            };
            let (kind, codec) = (stream.kind.name().to_owned(), stream.codec.name().to_owned());
            let [raw_len, coded_len] = [stream.raw_len, stream.coded_len].map(|n| n.to_string());
            table.add_row([number, offset, len, coded, kind, codec, raw_len, coded_len]);
        }
    }
    for column in [0, 1, 2, 3, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = [
        format!("patch     {} bytes, of which {} header and table", head.patch_len(), head.head_len),
        format!("from      {} bytes, sha256 {}", head.old_len, hex::encode(head.old_sha256)),
        format!("to        {} bytes, sha256 {}", head.new_len, hex::encode(head.new_sha256)),
        format!(
            "to apply  {} KiB of memory, {} KiB for each further thread, {} KiB of scratch",
            head.ram >> 10,
            head.ram_per_thread >> 10,
            head.scratch >> 10
        ),
    ];
    let table = table.to_string();
    let table = table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    format!("{}\n\n{table}", lines.join("\n"))
}
