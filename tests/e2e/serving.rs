//! The front end as a server: what it speaks, what it puts up with, how it changes and how it ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use support::peer::authority::Authority;
use support::peer::free_address;
use support::process::{Process, program as peer, run};

use crate::http;
use crate::network::{fails, program};
use crate::served::{LAYER, MANIFEST, Served, asked, command, curl, replace};

/// A directory with a pair of an authority's, the authority's own certificate, and `[tls]` for it.
fn pair() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("authority")).unwrap();
    let (certificate, key) = authority.server_pair();
    let path = |name: &str| directory.path().join(name);
    fs::copy(certificate, path("cert.pem")).unwrap();
    fs::copy(key, path("key.pem")).unwrap();
    let section = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        path("cert.pem").display(),
        path("key.pem").display()
    );
    let trusted = authority.certificate().display().to_string();
    (directory, section, trusted)
}

#[test]
fn both_versions_of_http_are_spoken_over_tls_and_in_the_clear() {
    let (directory, tls, trusted) = pair();
    let served = Served::start_in(directory, &tls);
    let url = format!("https://{}{MANIFEST}", served.address);
    for (version, expected) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let answer = asked(
            &[version, "--cacert", &trusted, &url],
            "%{http_version} %{http_code}",
        );
        assert_eq!(answer, expected);
    }
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let limited = [
            "--tls-max",
            &version[6..],
            version,
            "--cacert",
            &trusted,
            &url,
        ];
        assert_eq!(asked(&limited, "%{http_code}"), "200", "{version}");
    }
    fails(&mut curl(&["--cacert", &trusted, &served.url(MANIFEST)]));

    let served = Served::start("");
    for (version, expected) in [
        ("--http2-prior-knowledge", "2 200"),
        ("--http1.1", "1.1 200"),
    ] {
        let answer = asked(
            &[version, &served.url(MANIFEST)],
            "%{http_version} %{http_code}",
        );
        assert_eq!(answer, expected);
    }
}

#[test]
fn a_tls_session_is_resumed() {
    let (directory, tls, trusted) = pair();
    let served = Served::start_in(directory, &tls);
    let session = served.path("session").display().to_string();
    let connect = |version: &str, session: &str| {
        // Tickets come with the first answer; the server ends the connection.
        let script = format!(
            "printf 'GET /v2/ HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' |
             openssl s_client -ign_eof {version} {session} -CAfile '{trusted}' -connect {}",
            served.address
        );
        run(peer("sh").unwrap().args(["-c", &script]))
            .unwrap()
            .stdout
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let first = connect(version, &format!("-sess_out {session}"));
        assert!(first.contains("\nNew, TLSv1"), "{first}");
        let second = connect(version, &format!("-sess_in {session}"));
        assert!(second.contains("\nReused, TLSv1"), "{second}");
    }
}

#[test]
fn addresses_of_their_own_may_speak_tls_beside_those_that_do_not() {
    let (directory, tls, trusted) = pair();
    let secure = free_address().unwrap();
    let served = Served::start_in(directory, &format!("{tls}listen = [\"{secure}\"]\n"));
    let url = format!("https://{secure}{MANIFEST}");
    assert_eq!(asked(&["--cacert", &trusted, &url], "%{http_code}"), "200");
    assert_eq!(asked(&[&served.url(MANIFEST)], "%{http_code}"), "200");
}

#[test]
fn a_unix_socket_and_ipv6_are_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut command = command(directory.path(), "socket-mode = \"0600\"\n");
    command
        .arg("--listen")
        .arg(format!("unix:{},[::1]:0", socket.display()));
    let log = directory.path().join("log");
    let mut process = Process::start(&mut command, &log).unwrap();
    let said = "registry-proxy listens on ";
    process
        .wait_until(|| fs::read_to_string(&log).unwrap().contains(said))
        .unwrap();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let unix = [
        "--unix-socket",
        &socket.display().to_string(),
        &format!("http://x{MANIFEST}"),
    ];
    assert_eq!(asked(&unix, "%{http_code}"), "200");
    let text = process.log().unwrap();
    let address = text
        .lines()
        .find_map(|line| line.strip_prefix(said))
        .unwrap();
    assert_eq!(
        asked(&[&format!("http://{address}{MANIFEST}")], "%{http_code}"),
        "200"
    );
    process.stop();
    assert!(!socket.exists());
}

