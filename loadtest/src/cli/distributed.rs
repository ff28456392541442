//! Flags of distributed runs. Runs nothing.

use clap::Args;

/// `agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Where coordinators are waited for; beyond loopback only with --token.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    pub listen: String,
    /// Only a coordinator with the same is served. It crosses the network as it is.
    #[arg(long, value_name = "SECRET")]
    pub token: Option<String>,
    /// Pin the generator to this CPU.
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
}

/// `coordinator`.
#[derive(Debug, Clone, Args)]
pub struct CoordinatorArgs {
    /// Agents that wait, host:port each.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    pub agents: Vec<String>,
    /// The agents' token.
    #[arg(long, value_name = "SECRET")]
    pub token: Option<String>,
    /// `run` and all that follows it, for the whole: connections and rates are those of all agents together.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "run ...")]
    pub command: Vec<String>,
}
