//! The outside world of tests, on loopback and port 0: providers, their certificates, a proxy.

pub(crate) mod ca;
pub(crate) mod issuer;
pub(crate) mod proxy;
pub(crate) mod raw;

use std::sync::LazyLock;

use tokio::runtime::Runtime;

pub(crate) use ca::{Ca, Identity};
pub(crate) use issuer::{Issuer, Reply};
pub(crate) use proxy::Proxy;

/// Servers live on their own runtime, so that plain tests and those that start the binary can use them too.
static SERVERS: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime for servers"));

/// A listener on loopback, port 0.
fn listen() -> (tokio::net::TcpListener, std::net::SocketAddr) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let address = listener.local_addr().expect("a bound socket has an address");
    let _entered = SERVERS.enter();
    (tokio::net::TcpListener::from_std(listener).expect("a listener of the runtime"), address)
}
