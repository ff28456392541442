//! The operator's commands as a person meets them: from flags to orders, from outcomes to tables, JSON and exit codes.
//! Decides nothing about accounts or data.

use crate::cli::{
    BackupArgs, BackupCommand, DoctorArgs, ListArgs, MintArgs, Place, ResetArgs, RestoreArgs, RoleArgs, UserArgs,
};
use crate::config::Config;
use crate::operator::client::Way;
use crate::operator::doctor::{self, Finding, Verdict};
use crate::operator::order::{Account, Minted, Order, Outcome, PAGE_MAX, Who};
use crate::operator::restore;
use serde_json::json;
use std::io::{BufRead, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Letters of generated passwords: none that is taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Their length: 100 bits.
const LETTERS_COUNT: usize = 20;

impl Place {
    fn resolve(&self) -> Result<Config, String> {
        Config::resolve(&self.flags()).map_err(|error| error.to_string())
    }
}

/// Runs one order to its end; how far it is goes to standard error.
fn order(place: &Place, order: Order) -> Result<(Outcome, bool), String> {
    let config = place.resolve()?;
    block_on(async {
        let way = Way::find(&config, false).await?;
        let (notes, mut said) = mpsc::unbounded_channel::<String>();
        let telling = tokio::spawn(async move {
            while let Some(text) = said.recv().await {
                eprintln!("{text}");
            }
        });
        let outcome = way.run(order, &notes).await;
        drop(notes);
        let _ = telling.await;
        Ok((outcome?, way.is_server()))
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("cannot start threads: {error}"))?.block_on(work)
}

pub(crate) fn list(args: &ListArgs) -> Result<(), String> {
    let page = Order::UserList {
        after: args.after.map_or(String::new(), |id| id.to_string()),
        limit: args.limit,
        prefix: args.prefix.clone().unwrap_or_default(),
        guests: args.guests,
    };
    let (Outcome::Users { users, next }, _) = order(&args.place, page)? else { return Err(odd()) };
    if args.json {
        return print(&json!({"users": users, "next": next}).to_string());
    }
    print(&table(&users))?;
    if let Some(next) = next {
        eprintln!("there are more: --after {next}");
    }
    Ok(())
}

pub(crate) fn set_enabled(args: &UserArgs, enabled: bool) -> Result<(), String> {
    let user = who(&args.user, args.id);
    let change = if enabled { Order::UserEnable { user } } else { Order::UserDisable { user } };
    let (Outcome::Account(account), live) = order(&args.place, change)? else { return Err(odd()) };
    let Account { username, id, .. } = &account;
    print(&match (enabled, live) {
        (true, _) => format!("{username} ({id}) may log in again"),
        (false, true) => format!("{username} ({id}) is disabled: no login, all tokens void, sessions closed"),
        (false, false) => format!("{username} ({id}) is disabled: no login, all tokens void (no server runs)"),
    })
}

pub(crate) fn reset_password(args: &ResetArgs) -> Result<(), String> {
    let password = if args.password_stdin { read_password()? } else { generate()? };
    let change = Order::UserResetPassword { user: who(&args.user.user, args.user.id), password: password.clone() };
    let (Outcome::Account(account), _) = order(&args.user.place, change)? else { return Err(odd()) };
    eprintln!("{} ({}) has a new password, all logins ended", account.username, account.id);
    if args.password_stdin { Ok(()) } else { print(&password) }
}

/// The first line of standard input.
fn read_password() -> Result<String, String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(4096).read_line(&mut line);
    read.map_err(|error| format!("--password-stdin: {error}"))?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err("--password-stdin: standard input has no line".to_owned()),
        password => Ok(password.to_owned()),
    }
}

fn generate() -> Result<String, String> {
    let mut bytes = [0; LETTERS_COUNT];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

pub(crate) fn world_role(args: &RoleArgs) -> Result<(), String> {
    let change = Order::WorldRole { user: who(&args.user.user, args.user.id), role: args.role };
    let (Outcome::Account(account), _) = order(&args.user.place, change)? else { return Err(odd()) };
    print(&format!("{} ({}) is {:?} of the world room", account.username, account.id, args.role).to_lowercase())
}

/// Makes the users in orders of 500 and writes one line for each; what earlier orders made stays when one fails.
pub(crate) fn mint(args: &MintArgs) -> Result<(), String> {
    let config = args.place.resolve()?;
    block_on(async {
        let way = Way::find(&config, true).await?;
        let out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&args.out);
        let unwritable = |error: std::io::Error| format!("cannot write {}: {error}", args.out.display());
        let mut out = BufWriter::new(out.map_err(unwritable)?);
        let (notes, _) = mpsc::unbounded_channel();
        let mut first = 1;
        while first <= args.count {
            let count = (args.count - first + 1).min(PAGE_MAX);
            let (prefix, password) = (args.prefix.clone(), args.password.clone());
            let order = Order::UserMint { first, count, prefix, password };
            let Outcome::Minted(users) = way.run(order, &notes).await? else { return Err(odd()) };
            for Minted { id, username, token } in users {
                writeln!(out, "{id},{username},{token}").map_err(unwritable)?;
            }
            first += count;
        }
        out.flush().map_err(unwritable)?;
        print(&format!("{} users, their tokens are in {}", args.count, args.out.display()))
    })
}

