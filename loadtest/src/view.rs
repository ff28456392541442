//! The live view of a run: a few lines on standard error that are drawn over themselves, by a thread of its own, so that a slow
//! terminal holds nobody up. Owns what they say and how they are drawn; measures nothing.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::connections::Connections;
use crate::driver::Plan;
use crate::percentiles::{Latencies, Percentiles};
use crate::timeline::{Interval, Point};

/// How long nothing is drawn at most, and how seldom the engine tells of connections.
pub(crate) const REDRAW: Duration = Duration::from_millis(250);
/// What waits to be drawn; what is told while so much waits is left out.
const NEWS_MAX: usize = 16;
const BAR_CELLS: usize = 30;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Connections are opened.
    Connecting,
    /// Messages are sent: warm-up and measured phase.
    Running,
    /// What was sent is waited for.
    Draining,
}

/// The view, while there is one; it takes its lines away when it is dropped.
#[derive(Debug)]
pub(crate) struct View {
    news: Option<SyncSender<News>>,
    artist: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum News {
    Stage(Stage),
    Connections(Connections, u32),
    Second(Box<(Point, Latencies, Latencies)>),
}

impl View {
    /// Begins to draw; `None` where nobody could see it, or no thread can be had.
    pub(crate) fn begin(plan: &Plan) -> Option<View> {
        let is_seen = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if !is_seen {
            return None;
        }
        let (news, told) = mpsc::sync_channel(NEWS_MAX);
        let scene = Scene::new(plan);
        let artist = thread::Builder::new().name("view".to_owned()).spawn(move || draw(scene, &told)).ok()?;
        Some(View { news: Some(news), artist: Some(artist) })
    }

    pub(crate) fn stage(&self, stage: Stage) {
        self.tell(News::Stage(stage));
    }

    pub(crate) fn connections(&self, connections: Connections, under_way: u32) {
        self.tell(News::Connections(connections, under_way));
    }

    pub(crate) fn second(&self, point: &Point, seen: &Interval) {
        self.tell(News::Second(Box::new((point.clone(), seen.ack.clone(), seen.deliver.clone()))));
    }

