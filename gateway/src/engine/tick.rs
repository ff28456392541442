//! One shard's loop over a reactor, generic over the application. It owns order: completions first, then timers,
//! then the application's tick, then one flush. Nothing in it blocks but the reactor's wait.

use std::sync::Arc;

use bytes::Bytes;
use gochat_ring::{Completion, Completions, ConnId, ListenerId, Reactor, RingConfig, RingError};
use gochat_ws::Scratch;

use super::app::App;
use super::conn::State;
use super::inbound::{self, Decoding};
use super::io::{self, Io};
use super::metrics::{Metric, Published};
use super::timers::NEVER;
use super::upgrade;
use crate::bridge::{FrameClass, OutFrame};
use crate::limits::{Limits, TIMERS_PER_TICK, Timeouts};

/// An empty ping frame.
const PING: &[u8] = &[0x89, 0x00];

/// One shard. Everything in it stays on its thread.
pub struct Engine<R: Reactor, A: App> {
    reactor: R,
    completions: Completions,
    listener: Option<ListenerId>,
    app: A,
    io: Io<A::Session>,
    decoding: Decoding,
    published: Arc<Published>,
    published_at: u32,
}

impl<R: Reactor, A: App> Engine<R, A> {
    /// A shard over `reactor`, which was made with `ring`. `seed` spreads timers.
    pub fn new(reactor: R, ring: &RingConfig, limits: Limits, timeouts: &Timeouts, app: A, seed: u64) -> Engine<R, A> {
        let now = reactor.now();
        Engine {
            completions: Completions::new(ring),
            listener: None,
            io: Io::new(limits, timeouts, now, seed),
            decoding: Decoding {
                scratch: Scratch::new(),
                limits: gochat_ws::Limits { message_bytes_max: limits.message_bytes_max },
            },
            published: Arc::new(Published::default()),
            published_at: 0,
            reactor,
            app,
        }
    }

    /// The numbers this shard publishes.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// The reactor, to listen before the first tick and to simulate in tests.
    pub fn reactor(&mut self) -> &mut R {
        &mut self.reactor
    }

    /// The application.
    pub fn app(&mut self) -> &mut A {
        &mut self.app
    }

    /// Accepts what this listener of the reactor brings.
    pub fn serve(&mut self, listener: ListenerId) {
        self.listener = Some(listener);
    }

    /// Whether the application lets the shard end.
    pub fn is_finished(&self) -> bool {
        self.app.is_finished()
    }

    /// One turn: waits for something to happen, at most until the next quantum, and handles all of it.
    ///
    /// # Errors
    /// The reactor is broken; the shard cannot go on.
    pub fn tick(&mut self) -> Result<(), RingError> {
        let backlog = std::mem::take(&mut self.io.work.again) || !self.io.wheel.is_caught_up(self.io.quantum());
        let until = if backlog { self.reactor.now() } else { self.io.next_quantum_at() };
        self.reactor.wait(Some(until), &mut self.completions)?;
        self.io.set_now(self.reactor.now());
        self.io.counters.add(Metric::Ticks, 1);
        while let Some(completion) = self.completions.next_completion() {
            let (app, io, reactor) = (&mut self.app, &mut self.io, &mut self.reactor);
            handle(app, io, &mut self.decoding, completion);
            settle(app, io, reactor);
        }
        self.expire();
        self.app.on_tick(&mut self.io);
        settle(&mut self.app, &mut self.io, &mut self.reactor);
        loop {
            self.io.uncork();
            if self.io.work.dirty.is_empty() {
                break;
            }
            flush(&mut self.io, &mut self.reactor);
            settle(&mut self.app, &mut self.io, &mut self.reactor);
        }
        if self.io.work.stop_accepting
            && let Some(listener) = self.listener.take()
        {
            self.reactor.stop_accepting(listener);
        }
        self.publish();
        Ok(())
    }

    /// Looks at connections whose time may have come, a bounded number of them.
    fn expire(&mut self) {
        let now = self.io.quantum();
        for _ in 0..TIMERS_PER_TICK {
            let Some((slot, due)) = self.io.wheel.pop(now) else { return };
            let Some(conn) = self.io.slab.slot(slot) else { continue };
            if conn.when.due != due || conn.state == State::Free {
                continue;
            }
            conn.when.due = NEVER;
            let id = ConnId { slot, generation: conn.generation };
            expired(&mut self.app, &mut self.io, id);
            self.io.reschedule(id);
            settle(&mut self.app, &mut self.io, &mut self.reactor);
        }
    }

    fn publish(&mut self) {
        if self.published_at != self.io.quantum() || self.app.is_finished() {
            self.published_at = self.io.quantum();
            self.io.refresh_gauges();
            self.io.counters.set_reactor(self.reactor.stats());
            self.published.publish(&self.io.counters);
        }
    }
}

