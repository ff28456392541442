//! GoChat's HTTP API as far as a run needs it: users, single chats, groups, history. Knows paths and JSON; measures nothing.

use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::LoadError;
use crate::http::HttpClient;
use crate::tokens::User;
use crate::url::Url;

/// Users that a run registers for itself at most; password hashes are meant to be slow.
pub(crate) const REGISTER_MAX: usize = 2000;
/// Threads that prepare a run.
const THREADS: usize = 4;
/// How often a request is tried again when the server limits its rate, and the longest it waits each time.
const RETRIES: u32 = 20;
const RETRY_MAX_S: u64 = 10;
/// Of the users that a run registers.
pub(crate) const PASSWORD: &str = "load-test-password";

/// The page size of history requests.
pub(crate) const PAGE: usize = 100;

#[derive(Debug, Deserialize)]
struct Envelope<T> {
    data: T,
}

/// A message in history.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) seq_id: u32,
    #[serde(default)]
    pub(crate) client_msg_id: String,
}

/// A page of history: oldest first after a position, newest first before one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    pub(crate) messages: Vec<Stored>,
    pub(crate) has_more: bool,
    /// Whether nothing after the asked-for position is missing; absent from servers that do not say.
    #[serde(default)]
    pub(crate) complete: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tokens {
    access_token: String,
}

/// The body of a registration or a login.
pub(crate) fn credentials(name: &str, password: &str) -> String {
    json!({"username": name, "password": password}).to_string()
}

/// Whether a login's answer holds what it is for.
pub(crate) fn has_access_token(body: &[u8]) -> bool {
    serde_json::from_slice::<Envelope<Tokens>>(body).is_ok_and(|it| !it.data.access_token.is_empty())
}

/// Reads an answer to a request for history.
pub(crate) fn page(body: &[u8]) -> Option<Page> {
    serde_json::from_slice::<Envelope<Page>>(body).ok().map(|it| it.data)
}

/// One client of the API.
#[derive(Debug)]
pub(crate) struct Api {
    http: HttpClient,
}

impl Api {
    pub(crate) fn new(url: &Url) -> Api {
        Api { http: HttpClient::new(url) }
    }

    /// Registers a user and logs in.
    pub(crate) fn create_user(&mut self, name: &str) -> Result<User, LoadError> {
        #[derive(Deserialize)]
        struct Registered {
            user: Id,
        }
        let credentials = credentials(name, PASSWORD);
        let registered: Registered = self.call("POST", "/api/auth/register", None, Some(&credentials))?;
        let tokens: Tokens = self.call("POST", "/api/auth/login", None, Some(&credentials))?;
        Ok(User { id: registered.user.id, name: name.to_owned(), access_token: tokens.access_token })
    }

    /// Opens, or finds, the single chat of two users and returns its id.
    pub(crate) fn open_chat(&mut self, user: &User, peer: &User) -> Result<String, LoadError> {
        let body = json!({"type": 1, "members": [peer.id]}).to_string();
        let chat: Id = self.call("POST", "/api/conversations", Some(&user.access_token), Some(&body))?;
        Ok(chat.id)
    }

    /// Creates a group of `members`, the first of whom owns it, and returns its id.
    pub(crate) fn create_group(&mut self, name: &str, members: &[User]) -> Result<String, LoadError> {
        let Some((owner, others)) = members.split_first() else {
            return Err(LoadError::Arguments("a group without members".to_owned()));
        };
        let others: Vec<&str> = others.iter().map(|user| user.id.as_str()).collect();
        let body = json!({"type": 2, "name": name, "members": others}).to_string();
        let group: Id = self.call("POST", "/api/conversations", Some(&owner.access_token), Some(&body))?;
        Ok(group.id)
    }

    /// Sends a text message.
    pub(crate) fn send(&mut self, user: &User, chat: &str, id: &str, text: &str) -> Result<(), LoadError> {
        let body = json!({"messageType": 1, "content": text, "client_msg_id": id}).to_string();
        let path = format!("/api/conversations/{chat}/messages");
        self.call::<serde::de::IgnoredAny>("POST", &path, Some(&user.access_token), Some(&body)).map(|_| ())
    }

