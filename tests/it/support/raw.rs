//! Servers that break the protocol: they send given bytes and then close or hold the connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SERVERS, listen};

/// What happens after the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Close,
    Hold,
}

/// Answers whatever comes first on a connection with these bytes.
pub(crate) fn serve(bytes: impl Into<Vec<u8>>, then: Then) -> SocketAddr {
    let bytes = bytes.into();
    let (listener, address) = listen();
    SERVERS.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, bytes.clone(), then));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, bytes: Vec<u8>, then: Then) {
    let mut request = [0; 4096];
    // Whatever the client does next is the test's concern.
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    match then {
        Then::Close => drop(stream),
        Then::Hold => std::future::pending().await,
    }
}

/// A port of loopback that nobody listens on.
pub(crate) fn refused() -> SocketAddr {
    listen().1
}