    fn tell(&self, news: News) {
        // A terminal that takes nothing misses it; the run goes on.
        let _ = self.news.as_ref().map(|told| told.try_send(news));
    }
}

impl Drop for View {
    fn drop(&mut self) {
        drop(self.news.take());
        let _ = self.artist.take().map(JoinHandle::join);
    }
}

/// Draws until nobody tells anything any more, then takes everything away.
fn draw(mut scene: Scene, told: &Receiver<News>) {
    let mut stderr = std::io::stderr();
    let mut drawn = 0;
    loop {
        match told.recv_timeout(REDRAW) {
            Ok(news) => scene.take(news),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let (columns, rows) = size();
        let lines = scene.lines(Instant::now());
        let text = screen(&lines[..lines.len().min(rows.saturating_sub(1))], columns, drawn);
        drawn = lines.len().min(rows.saturating_sub(1));
        let _ = stderr.write_all(text.as_bytes());
    }
    let _ = stderr.write_all(screen(&[], 0, drawn).as_bytes());
}

/// Columns and rows of the terminal; the usual ones where it does not say.
fn size() -> (usize, usize) {
    let known = rustix::termios::tcgetwinsize(std::io::stderr()).ok().filter(|it| it.ws_col > 0 && it.ws_row > 0);
    known.map_or((80, 24), |it| (usize::from(it.ws_col), usize::from(it.ws_row)))
}

/// What draws `lines` over `drawn` older ones: a line that is too long would take two.
fn screen(lines: &[String], columns: usize, drawn: usize) -> String {
    let mut text = String::from("\r");
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A"));
    }
    for line in lines {
        text.extend(line.chars().take(columns.saturating_sub(1)));
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

/// All that the lines say.
#[derive(Debug)]
struct Scene {
    url: String,
    warmup: Duration,
    duration: Duration,
    stage: Stage,
    /// When sending began.
    began: Option<Instant>,
    connections: Connections,
    /// Connections that are being opened.
    under_way: u32,
    newest: Option<Point>,
    /// Of the measured phase.
    ack: Latencies,
    deliver: Latencies,
}

impl Scene {
    fn new(plan: &Plan) -> Scene {
        Scene {
            url: plan.url.text.clone(),
            warmup: plan.warmup,
            duration: plan.duration,
            stage: Stage::Connecting,
            began: None,
            connections: Connections { target: plan.clients, ..Connections::default() },
            under_way: 0,
            newest: None,
            ack: Latencies::new(),
            deliver: Latencies::new(),
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Stage(stage) => {
                self.stage = stage;
                if stage == Stage::Running {
                    self.began = Some(Instant::now());
                }
            }
            News::Connections(connections, under_way) => {
                self.connections = connections;
                self.under_way = under_way;
            }
            News::Second(second) => {
                let (point, ack, deliver) = *second;
                if point.steady {
                    self.ack.add(&ack);
                    self.deliver.add(&deliver);
                }
                self.newest = Some(point);
            }
        }
    }

    fn lines(&self, now: Instant) -> Vec<String> {
        let mut lines = vec![format!("gochat-loadtest  {}", self.url), self.progress(now)];
        let Connections { target, established, refused, dropped } = self.connections;
        let ready = established - dropped.min(established);
        lines.push(format!(
            "connections  {ready} of {target} ready, {} connecting, {refused} refused, {dropped} dropped",
            self.under_way
        ));
        let Some(point) = &self.newest else { return lines };
        if point.sent_per_s > 0.0 || point.ack.is_some() || point.deliver.is_some() {
            lines.push(format!(
                "rates        {:.0} sent/s, {:.0} acknowledged/s, {:.0} delivered/s",
                point.sent_per_s, point.acked_per_s, point.delivered_per_s
            ));
            lines.push(format!("{:<27}{:>10}{:>10}{:>10}{:>10}{:>10}", "latency", "p50", "p90", "p99", "p99.9", "max"));
        }
        for (name, second, all) in [("ack", &point.ack, &self.ack), ("deliver", &point.deliver, &self.deliver)] {
            lines.extend(second.as_ref().map(|it| row(&format!("  {name}, last second"), it)));
            lines.extend(all.percentiles().map(|it| row(&format!("  {name}, measured so far"), &it)));
        }
        let mut used = format!("CPU          generator {:.2} cores", point.generator_cores);
        if let (Some(cores), Some(bytes)) = (point.server_cores, point.server_rss_bytes) {
            used.push_str(&format!(", server {cores:.2} cores and {:.1} MB resident", bytes as f64 / 1e6));
        }
        lines.push(used);
        lines
    }

    /// How far the run is.
    fn progress(&self, now: Instant) -> String {
        let Connections { target, established, refused, .. } = self.connections;
        let settled = established + refused;
        match (self.stage, self.began) {
            (Stage::Running, Some(began)) => {
                let passed = now.saturating_duration_since(began);
                let whole_s = (self.warmup + self.duration).as_secs_f64();
                let what = if passed < self.warmup { "warm-up" } else { "measuring" };
                let passed_s = passed.as_secs_f64().min(whole_s);
                format!("{what:<12} {} {passed_s:.0} of {whole_s:.0} s; Ctrl-C ends it early", bar(passed_s / whole_s))
            }
            (Stage::Draining, _) => "waiting for stragglers".to_owned(),
            _ => format!("connecting   {} {settled} of {target}", bar(f64::from(settled) / f64::from(target.max(1)))),
        }
    }
}

fn bar(share: f64) -> String {
    let full = ((share.clamp(0.0, 1.0) * BAR_CELLS as f64) as usize).min(BAR_CELLS);
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR_CELLS - full))
}

fn row(name: &str, p: &Percentiles) -> String {
    let [p50, p90, p99, p999, max] = [p.p50, p.p90, p.p99, p.p999, p.max].map(time);
    format!("{name:<27}{p50:>10}{p90:>10}{p99:>10}{p999:>10}{max:>10}")
}

/// Microseconds as people read them.
fn time(micros: f64) -> String {
    match micros {
        _ if micros < 1e3 => format!("{micros:.0} µs"),
        _ if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::driver::Place;
    use crate::url::Url;

    fn scene() -> Scene {
        let plan = Plan {
            url: Url::parse("ws://127.0.0.1:9001/").unwrap(),
            late: 0,
            clients: 10,
            ramp: None,
            warmup: Duration::from_secs(2),
            duration: Duration::from_secs(8),
            drain_max: Duration::from_secs(5),
            messages: true,
            server_pid: None,
            seed: 0,
            place: Place { first_client: 0, clients: 10, shared_run: None },
        };
        Scene::new(&plan)
    }

    fn second(steady: bool, micros: u64) -> News {
        let mut ack = Latencies::new();
        ack.record(micros * 1000);
        let point = Point {
            at_s: 1.0,
            steady,
            connections: 10,
            sent_per_s: 50.0,
            acked_per_s: 49.0,
            delivered_per_s: 0.0,
            ack: ack.percentiles(),
            deliver: None,
            generator_cores: 0.25,
            server_cores: Some(1.5),
            server_rss_bytes: Some(12_000_000),
            tcp_bytes: None,
        };
        News::Second(Box::new((point, ack, Latencies::new())))
    }

    #[test]
    fn the_lines_follow_the_run() {
        let mut scene = scene();
        scene.take(News::Connections(Connections { target: 10, established: 4, refused: 1, dropped: 0 }, 3));
        let text = scene.lines(Instant::now()).join("\n");
        assert!(text.contains("connecting   [###############...............] 5 of 10"), "{text}");
        assert!(text.contains("4 of 10 ready, 3 connecting, 1 refused, 0 dropped"), "{text}");
        scene.take(News::Stage(Stage::Running));
        let began = scene.began.unwrap();
        assert!(scene.lines(began)[1].starts_with("warm-up      [...") && scene.lines(began).len() == 3);
        scene.take(second(false, 70_000));
        scene.take(second(true, 800));
        scene.take(second(true, 2500));
        let text = scene.lines(began + Duration::from_secs(5)).join("\n");
        assert!(text.contains("measuring    [###############...............] 5 of 10 s"), "{text}");
        let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}"));
        assert!(row("  ack, last second").contains("2.5 ms"), "{text}");
        let all = row("  ack, measured so far");
        assert!(all.contains("800 µs") && all.ends_with("2.5 ms"), "the warm-up is not measured: {text}");
        assert!(!text.contains("deliver,") && text.contains("server 1.50 cores and 12.0 MB resident"), "{text}");
        scene.take(News::Stage(Stage::Draining));
        assert_eq!(scene.lines(began)[1], "waiting for stragglers");
    }

    #[test]
    fn new_lines_cover_the_old_ones() {
        let lines = ["µµµµµµ".to_owned(), "b".to_owned()];
        assert_eq!(screen(&lines, 5, 0), "\rµµµµ\x1b[K\nb\x1b[K\n\x1b[J", "cut to what fits");
        assert_eq!(screen(&lines[1..], 5, 2), "\r\x1b[2Ab\x1b[K\n\x1b[J");
        assert_eq!(screen(&[], 0, 3), "\r\x1b[3A\x1b[J");
        assert_eq!([time(12.4), time(1500.0), time(2.5e6)], ["12 µs", "1.5 ms", "2.50 s"]);
    }
}
