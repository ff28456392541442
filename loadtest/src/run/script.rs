//! Runs of protocols that a file describes. Owns no measuring.

use std::borrow::Cow;
use std::path::Path;

use crate::cli::{Client, ConnectArgs, EchoArgs, Payload, PublishArgs, ScriptArgs, check_size};
use crate::driver::Plan;
use crate::error::LoadError;
use crate::report::Report;
use crate::scenario::{Scripted, ScriptedSetup};
use crate::schedule::Load;
use crate::script::{Purpose, Script};
use crate::spread::Sizes;

use super::{ECHO_SIZE_MAX, drive, label, plan, report};

/// What a message may have around its content.
const AROUND: usize = 1024;

/// The protocol as reports name it, where a file describes it.
pub(super) fn protocol(args: &ScriptArgs) -> Option<Cow<'static, str>> {
    let name = Path::new(args.script.as_deref()?).file_stem()?.to_string_lossy();
    Some(format!("script:{name}").into())
}

fn name(args: &ScriptArgs) -> Cow<'static, str> {
    protocol(args).unwrap_or("script".into())
}

/// Refuses a description where another protocol is asked for.
pub(super) fn check(args: &ScriptArgs, is_script: bool) -> Result<(), LoadError> {
    match args.script.is_some() == is_script {
        true => Ok(()),
        false => Err(LoadError::Arguments("--script and --protocol script go together: give both".to_owned())),
    }
}

fn check_tokens(tokens: Option<&Path>) -> Result<(), LoadError> {
    let why = "--tokens is of --protocol gochat: give a variable of the description a column, --set NAME=@FILE:COLUMN";
    tokens.map_or(Ok(()), |_| Err(LoadError::Arguments(why.to_owned())))
}

/// Every client sends messages that come back to it.
pub(super) fn echo(args: &EchoArgs) -> Result<Report, LoadError> {
    check_size(&args.size, 1..=ECHO_SIZE_MAX)?;
    if args.client != Client::Engine {
        return Err(LoadError::Arguments("--client tungstenite speaks raw-echo only: leave it out".to_owned()));
    }
    if args.payload == Payload::Binary {
        let why = "--payload is of raw-echo: leave it out and write frames = \"binary\" in the description";
        return Err(LoadError::Arguments(why.to_owned()));
    }
    let plan = plan(&args.common, args.connections, args.load.warmup, args.load.measured())?;
    let setup = setup(&args.script, &plan, Purpose::Echo, args.load.load(), args.size.clone())?;
    let mut driver = Scripted::echo(setup);
    let ran =
        drive(&args.common, &plan, &mut driver, args.size.max() + AROUND).map_err(|error| driver.explain(error))?;
    let label = label("echo", name(&args.script), Some(&args.load.load()), Some(&args.size));
    Ok(report(label, &plan, ran, Some(driver.finish())))
}

/// Connections are opened and held.
pub(super) fn connect(args: &ConnectArgs, plan: Plan) -> Result<Report, LoadError> {
    check_tokens(args.tokens.as_deref())?;
    if args.heartbeat.is_some() {
        return Err(LoadError::Arguments("--heartbeat is for plain servers: a script describes its own".to_owned()));
    }
    let setup = setup(&args.script, &plan, Purpose::Connect, Load::closed(1), Sizes::from(0))?;
    let mut driver = Scripted::idle(setup);
    let ran = drive(&args.common, &plan, &mut driver, 0).map_err(|error| driver.explain(error))?;
    Ok(report(label("connect", name(&args.script), None, None), &plan, ran, None))
}

/// Some clients write to a room, everybody in it receives.
pub(super) fn publish(args: &PublishArgs, plan: Plan) -> Result<Report, LoadError> {
    check_size(&args.size, 1..=ECHO_SIZE_MAX)?;
    check_tokens(args.tokens.as_deref())?;
    let load = args.load.load();
    let closed = matches!(load, Load::Closed { .. });
    let setup = setup(&args.script, &plan, Purpose::Publish, load, args.size.clone())?;
    let answers = setup.script.acknowledges() || setup.script.sender_receives();
    if closed && !answers {
        let why = "senders hear nothing of their messages, so nothing triggers the next: give --rate";
        return Err(LoadError::Arguments(why.to_owned()));
    }
    let mut driver = Scripted::publish(setup, args.publishers);
    let ran =
        drive(&args.common, &plan, &mut driver, args.size.max() + AROUND).map_err(|error| driver.explain(error))?;
    let label = label("publish", name(&args.script), Some(&args.load.load()), Some(&args.size));
    Ok(report(label, &plan, ran, Some(driver.finish())))
}

fn setup(
    args: &ScriptArgs,
    plan: &Plan,
    purpose: Purpose,
    load: Load,
    sizes: Sizes,
) -> Result<ScriptedSetup, LoadError> {
    let name = args.script.as_deref().unwrap_or_default();
    let mut script = Script::load(name, &args.set, purpose, plan.seed)?;
    script.seat(plan.place.first_client, plan.clients)?;
    if plan.url.target != "/" {
        // A path in --url is nearer to who runs the tool than one in the description.
        script.keep_target();
    }
    Ok(ScriptedSetup { script, clients: plan.clients, load, sizes, run: plan.seed as u32 })
}
