//! What can be typed.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::client::Client;
use crate::failure::Failure;
use crate::noun::{
    access, approver, audit, contract, customer, device, enrol_token, entitlement, events, held, installation, job,
    plan, policy, principal, product, release, rollout, site, swap, token, train, why,
};
use crate::output::Output;
use crate::settings::Settings;

/// Administers a Sluice server: products, releases, contracts, devices, rollouts.
///
/// Start with `sluicectl bootstrap` on a new server or `sluicectl login` on one that has you already; both remember
/// server and token. Times are RFC 3339 or dates, which mean midnight UTC. A repeated `create` with the same content
/// is no error.
#[derive(Parser)]
#[command(
    name = "sluicectl",
    version,
    after_help = "Exit codes: 0 done; 1 a check does not hold or signed metadata does not verify; 2 wrong usage or a \
                  field is invalid; 3 no access; 4 no such thing; 5 conflict with what is there; 6 no answer, try \
                  again later; 7 a fault of the server or of this machine."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The server's address [default: the one of the last login].
    #[arg(long, global = true, env = "SLUICE_SERVER", value_name = "URL", hide_env_values = true)]
    pub server: Option<String>,
    /// File with the token; SLUICE_TOKEN may hold the token itself [default: the one of the last login].
    #[arg(long, global = true, env = "SLUICE_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Configuration file that `login` writes [default: ~/.config/sluice/ctl.toml].
    #[arg(long, global = true, env = "SLUICE_CTL_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the public ones.
    #[arg(long, global = true, env = "SLUICE_CA_FILE", value_name = "FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// Send the token over plain HTTP beyond this machine too: for private networks.
    #[arg(long, global = true)]
    pub plain_http: bool,
    /// Print results as JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make the first administrator of a new server, and log in as them.
    Bootstrap(access::Bootstrap),
    /// Remember a server and a token for it.
    Login(access::Login),
    /// Show whom the token belongs to.
    Whoami,
    /// Product lines.
    #[command(subcommand)]
    Product(product::Command),
    /// Trains of a product: when they came out, and when their support ends.
    #[command(subcommand)]
    Train(train::Command),
    /// Published releases.
    #[command(subcommand)]
    Release(release::Command),
    /// Releases that are given to the server and wait for their moment.
    #[command(subcommand)]
    Held(held::Command),
    /// Customers.
    #[command(subcommand)]
    Customer(customer::Command),
    /// Support plans: what contracts grant, and by which rule.
    #[command(subcommand)]
    Plan(plan::Command),
    /// Support contracts: when they cover, and which devices.
    #[command(subcommand)]
    Contract(contract::Command),
    /// Devices.
    #[command(subcommand)]
    Device(device::Command),
    /// Explain why a device does or does not get a version.
    Why(why::Why),
    /// What becomes of devices' access as time goes by.
    #[command(subcommand)]
    Entitlement(entitlement::Command),
    /// Swaps: a broken device is replaced by another, which takes over its cover.
    #[command(subcommand)]
    Swap(swap::Command),
    /// What a customer wants for its devices: hold, pin, follow.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Sites: where a customer's devices stand.
    #[command(subcommand)]
    Site(site::Command),
    /// Tokens with which devices enrol.
    #[command(subcommand)]
    EnrolToken(enrol_token::Command),
    /// Rollouts: bring a release to devices in stages.
    #[command(subcommand)]
    Rollout(rollout::Command),
    /// Keys with which people approve rollouts.
    #[command(subcommand)]
    Approver(approver::Command),
    /// People and machines that administer.
    #[command(subcommand)]
    Principal(principal::Command),
    /// Tokens of principals.
    #[command(subcommand)]
    Token(token::Command),
    /// What is to be told: cover that ends or was gained, swaps, versions that are denied.
    Events(events::Events),
    /// Background jobs.
    #[command(subcommand)]
    Job(job::Command),
    /// The audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show the numbers of the whole installation.
    Status,
    /// Export the server's public online keys, which the offline roots name.
    OnlineKeys(installation::OnlineKeysArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What a command works with.
pub struct Session {
    /// The server.
    pub client: Client,
    /// Where results go.
    pub out: Output,
}

impl Cli {
    /// Carries the command out.
    pub fn run(self) -> Result<(), Failure> {
        if let Command::Completion { shell } = self.command {
            clap_complete::generate(shell, &mut Self::command(), "sluicectl", &mut std::io::stdout());
            return Ok(());
        }
        let settings = Settings::new(&self.global)?;
        match self.command {
            Command::Bootstrap(args) => return args.run(&settings),
            Command::Login(args) => return args.run(&settings),
            // Nobody is asked.
            Command::Rollout(rollout::Command::Simulate(args)) => return args.run(settings.output),
            _ => {}
        }
        let config_path = settings.config_path.clone();
        let session = Session { client: settings.client()?, out: settings.output };
        match self.command {
            Command::Bootstrap(_) | Command::Login(_) | Command::Completion { .. } => Ok(()),
            Command::Whoami => access::whoami(&session),
            Command::Product(command) => command.run(&session),
            Command::Train(command) => command.run(&session),
            Command::Release(command) => command.run(&session),
            Command::Held(command) => command.run(&session),
            Command::Customer(command) => command.run(&session),
            Command::Plan(command) => command.run(&session),
            Command::Contract(command) => command.run(&session),
            Command::Device(command) => command.run(&session),
            Command::Why(command) => command.run(&session),
            Command::Entitlement(command) => command.run(&session),
            Command::Swap(command) => command.run(&session),
            Command::Policy(command) => command.run(&session),
            Command::Site(command) => command.run(&session),
            Command::EnrolToken(command) => command.run(&session),
            Command::Rollout(command) => command.run(&session, &config_path),
            Command::Approver(command) => command.run(&session, &config_path),
            Command::Principal(command) => command.run(&session),
            Command::Token(command) => command.run(&session),
            Command::Events(events) => events.run(&session),
            Command::Job(command) => command.run(&session),
            Command::Audit(command) => command.run(&session),
            Command::Status => installation::status(&session),
            Command::OnlineKeys(args) => args.run(&session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as a shell splits them, as far as the document uses it: double quotes and a comment.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.split('"').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                let plain = part.split(" #").next().unwrap_or(part);
                words.extend(plain.split_whitespace().map(str::to_owned));
                if plain.len() < part.len() {
                    break;
                }
            }
        }
        words
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_line_of_the_document_is_understood() {
        let document =
            include_str!("../../../docs/administration.md").replace("\\\n", " ").replace("5f0c…", &"0".repeat(64));
        let mut seen = 0;
        let mut in_block = false;
        for line in document.lines() {
            if line.starts_with("```") {
                in_block = !in_block;
            } else if in_block && line.starts_with("sluicectl ") {
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    panic!("{line}\n{error}");
                }
                seen += 1;
            }
        }
        assert!(seen > 30, "only {seen} command lines are left in the document");
    }
}
