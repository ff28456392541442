//! The binary itself: what a user gets wrong is one line on stderr that says what to do, nothing on stdout, and exit code 1.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

const BINARY: &str = env!("CARGO_BIN_EXE_gochat-loadtest");

/// An HTTP server that answers everything with `status` and is no WebSocket server.
fn answering(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        }
    });
    addr
}

/// A WebSocket server that sends everything back.
fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
                while let Ok(message) = socket.read() {
                    if message.is_text() && socket.send(message).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

/// The same, which says once that it sent something back.
fn echo_server_that_tells() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                break;
            }
            let _ = tell.send(());
        }
    });
    (addr, told)
}

/// A port where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn check(line: &str, output: &Output, wanted: &[&str]) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), &*out), (Some(1), ""), "{line}: {err}");
    let errors: Vec<&str> = err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{line}: {err}");
    assert_eq!(err.lines().last(), errors.first().copied(), "{line}: the error is the last line\n{err}");
    for part in wanted {
        assert!(errors[0].contains(part), "{line}: no {part:?} in {err}");
    }
}

fn rejected(line: &str, wanted: &[&str]) {
    check(line, &Command::new(BINARY).args(line.split_whitespace()).output().unwrap(), wanted);
}

#[test]
fn a_server_that_is_not_there() {
    let addr = nobody();
    rejected(&format!("run echo --url ws://{addr}/"), &["cannot reach", &addr.to_string(), "is the server running"]);
}

#[test]
fn a_server_that_speaks_no_websocket() {
    let run = |status| format!("run echo --url ws://{}/ --connections 2", answering(status));
    rejected(&run("200 OK"), &["HTTP 200 instead of an upgrade", "check the URL and its path"]);
    rejected(&run("404 Not Found"), &["HTTP 404", "check the path of the URL"]);
    rejected(&run("401 Unauthorized"), &["HTTP 401", "access token", "mint new ones"]);
    // Something that speaks first, and not HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"220 mail.example.org ESMTP ready\r\n\r\n");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let wanted = ["no valid upgrade", "check that a WebSocket server is what listens there"];
    rejected(&format!("run echo --url ws://{addr}/ --connections 2"), &wanted);
}

#[test]
fn too_few_file_descriptors() {
    let line = format!("run connect --url ws://{}/ --connections 500", nobody());
    let command = format!("ulimit -n 100 && exec '{BINARY}' {line}");
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    check(&line, &output, &["500 connections need 564 file descriptors", "the limit is 100", "ulimit -n 564"]);
}

#[test]
fn flags_that_are_wrong() {
    let url = format!("--url ws://{}/", nobody());
    rejected(&format!("run echo {url} --payload smoke"), &["'smoke'", "--payload", "text, binary", "--help"]);
    rejected(&format!("run echo {url} --reactor kqueue"), &["'kqueue'", "--reactor"]);
    rejected(&format!("run echo {url} --duration 10"), &["'10'", "--duration", "needs a unit"]);
    rejected(&format!("run echo {url} --rate 5 --in-flight 6"), &["--rate", "cannot be used with", "--in-flight"]);
    rejected(&format!("run echo {url} --colour"), &["--colour", "--help"]);
    rejected("run echo", &["--url", "required"]);
    rejected(&format!("run echo {url} --threshold mesages.lost==0"), &["mesages.lost", "the nearest is messages.lost"]);
    rejected("run everything", &["no scenario \"everything\"", "gochat-loadtest scenarios"]);
    rejected("run grup", &["did you mean group?"]);
    rejected("scenarios --show echo-opne", &["did you mean echo-open?"]);
}

#[test]
fn scenario_files_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.toml");
    let line = format!("run {} --url ws://{}/", path.display(), nobody());
    rejected(&line, &["my.toml", "No such file"]);
    fs::write(&path, "scenario = \"echo\"\n\nconections = 5\n").unwrap();
    rejected(&line, &["my.toml: line 3: conections", "did you mean connections?"]);
    fs::write(&path, "scenario = \"echo\"\nrate = \"fast\"\n").unwrap();
    rejected(&line, &["'fast'", "--rate"]);
}