#[test]
fn a_certificate_is_replaced_while_it_is_used_and_a_bad_one_is_not_taken() {
    let (directory, tls, first) = pair();
    let (other, _, second) = pair();
    let mut served = Served::start_in(directory, &tls);
    let url = format!("https://{}{MANIFEST}", served.address);
    let trusts = |trusted: &str| run(&mut curl(&["--cacert", trusted, &url])).is_ok();
    assert!(trusts(&first) && !trusts(&second));
    for name in ["cert.pem", "key.pem"] {
        replace(
            &served.path(name),
            &fs::read(other.path().join(name)).unwrap(),
        );
    }
    served.process.wait_until(|| trusts(&second)).unwrap();
    assert!(!trusts(&first));

    replace(&served.path("key.pem"), b"no key");
    served.wait_for_log("the certificate stays as it was");
    assert!(trusts(&second));
}

#[test]
fn a_changed_configuration_is_taken_up_whole_and_no_request_fails() {
    let interval = "[crawler]\nenabled = false\n";
    let mut served = Served::start(interval);
    let url = served.url(MANIFEST);
    let origin = |address: &str| {
        let fields = [
            ("accept", "application/metalink4+xml"),
            ("x-forwarded-proto", "https"),
        ];
        http::get(&format!("http://{address}{MANIFEST}"), &fields).text()
    };
    let address = served.address.clone();
    assert!(origin(&address).contains(&format!("http://{address}/")));

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut requests = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(http::get(&url, &[]).status, 200);
                requests += 1;
            }
            requests
        });
        // By itself.
        let trusting = format!("trusted-proxies = [\"127.0.0.0/8\"]\n{interval}");
        served.configure(&trusting);
        let secure = format!("https://{address}/");
        let trusted = || origin(&address).contains(&secure);
        served.process.wait_until(trusted).unwrap();
        // A broken one changes nothing, and says where it is broken.
        served.configure("trusted-proxies = []\nlissen = []\n");
        served.wait_for_log("lissen");
        assert!(served.process.log().unwrap().contains("line 2"));
        assert!(trusted());
        // On request, and what cannot change is named. Nobody who is trusted is left to begin with a header.
        let fixed = "listen = [\"[::]:1\"]\nsocket-mode = \"0600\"\ntree = \"/\"";
        let notify = "[notify]\ncommand = [\"true\"]\n";
        served.configure(&format!(
            "{fixed}\nproxy-protocol = true\n{interval}{notify}"
        ));
        served.signal(Signal::HUP);
        served.process.wait_until(|| !trusted()).unwrap();
        let log = served.process.log().unwrap();
        for setting in ["socket-mode", "notify"] {
            let line = format!("`{setting}` has changed: it needs a restart");
            assert_eq!(log.matches(&line).count(), 1, "{log}");
        }
        // Those are named by flags, which win; the other is in force.
        for setting in ["listen", "tree", "proxy-protocol"] {
            let line = format!("`{setting}` has changed");
            assert!(!log.contains(&line), "{log}");
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(load.join().unwrap() > 0);
    });
}

#[test]
fn a_geographic_database_is_replaced_and_survives_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("geo.mmdb");
    let good =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/geo-whois-asn-country.mmdb"));
    let good = good.unwrap();
    fs::write(&path, &good).unwrap();
    let config = format!("geoip = [\"{}\"]\n", path.display());
    let mut served = Served::start_in(directory, &config);
    replace(&path, b"half a database");
    served.wait_for_log("the geographic databases stay as they were");
    assert_eq!(asked(&[&served.url(MANIFEST)], "%{http_code}"), "200");
    let before = served
        .process
        .log()
        .unwrap()
        .matches("is up to date")
        .count();
    replace(&path, &good);
    let log = served.path("log");
    served
        .process
        .wait_until(|| {
            fs::read_to_string(&log)
                .unwrap()
                .matches("is up to date")
                .count()
                > before
        })
        .unwrap();
}

/// How often the log says so.
fn said(served: &Served, text: &str) -> usize {
    served.process.log().unwrap().matches(text).count()
}