    /// Joins the world room.
    pub(crate) fn join_world(&mut self, user: &User) -> Result<(), LoadError> {
        self.call::<Id>("POST", "/api/conversations/world/join", Some(&user.access_token), None).map(|_| ())
    }

    /// The history after `after_seq`.
    pub(crate) fn history(&mut self, token: &str, conversation: &str, after_seq: u32) -> Result<Page, LoadError> {
        let path = format!("/api/conversations/{conversation}/messages?after_seq={after_seq}&limit={PAGE}");
        self.call("GET", &path, Some(token), None)
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Result<T, LoadError> {
        for attempt in 0.. {
            let answer = self.http.exchange(method, path, token, body)?;
            let text = || String::from_utf8_lossy(answer.body.get(..300).unwrap_or(&answer.body)).into_owned();
            let failure =
                |body, hint| LoadError::Api { method, path: path.to_owned(), status: answer.status, body, hint };
            match answer.status {
                200..=299 => {
                    let parsed: Result<Envelope<T>, _> = serde_json::from_slice(&answer.body);
                    return parsed.map(|it| it.data).map_err(|e| failure(format!("{} ({e})", text()), ""));
                }
                429 | 503 if attempt < RETRIES => {
                    thread::sleep(Duration::from_secs(answer.retry_after_s.unwrap_or(1).clamp(1, RETRY_MAX_S)));
                }
                401 => return Err(failure(text(), "; mint new tokens with `gochat user mint`")),
                429 => return Err(failure(text(), "; for load runs start the server with --limits off")),
                _ => return Err(failure(text(), "")),
            }
        }
        Err(LoadError::Http { target: path.to_owned(), why: "no attempt was made".to_owned() })
    }
}

#[derive(Debug, Deserialize)]
struct Id {
    id: String,
}

/// Registers `count` users named after the run.
pub(crate) fn create_users(url: &Url, run: u32, count: usize) -> Result<Vec<User>, LoadError> {
    if count > REGISTER_MAX {
        return Err(LoadError::Arguments(format!(
            "{count} users are too many to register one by one (at most {REGISTER_MAX}): \
             run `gochat user mint --count {count} --out tokens.csv` and pass --tokens tokens.csv"
        )));
    }
    in_parallel(count, || Api::new(url), |api, at| api.create_user(&format!("lt{run:08x}_{at}")))
}

/// Opens the chats of partners that stand side by side in `users`.
pub(crate) fn open_chats(url: &Url, users: &[User]) -> Result<Vec<String>, LoadError> {
    let (pairs, _) = users.as_chunks::<2>();
    in_parallel(
        pairs.len(),
        || Api::new(url),
        |api, at| match pairs.get(at) {
            Some([user, peer]) => api.open_chat(user, peer),
            None => Err(LoadError::Arguments("a chat without its pair".to_owned())),
        },
    )
}

/// Creates the groups of neighbours in `users`, `members` each.
pub(crate) fn create_groups(url: &Url, run: u32, users: &[User], members: usize) -> Result<Vec<String>, LoadError> {
    let groups: Vec<&[User]> = users.chunks_exact(members.max(1)).collect();
    let create = |api: &mut Api, at: usize| {
        api.create_group(&format!("load {run:08x} {at}"), groups.get(at).copied().unwrap_or_default())
    };
    in_parallel(groups.len(), || Api::new(url), create)
}

/// Lets everybody join the world room.
pub(crate) fn join_world(url: &Url, users: &[User]) -> Result<(), LoadError> {
    let join = |api: &mut Api, at: usize| users.get(at).map_or(Ok(()), |user| api.join_world(user));
    in_parallel(users.len(), || Api::new(url), join).map(|_| ())
}

/// Calls `work` for 0 to `count - 1` on a few threads and returns the results in order, or the first error.
pub(crate) fn in_parallel<S, T: Send>(
    count: usize,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T, LoadError> + Sync,
) -> Result<Vec<T>, LoadError> {
    let shares: Vec<Result<Vec<T>, LoadError>> = thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let run = move |thread: usize| {
            let mut state = start();
            (count * thread / THREADS..count * (thread + 1) / THREADS).map(|at| work(&mut state, at)).collect()
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(LoadError::Arguments("a thread failed".to_owned()))))
            .collect()
    });
    let mut all = Vec::with_capacity(count);
    for share in shares {
        all.extend(share?);
    }
    Ok(all)
}
