//! What is measured: the cells of each table. Runs nothing.

use crate::serve::Mode;

/// One line of a table.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    pub(super) figure: Figure,
    /// Arguments of the load-test tool; `SECONDS` stands for the length of the measured phase.
    pub(super) load: &'static str,
    /// What the design asks for, as a ratio to the floor.
    pub(super) goal: &'static str,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Server CPU a message: echoed, or delivered.
    Message,
    /// Server CPU a connection, from accept to close.
    Connect(u32),
    /// Resident bytes of the server a connection.
    Memory,
}

impl Cell {
    pub(super) fn unit(&self) -> &'static str {
        match self.figure {
            Figure::Message => "µs a message",
            Figure::Connect(_) => "µs a connection",
            Figure::Memory => "B a connection",
        }
    }
}

const fn echo(name: &'static str, load: &'static str, goal: &'static str) -> Cell {
    Cell { name, mode: Mode::Echo, figure: Figure::Message, load, goal }
}

const fn fanout(name: &'static str, load: &'static str, goal: &'static str) -> Cell {
    Cell { name, mode: Mode::Publish, figure: Figure::Message, load, goal }
}

pub(super) const ECHO: &[Cell] = &[
    echo("64 B, 1 in flight", "run echo --connections 100 --size 64 --duration SECONDS --warmup 1s", "≤ 1.03"),
    echo(
        "64 B, 1 in flight, 10,000 connections",
        "run echo --connections 10000 --size 64 --duration SECONDS --warmup 1s",
        "≤ 1.03",
    ),
    echo(
        "64 B, 16 in flight",
        "run echo --connections 100 --size 64 --in-flight 16 --duration SECONDS --warmup 1s",
        "≤ 1.08",
    ),
    echo("16 KiB, 1 in flight", "run echo --connections 100 --size 16384 --duration SECONDS --warmup 1s", "≤ 1.08"),
];

pub(super) const FANOUT: &[Cell] = &[
    fanout(
        "to 1,000, 150 B, one by one",
        "run publish --connections 1000 --size 150 --duration SECONDS --warmup 1s",
        "≤ 1.05",
    ),
    fanout(
        "to 10,000, 150 B, one by one",
        "run publish --connections 10000 --size 150 --duration SECONDS --warmup 1s",
        "≤ 1.05",
    ),
    fanout(
        "to 10,000, 150 B, bursts of 16",
        "run publish --connections 10000 --size 150 --in-flight 16 --duration SECONDS --warmup 1s",
        "≤ 1.10",
    ),
];

pub(super) const CONNECT: &[Cell] = &[Cell {
    name: "accept, upgrade, close",
    mode: Mode::Echo,
    figure: Figure::Connect(10_000),
    load: "run connect --connections 10000 --hold 1s",
    goal: "≤ 1.15",
}];

pub(super) const MEMORY: &[Cell] = &[Cell {
    name: "15,000 idle connections",
    mode: Mode::Echo,
    figure: Figure::Memory,
    load: "run connect --connections 15000 --hold 1s",
    goal: "≤ 256 B",
}];