#[test]
fn a_configuration_that_was_refused_is_taken_up_when_its_files_come() {
    const REFUSED: &str = "stays as it was until the files it names can be used";
    let (directory, tls, trusted) = pair();
    let authority = Authority::new(&directory.path().join("other")).unwrap();
    let mut served = Served::start_in(directory, &tls);
    let path = |name: &str| served.directory.path().join(name);
    let (geo, prefixes) = (path("geo.mmdb"), path("prefixes"));
    let (certificate, key) = (path("next.pem"), path("next.key"));
    // Both name a file that is not there yet, and then one that is not whole yet.
    served.configure(&format!(
        "geoip = [\"{}\"]\nasn-prefixes = [\"{}\"]\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        geo.display(),
        prefixes.display(),
        certificate.display(),
        key.display(),
    ));
    served.wait_for_log(REFUSED);
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/geo-whois-asn-country.mmdb");
    let good = fs::read(good).unwrap();
    let (next, next_key) = authority.server_pair();
    let steps: [(&Path, &[u8]); 6] = [
        (&geo, &good[..1000]),
        (&geo, &good),
        (&prefixes, b"192.0.2.0/24 64496\n"),
        (&certificate, b"half a certificate"),
        (&certificate, &fs::read(next).unwrap()),
        (&key, &fs::read(next_key).unwrap()),
    ];
    let url = format!("https://{}{MANIFEST}", served.address);
    for (number, (path, content)) in steps.into_iter().enumerate() {
        // It is tried at each change, and not over and over between two.
        let tried = said(&served, REFUSED);
        assert_eq!(tried, number + 1, "{}", served.process.log().unwrap());
        assert_eq!(asked(&["--cacert", &trusted, &url], "%{http_code}"), "200");
        replace(path, content);
        let log = served.path("log");
        let is_done = || {
            let log = fs::read_to_string(&log).unwrap();
            log.matches(REFUSED).count() > tried || log.contains("is up to date")
        };
        served.process.wait_until(is_done).unwrap();
    }
    let trusted = authority.certificate().display().to_string();
    assert_eq!(asked(&["--cacert", &trusted, &url], "%{http_code}"), "200");
    assert_eq!(said(&served, "is up to date"), 1);
}

