//! What goes wrong in a run, and when.
//!
//! Owns the draw of faults from the seed.

use std::time::Duration;

use gochat_logic::OmittedRules;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Broken;
use crate::chaos::Place;
use crate::world::{TASK, World};

/// Virtual time in which faults happen.
const FAULTY: Duration = Duration::from_secs(4);

/// Faults, by the letters of the explicit-state model where it has them.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// w: a writer dies.
    WriterDies,
    /// z: the owner stands still and is replaced; it wakes later.
    OwnerFrozen,
    /// As z, in the middle of an append, between preparing and appending, or before what the check allowed.
    OwnerTrapped,
    /// As z, but only taken for dead: it goes on at once.
    OwnerReplaced,
    /// f: the cache is flushed.
    CacheFlushed,
    /// e: one claim is lost.
    ClaimLost,
    /// a: an append fails though it is written.
    AppendUnanswered,
    /// p: the answer of PrepareMessages is lost.
    PrepareUnanswered,
    /// The answer of a persist transaction is lost.
    SaveUnanswered,
    /// A produce to a gateway fails though it is written.
    PushUnanswered,
    /// c: the persist consumer dies.
    ConsumerDies,
    /// The persist consumer lags.
    ConsumerFrozen,
    /// d: the store fails over and loses its last transaction.
    StoreFailsOver,
    /// x: the machine dies with any part of what was not synced.
    MachineDies,
}

const CLUSTER: [Fault; 15] = [
    Fault::WriterDies,
    Fault::OwnerFrozen,
    Fault::OwnerTrapped,
    Fault::OwnerTrapped,
    Fault::OwnerReplaced,
    Fault::CacheFlushed,
    Fault::ClaimLost,
    Fault::AppendUnanswered,
    Fault::PrepareUnanswered,
    Fault::SaveUnanswered,
    Fault::PushUnanswered,
    Fault::ConsumerDies,
    Fault::ConsumerFrozen,
    Fault::ConsumerFrozen,
    Fault::StoreFailsOver,
];
const EMBEDDED: [Fault; 7] = [
    Fault::MachineDies,
    Fault::MachineDies,
    Fault::ConsumerFrozen,
    Fault::ClaimLost,
    Fault::AppendUnanswered,
    Fault::PrepareUnanswered,
    Fault::SaveUnanswered,
];

/// Runs one seed. Answers with its story, or with its violations and then the story. Call on a current-thread runtime with paused time.
pub async fn run(seed: u64, without: OmittedRules, broken: Option<Broken>) -> Result<Vec<String>, Vec<String>> {
    let mut world = World::new(seed, without, broken).map_err(|e| vec![e])?;
    let clients = world.clients();
    let mut readers = JoinSet::new();
    world.watch(&mut readers);
    let start = Instant::now();
    let kinds: &[Fault] = if world.embedded { &EMBEDDED } else { &CLUSTER };
    let mut faults: Vec<(Duration, Fault)> = (0..1 + world.chaos.below(5))
        .map(|_| {
            let at = Duration::from_micros(world.chaos.below(FAULTY.as_micros() as u64));
            (at, kinds[world.chaos.below(kinds.len() as u64) as usize])
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    let mut thaw: Vec<(Instant, usize)> = Vec::new();
    let mut faults = faults.into_iter().peekable();
    while start.elapsed() < FAULTY || !thaw.is_empty() {
        let step = Duration::from_micros(1 + world.chaos.below(150_000));
        let fault_at = faults.peek().map_or(Duration::MAX, |(at, _)| *at);
        sleep_until((start + fault_at.min(FAULTY * 2)).min(Instant::now() + step)).await;
        let now = Instant::now();
        thaw.retain(|(at, id)| {
            if *at <= now {
                world.freeze(*id, false);
            }
            *at > now
        });
        for trapped in world.chaos.take_trapped() {
            world.replace(trapped);
            // The worst company for a late append: its claims are gone as well.
            if world.chaos.one_in(2) {
                world.cache.lose_everything();
            }
            thaw.push((now + Duration::from_millis(world.chaos.below(2_000)), trapped));
        }
        if let Some((_, fault)) = faults.next_if(|(at, _)| start + *at <= now) {
            world.story.push(format!("at {:?}: {fault:?}", start.elapsed()));
            strike(&mut world, fault, &mut thaw).await.map_err(|e| vec![e])?;
        } else if world.chaos.one_in(3) {
            world.read(&mut readers);
        } else if world.chaos.one_in(2) {
            world.start_missing().map_err(|e| vec![e])?;
        }
    }
    let result = world.finish(clients).await;
    drop(readers);
    result
}

async fn strike(world: &mut World, fault: Fault, thaw: &mut Vec<(Instant, usize)>) -> Result<(), String> {
    match fault {
        Fault::WriterDies => world.kill(world.chaos.below(2) as usize),
        Fault::OwnerFrozen => {
            let owner = world.owner();
            world.freeze(owner, true);
            sleep(Duration::from_millis(world.chaos.below(60))).await;
            world.replace(owner);
            thaw.push((Instant::now() + Duration::from_millis(world.chaos.below(2_000)), owner));
        }
        Fault::OwnerTrapped => {
            let places = [Place::PersistAppend, Place::Prepare, Place::Check];
            world.chaos.trap(places[world.chaos.below(3) as usize]);
        }
        Fault::OwnerReplaced => world.replace(world.owner()),
        Fault::CacheFlushed => world.cache.lose_everything(),
        Fault::ClaimLost => world.cache.lose_a_claim().await,
        Fault::AppendUnanswered => world.chaos.plan(Place::PersistAppend),
        Fault::PrepareUnanswered => world.chaos.plan(Place::Prepare),
        Fault::SaveUnanswered => world.chaos.plan(Place::Save),
        Fault::PushUnanswered => world.chaos.plan(Place::Downstream),
        Fault::ConsumerDies => world.kill(TASK),
        Fault::ConsumerFrozen => {
            world.freeze(TASK, true);
            thaw.push((Instant::now() + Duration::from_millis(world.chaos.below(1_500)), TASK));
        }
        Fault::StoreFailsOver => world.store.fail_over(),
        Fault::MachineDies => return world.crash(),
    }
    Ok(())
}
