//! `gochat doctor`: looks at everything an installation stands on, with a server running and without, and changes
//! nothing. Owns the order of the checks; each says how it stands and what to do.

mod data;
mod finding;
mod machine;
mod ports;
mod server;

use super::client;
use super::order::{Order, Outcome, Vitals};
use crate::cli::DevArgs;
use crate::config::Config;
pub(crate) use finding::{Finding, Verdict};
use tokio::sync::mpsc;

/// Looks at everything.
pub(crate) async fn examine(flags: &DevArgs) -> Vec<Finding> {
    let config = match Config::resolve(flags) {
        Ok(config) => config,
        Err(error) => {
            // The rest would be said about an installation that nobody means.
            return vec![Finding::fail(
                "configuration",
                error.to_string(),
                "correct it; docs/gochat.example.toml shows every key",
            )];
        }
    };
    let named = flags.config.as_ref().map_or("defaults and flags".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::ok("configuration", named)];
    let vitals = match vitals(&config).await {
        Ok(vitals) => vitals,
        Err(why) => {
            findings.push(Finding::fail("server", why, "run this as the server's user, with the server's `gochat`"));
            None
        }
    };
    findings.extend(machine::examine(&config, vitals.as_ref()));
    findings.extend(ports::examine(&config, vitals.as_ref()));
    findings.extend(data::examine(&config, vitals.as_ref()).await);
    match &vitals {
        Some(vitals) => findings.extend(server::examine(vitals)),
        None => findings.push(Finding::ok("server", "none runs on this data directory")),
    }
    findings
}

/// What the running server says about itself; `None` when none runs.
async fn vitals(config: &Config) -> Result<Option<Vitals>, String> {
    let Some(place) = client::server(config).await? else { return Ok(None) };
    let (notes, _) = mpsc::unbounded_channel();
    match client::ask(&place, Order::Examine, &notes).await? {
        Outcome::Examined(vitals) => Ok(Some(*vitals)),
        _ => Err("the server answered something else".to_owned()),
    }
}