#[test]
fn limits_the_proxy_header_and_statistics_change_while_connections_go_on() {
    let mut served = Served::start("");
    let (mut got, mut stream) = served.begin_layer();
    let statistics = served.path("statistics.jsonl");
    let settings = format!(
        "[limits]\nheader-time = \"100ms\"\nconnections-per-address = 2\nconnections = 8\n\
         [statistics]\nfile = \"{}\"\n",
        statistics.display()
    );
    served.configure(&format!(
        "trusted-proxies = [\"127.0.0.0/8\"]\nproxy-protocol = true\n{settings}"
    ));
    served.wait_for_log("is up to date");
    let url = served.url(MANIFEST);
    assert_eq!(asked(&["--haproxy-protocol", &url], "%{http_code}"), "200");
    // Without a header, and by whoever does not end one: closed, and in time.
    for begin in [&b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PROXY TCP4 "] {
        let mut late = TcpStream::connect(&served.address).unwrap();
        late.write_all(begin).unwrap();
        late.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut nothing = Vec::new();
        // Closed or reset; only waiting in vain is wrong.
        if let Err(error) = late.read_to_end(&mut nothing) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock);
        }
        assert_eq!(nothing, b"");
    }

    served.configure(&settings);
    let log = served.path("log");
    served
        .process
        .wait_until(|| {
            let log = fs::read_to_string(&log).unwrap();
            log.matches("is up to date").count() == 2
        })
        .unwrap();
    assert_eq!(asked(&[&url], "%{http_code}"), "200");
    // Two of this client, and a third is closed.
    let open = || {
        let mut stream = TcpStream::connect(&served.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let request = format!("GET {MANIFEST} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).map(|()| (begun, stream))
    };
    let held = [open().unwrap(), open().unwrap()];
    assert!(open().is_err());
    drop(held);

    // What began before went on through all of it.
    stream.read_to_end(&mut got).unwrap();
    let body = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(got.len() - body, LAYER);
    // Whoever is no longer told gets what was added up until then.
    served.configure("");
    served
        .process
        .wait_until(|| fs::read_to_string(&statistics).is_ok_and(|text| text.ends_with('\n')))
        .unwrap();
    let report = fs::read_to_string(&statistics).unwrap();
    assert!(report.contains("\"repository\":\"test\""), "{report}");
}

#[test]
fn requests_under_way_finish_after_the_end_was_asked_for() {
    let mut served = Served::start("");
    let underway: Vec<_> = (0..8).map(|_| served.begin_layer()).collect();
    served.signal(Signal::TERM);
    let address = served.address.clone();
    served
        .process
        .wait_until(|| TcpStream::connect(&address).is_err())
        .unwrap();
    for (mut got, mut stream) in underway {
        stream.read_to_end(&mut got).unwrap();
        let body = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(got.len() - body, LAYER);
    }
    let end = served.wait_for_end();
    assert!(end.contains("exit status: 0"), "{end}");
}

#[test]
fn neither_grace_nor_a_second_signal_waits_for_ever() {
    let mut served = Served::start("[limits]\ngrace = \"1s\"\n");
    let (_, _held) = served.begin_layer();
    served.signal(Signal::TERM);
    let end = served.wait_for_end();
    assert!(
        end.contains("exit status: 0") && end.contains("did not end in time"),
        "{end}"
    );

    let mut served = Served::start("[limits]\ngrace = \"24h\"\n");
    let (_, _held) = served.begin_layer();
    served.signal(Signal::TERM);
    served.wait_for_log("stopping");
    served.signal(Signal::TERM);
    let end = served.wait_for_end();
    assert!(end.contains("exit status: 1"), "{end}");
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_named_only_if_that_is_wanted() {
    for is_named in [false, true] {
        let mut served = Served::start(&format!(
            "[limits]\nstall-time = \"1s\"\n[log]\nlevel = \"debug\"\nclient-addresses = {is_named}\n"
        ));
        let (mut got, mut stream) = served.begin_layer();
        let client = stream.local_addr().unwrap().to_string();
        served.wait_for_log("a connection ended early");
        // What was on its way may still come, then it breaks off.
        let _ = stream.read_to_end(&mut got);
        assert!(got.len() < LAYER, "{}", got.len());
        assert_eq!(served.process.log().unwrap().contains(&client), is_named);
    }
}

#[test]
fn a_client_that_says_nothing_more_is_left_by_the_server() {
    let served = Served::start("[limits]\nidle-time = \"1s\"\nheader-time = \"1s\"\n");
    for said in ["", "GET / HTTP", "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(&served.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{said}");
        }
    }
}

#[test]
fn a_trusted_proxy_says_whom_it_passes_on_and_how_they_came() {
    let config = "trusted-proxies = [\"127.0.0.1\"]\nproxy-protocol = true\n";
    let served = Served::start(config);
    let url = served.url(MANIFEST);
    assert_eq!(asked(&["--haproxy-protocol", &url], "%{http_code}"), "200");
    fails(&mut curl(&[&url]));

    // Version 2: TCP over IPv4, from 192.0.2.7, who came over TLS.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14".to_vec();
    header.extend([192, 0, 2, 7, 127, 0, 0, 1, 18, 103, 1, 187]);
    header.extend([0x20, 0, 5, 1, 0, 0, 0, 0]);
    let request = format!(
        "GET {MANIFEST} HTTP/1.1\r\nHost: example.org\r\nAccept: application/metalink4+xml\r\nConnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(&served.address).unwrap();
    stream
        .write_all(&[&header, request.as_bytes()].concat())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("https://example.org/"), "{answer}");

    // And it stands before TLS.
    let (directory, tls, trusted) = pair();
    let served = Served::start_in(directory, &format!("{config}{tls}"));
    let url = format!("https://{}{MANIFEST}", served.address);
    let with_header = ["--haproxy-protocol", "--cacert", &trusted, &url];
    assert_eq!(asked(&with_header, "%{http_code}"), "200");
    fails(&mut curl(&["--cacert", &trusted, &url]));
}

#[test]
fn a_header_of_somebody_who_is_not_trusted_is_refused() {
    let served = Served::start("trusted-proxies = [\"192.0.2.1\"]\nproxy-protocol = true\n");
    let url = served.url(MANIFEST);
    assert_eq!(asked(&[&url], "%{http_code}"), "200");
    fails(&mut curl(&["--haproxy-protocol", &url]));
}

