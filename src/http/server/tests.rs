use std::future::Ready;

use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn answer(_: Request<Incoming>) -> Ready<Result<Response<Body>, Infallible>> {
    std::future::ready(Ok(Response::new(Body::from("hello"))))
}

async fn with_server(limits: Limits, request: &[u8]) -> String {
    with_surroundings(limits, Surroundings::default(), request).await
}

async fn with_surroundings(limits: Limits, surroundings: Surroundings, request: &[u8]) -> String {
    let running = Running::start(limits, surroundings).await;
    let answer = ask(running.address, request).await;
    running.stop().await;
    answer
}

async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    drop(stream.read_to_end(&mut response).await);
    String::from_utf8_lossy(&response).into_owned()
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn start(limits: Limits, surroundings: Surroundings) -> Self {
        Self::start_on(Terms::new(limits, surroundings)).await
    }

    async fn start_on(terms: Terms) -> Self {
        let mut server = Server::new(terms);
        let address = "127.0.0.1:0".parse().unwrap();
        server
            .listen(&address, SocketMode::default(), Security::Clear)
            .await
            .unwrap();
        let address = server.local_addresses()[0];
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let service = |connection: Connection| {
            service_fn(move |request| {
                let peer = format!("{:?} {}", connection.peer, connection.encrypted);
                let answered = answer(request);
                async move {
                    let mut response = answered.await?;
                    response.headers_mut().insert("peer", peer.parse().unwrap());
                    Ok(response)
                }
            })
        };
        tasks.spawn(server.run(service, shutdown.clone()));
        Self {
            address,
            shutdown,
            tasks,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.tasks.join_next().await;
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn answers_and_shuts_down() {
    let response = with_server(Limits::default(), REQUEST).await;
    assert!(
        response.starts_with("HTTP/1.1 200") && response.ends_with("hello"),
        "{response}"
    );
}

#[tokio::test]
async fn an_oversized_head_is_answered_431() {
    let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let response = with_server(Limits::default(), request.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let limits = Limits {
        header_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let response = with_server(limits, b"GET / HTTP/1.1\r\nX: ").await;
    assert!(!response.contains("200"), "{response}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for beginning in [&b""[..], b"PRI * HT", b"G", preface] {
        let limits = Limits {
            header_time: Duration::from_millis(100),
            ..Limits::default()
        };
        let closed = tokio::time::timeout(Duration::from_secs(60), with_server(limits, beginning));
        assert!(closed.await.is_ok(), "{beginning:?}");
    }
}

#[tokio::test]
async fn a_connection_without_further_requests_is_closed() {
    let limits = Limits {
        idle_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let served = tokio::time::timeout(Duration::from_secs(60), with_server(limits, request));
    let response = served.await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_told_that_it_ends() {
    let limits = Limits {
        idle_time: Duration::from_millis(100),
        ..Limits::default()
    };
    // The preface, empty SETTINGS, and on stream 1 the HEADERS of `GET http://x/`, complete.
    let request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                    \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x";
    let running = Running::start(limits, Surroundings::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&GOAWAY) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        kinds.push(head[3]);
    }
    assert!(kinds.contains(&DATA), "{kinds:?}");
    drop(stream);
    running.stop().await;
}

/// Kinds of frames of HTTP/2.
const DATA: u8 = 0;
const GOAWAY: u8 = 7;

#[tokio::test]
async fn only_a_trusted_proxy_says_whom_it_passes_on() {
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n";
    let passed_on = [&header[..], REQUEST].concat();
    for (trusts, expected, request, answer) in [
        (
            true,
            ProxyHeader::Expected,
            &passed_on[..],
            Some("192.0.2.7:4711"),
        ),
        (true, ProxyHeader::Expected, REQUEST, None),
        (true, ProxyHeader::Absent, &passed_on, None),
        (false, ProxyHeader::Expected, &passed_on, None),
        (false, ProxyHeader::Expected, REQUEST, Some("127.0.0.1:")),
    ] {
        let surroundings = Surroundings {
            trusts: Arc::new(move |_| trusts),
            proxy_header: expected,
            ..Surroundings::default()
        };
        let response = with_surroundings(Limits::default(), surroundings, request).await;
        let is_answered = response.starts_with("HTTP/1.1 200");
        assert_eq!(
            is_answered,
            answer.is_some(),
            "{trusts} {expected:?} {response}"
        );
        assert!(response.contains(answer.unwrap_or_default()), "{response}");
    }
}

#[tokio::test]
async fn a_client_with_too_many_connections_is_turned_away_and_a_proxy_is_not() {
    for (trusts, is_answered) in [(false, false), (true, true)] {
        let limits = Limits {
            connections_per_address: Some(0),
            ..Limits::default()
        };
        let surroundings = Surroundings {
            trusts: Arc::new(move |_| trusts),
            ..Surroundings::default()
        };
        let response = with_surroundings(limits, surroundings, REQUEST).await;
        assert_eq!(
            response.starts_with("HTTP/1.1 200"),
            is_answered,
            "{response}"
        );
    }
}

#[tokio::test]
async fn other_terms_hold_for_the_connections_to_come() {
    let terms = Terms::new(Limits::default(), Surroundings::default());
    let running = Running::start_on(terms.clone()).await;
    let mut before = TcpStream::connect(running.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    before.write_all(request).await.unwrap();
    let mut begun = [0; 12];
    before.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");

    let limits = Limits {
        header_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let surroundings = Surroundings {
        trusts: Arc::new(|_| true),
        proxy_header: ProxyHeader::Expected,
        ..Surroundings::default()
    };
    terms.put(limits, surroundings);
    // One that is served goes on as it began.
    before.write_all(REQUEST).await.unwrap();
    let mut rest = String::new();
    before.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 1, "{rest}");
    assert_eq!(ask(running.address, REQUEST).await, "");
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n";
    let passed_on = ask(running.address, &[&header[..], REQUEST].concat()).await;
    assert!(passed_on.contains("192.0.2.7:4711"), "{passed_on}");
    let late = tokio::time::timeout(Duration::from_secs(10), ask(running.address, header));
    assert_eq!(late.await.unwrap(), "");
    running.stop().await;
}
