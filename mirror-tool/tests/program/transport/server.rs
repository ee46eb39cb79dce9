//! A web server that does as the test says, request by request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Without the slash at its beginning.
    pub(super) path: String,
    /// The first byte asked for.
    pub(super) start: Option<usize>,
    pub(super) head: String,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// What was asked for, from where it was asked for.
    Content,
    /// The whole, whatever was asked for.
    Whole,
    /// So many bytes of what was asked for, then the end of the connection.
    Cut(usize),
    /// These bytes instead.
    Other(Vec<u8>),
    /// A head of its own, and nothing else.
    Head(String),
}

type Rule = Box<dyn Fn(&Request, usize) -> Answer + Send + Sync>;

struct Shared {
    files: HashMap<String, Vec<u8>>,
    rule: Rule,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<usize>,
    sent: Mutex<usize>,
    /// Requests being answered, and the most there were.
    busy: Mutex<(usize, usize)>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves these files by a rule that knows how often the path was asked for before.
    pub(super) async fn start(
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
        rule: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files: files.into_iter().collect(),
            rule: Box::new(rule),
            requests: Mutex::default(),
            connections: Mutex::default(),
            sent: Mutex::default(),
            busy: Mutex::default(),
        });
        let mut server = JoinSet::new();
        let for_all = Arc::clone(&shared);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                *for_all.connections.lock().unwrap() += 1;
                let shared = Arc::clone(&for_all);
                connections.spawn(async move {
                    // A client that breaks off is not our failure.
                    drop(converse(socket, &shared).await);
                });
            }
        });
        Self {
            address,
            shared,
            _tasks: server,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/tree", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Most requests that were answered at the same time.
    pub(super) fn busiest(&self) -> usize {
        self.shared.busy.lock().unwrap().1
    }

    /// Bytes of bodies.
    pub(super) fn sent(&self) -> usize {
        *self.shared.sent.lock().unwrap()
    }
}

async fn converse(mut socket: TcpStream, shared: &Shared) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await?);
        }
        {
            let mut busy = shared.busy.lock().unwrap();
            busy.0 += 1;
            busy.1 = busy.1.max(busy.0);
        }
        let request = parse(&String::from_utf8_lossy(&head));
        let before = {
            let mut requests = shared.requests.lock().unwrap();
            let before = requests.iter().filter(|it| it.path == request.path).count();
            requests.push(request.clone());
            before
        };
        let content = shared.files.get(&request.path).cloned();
        let start = request.start.unwrap_or(0);
        let (head, body, length) = match ((shared.rule)(&request, before), content) {
            (Answer::Head(head), _) => (head, Vec::new(), 0),
            (Answer::Other(bytes), _) => ("HTTP/1.1 200 OK".to_owned(), bytes.clone(), bytes.len()),
            (_, None) => ("HTTP/1.1 404 Not Found".to_owned(), Vec::new(), 0),
            (Answer::Whole, Some(content)) => {
                let length = content.len();
                ("HTTP/1.1 200 OK".to_owned(), content, length)
            }
            (answer @ (Answer::Content | Answer::Cut(_)), Some(content)) => {
                let rest = content[start.min(content.len())..].to_vec();
                let (length, all) = (rest.len(), content.len());
                let head = match request.start {
                    Some(start) => format!(
                        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{all}",
                        all - 1
                    ),
                    None => "HTTP/1.1 200 OK".to_owned(),
                };
                let rest = match answer {
                    Answer::Cut(at) => rest[..at.min(length)].to_vec(),
                    _ => rest,
                };
                (head, rest, length)
            }
        };
        let head = format!("{head}\r\nContent-Length: {length}\r\n\r\n");
        // So that those who ask at the same time meet. The last bytes are what lets the client ask for more.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        shared.busy.lock().unwrap().0 -= 1;
        socket.write_all(head.as_bytes()).await?;
        *shared.sent.lock().unwrap() += body.len();
        socket.write_all(&body).await?;
        if body.len() < length {
            socket.shutdown().await?;
            return Ok(());
        }
    }
}

fn parse(head: &str) -> Request {
    let path = head.split(' ').nth(1).unwrap();
    let range = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="));
    let start = range.map(|range| range.trim_end_matches('-').parse().unwrap());
    Request {
        path: path.trim_start_matches("/tree/").to_owned(),
        start,
        head: head.to_owned(),
    }
}
