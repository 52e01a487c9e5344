//! A small HTTP proxy: `CONNECT` and absolute-form requests, all led to one server whatever the name.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::{SERVERS, listen};

/// A proxy that notes the first line of every request.
pub(crate) struct Proxy {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Leads every request to this server.
    pub(crate) fn to(server: SocketAddr) -> Self {
        Self::start(Ok(server))
    }

    /// Answers every request with this status.
    pub(crate) fn refusing(status: u16) -> Self {
        Self::start(Err(status))
    }

    fn start(leads: Result<SocketAddr, u16>) -> Self {
        let (listener, address) = listen();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&lines);
        SERVERS.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A broken tunnel shows at the client.
                tokio::spawn(lead(stream, leads, Arc::clone(&noted)));
            }
        });
        Self { address, lines }
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://{}", self.address).parse().expect("a URL")
    }

    /// The first lines of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lock").clone()
    }
}

async fn lead(mut client: TcpStream, leads: Result<SocketAddr, u16>, noted: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    noted.lock().expect("lock").push(line.clone());
    let server = match leads {
        Ok(server) => server,
        Err(status) => {
            let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
    };
    let mut server = TcpStream::connect(server).await?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    } else {
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
