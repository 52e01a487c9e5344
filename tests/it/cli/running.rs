//! `run`: what it needs to start, how it stops, and how it goes on after a restart.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use issuerwatch::store::{Sqlite, Store as _};
use serde_json::{Value, json};

use super::{Place, good_keys, key};
use crate::support::Issuer;

/// How long a daemon may take for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `issuerwatch run`; it is killed with this value.
pub(super) struct Daemon {
    child: Child,
    said: Receiver<String>,
    /// Everything on stderr so far.
    pub(super) err: String,
    /// The pages' address.
    pub(super) pages: String,
}

impl Daemon {
    /// Starts it in a folder and waits until its pages are up.
    pub(super) fn start(place: &Place, log: &str) -> Self {
        let mut child = place.command(&["run"]).env("ISSUERWATCH_LOG", log).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, said) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut daemon = Self { child, said, err: String::new(), pages: String::new() };
        let up = daemon.says("pages on http://");
        daemon.pages = up.trim_start_matches("pages on http://").trim_end_matches('/').to_owned();
        daemon
    }

    /// Waits for a line with this text.
    fn says(&mut self, text: &str) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never said {text:?}:\n{}", self.err));
            self.err.push_str(&line);
            self.err.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// One page.
    pub(super) fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.pages).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.pages).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        answer
    }

    /// Sends SIGTERM; its exit code, stdout, stderr, and how long it took.
    pub(super) fn stop(mut self) -> (i32, String, String, Duration) {
        let started = Instant::now();
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        let took = started.elapsed();
        self.err.extend(self.said.iter().map(|line| line + "\n"));
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (status.code().expect("it ended by itself"), out, std::mem::take(&mut self.err), took)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes webhooks, and hands their bodies over.
pub(super) struct Sink {
    pub(super) url: String,
    bodies: Receiver<String>,
}

impl Sink {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, bodies) = channel();
        std::thread::spawn(move || listener.incoming().map_while(Result::ok).try_for_each(|stream| sender.send(take(stream))));
        Self { url, bodies }
    }

    /// The next message.
    pub(super) fn next(&self) -> Value {
        let body = self.bodies.recv_timeout(PATIENCE).expect("a webhook comes");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// What came that nobody asked for.
    pub(super) fn rest(&self) -> Vec<String> {
        self.bodies.try_iter().collect()
    }
}

/// One request's body, answered.
fn take(stream: TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    String::from_utf8(body).unwrap()
}

/// A folder with a configuration that watches this issuer and tells this sink.
pub(super) fn watching(issuer: &Issuer, sink: &Sink, every: &str) -> Place {
    let place = Place::new();
    place.write("hook.url", &sink.url);
    place.write("hook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    place.write(
        "issuerwatch.toml",
        format!(
            r#"
[monitor]
database = "sqlite:watch.db"
listen = "127.0.0.1:0"
every = "{every}"
[[issuer]]
id = "acme"
url = "{}"
profile = "key-publisher"
allow_http_loopback = true
[[channel]]
id = "soc"
kind = "webhook"
url = {{ file = "hook.url" }}
secrets = [{{ file = "hook.secret" }}]
"#,
            issuer.url()
        ),
    );
    place
}

#[test]
fn a_monitor_that_watches_nothing_or_tells_nobody_does_not_start() {
    let place = Place::new();
    place.run(&["run"]).exits(2).says(&["issuerwatch.toml"]);
    place.write("issuerwatch.toml", "alerts = \"none\"\n");
    let ran = place.run(&["run"]).exits(2).says(&["[[issuer]]"]);
    assert!(ran.err.starts_with("error: ") && !ran.err.contains("error: error"), "{}", ran.err);
    place.write("issuerwatch.toml", "[[issuer]]\nid = \"a\"\nurl = \"https://login.acme.example\"\n");
    place.run(&["run"]).exits(2).says(&["[[channel]]", "alerts = \"none\""]);
    place.run(&["config", "check"]).exits(2).says(&["[[channel]]"]);
    assert!(!place.path("issuerwatch.db").exists());
}

#[test]
fn a_stopped_monitor_ends_soon_and_goes_on_where_it_was() {
    let (issuer, sink) = (Issuer::http(), Sink::start());
    issuer.publish(&json!({"keys": [key("rsa-1024", &json!({"kid": "short"}))]}).to_string());
    let place = watching(&issuer, &sink, "20s");
    let row = || Sqlite::read_only(&place.path("watch.db")).unwrap().issuers().unwrap().remove(0);

    let first = Daemon::start(&place, "issuerwatch=info");
    let baseline = sink.next();
    assert_eq!((&baseline["type"], &baseline["data"]["issuer"]), (&json!("baseline"), &json!("acme")));
    let (code, out, err, took) = first.stop();
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(err.contains("stopped") && !err.contains('\u{1b}'), "{err}");
    let due = row().due.unwrap();

    let second = Daemon::start(&place, "issuerwatch=info");
    issuer.publish(&json!({"keys": [key("rsa-2048", &json!({"kid": "new"}))]}).to_string());
    // What comes next is about the new key and the old one's end, in any order: nothing that was told is told again.
    let mut told = [sink.next(), sink.next()];
    told.sort_by_key(|message| message["type"].to_string());
    assert_eq!((&told[0]["type"], &told[1]["type"]), (&json!("incident.opened"), &json!("incident.resolved")), "{told:#?}");
    assert!(told[0].to_string().contains("rotation/unexpected-new-key"), "{told:#?}");
    // It looks within a tenth of the interval after a start, and never later than it would have.
    assert!(row().last_polled.unwrap() <= due);
    let (code, _, err, _) = second.stop();
    assert_eq!(code, 0, "{err}");
    assert_eq!(sink.rest(), Vec::<String>::new());
}

#[test]
fn a_second_monitor_on_the_same_port_says_so() {
    let (issuer, sink) = (Issuer::http(), Sink::start());
    issuer.publish(&good_keys());
    let place = watching(&issuer, &sink, "1h");
    let first = Daemon::start(&place, "issuerwatch=info");
    let config = place.read("issuerwatch.toml").replace("127.0.0.1:0", &first.pages);
    place.write("second.toml", config);
    let ran = place.run(&["run", "--config", "second.toml"]).exits(2);
    ran.says(&[&format!("error: cannot listen on {}: ", first.pages)]);
    assert_eq!(first.stop().0, 0);
}
