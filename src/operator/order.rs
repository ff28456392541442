//! What an operator can ask of an installation, and its answers, as they travel over the operator socket: newline JSON,
//! one order a connection. Owns the form only. A server and a command line of different versions refuse each other.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Version of everything in this file.
pub(crate) const PROTOCOL: u32 = 1;
/// Longest order, bytes with its newline.
pub(crate) const ORDER_BYTES_MAX: u64 = 64 * 1024;
/// Users of one page, and of one minting order.
pub(crate) const PAGE_MAX: u32 = 500;

/// The one line that a command line sends.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) order: Order,
}

/// What is to be done.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Accounts in order of id, behind `after`.
    UserList { after: String, limit: u32, prefix: String, guests: bool },
    /// No login, tokens void, sessions closed with 4003.
    UserDisable { user: Who },
    /// As before.
    UserEnable { user: Who },
    /// A new password, all logins end.
    UserResetPassword { user: Who, password: String },
    /// Users named `prefix` and the numbers `first` to `first + count - 1`.
    UserMint { first: u32, count: u32, prefix: String, password: String },
    /// A role in the world room; who is not there joins.
    WorldRole { user: Who, role: Role },
    /// A copy into a directory that does not exist.
    Backup { dest: PathBuf },
    /// What only the running server knows.
    Examine,
}

/// A user, as an operator names one.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    Name(String),
    Id(String),
}

/// A role in the world room.
#[derive(Serialize, Deserialize, clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Member = 1,
    Admin = 2,
    Owner = 3,
}

/// A line that comes back: any number of `Note`, then one of the others.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    /// How far it is.
    Note(String),
    Done(Outcome),
    Failed(String),
}

/// What was done.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Users {
        users: Vec<Account>,
        /// Where the next page begins; absent at the end.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    Account(Account),
    Minted(Vec<Minted>),
    Backup(BackedUp),
    Examined(Box<Vitals>),
}

/// An account as an operator sees it.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) username: String,
    /// `normal`, `disabled` or `deleted`.
    pub(crate) status: String,
    pub(crate) guest: bool,
    /// Unix seconds.
    pub(crate) created_at: i64,
}

/// A user made for a load run.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) username: String,
    pub(crate) token: String,
}

/// A finished backup.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct BackedUp {
    pub(crate) dest: PathBuf,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// What the running server knows about itself.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Vitals {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) listen: String,
    pub(crate) admin: String,
    /// Which reactor and why.
    pub(crate) reactor: String,
    /// Log and store work, and so do those who read the log.
    pub(crate) takes_messages: bool,
    /// Of the log: `ok`, `disk full`, or why it stopped.
    pub(crate) log: String,
    /// Records that are durable and not stored yet.
    pub(crate) lag: i64,
    pub(crate) parked: i64,
    pub(crate) outbox: i64,
    /// Of this process.
    pub(crate) descriptors_max: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn orders_have_the_documented_form() {
        let cases = [
            (
                r#"{"version":1,"order":{"command":"user-disable","user":{"name":"ann"}}}"#,
                Order::UserDisable { user: Who::Name("ann".into()) },
            ),
            (
                r#"{"version":1,"order":{"command":"world-role","user":{"id":"7"},"role":"admin"}}"#,
                Order::WorldRole { user: Who::Id("7".into()), role: Role::Admin },
            ),
            (
                r#"{"version":1,"order":{"command":"backup","dest":"/backups/monday"}}"#,
                Order::Backup { dest: "/backups/monday".into() },
            ),
        ];
        let page = include_str!("../../docs/operating.md");
        assert!(page.contains(cases[0].0), "docs/operating.md shows an order that this version understands");
        for (text, order) in cases {
            assert_eq!(serde_json::from_str::<Request>(text).unwrap().order, order);
            assert_eq!(serde_json::to_string(&Request { version: PROTOCOL, order }).unwrap(), text);
        }
    }

    #[test]
    fn unknown_fields_and_commands_are_refused() {
        for text in [
            r#"{"version":1,"order":{"command":"user-disable","user":{"name":"ann"},"for":"ever"}}"#,
            r#"{"version":1,"order":{"command":"shutdown"}}"#,
            r#"{"version":1}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
