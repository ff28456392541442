//! Closing and opening connections again in the middle of a run, as the driver asks. When and why is the driver's.

use gochat_ring::{ConnId, Reactor, RingError};
use gochat_ws::{Decoder, Opcode, Role};

use super::Clients;
use crate::driver::{Driver, Ended};
use crate::outbound::{Command, State};

impl<R: Reactor, D: Driver> Clients<'_, R, D> {
    /// Closes and opens what is due; says when more will be.
    pub(in crate::engine) fn reopen_due(&mut self, now_ns: u64) -> Option<u64> {
        while let Some((client, conn)) = self.redials.overdue(now_ns) {
            self.expire(client, conn, now_ns);
        }
        loop {
            while let Some(command) = self.out.take_command() {
                self.carry_out(command, now_ns);
            }
            if !self.redial(now_ns) {
                return self.redials.next_ns();
            }
        }
    }

    /// Whether nobody is connected and nobody will be.
    pub(in crate::engine) fn is_over(&self) -> bool {
        self.alive() == 0 && self.in_progress() == 0 && self.redials.is_empty() && !self.out.has_commands()
    }

    fn carry_out(&mut self, command: Command, now_ns: u64) {
        match command {
            Command::Close(client) => {
                let Some(conn) = self.out.conn(client).filter(|_| self.out.is_ready(client)) else { return };
                self.out.frame(client, Opcode::Close, &1000_u16.to_be_bytes());
                self.out.set_state(client, State::Leaving);
                self.redials.watch(now_ns, client, conn);
            }
            Command::Cut(client) if self.out.is_ready(client) => {
                self.out.set_state(client, State::Leaving);
                self.end(client, "", now_ns);
            }
            Command::Cut(_) => {}
            Command::Reopen { client, at_ns } => self.redials.add(at_ns, client),
        }
    }

    /// Begins one connection that is due; whether there was one.
    fn redial(&mut self, now_ns: u64) -> bool {
        let Some((client, at_ns)) = self.redials.take(now_ns) else { return false };
        if self.out.state(client) != State::Idle {
            return true;
        }
        match self.reactor.connect(self.dialer.source(client), self.plan.url.addr) {
            Ok(conn) => {
                if let Some(inbound) = self.inbound.get_mut(client as usize) {
                    inbound.decoder = Decoder::new(Role::Client);
                }
                self.own(client, conn, true);
                self.dialer.in_progress += 1;
                self.redials.watch(now_ns, client, conn);
                self.driver.dialled(client, now_ns);
                true
            }
            // Sockets that were closed still hold their slots: they are gone soon.
            Err(RingError::Full { .. }) => {
                self.redials.add(at_ns, client);
                false
            }
            Err(error) => {
                self.tell(client, Ended::Refused(&error.to_string()), now_ns);
                true
            }
        }
    }

    /// Ends what did not get through its handshake in time.
    fn expire(&mut self, client: u32, conn: ConnId, now_ns: u64) {
        if self.out.conn(client) != Some(conn) {
            return;
        }
        match self.out.state(client) {
            State::Leaving => {
                self.note("the server did not answer a close frame within 10 s");
                self.end(client, "", now_ns);
            }
            State::Connecting | State::Upgrading | State::Greeting => {
                self.end(client, "no answer to the handshake within 10 s", now_ns);
            }
            State::Idle | State::Ready => {}
        }
    }
}
