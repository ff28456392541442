//! Runs of the scenarios that only GoChat knows: their users, conversations and drivers. Owns no measuring.

use std::rc::Rc;

use crate::api;
use crate::cli::{GroupArgs, MixedArgs, UserArgs, check_size};
use crate::driver::Plan;
use crate::error::LoadError;
use crate::observer::say;
use crate::report::Report;
use crate::scenario::{Mixed, Publish, PublishSetup, ROOM, Speech};
use crate::schedule::Load;
use crate::tokens::User;

use super::{CHAT_SIZE_MAX, chat_path, drive, label, plan, report, users};

/// Groups in which members write and everybody else receives.
pub(super) fn group(args: &GroupArgs) -> Result<Report, LoadError> {
    check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
    let publishers = args.writers.unwrap_or(args.members);
    if publishers > args.members {
        return Err(LoadError::Arguments("--writers must be 1 to --members".to_owned()));
    }
    let clients = args.members.saturating_mul(args.groups);
    let mut plan = plan(&args.common, clients, args.load.warmup, args.load.measured())?;
    let run = plan.seed as u32;
    let users = users_of(&args.users, &plan, clients)?;
    say(&format!("creating {} groups of {}", args.groups, args.members));
    let rooms = api::create_groups(&plan.url, run, &users, args.members as usize)?;
    plan.url.target = chat_path(&plan.url);
    let (load, sizes) = (args.load.load(), args.size.clone());
    let speech = Speech::Gochat { users: users.into(), rooms, run };
    let mut driver = Publish::new(PublishSetup { speech, clients, room_size: args.members, publishers, load, sizes });
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    Ok(report(label("group", "gochat", Some(&args.load.load()), Some(&args.size)), &plan, ran, Some(driver.finish())))
}

/// Single chats, groups and the world room over the same connections.
pub(super) fn mixed(args: &MixedArgs) -> Result<Report, LoadError> {
    check_size(&args.size, 1..=CHAT_SIZE_MAX)?;
    let (clients, members) = (args.connections, args.members);
    if !clients.is_multiple_of(2) || !clients.is_multiple_of(members) {
        return Err(LoadError::Arguments("--connections must be even and a multiple of --members".to_owned()));
    }
    let Load::Open { profile, arrivals } = args.load.load() else {
        return Err(LoadError::Arguments("run mixed is an open loop: give --rate or --phases".to_owned()));
    };
    let mut plan = plan(&args.common, clients, args.load.warmup, args.load.measured())?;
    let run = plan.seed as u32;
    let users: Rc<[User]> = users_of(&args.users, &plan, clients)?.into();
    say(&format!("opening {} single chats, {} groups and the room {ROOM}", clients / 2, clients / members));
    let chats = api::open_chats(&plan.url, &users)?;
    let groups = api::create_groups(&plan.url, run, &users, members as usize)?;
    api::join_world(&plan.url, &users)?;
    plan.url.target = chat_path(&plan.url);
    let kinds = [
        ("single", args.mix.single, 2, chats),
        ("group", args.mix.group, members, groups),
        ("world", args.mix.world, clients, vec![ROOM.to_owned()]),
    ];
    let parts = kinds.into_iter().zip(0_u32..).filter(|((_, percent, ..), _)| *percent > 0);
    let parts = parts.map(|((name, percent, room_size, rooms), at)| {
        let speech = Speech::Gochat { users: Rc::clone(&users), rooms, run: run.wrapping_add(at) };
        let load = Load::Open { profile: profile.scaled(f64::from(percent) / 100.0), arrivals };
        let sizes = args.size.clone();
        (name, Publish::new(PublishSetup { speech, clients, room_size, publishers: room_size, load, sizes }))
    });
    let mut driver = Mixed::new(parts.collect());
    let ran = drive(&args.common, &plan, &mut driver, args.size.max())?;
    let (measured, parts) = driver.finish();
    let label = label("mixed", "gochat", Some(&args.load.load()), Some(&args.size));
    let mut report = report(label, &plan, ran, Some(measured));
    report.detail.parts = parts;
    Ok(report)
}

/// The users of a file, or as many that are registered for the run.
pub(super) fn users_of(args: &UserArgs, plan: &Plan, count: u32) -> Result<Vec<User>, LoadError> {
    users(args.tokens.as_deref(), args.tokens_out.as_deref(), &plan.url, plan.seed as u32, count as usize)
}