fn handle<A: App>(app: &mut A, io: &mut Io<A::Session>, decoding: &mut Decoding, completion: Completion<'_>) {
    match completion {
        Completion::Accepted { conn, peer, .. } => {
            io.accepted(conn, peer);
        }
        Completion::Received { conn: id, data } => {
            let now = io.quantum();
            let Some(conn) = io.slab.get(id) else { return };
            conn.when.seen = now;
            match conn.state {
                State::Open | State::Closing => inbound::frames(app, io, decoding, id, data),
                State::Handshake => upgrade::head(app, io, decoding, id, data),
                State::Detaching => upgrade::keep(io, id, data),
                State::Free | State::Refusing | State::Lingering | State::Ended => {}
            }
            io.uncork();
        }
        Completion::Sent { conn, result, .. } => {
            io.sent(conn);
            if result.is_err() {
                io.end(conn, 1006);
            }
        }
        Completion::RecvEof { conn: id } => {
            let Some(conn) = io.slab.get(id) else { return };
            conn.flags.eof = true;
            match conn.state {
                State::Handshake | State::Open | State::Lingering => io.end(id, 1006),
                State::Closing | State::Refusing => io.mark_dirty(id),
                State::Free | State::Detaching | State::Ended => {}
            }
        }
        Completion::RecvError { conn, .. } => io.end(conn, 1006),
        Completion::Closed { conn } => io.release(conn, &mut decoding.scratch),
        Completion::Detached { conn, fd } => {
            let received = io.detached(conn);
            io.release(conn, &mut decoding.scratch);
            match (fd, received) {
                (Ok(fd), Some((received, peer))) => app.on_handover(fd, received, peer),
                (Err(_), _) | (_, None) => io.counters.add(Metric::TurnedAway, 1),
            }
        }
        // The reactor retries by itself; it counts these.
        Completion::AcceptError { .. } => {}
        // The shard makes no connections of its own.
        Completion::Connected { .. } => {}
        Completion::ListenerClosed { .. } | Completion::Wake => {}
    }
}

/// Tells the application what ended and gives the reactor what is to end, until neither brings anything new.
fn settle<R: Reactor, A: App>(app: &mut A, io: &mut Io<A::Session>, reactor: &mut R) {
    loop {
        if let Some(left) = io.work.left.pop_front() {
            if let Some(reason) = left.notice {
                if let Some(frame) = app.farewell(left.code) {
                    io.push_last(left.id, frame.wire);
                }
                io.queue_close(left.id, Some(left.code), reason);
            }
            app.on_close(io, left.id, left.code);
        } else if let Some((id, shed)) = io.work.drained.pop_front() {
            app.on_drained(io, id, shed);
        } else if let Some(id) = io.work.detach.pop() {
            reactor.detach(id);
        } else if let Some(id) = io.work.ended.pop() {
            reactor.close(id);
        } else {
            return;
        }
    }
}

/// One send per connection that has something to say.
fn flush<R: Reactor, S: Default>(io: &mut Io<S>, reactor: &mut R) {
    let mut dirty = std::mem::take(&mut io.work.dirty);
    for id in dirty.drain(..) {
        flush_one(io, reactor, id);
    }
    // The list keeps its memory; what the loop marked anew, if anything, is flushed next.
    std::mem::swap(&mut dirty, &mut io.work.dirty);
    io.work.dirty.append(&mut dirty);
}

fn flush_one<R: Reactor, S: Default>(io: &mut Io<S>, reactor: &mut R, id: ConnId) {
    let send_by = io.after(io.quanta.write);
    let (pause_at, resume_at) = (io.limits.queue_bytes_max / 2, io.limits.queue_bytes_max / 4);
    let Some(conn) = io.slab.get(id) else { return };
    conn.flags.dirty = false;
    if matches!(conn.state, State::Ended | State::Detaching) {
        return;
    }
    if !conn.flags.sending
        && let Some(outbox) = conn.outbox.as_mut()
        && !outbox.is_drained()
    {
        match reactor.send(id, outbox.queue()) {
            Ok(bytes) => {
                outbox.taken(bytes);
                conn.flags.sending = bytes > 0;
                conn.when.send = send_by;
            }
            Err(_) => return io.end(id, 1006),
        }
        io.reschedule(id);
    }
    let Some(conn) = io.slab.get(id) else { return };
    // Who does not read what it asked for is not listened to.
    let waiting = conn.queued_bytes();
    if conn.state == State::Open && !conn.flags.paused && waiting > pause_at {
        conn.flags.paused = true;
        reactor.pause_recv(id);
    } else if conn.flags.paused && (waiting <= resume_at || conn.state != State::Open) {
        conn.flags.paused = false;
        reactor.resume_recv(id);
    }
    if io::is_done(conn) {
        if conn.flags.eof {
            io.end(id, 1006);
        } else {
            conn.state = State::Lingering;
            reactor.shutdown(id);
        }
    }
    io.drain(id);
}

/// Acts on the deadlines of one connection that have passed.
fn expired<A: App>(app: &mut A, io: &mut Io<A::Session>, id: ConnId) {
    let now = io.quantum();
    let dead_after = io.quanta.dead_after;
    let Some(conn) = io.slab.get(id) else { return };
    if conn.when.send <= now {
        io.counters.add(Metric::WriteTimeouts, 1);
        return io.end(id, 1006);
    }
    if conn.when.state <= now {
        if conn.state == State::Handshake {
            io.counters.add(Metric::HandshakeTimeouts, 1);
        }
        conn.when.state = NEVER;
        return io.end(id, 1006);
    }
    if conn.state != State::Open {
        return;
    }
    if now.saturating_sub(conn.when.seen) >= dead_after {
        io.counters.add(Metric::Dead, 1);
        return io.fail(id, 4008, "heartbeat timeout");
    }
    let (ping_is_due, app_is_due) = (conn.when.ping <= now, conn.when.app <= now);
    if app_is_due {
        conn.when.app = NEVER;
    }
    if ping_is_due {
        let next = io.next_ping();
        if let Some(conn) = io.slab.get(id) {
            conn.when.ping = next;
        }
        io.send(id, &OutFrame { wire: Bytes::from_static(PING), class: FrameClass::Chat });
    }
    if ping_is_due {
        app.on_heartbeat(io, id);
    }
    if app_is_due {
        app.on_timer(io, id);
    }
}
