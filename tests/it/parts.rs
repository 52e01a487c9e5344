//! Real servers for tests: Node's parts of `tests/node`, Postfix, and throw-away certificates. Loopback only; each
//! ends with the value that started it.

#![expect(clippy::unwrap_used, reason = "a part that does not start is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

/// How long a server may take to come up or to log what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says loudly that a test does not run because a part is missing; in CI that is an error.
pub(crate) fn skip(part: &str) {
    #[expect(clippy::disallowed_methods, reason = "tests are told by CI that nothing may be missing")]
    let ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!ci, "{part} is missing; scripts/prepare-tests installs it");
    // Past the capture of the test harness: a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {part} is missing; scripts/prepare-tests installs it");
}

/// A throw-away authority and a certificate for `localhost` and `127.0.0.1`, as PEM files in a folder of their own.
pub(crate) struct Certificates {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ca_pem: String,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "throw-away authority of a test");
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), leaf.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder, ca_pem }
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

/// A script of `tests/node` while it runs.
pub(crate) struct Node {
    child: Child,
    /// What it said when it was up.
    pub(crate) up: Value,
}

impl Node {
    /// Starts a script; `None` (said loudly) where Node or its packages are not installed.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        if !folder.join("node_modules").is_dir() {
            skip("Node's packages in tests/node");
            return None;
        }
        let started = Command::new("node")
            .arg(script)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            skip("node");
            return None;
        };
        let said = lines(child.stdout.take().unwrap());
        let line = said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{script} did not come up"));
        Some(Self { child, up: serde_json::from_str(&line).unwrap() })
    }

    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.up["port"].as_u64().unwrap()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A JSON-lines file that a part writes, so far.
pub(crate) fn json_lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A Postfix of its own, with STARTTLS, that puts every mail for `example.test` into one maildir.
pub(crate) struct Postfix {
    child: Child,
    folder: tempfile::TempDir,
    log: Receiver<String>,
    pub(crate) port: u16,
}

impl Postfix {
    /// Starts it; `None` (said loudly) where Postfix is not installed or we are not root, which it needs.
    pub(crate) fn start(certificates: &Certificates) -> Option<Self> {
        const NOBODY: u32 = 65534;
        let installed = Path::new("/usr/sbin/postfix").exists();
        let root = std::fs::metadata("/proc/self").is_ok_and(|us| std::os::unix::fs::MetadataExt::uid(&us) == 0);
        if !installed || !root {
            skip("Postfix (and root, who starts it)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "queue", "data", "mail"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        // Its own users must get in.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        std::os::unix::fs::chown(at("mail"), Some(NOBODY), Some(NOBODY)).unwrap();
        let owner = Command::new("id").args(["-u", "postfix"]).output().unwrap();
        let owner: u32 = String::from_utf8(owner.stdout).unwrap().trim().parse().unwrap();
        std::os::unix::fs::chown(at("data"), Some(owner), None).unwrap();
        let port = free_port();
        let main = format!(
            "compatibility_level = 3.6\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = mail.example.test\nmydestination =\n\
             queue_directory = {queue}\ndata_directory = {data}\nmaillog_file = /dev/stdout\n\
             virtual_mailbox_domains = example.test\nvirtual_mailbox_base = {mail}\nvirtual_mailbox_maps = static:box/\n\
             virtual_uid_maps = static:{NOBODY}\nvirtual_gid_maps = static:{NOBODY}\nalias_maps =\nalias_database =\n\
             smtpd_tls_cert_file = {cert}\nsmtpd_tls_key_file = {key}\nsmtpd_tls_security_level = encrypt\nsmtpd_tls_received_header = yes\n\
             smtpd_relay_restrictions = reject_unauth_destination\n",
            queue = at("queue").display(),
            data = at("data").display(),
            mail = at("mail").display(),
            cert = certificates.cert().display(),
            key = certificates.key().display(),
        );
        let master = format!(
            "127.0.0.1:{port} inet n - n - - smtpd\n\
             pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
             error unix - - n - - error\nretry unix - - n - - error\ndiscard unix - - n - - discard\n\
             virtual unix - n n - - virtual\nanvil unix - - n - 1 anvil\nproxymap unix - - n - - proxymap\n\
             postlog unix-dgram n - n - 1 postlogd\n"
        );
        std::fs::write(at("etc").join("main.cf"), main).unwrap();
        std::fs::write(at("etc").join("master.cf"), master).unwrap();
        let mut child = Command::new("/usr/sbin/postfix")
            .arg("-c")
            .arg(at("etc"))
            .arg("start-fg")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let log = lines(child.stdout.take().unwrap());
        let postfix = Self { child, folder, log, port };
        postfix.wait_for("daemon started");
        Some(postfix)
    }

    /// Waits until the log says so.
    pub(crate) fn wait_for(&self, words: &str) {
        let mut said = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return,
                Ok(line) => said.push(line),
                Err(_) => panic!("Postfix never said {words:?}, but:\n{}", said.join("\n")),
            }
        }
    }

    /// Every mail in the maildir.
    pub(crate) fn mails(&self) -> Vec<String> {
        let folder = self.folder.path().join("mail/box/new");
        let files = std::fs::read_dir(folder).map(|files| files.flatten().collect::<Vec<_>>()).unwrap_or_default();
        files.iter().map(|file| std::fs::read_to_string(file.path()).unwrap()).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let stopped = Command::new("/usr/sbin/postfix").arg("-c").arg(self.folder.path().join("etc")).arg("stop").output();
        if stopped.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A port that was free just now: Postfix cannot be told to choose one.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        // Read to the end even if nobody listens any more: a full pipe would stop the server.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    receive
}