#[test]
fn sockets_are_taken_over_from_systemd() {
    let directory = tempfile::tempdir().unwrap();
    let (tcp, unix) = (free_address().unwrap(), directory.path().join("socket"));
    let served = command(directory.path(), "");
    let mut activate = peer("systemd-socket-activate").unwrap();
    activate
        .args(["--listen", &tcp.to_string(), "--listen"])
        .arg(&unix);
    activate.arg(served.get_program()).args(served.get_args());
    // Taken, so that it must not be bound a second time.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    activate.args(["--listen", &elsewhere.local_addr().unwrap().to_string()]);
    let mut process = Process::start(&mut activate, &directory.path().join("log")).unwrap();
    process
        .wait_until(|| unix.exists() && TcpStream::connect(tcp).is_ok())
        .unwrap();
    assert_eq!(
        asked(&[&format!("http://{tcp}{MANIFEST}")], "%{http_code}"),
        "200"
    );
    let path = unix.display().to_string();
    let over_unix = ["--unix-socket", &path, &format!("http://x{MANIFEST}")];
    assert_eq!(asked(&over_unix, "%{http_code}"), "200");
    process.stop();
    assert!(unix.exists(), "it is not ours to remove");
}

#[test]
fn the_service_manager_is_told_how_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let next = |wanted: &str| loop {
        let mut told = [0; 512];
        let length = manager.recv(&mut told).unwrap();
        let told = String::from_utf8_lossy(&told[..length]).into_owned();
        if told.starts_with(wanted) {
            return told;
        }
    };
    let mut command = command(directory.path(), "");
    command.args(["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", directory.path().join("notify"));
    command.env("WATCHDOG_USEC", "300000");
    let process = Process::start(&mut command, &directory.path().join("log")).unwrap();
    assert!(next("READY=1").contains("STATUS=listening on 127.0.0.1:"));
    next("WATCHDOG=1");
    let served = Served {
        directory,
        address: String::new(),
        process,
    };
    served.signal(Signal::HUP);
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    served.signal(Signal::TERM);
    next("STOPPING=1");
}

#[test]
fn a_log_of_objects_can_be_read_by_programs() {
    let mut served = Served::start("[log]\nformat = \"json\"\n");
    served.signal(Signal::HUP);
    served.wait_for_log("up to date");
    let log = served.process.log().unwrap();
    let objects: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| !line.starts_with("registry-proxy listens on"))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let loaded = objects
        .iter()
        .find(|object| object["message"] == "loaded a snapshot");
    let loaded = loaded.unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        (&loaded["level"], loaded["tree.blobs"].as_u64()),
        (&"INFO".into(), Some(3))
    );
}

#[test]
fn check_config_says_all_that_is_wrong() {
    let (directory, tls, _) = pair();
    let config = directory.path().join("c.toml");
    let check = || {
        let mut check = program("registry-proxy");
        check.arg("check-config").arg("--config").arg(&config);
        check
            .arg("--database")
            .arg(directory.path().join("mirrors.db"));
        check
    };
    fs::write(
        &config,
        "listen = [\"5000\"]\n[limits]\nconections = 1\n[log]\nlevel = \"loud\"\n",
    )
    .unwrap();
    let (code, failure) = fails(&mut check());
    assert_eq!(code, 1);
    for said in ["5000", "conections", "loud", "line 1", "line 3", "line 5"] {
        assert!(failure.stderr.contains(said), "{said}: {}", failure.stderr);
    }

    fs::write(directory.path().join("key.pem"), "no key").unwrap();
    fs::write(
        &config,
        format!("tree = \"/no/such\"\ngeoip = [\"/no/such.mmdb\"]\n{tls}"),
    )
    .unwrap();
    let (code, failure) = fails(&mut check());
    assert_eq!(code, 1);
    for said in [
        "/no/such",
        "/no/such.mmdb",
        "key.pem",
        "warning: there is no database",
    ] {
        assert!(failure.stderr.contains(said), "{said}: {}", failure.stderr);
    }

    fs::write(&config, "listen = [\"127.0.0.1:1\"]\n").unwrap();
    let tree = crate::served::tree().0;
    let said = run(check().arg("--tree").arg(tree)).unwrap();
    assert!(said.stdout.contains("is right"), "{said:?}");
}
