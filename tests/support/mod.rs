//! A really running server and clients to talk to it. Owns processes and sockets of a test; never asserts a rule.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part of these helpers")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and explain on standard error")]

pub mod chat;
pub mod groups;
pub mod load;
pub mod lossy;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long anything may take before a test calls it stuck. Not a speed limit.
pub const STUCK: Duration = Duration::from_secs(60);

/// A running `gochat`, killed with -9 when dropped.
pub struct Server {
    child: Child,
    pub http: SocketAddr,
    pub admin: SocketAddr,
}

impl Server {
    /// Starts on free ports with the data in `dir`, limits off, and waits until it says that it is ready.
    pub fn start(dir: &Path) -> Server {
        Server::start_with(dir, &["--limits", "off"])
    }

    /// The same with flags of the caller's.
    pub fn start_with(dir: &Path, flags: &[&str]) -> Server {
        Server::try_start(dir, flags).unwrap_or_else(|said| panic!("the server did not start, it said:\n{said}"))
    }

    /// Starts, or gives back everything the process said before it ended.
    pub fn try_start(dir: &Path, flags: &[&str]) -> Result<Server, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gochat"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (tx, rx) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let show = std::env::var_os("GOCHAT_TEST_LOG").is_some();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if show {
                    eprintln!("{line}");
                }
                let _ = tx.send(line);
            }
        });
        let (mut said, mut http, mut admin) = (String::new(), None, None);
        while let Ok(line) = rx.recv_timeout(STUCK) {
            let address = || line.split("http://").nth(1)?.split('/').next()?.trim().parse().ok();
            if line.contains("API") {
                http = http.or_else(address);
            } else if line.contains("Admin") {
                admin = admin.or_else(address);
            }
            said.push_str(&line);
            said.push('\n');
            if let (Some(http), Some(admin)) = (http, admin) {
                return Ok(Server { child, http, admin });
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(said)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Asks it to stop and returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap().code()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill_now(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// An answer of the HTTP API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The `data` of a success; panics with the whole answer otherwise.
    pub fn data(self) -> Value {
        assert!(self.body["success"] == true, "expected success, got {self:?}");
        self.body["data"].clone()
    }

    /// The `code` of a failure, with its status.
    pub fn refusal(&self) -> (u16, &str) {
        assert!(self.body["success"] == false, "expected a failure, got {self:?}");
        (self.status, self.body["code"].as_str().unwrap())
    }
}

/// The HTTP API as one user, or as nobody.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
    pub token: Option<String>,
}

impl Api {
    pub fn new(http: SocketAddr) -> Api {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(STUCK)).build();
        Api { agent: config.into(), base: format!("http://{http}"), token: None }
    }

    pub fn as_user(&self, token: &str) -> Api {
        Api { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    /// A connection error is an `Err`.
    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(request.call()?)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string()).unwrap()
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &body.to_string()).unwrap()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").unwrap()
    }

    /// Any of these four methods with any body; a connection error is an `Err`.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer, ureq::Error> {
        let url = format!("{}{path}", self.base);
        let mut request = match method {
            "GET" => self.agent.get(url).force_send_body(),
            "DELETE" => self.agent.delete(url).force_send_body(),
            "PUT" => self.agent.put(url),
            _ => self.agent.post(url),
        };
        request = request.header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(request.send(body)?)
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string()?;
    Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

/// A registered and logged-in user.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub name: String,
    pub token: String,
    pub refresh_token: String,
}

pub const PASSWORD: &str = "correct horse";

/// Registers `name` and logs in.
pub fn register(api: &Api, name: &str) -> User {
    api.post("/api/auth/register", &json!({"username": name, "password": PASSWORD})).data();
    login(api, name)
}

/// Logs in.
pub fn login(api: &Api, name: &str) -> User {
    let pair = api.post("/api/auth/login", &json!({"username": name, "password": PASSWORD})).data();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    User {
        id: text(&pair["user"]["id"]),
        name: name.to_owned(),
        token: text(&pair["accessToken"]),
        refresh_token: text(&pair["refreshToken"]),
    }
}

/// Enters as a guest.
pub fn guest(api: &Api) -> User {
    let pair = api.post("/api/auth/guest", &json!({})).data();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    User {
        id: text(&pair["user"]["id"]),
        name: text(&pair["user"]["username"]),
        token: text(&pair["accessToken"]),
        refresh_token: text(&pair["refreshToken"]),
    }
}

/// Makes a group and returns its id.
pub fn make_group(api: &Api, owner: &User, name: &str, members: &[&User]) -> String {
    let members: Vec<&str> = members.iter().map(|user| user.id.as_str()).collect();
    let body = json!({"type": 2, "name": name, "members": members});
    let group = api.as_user(&owner.token).post("/api/conversations", &body).data();
    group["id"].as_str().unwrap().to_owned()
}

/// Sends over HTTP and returns the message.
pub fn say(api: &Api, user: &User, conversation: &str, client_msg_id: &str, content: &str) -> Value {
    let body = json!({"messageType": 1, "content": content, "client_msg_id": client_msg_id});
    api.as_user(&user.token).post(&format!("/api/conversations/{conversation}/messages"), &body).data()
}

/// The whole history of a conversation by pages, oldest first, asked again until it is said to be complete.
pub fn history(api: &Api, user: &User, conversation: &str, after: i64) -> Vec<Value> {
    let api = api.as_user(&user.token);
    let (mut all, mut at) = (Vec::new(), after);
    for _ in 0..10_000 {
        let page = api.get(&format!("/api/conversations/{conversation}/messages?after_seq={at}&limit=100")).data();
        let messages = page["messages"].as_array().unwrap().clone();
        at = messages.last().map_or(at, |last| last["seqId"].as_i64().unwrap());
        all.extend(messages);
        if page["complete"] == true {
            return all;
        }
    }
    panic!("{conversation} was never complete");
}

/// Opens the single chat of two users and returns its id.
pub fn open_chat(api: &Api, user: &User, peer: &User) -> String {
    let body = json!({"type": 1, "members": [peer.id]});
    let conversation = api.as_user(&user.token).post("/api/conversations", &body).data();
    conversation["id"].as_str().unwrap().to_owned()
}

/// A small deterministic generator (xorshift64*), so that a seed replays a test.
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in `range`.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }
}

/// The seed of a run: from GOCHAT_SEED, else of the clock; printed so that a failure can be replayed.
pub fn seed() -> u64 {
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    let seed = std::env::var("GOCHAT_SEED").map_or_else(|_| clock(), |text| text.parse().unwrap());
    eprintln!("seed {seed} (replay: cargo xtask test --seed {seed})");
    seed
}
