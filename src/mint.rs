//! `gochat user mint`: many accounts with one password, and a signed access token for each, written for a load tool.
//! Works on the embedded store while no server has it.

use crate::cli::{DevArgs, MintArgs};
use crate::config::Config;
use crate::data::DataDir;
use gochat_infra::clock::SystemClock;
use gochat_infra::token::{Claims, ISSUER, TokenKey, TokenKind};
use gochat_infra::uid::{Snowflake, uuid_v7};
use gochat_repo::store::user::NewUser;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Accounts of one transaction.
const BATCH: usize = 10_000;

/// Makes the accounts, all in transactions of 10,000, and writes one line for each.
///
/// A name that exists already ends it with a clear line; the accounts of earlier transactions stay.
pub(crate) fn run(args: &MintArgs) -> Result<(), String> {
    let flags = DevArgs { data_dir: args.data_dir.clone(), config: args.config.clone(), ..DevArgs::default() };
    let config = Config::resolve(&flags).map_err(|error| error.to_string())?;
    let digits = args.count.to_string().len();
    if args.prefix.is_empty()
        || args.prefix.len() + digits > 20
        || !args.prefix.chars().all(|c| c.is_ascii_alphanumeric())
    {
        return Err(format!(
            "--prefix {:?}: ASCII letters and digits, so short that a number of {digits} digits makes at most 20",
            args.prefix
        ));
    }
    let dir = DataDir::acquire(&config.data_dir)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(mint(args, &config, &dir))?;
    println!("{} users, their tokens are in {}", args.count, args.out.display());
    Ok(())
}

async fn mint(args: &MintArgs, config: &Config, dir: &DataDir) -> Result<(), String> {
    let (store, key) = dir.open_accounts().await?;
    let out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&args.out);
    let unwritable = |error: std::io::Error| format!("cannot write {}: {error}", args.out.display());
    let mut out = BufWriter::new(out.map_err(unwritable)?);
    let password_hash =
        gochat_logic::hash_password(&args.password, config.auth.bcrypt_cost).map_err(|refusal| refusal.message)?;
    let clock = SystemClock::shared();
    let uid = Snowflake::new(1, clock.clone()).map_err(|error| error.to_string())?;
    let highest = store.highest_id().await.map_err(|error| error.to_string())?;
    uid.start_above(highest).map_err(|error| error.to_string())?;
    let numbers: Vec<u32> = (1..=args.count).collect();
    for batch in numbers.chunks(BATCH) {
        let mut users = Vec::with_capacity(batch.len());
        for number in batch {
            users.push(NewUser {
                id: uid.next_or_wait().await.map_err(|error| error.to_string())?,
                username: format!("{}{number}", args.prefix),
                password_hash: password_hash.clone(),
                avatar_url: String::new(),
                is_guest: false,
                created_at_ms: clock.unix_ms(),
            });
        }
        let lines: Vec<_> = users.iter().map(|user| line(user, &key, config)).collect::<Result<_, String>>()?;
        store
            .create_users(users)
            .await
            .map_err(|error| format!("users {} to {}: {error}", batch[0], batch[batch.len() - 1]))?;
        for line in lines {
            out.write_all(line.as_bytes()).map_err(unwritable)?;
        }
    }
    out.flush().map_err(unwritable)
}

/// `user_id,username,access_token`.
fn line(user: &NewUser, key: &TokenKey, config: &Config) -> Result<String, String> {
    let issued = user.created_at_ms / 1000;
    let id = user.id.to_string();
    let claims = Claims {
        iss: ISSUER.to_owned(),
        sub: id.clone(),
        user_id: id,
        kind: TokenKind::Access,
        jti: uuid_v7(),
        iat: issued,
        exp: issued + config.auth.access_token_ttl_s as i64,
        guest: false,
        ver: 0,
        fam: uuid_v7(),
        sxp: 0,
        ath: String::new(),
    };
    let token = key.sign(&claims).map_err(|error| error.to_string())?;
    Ok(format!("{},{},{token}\n", user.id, user.username))
}
