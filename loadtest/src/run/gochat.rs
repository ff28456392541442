//! Runs of the scenarios that only GoChat knows: their users, conversations and drivers. Owns no measuring.

use crate::api;
use crate::cli::{GroupArgs, UserArgs, check_size};
use crate::driver::Plan;
use crate::error::LoadError;
use crate::observer::say;
use crate::report::Report;
use crate::scenario::{Publish, PublishSetup, Speech};
use crate::tokens::User;

use super::{CHAT_SIZE_MAX, chat_path, drive, label, plan, report, users};

/// Groups in which members write and everybody else receives.
pub(super) fn group(args: &GroupArgs) -> Result<Report, LoadError> {
    check_size(args.size, 1..=CHAT_SIZE_MAX)?;
    let publishers = args.writers.unwrap_or(args.members);
    if publishers > args.members {
        return Err(LoadError::Arguments("--writers must be 1 to --members".to_owned()));
    }
    let clients = args.members.saturating_mul(args.groups);
    let mut plan = plan(&args.common, clients, args.load.warmup, args.load.duration)?;
    let run = plan.seed as u32;
    let users = users_of(&args.users, &plan, clients)?;
    say(&format!("creating {} groups of {}", args.groups, args.members));
    let rooms = api::create_groups(&plan.url, run, &users, args.members as usize)?;
    plan.url.target = chat_path(&plan.url);
    let (load, size) = (args.load.load(), args.size);
    let speech = Speech::Gochat { users: users.into(), rooms, run };
    let mut driver = Publish::new(PublishSetup { speech, clients, room_size: args.members, publishers, load, size });
    let ran = drive(&args.common, &plan, &mut driver, size)?;
    Ok(report(label("group", "gochat", Some(load), Some(size)), &plan, ran, Some(driver.finish())))
}

/// The users of a file, or as many that are registered for the run.
pub(super) fn users_of(args: &UserArgs, plan: &Plan, count: u32) -> Result<Vec<User>, LoadError> {
    users(args.tokens.as_deref(), args.tokens_out.as_deref(), &plan.url, plan.seed as u32, count as usize)
}
