//! Flags of protocols that a file describes. Runs nothing.

use clap::Args;

/// The description of `--protocol script`.
#[derive(Debug, Clone, Args)]
pub struct ScriptArgs {
    /// What the server speaks, for --protocol script: a TOML file, or centrifugo, jsonrpc, socketio or stomp.
    #[arg(long, value_name = "FILE", required_if_eq("protocol", "script"))]
    pub script: Option<String>,
    /// Give a variable of the description a text, or a column of a file: NAME=VALUE or NAME=@FILE:COLUMN.
    #[arg(long, value_name = "NAME=VALUE", requires = "script")]
    pub set: Vec<String>,
}
