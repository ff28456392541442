//! What stops the tool: one line each, saying what was wrong and what to do. Findings about the server are no errors.

use std::path::PathBuf;

/// Why a command cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL cannot be used.
    #[error("bad URL {url:?}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Arguments that contradict each other or a limit.
    #[error("{0}")]
    Arguments(String),
    /// No connection could be opened.
    #[error("cannot reach {target}: {why}; is the server running and listening there?")]
    Unreachable {
        /// Host and port.
        target: String,
        /// What the first attempt said.
        why: String,
    },
    /// The server answered, but opened no connection.
    #[error("{target} opened no connection: {why}")]
    Refused {
        /// Host and port.
        target: String,
        /// The first refusal and what to do about it.
        why: String,
    },
    /// The limit on descriptors is too low.
    #[error(
        "{wanted} connections need {needed} file descriptors but the limit is {limit}: raise it with `ulimit -n {needed}` (and `LimitNOFILE` or limits.conf for the hard limit), or use fewer connections"
    )]
    Descriptors {
        /// Connections asked for.
        wanted: u32,
        /// Descriptors that takes.
        needed: u64,
        /// What the process may have.
        limit: u64,
    },
    /// The HTTP API refused something the run needs.
    #[error("{method} {path} was answered {status}: {body}{hint}")]
    Api {
        /// Of the request.
        method: &'static str,
        /// Of the request.
        path: String,
        /// HTTP status.
        status: u16,
        /// The body, shortened.
        body: String,
        /// What to do, or nothing.
        hint: &'static str,
    },
    /// An HTTP exchange broke.
    #[error("HTTP with {target} failed: {why}")]
    Http {
        /// Host and port.
        target: String,
        /// What happened.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was wrong, with the line where there is one.
        why: String,
    },
    /// The process given by `--server-pid` cannot be observed.
    #[error("cannot read /proc of --server-pid {pid}: {why}")]
    ServerPid {
        /// As given.
        pid: u32,
        /// What the system said.
        why: String,
    },
    /// An agent of a distributed run, or its coordinator, does not do its part.
    #[error("{peer}: {why}")]
    Peer {
        /// Which.
        peer: String,
        /// What happened.
        why: String,
    },
    /// The run was ended before it began to send.
    #[error("interrupted while {established} of {target} connections stood: nothing was measured")]
    Interrupted {
        /// Connections that were ready.
        established: u32,
        /// Asked for.
        target: u32,
    },
    /// The reactor refused.
    #[error(transparent)]
    Ring(#[from] gochat_ring::RingError),
}
