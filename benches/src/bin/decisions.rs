//! How many decisions one core makes: a fleet of many products, each device with its contract, decided one after the other. The
//! ceiling is the same walk without deciding: each device and each release of its product looked at, and nothing asked.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use peak_alloc::PeakAlloc;
use serde::Serialize;
use sluice_benches::clock::{Took, timed};
use sluice_benches::sample;
use sluice_catalog::decide::{Decision, DeviceView, ProductView, admits, decide, next_change, outcome};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Measure decisions per second and core.
#[derive(Debug, Parser)]
#[command(name = "decisions")]
struct Args {
    /// Devices, spread over the products.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    devices: u32,
    /// Products.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    products: u32,
    /// Releases of each product.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=sample::RELEASES as i64))]
    releases: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    devices: u32,
    products: u32,
    releases: u32,
    bytes_per_device: u64,
    decide_per_s: u64,
    admits_per_s: u64,
    ahead_per_s: u64,
    far_ahead_per_s: u64,
    walk_per_s: u64,
    offered: u64,
    passed: u64,
    times_the_look: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// So many a second of processor time.
fn per_second(count: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000_000 / took.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn run(args: &Args) -> Result<()> {
    let now = sample::now();
    let products =
        (0..args.products).map(|number| sample::product_of(number, args.releases)).collect::<Result<Vec<_>>>()?;
    let before = MEMORY.current_usage();
    let fleet = (0..args.devices)
        .map(|number| sample::device_of(number % args.products, number, args.releases))
        .collect::<Result<Vec<DeviceView>>>()?;
    let bytes = MEMORY.current_usage() - before;
    let of = |number: usize| -> &ProductView { &products[number % products.len()] };
    let (_, walk) = timed(|| {
        let mut looked = 0_i64;
        for (number, device) in fleet.iter().enumerate() {
            for release in of(number).releases() {
                looked += black_box(release.release.order) + i64::from(device.device.attempt_seq);
            }
        }
        black_box(looked)
    });
    let (offered, decided) = timed(|| {
        let mut offered = 0;
        for (number, device) in fleet.iter().enumerate() {
            if let Decision::Offer { .. } = black_box(decide(device, of(number), now, &mut ())) {
                offered += 1;
            }
        }
        offered
    });
    let (passed, admitted) = timed(|| {
        let mut passed = 0_u64;
        for (number, device) in fleet.iter().enumerate() {
            for release in of(number).releases() {
                passed += u64::from(black_box(admits(device, of(number), release, now, &mut ())).pass);
            }
        }
        passed
    });
    let ahead = |days: i64| {
        let until = now.plus_days(days);
        timed(|| {
            for (number, device) in fleet.iter().enumerate() {
                let product = of(number);
                black_box(next_change(device, product, now, until, |at| outcome(device, product, None, at)));
            }
        })
    };
    let ((), day) = ahead(1);
    let ((), years) = ahead(3_650);
    let per_s = |count: u64, took: Took| per_second(count, took.cpu);
    let (devices, pairs) = (u64::from(args.devices), u64::from(args.devices) * u64::from(args.releases));
    let report = Report {
        devices: args.devices,
        products: args.products,
        releases: args.products * args.releases,
        bytes_per_device: u64::try_from(bytes)? / devices,
        decide_per_s: per_s(devices, decided),
        admits_per_s: per_s(pairs, admitted),
        ahead_per_s: per_s(devices, day),
        far_ahead_per_s: per_s(devices, years),
        walk_per_s: per_s(devices, walk),
        offered,
        passed,
        times_the_look: decided.cpu.as_secs_f64() / walk.cpu.as_secs_f64().max(1e-9),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!("{} devices, {} products, {} releases", report.devices, report.products, report.releases);
    println!("  bytes per device        {}", report.bytes_per_device);
    println!("  whole decisions         {} per second and core, {} offered", report.decide_per_s, report.offered);
    println!("  one release, one device {} per second and core", report.admits_per_s);
    println!("  next change in a day    {} per second and core", report.ahead_per_s);
    println!("  next change in 10 years {} per second and core", report.far_ahead_per_s);
    println!("  ceiling: looked at only {} devices per second", report.walk_per_s);
    println!("  a decision takes        {:.1} times the look", report.times_the_look);
    Ok(())
}
