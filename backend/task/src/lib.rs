//! The consumers: persistence, relay of the outbox, clean-up.
