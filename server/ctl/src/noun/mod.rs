//! One file per noun: its commands, what they send, and how the answer reads.

pub mod access;
pub mod approver;
pub mod audit;
pub mod contract;
pub mod contract_apply;
pub mod contract_import;
pub mod contract_source;
pub mod customer;
pub mod device;
pub mod device_set;
pub mod enrol_token;
pub mod entitlement;
pub mod events;
pub mod fleet;
pub mod held;
pub mod installation;
pub mod job;
pub mod plan;
pub mod policy;
pub mod principal;
pub mod product;
pub mod release;
pub mod rollout;
pub mod rollout_count;
pub mod rollout_failures;
pub mod rollout_picture;
pub mod rollout_plan;
pub mod rollout_series;
pub mod rollout_simulate;
pub mod rollout_watch;
pub mod site;
pub mod swap;
pub mod token;
pub mod train;
pub mod update_now;
pub mod why;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_catalog::wire::admin::Page;

use crate::args::Paging;
use crate::cli::Session;
use crate::client::Query;
use crate::failure::Failure;
use crate::output::table;

/// Fetches a list and prints it: as a page in JSON, else as a table, saying when there may be more.
fn list<T: Serialize + DeserializeOwned>(
    session: &Session,
    path: &str,
    query: Query,
    paging: &Paging,
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    let page: Page<T> = session.client.list(path, query, paging)?;
    session.out.result(&page, |page| table(header, page.items.iter().map(row)))?;
    if page.next.is_some() {
        session.out.note(&format!("There may be more than these {}: raise --limit.", page.items.len()));
    }
    Ok(())
}

/// A text of at most so many bytes: a label, a cause.
fn short_text(max_len: usize) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| {
        if text.len() > max_len || text.chars().any(char::is_control) {
            return Err(format!("{} bytes; at most {max_len}, on one line", text.len()));
        }
        Ok(text.to_owned())
    }
}
