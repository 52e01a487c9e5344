//! The binary from outside: exit codes, what is said on stdout and stderr, and what rests on disk. Loopback only, and
//! nothing of the tester's environment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check;
mod replay;
mod running;
mod secrets;
mod told;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Expects this exit code.
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Expects these texts on stderr.
    #[track_caller]
    fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "not said: {text:?}; stderr:\n{}\nstdout:\n{}", self.err, self.out);
        }
        self
    }

    /// Expects these texts on stdout.
    #[track_caller]
    fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.out.contains(text), "not printed: {text:?}; stdout:\n{}\nstderr:\n{}", self.out, self.err);
        }
        self
    }
}

/// A folder of the test's own in which commands run.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The binary in this folder, with an empty environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_issuerwatch"));
        command.args(arguments).env_clear().current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// Runs with this on stdin.
    fn feed(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Who refuses its arguments does not read; what it says then is the test's concern.
        let _ = child.stdin.take().unwrap().write_all(input.as_ref());
        ran(child.wait_with_output().unwrap())
    }
}

/// Runs where no file matters.
fn run(arguments: &[&str]) -> Ran {
    Place::new().run(arguments)
}

fn ran(output: std::process::Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().expect("it was not killed"), out: text(output.stdout), err: text(output.stderr) }
}

/// A public key of the rules' examples, with further members.
fn key(name: &str, more: &Value) -> Value {
    let keys: Value = serde_json::from_str(include_str!("../../rules/keys.json")).unwrap();
    let mut key = keys[name].clone();
    key.as_object_mut().unwrap_or_else(|| panic!("no key {name}")).extend(more.as_object().unwrap().clone());
    key
}

/// A key set that nothing is wrong with.
fn good_keys() -> String {
    json!({"keys": [key("rsa-2048", &json!({"kid": "a", "use": "sig", "alg": "RS256"}))]}).to_string()
}

/// A discovery document that nothing is wrong with.
fn good_discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["sub"],
        "userinfo_endpoint": format!("{issuer}/userinfo"),
    })
}

/// The rules of the findings in a `check --format json` of one input.
fn rules_of(judged: &Value) -> Vec<&str> {
    judged["findings"].as_array().unwrap().iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// A shared folder beside the repository; `None`, said loudly, where it is absent.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(folder);
    if !path.is_dir() {
        // Past the capture of the test harness: a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", path.display());
        return None;
    }
    Some(path)
}
