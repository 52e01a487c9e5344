//! The product as its user has it: a folder with a configuration, the daemon over it, and commands beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take that is not itself measured; slow machines run these tests, too.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is there. The other side is another process, which nothing but asking tells us about.
pub(super) fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two questions to another process")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder with `issuerwatch.toml` and the files it names.
pub(super) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    pub(super) fn new(config: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.write("issuerwatch.toml", config);
        site
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A command in this folder, without what the tester's own environment would add.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_issuerwatch"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("ISSUERWATCH_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    pub(super) fn issuerwatch(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A command that must end with 0; what it printed.
    pub(super) fn ask(&self, arguments: &[&str]) -> String {
        let output = self.issuerwatch(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn ask_json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.ask(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }

    /// The events of an issuer as `history` has them.
    pub(super) fn events(&self, issuer: &str) -> Vec<String> {
        self.ask_json(&["history", issuer]).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Starts `run` and waits until its pages are up.
    pub(super) fn run(&self) -> Daemon {
        let log = self.path("log");
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).open(&log).unwrap();
        let child = self.command(&["run"]).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut daemon = Daemon { child, log, pages: String::new() };
        daemon.pages = eventually("the pages of `run` are up", || {
            let log = daemon.log();
            let rest = log.split_once("pages on http://")?.1;
            Some(rest.split_once("/\n")?.0.to_owned())
        });
        daemon
    }
}

/// `issuerwatch run`.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    /// The address of its pages.
    pages: String,
}

impl Daemon {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.pages)
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// A number of `/metrics`.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = request("GET", &self.url("/metrics"));
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).trim().parse().unwrap()
    }

    /// Waits until that many more polls were recorded.
    pub(super) fn polls(&self, more: u64) {
        let before = self.metric("issuerwatch_polls_total");
        eventually("more polls", || (self.metric("issuerwatch_polls_total") >= before + more).then_some(()));
    }

    /// Ends it as a service manager does.
    pub(super) fn stop(mut self) {
        self.signal("TERM");
        let ended: ExitStatus = self.child.wait().unwrap();
        assert!(ended.success(), "{ended}\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain HTTP request to loopback; the answer's body.
pub(super) fn request(method: &str, url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "{method} /{path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{url}: {answer}");
    body.to_owned()
}

/// A mail as a server took it.
pub(super) struct Mail(pub(super) String);

impl Mail {
    /// A header's value, unfolded; the head must have it once.
    pub(super) fn header(&self, name: &str) -> String {
        let values = self.headers(name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values.into_iter().next().unwrap()
    }

    pub(super) fn headers(&self, name: &str) -> Vec<String> {
        let text = self.0.replace("\r\n", "\n");
        let head = text.split("\n\n").next().unwrap().replace("\n ", " ").replace("\n\t", " ");
        let named = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().filter_map(named).collect()
    }
}

/// A member that must be there and be text.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer} in {value}"))
}
