"""AMQP 1.0 as bytes: types, frames, performatives, sections of messages. Does no I/O and keeps no state of a peer."""
