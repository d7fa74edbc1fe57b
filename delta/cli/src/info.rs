//! `sluice-delta info`.

use std::{fs::File, io::BufReader};

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use sluice_delta::{Head, Limits, NewNode, OldContent, foreign::Format, read_head};

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
    old_view_len: u64,
    new_view_len: u64,
    contents: Vec<Content>,
    layers: Vec<Vec<Node>>,
    lead: Option<Lead>,
    segments: Vec<Segment>,
}

/// A stream of the old image that is decoded to read from.
#[derive(Serialize)]
struct Content {
    source: u64,
    coded_len: u64,
    start: u64,
    len: u64,
    codec: &'static str,
}

/// A stream of the new image that is re-encoded.
#[derive(Serialize)]
struct Node {
    start: u64,
    len: u64,
    coded_start: u64,
    coded_len: u64,
    codec: &'static str,
    encoder: &'static str,
    version: String,
}

#[derive(Serialize)]
struct Lead {
    commands: u32,
    coded_len: u32,
    streams: Vec<Stream>,
}

#[derive(Serialize)]
struct Segment {
    new_offset: u64,
    len: u32,
    patch_offset: u64,
    coded_len: u32,
    coded_sha256_128: String,
    image_end: Option<u64>,
    check: Option<String>,
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
        image_end: segment.image_end,
        check: segment.check.map(hex::encode),
        streams: segment.streams.iter().map(stream).collect(),
    };
    let lead = |lead: &sluice_delta::Lead| Lead {
        commands: lead.commands,
        coded_len: lead.coded_len,
        streams: lead.streams.iter().map(stream).collect(),
    };
    let views = &head.views;
    let content = |content: &OldContent| Content {
        source: content.source,
        coded_len: content.coded_len,
        start: content.start,
        len: content.len,
        codec: views.codecs.get(content.codec).map_or("unlisted", |codec| codec.name()),
    };
    let node = |node: &NewNode| {
        let encoding = views.encodings.get(node.encoding);
        Node {
            start: node.start,
            len: node.len,
            coded_start: node.coded_start,
            coded_len: node.coded_len,
            codec: encoding.map_or("unlisted", |encoding| encoding.codec.name()),
            encoder: encoding.map_or("unlisted", |encoding| encoding.recipe.name()),
            version: encoding.map(|encoding| encoding.recipe.recoder().version).unwrap_or_default(),
        }
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
        old_view_len: views.old_len,
        new_view_len: views.new_len,
        contents: views.contents.iter().map(content).collect(),
        layers: views.layers.iter().map(|layer| layer.nodes.iter().map(node).collect()).collect(),
        lead: head.lead.as_ref().map(lead),
        segments: head.segments.iter().map(segment).collect(),
    }
}

fn stream(stream: &sluice_delta::Stream) -> Stream {
    Stream {
        kind: stream.kind.name(),
        codec: stream.codec.name(),
        raw_len: stream.raw_len,
        coded_len: stream.coded_len,
    }
}

/// What is unfolded on either side, a line for each way.
fn unfolded(head: &Head) -> Vec<String> {
    let views = &head.views;
    let mut lines = Vec::new();
    for (index, codec) in views.codecs.iter().enumerate() {
        let contents = || views.contents.iter().filter(|content| content.codec == index);
        let (coded, plain) = contents().fold((0, 0), |sum, c| (sum.0 + c.coded_len, sum.1 + c.len));
        let (count, name) = (contents().count(), codec.name());
        lines.push(format!("old       {count} {name} streams, {coded} bytes, decoded into {plain}"));
    }
    for (index, encoding) in views.encodings.iter().enumerate() {
        let nodes = || views.layers.iter().flat_map(|layer| &layer.nodes).filter(|node| node.encoding == index);
        let (coded, plain) = nodes().fold((0, 0), |sum, n| (sum.0 + n.coded_len, sum.1 + n.len));
        let (count, name, recoder) = (nodes().count(), encoding.codec.name(), encoding.recipe.recoder());
        let encoder = encoding.recipe.name();
        lines.push(format!(
            "new       {count} {name} streams, {coded} bytes, encoded from {plain} by {encoder} {}",
            recoder.version
        ));
    }
    if let Some(lead) = &head.lead {
        lines.push(format!("lead      {} commands in {} bytes", lead.commands, lead.coded_len));
    }
    lines
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
    let mut lines = vec![
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
    lines.extend(unfolded(head));
    let table = table.to_string();
    let table = table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    format!("{}\n\n{table}", lines.join("\n"))
}