pub(crate) fn backup(args: &BackupArgs) -> Result<(), String> {
    if let Some(BackupCommand::Verify { src }) = &args.command {
        let manifest = block_on(restore::verify(src))?;
        return print(&format!(
            "{} is whole: {} files, {} MiB, of {}, written by gochat {}; it belongs to bus.partitions = {}",
            src.display(),
            manifest.files.len(),
            manifest.bytes() >> 20,
            utc(manifest.taken_at),
            manifest.program,
            manifest.partitions
        ));
    }
    let dest = absolute(args.dest.as_deref().unwrap_or(Path::new("")))?;
    let (Outcome::Backup(done), _) = order(&args.place, Order::Backup { dest })? else { return Err(odd()) };
    print(&format!(
        "{}: {} files, {} MiB; check it with `gochat backup verify`",
        done.dest.display(),
        done.files,
        done.bytes >> 20
    ))
}

/// A server has another working directory.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<(), String> {
    let config = args.place.resolve()?;
    let manifest = block_on(restore::restore(&args.src, &config.data_dir))?;
    if manifest.partitions != config.bus.partitions {
        eprintln!("start it with bus.partitions = {}", manifest.partitions);
    }
    print(&format!(
        "{dir} is what the installation was at {when}. Start gochat on it.\n\
         Messages, accounts and changes of after that time are gone from the server. Clients that saw newer messages keep \
         showing them until they load their history anew; what is sent from now on reaches them. Logins, passwords and \
         bans are those of that time: disable again whom you disabled since, and remove {dir}/signing.key before the start \
         if everybody must log in again.",
        dir = config.data_dir.display(),
        when = utc(manifest.taken_at)
    ))
}

pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), String> {
    let findings = block_on(async { Ok(doctor::examine(&args.dev).await) })?;
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    if args.json {
        print(&json!({"ok": failed == 0, "findings": findings}).to_string())?;
    } else {
        findings.iter().try_for_each(|finding| print(&line(finding)))?;
    }
    match failed {
        0 => Ok(()),
        1 => Err("1 check failed".to_owned()),
        failed => Err(format!("{failed} checks failed")),
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let mut line = format!("{word}  {:<18} {}", finding.check, finding.says);
    if !finding.remedy.is_empty() {
        line.push_str(&format!("\n      {:<18} -> {}", "", finding.remedy));
    }
    line
}

fn who(user: &str, id: bool) -> Who {
    if id { Who::Id(user.to_owned()) } else { Who::Name(user.to_owned()) }
}

fn table(users: &[Account]) -> String {
    let mut lines = vec![format!("{:<20} {:<20} {:<9} {:<6} {}", "ID", "NAME", "STATUS", "KIND", "CREATED")];
    for user in users {
        let kind = if user.guest { "guest" } else { "user" };
        let created = utc(user.created_at);
        lines.push(format!("{:<20} {:<20} {:<9} {kind:<6} {created}", user.id, user.username, user.status));
    }
    lines.join("\n")
}

/// `2031-02-03T04:05:06Z`.
fn utc(unix_s: i64) -> String {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    // Days of eras of 400 years that begin in March (the usual civil calendar).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// A closed standard output is no reason to panic, but one to say so.
fn print(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{text}").map_err(|error| format!("cannot write to standard output: {error}"))
}

fn odd() -> String {
    "the server answered something else".to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_927_944_306, "2031-02-04T04:05:06Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ];
        for (unix_s, text) in cases {
            assert_eq!(utc(unix_s), text);
        }
    }

    #[test]
    fn generated_passwords_differ_and_are_taken() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, other);
        assert!(gochat_logic::hash_password(&one, 4).is_ok(), "{one}");
    }
}