#[test]
fn a_missed_threshold_is_exit_code_2() {
    let addr = echo_server();
    let run = |bound: &str| {
        let line = format!("run echo --url ws://{addr}/ --connections 2 --duration 300ms --warmup 0s --rate 100");
        let output = Command::new(BINARY).args(line.split(' ')).args(["--threshold", bound]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = run("messages.sent < 5");
    assert!(code == Some(2) && out.contains("threshold missed: messages.sent < 5, it is 30"), "{code:?} {out}");
    let (code, out) = run("messages.sent == 30");
    // A generator that had no CPU makes a run invalid, whatever the threshold.
    assert!(code == Some(0) || out.starts_with("INVALID"), "{code:?} {out}");
    assert!(!out.contains("threshold missed"), "{out}");
}

/// What a short run says on a terminal.
fn on_a_terminal(flags: &str) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let theirs = fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let line = format!("run echo --url ws://{}/ --connections 3 --warmup 0s --duration 300ms", echo_server());
    let mut command = Command::new(BINARY);
    command.args(line.split(' ')).args(flags.split_whitespace()).env("TERM", "xterm").stdout(Stdio::null());
    let mut run = command.stderr(theirs).spawn().unwrap();
    // The last handle of the other side but the run's own: reading ends with the run.
    drop(command);
    let mut text = Vec::new();
    let _ = fs::File::from(terminal).read_to_end(&mut text);
    run.wait().unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminal_shows_a_live_view_and_is_left_clean() {
    let shown = on_a_terminal("");
    for part in ["connecting   [", "measuring    [", "3 of 3 ready", "deliver, last second", "CPU          generator"] {
        assert!(shown.contains(part), "no {part:?} in {shown:?}");
    }
    assert!(shown.ends_with("A\x1b[J"), "what was drawn is taken away: {shown:?}");
    let said = on_a_terminal("--no-tui");
    assert!(said.contains("connecting 3 clients") && !said.contains('\x1b'), "{said:?}");
}

/// Runs an echo of an hour and interrupts it once a message has gone both ways: what it prints, and its result.
fn interrupted(warmup: &str, client: &str) -> (String, serde_json::Value) {
    let (addr, told) = echo_server_that_tells();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.json");
    let line = format!("run echo --url ws://{addr}/ --connections 1 --duration 1h --warmup {warmup} --client {client}");
    let mut command = Command::new(BINARY);
    command.args(line.split(' ')).arg("--json").arg(&path).stdout(Stdio::piped());
    let run = command.spawn().unwrap();
    told.recv().unwrap();
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 2)), "{:?}", output.status);
    (String::from_utf8(output.stdout).unwrap(), serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

#[test]
fn a_run_that_is_interrupted_reports_on_what_there_was() {
    for client in ["engine", "tungstenite"] {
        let (out, json) = interrupted("0s", client);
        assert!(out.contains("interrupted after ") && out.contains(" of 3600.0 s"), "{out}");
        assert_eq!(json["interrupted"], true);
        assert!(json["duration_s"].as_f64().unwrap() < 3600.0, "{out}");
        let messages = &json["messages"];
        assert!(messages["sent"].as_u64() > Some(0), "{out}");
        assert_eq!(
            (&messages["delivered"], &messages["lost"]),
            (&messages["sent"], &0.into()),
            "it was drained: {out}"
        );
        let (out, json) = interrupted("1h", client);
        assert!(
            out.starts_with("INVALID") && out.contains("interrupted in the warm-up: nothing was measured"),
            "{out}"
        );
        assert_eq!((&json["rates"]["sent_per_s"], &json["server"]), (&0.0.into(), &serde_json::Value::Null));
        assert_eq!(json["messages"]["delivered"], json["messages"]["sent"]);
    }
}

#[test]
fn the_files_that_come_with_the_tool_are_listed_and_shown() {
    let output = |args: &[&str]| String::from_utf8(Command::new(BINARY).args(args).output().unwrap().stdout).unwrap();
    assert!(output(&["scenarios"]).contains("group500"));
    assert!(output(&["scenarios", "--show", "group500"]).contains("scenario = \"group\""));
}

#[test]
fn files_of_tokens_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.csv");
    let name = path.display().to_string();
    let line = format!("run connect --protocol gochat --connections 2 --url http://{} --tokens {name}", nobody());
    rejected(&line, &[&name, "No such file"]);
    fs::write(&path, "1,a,t\n2,b\n").unwrap();
    rejected(&line, &[&name, "line 2 is not user_id,username,access_token"]);
    fs::write(&path, "1,a,t\n").unwrap();
    rejected(&line, &[&name, "1 users and the run needs 2", "gochat user mint --count 2"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = Command::new(BINARY).arg(flag).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(), "{flag}");
    }
}

/// A process that is stopped when the test is over.
struct Stopped(std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tool's own server and where it listens.
fn own_server(flags: &[&str]) -> (Stopped, String) {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(flags).stdout(Stdio::piped());
    let mut server = Stopped(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.split_whitespace().find(|word| word.starts_with("ws://")).unwrap().to_owned();
    (server, url)
}

#[test]
fn its_own_server_echoes_to_strict_clients_and_to_ours() {
    for reactor in ["auto", "epoll"] {
        let (_server, url) = own_server(&["--reactor", reactor]);
        for client in ["--client tungstenite --in-flight 3", "--in-flight 16 --size 40..100000 --payload binary"] {
            let line = format!("run echo --url {url} --connections 4 --duration 300ms --warmup 0s {client}");
            let output = Command::new(BINARY).args(line.split_whitespace()).output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout);
            // A busy machine makes a run invalid, never a failure.
            assert!(!out.contains("FAILED") && out.contains(" 0 lost,"), "{line}: {out}");
        }
        let mut stream = TcpStream::connect(url.trim_start_matches("ws://").trim_end_matches('/')).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("websocket"), "{answer}");
    }
}

#[test]
fn a_million_in_small() {
    let table = || fs::read_to_string("/proc/sys/net/ipv4/tcp_child_ehash_entries").ok();
    let before = table();
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("result.json");
    let line = format!("million --connections 300 --hold 600ms --heartbeat 300ms --json {}", json.display());
    if !rustix::process::geteuid().is_root() {
        return rejected(&line, &["only root may", "sudo"]);
    }
    let output = Command::new(BINARY).args(line.split_whitespace()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("300 of 300 established, 0 refused, 0 dropped"), "{out}{err}");
    let result: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let count = |what: &str| result["messages"][what].as_u64().unwrap();
    assert!(count("sent") >= 300 && count("acked") == count("sent") && count("lost") == 0, "{result}");
    assert!(result["latency_us"]["rtt"]["count"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(table(), before, "the machine's setting is put back");
    rejected("million --connections 10 -- /no/such/server", &["/no/such/server", "cannot be used"]);
    rejected("million --connections 10 -- false", &["the server false", "it ended at once"]);
    rejected("million --connections 10 --inside", &["network namespace of its own"]);
}
