//! The suites: contenders in interleaved rounds, each measured by the load-test tool, as ratios to the better floor of the
//! same run. Owns the order of things and the tables; servers and generator are programs of their own.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use crate::spread::Spread;

mod cells;
mod contenders;
pub(crate) mod page;
mod pipeline;
mod run;

use cells::{CONNECT, Cell, ECHO, FANOUT, MEMORY};
use contenders::{CONTENDERS, Contender};

/// Ours, floors and peers in interleaved rounds: server on core 0, generator on core 1.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", version)]
pub struct Arguments {
    /// Which.
    pub suite: Suite,
    /// Rounds; each measures every contender once in every cell.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measured phase.
    #[arg(long, default_value_t = 2)]
    pub seconds: u32,
    /// One round of one second: shows that everything runs, measures nothing.
    #[arg(long)]
    pub quick: bool,
    /// Write the tables and plots into docs/.
    #[arg(long)]
    pub write: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Messages to a server that sends each back.
    Echo,
    /// Messages that go to everybody.
    Fanout,
    /// Connections that are opened, upgraded and closed.
    Connect,
    /// Resident memory of idle connections.
    Memory,
    /// The whole product in one process: stored, acknowledged and delivered single chats.
    Pipeline,
    /// All of these.
    All,
}

/// Where everything is.
#[derive(Debug)]
struct Place {
    /// Release binaries.
    bin: PathBuf,
    /// The workspace.
    root: PathBuf,
    rounds: usize,
    seconds: u32,
    /// The commit that was measured.
    commit: String,
}

/// The figures of one contender in one cell, round by round.
#[derive(Debug)]
struct Row {
    contender: &'static Contender,
    server: Vec<f64>,
    /// Generator's CPU a message, where there are any.
    generator: Vec<f64>,
}

/// Runs a suite.
///
/// # Errors
/// A program cannot be started, or a run failed: a fast wrong answer is no result.
#[allow(clippy::print_stdout, reason = "this is a command")]
pub fn run(arguments: &Arguments, root: &Path) -> io::Result<()> {
    let bin = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let (rounds, seconds) = if arguments.quick { (1, 1) } else { (arguments.rounds.max(1), arguments.seconds.max(1)) };
    let commit = run::commit(root);
    let place = Place { bin, root: root.to_owned(), rounds, seconds, commit };
    let wanted = |suite: Suite| arguments.suite == suite || arguments.suite == Suite::All;
    for (suite, name, cells) in [
        (Suite::Echo, "echo", ECHO),
        (Suite::Fanout, "fanout", FANOUT),
        (Suite::Connect, "connect", CONNECT),
        (Suite::Memory, "memory", MEMORY),
    ] {
        if wanted(suite) {
            let measured = cells.iter().map(|cell| Ok((cell, measure(&place, cell)?)));
            let measured = measured.collect::<io::Result<Vec<(&Cell, Vec<Row>)>>>()?;
            let table = page::table(&measured);
            println!("\n{table}");
            if arguments.write {
                page::write(&place, name, &table, Some(&page::plot(name, &measured)))?;
            }
        }
    }
    if wanted(Suite::Pipeline) {
        let table = pipeline::run(&place)?;
        println!("\n{table}");
        if arguments.write {
            page::write(&place, "pipeline", &table, None)?;
        }
    }
    Ok(())
}

/// Every contender in one cell, in rounds whose order turns, so that a machine that warms or slows favours nobody.
#[allow(clippy::print_stdout, reason = "this is a command")]
fn measure(place: &Place, cell: &Cell) -> io::Result<Vec<Row>> {
    let taking_part = CONTENDERS.iter().filter(|it| it.takes_part(cell));
    let mut rows: Vec<Row> =
        taking_part.map(|contender| Row { contender, server: Vec::new(), generator: Vec::new() }).collect();
    for round in 0..place.rounds {
        let count = rows.len();
        for turn in 0..count {
            if let Some(row) = rows.get_mut((turn + round) % count) {
                let figures = run::one(place, cell, row.contender)?;
                row.server.push(figures.server);
                row.generator.extend(figures.generator);
            }
        }
        println!("{}: round {} of {}", cell.name, round + 1, place.rounds);
    }
    for row in &rows {
        println!("  {:<20} {} {}", row.contender.name, Spread::of(&row.server), cell.unit());
    }
    Ok(rows)
}

/// The better floor of a cell: that with the lower median.
fn floor(rows: &[Row]) -> Option<&Row> {
    let floors = rows.iter().filter(|row| row.contender.is_floor);
    floors.min_by(|a, b| Spread::of(&a.server).median.total_cmp(&Spread::of(&b.server).median))
}
