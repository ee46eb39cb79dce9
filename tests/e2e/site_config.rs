//! What `mirror-tool site-config` prints, in the real servers it is for.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use support::peer::rsyncd::{self, RsyncDaemon};
use support::peer::web_server::WebServer;
use support::peer::{apache, caddy, free_address, nginx};
use support::process::{program as peer, run};
use tempfile::TempDir;

use crate::http;
use crate::network::{Tools, fails, program, tree, verify};

const HOST: &str = "mirror.example.org";

/// A web server there is configuration for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Nginx,
    Apache,
    Caddy,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Caddy => "caddy",
        }
    }

    /// Starts the server with a configuration as it was printed, but for the port and for where its log is.
    #[track_caller]
    pub(crate) fn start(self, printed: &str, state: &Path) -> WebServer {
        let address = free_address().unwrap();
        let logs = state.display().to_string();
        match self {
            Self::Nginx => {
                let listen = "    listen 80;\n    listen [::]:80;\n";
                let site = replaced(printed, listen, &format!("    listen {address};\n"));
                let site = replaced(&site, "/var/log/nginx", &logs);
                nginx::start_site(&site, address, state).unwrap()
            }
            Self::Apache => {
                let site = replaced(printed, "*:80>", &format!("{address}>"));
                apache::start_site(&format!("{AS_ON_FEDORA}{site}"), address, state).unwrap()
            }
            Self::Caddy => {
                let names = format!("http://{HOST}, https://{HOST} {{");
                let here = format!("http://{address} {{\n\tbind {}", address.ip());
                let site = replaced(printed, &names, &here);
                let site = replaced(&site, "/var/log/caddy", &logs);
                caddy::start_site(&site, address, state).unwrap()
            }
        }
    }
}

/// Modules that the sites need, and what other systems have on that makes trouble.
const AS_ON_FEDORA: &str = r"<IfModule !headers_module>
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
</IfModule>
<IfModule !rewrite_module>
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
</IfModule>
<IfModule !mime_magic_module>
LoadModule mime_magic_module /usr/lib/apache2/modules/mod_mime_magic.so
</IfModule>
MimeMagicFile /etc/apache2/magic
AddEncoding x-gzip .gz .tgz
AddHandler server-status .php
";

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in:\n{text}");
    text.replace(from, to)
}

/// What is printed for a tree.
#[track_caller]
pub(crate) fn site_config(kind: &str, tree: &Path, more: &[&str]) -> String {
    let mut command = program("mirror-tool");
    command.args(["site-config", kind, "--host", HOST, "--tree"]);
    command.arg(tree).args(more);
    let output = run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
    output.stdout
}

/// A mirror's copy of the shared tree, at which rsync is still at work.
struct Mirror {
    directory: TempDir,
    /// A blob of the tree.
    blob: String,
    /// Its bytes.
    bytes: Vec<u8>,
}

/// Larger than what the machine buffers for a connection.
const LARGE: &str =
    "blobs/sha256/00/0000000000000000000000000000000000000000000000000000000000000000";

/// Bytes of it.
const LARGE_SIZE: u64 = 64 << 20;

impl Mirror {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("containers");
        rsyncd::sync(tree(), &copy, &[]).unwrap();
        let index = fs::read(copy.join("repos/app/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let hex = index["manifests"][0]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "");
        let blob = format!("blobs/sha256/{}/{hex}", &hex[..2]);
        for unfinished in [".~tmp~/x", "blobs/sha256/00/.~tmp~/x"] {
            let path = copy.join(unfinished);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "not yet").unwrap();
        }
        let large = fs::File::create(copy.join(LARGE)).unwrap();
        large.write_all_at(b"!", LARGE_SIZE - 1).unwrap();
        Self {
            bytes: fs::read(copy.join(&blob)).unwrap(),
            directory,
            blob,
        }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("containers")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    #[track_caller]
    fn serve(&self, server: Server) -> WebServer {
        let printed = site_config(server.name(), &self.tree(), &[]);
        server.start(&printed, &self.state())
    }

    /// What the site has logged.
    fn log(&self) -> String {
        fs::read_to_string(self.state().join(format!("{HOST}.log"))).unwrap()
    }
}

/// What every mirror should do, whatever it is served with.
#[track_caller]
fn has_good_manners(mirror: &Mirror, server: &WebServer) {
    let url = |path: &str| format!("{}/{path}", server.url());
    let get = |path: &str, fields: &[(&'static str, &str)]| http::get(&url(path), fields);
    let packed = [("accept-encoding", "gzip, br, zstd")];

    // Content has its name from its digest: cached for ever, never encoded, sent in parts.
    let hex = mirror.blob.rsplit('/').next().unwrap();
    for path in [&mirror.blob, &format!("repos/app/blobs/sha256/{hex}")] {
        let answer = get(path, &packed);
        assert_eq!(
            (answer.status.as_u16(), &answer.body),
            (200, &mirror.bytes),
            "{path}"
        );
        assert_eq!(
            answer.field("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(answer.field("content-type"), "application/octet-stream");
        assert_eq!(answer.field("content-encoding"), "");
        let part = get(path, &[("range", "bytes=5-9"), packed[0]]);
        assert_eq!(
            (part.status.as_u16(), &part.body[..]),
            (206, &mirror.bytes[5..10])
        );
        assert_eq!(part.field("content-encoding"), "");
    }
    // A layer that is gzip by content, whoever looks.
    let layer = gzip_layer(&mirror.tree());
    let answer = http::send(Method::HEAD, &url(&layer), &packed);
    assert_eq!(
        answer.field("content-type"),
        "application/octet-stream",
        "{layer}"
    );
    assert_eq!(answer.field("content-encoding"), "");

    // All else changes under its name, and is asked about again.
    for path in [
        "repos/app/index.json",
        "state.json",
        "fullfiletimelist-containers",
    ] {
        let answer = get(path, &[]);
        assert_eq!(
            (answer.status.as_u16(), answer.field("cache-control")),
            (200, "max-age=0, must-revalidate"),
            "{path}"
        );
        let etag = answer.field("etag").to_owned();
        let again = get(path, &[("if-none-match", &etag)]);
        assert_eq!(again.status.as_u16(), 304, "{path}: {etag}");
    }

    // What is not there, or not yet, is not kept by caches.
    let absent = mirror.blob.replace(&hex[10..20], "0000000000");
    for path in [
        &absent,
        ".~tmp~/x",
        "blobs/sha256/00/.~tmp~/x",
        "repos/app/",
    ] {
        let answer = get(path, &[]);
        assert!(
            [403, 404].contains(&answer.status.as_u16()),
            "{path}: {answer:?}"
        );
        assert!(
            !answer.field("cache-control").contains("immutable"),
            "{path}"
        );
        assert!(
            path.ends_with('/') || answer.status.as_u16() == 404,
            "{path}: {answer:?}"
        );
    }
    for method in [Method::PUT, Method::DELETE, Method::POST] {
        let answer = http::send(method.clone(), &url("state.json"), &[]);
        assert_eq!(answer.status.as_u16(), 405, "{method}");
    }
    assert_eq!(requests_in_one_connection(server.address(), 50), 50);

    // The front end's crawler takes it.
    let tools = Tools::new(tree(), mirror.directory.path());
    tools.add_mirror("mirror", &server.url(), "DE");
    let report = tools.run(&["crawl", "--once", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let host = &report["hosts"][0];
    assert_eq!(host["failure"], serde_json::Value::Null, "{report}");
    let counts = ["missing", "damaged", "unknown", "present"].map(|key| host[key].as_u64());
    assert_eq!(counts, [Some(0); 4], "{report}");
    assert_eq!(host["failed_probes"], serde_json::json!([]), "{report}");

    // The log has what was sent, which is more than the body, and which part was asked for.
    let log = mirror.log();
    assert!(log.contains("bytes=5-9"), "{log}");
}

/// The path of a blob that begins as gzip does.
fn gzip_layer(tree: &Path) -> String {
    let mut pending = vec![tree.join("blobs/sha256")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let mut magic = [0; 2];
        let read = fs::File::open(&path).unwrap().read_exact_at(&mut magic, 0);
        if read.is_ok() && magic == [0x1f, 0x8b] {
            return path
                .strip_prefix(tree)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
        }
    }
    panic!("no sample is compressed by gzip");
}

/// How many of so many requests a server answers before it closes the connection.
fn requests_in_one_connection(address: SocketAddr, count: usize) -> usize {
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for done in 0..count {
        let request = format!("HEAD /state.json HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let mut head = Vec::new();
        if connection.write_all(request.as_bytes()).is_err() {
            return done;
        }
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match connection.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return done,
            }
        }
        assert!(
            head.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&head)
        );
    }
    count
}

#[test]
fn nginx_serves_a_mirror_and_counts_connections() {
    let mirror = Mirror::new();
    let server = mirror.serve(Server::Nginx);
    has_good_manners(&mirror, &server);

    // Many may have one address, and somebody who opens a hundred is told to come again.
    let mut open = Vec::new();
    let mut busy = 0;
    for _ in 0..40 {
        let mut connection = TcpStream::connect(server.address()).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        write!(connection, "GET /{LARGE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        match &status {
            b"HTTP/1.1 200" => open.push(connection),
            b"HTTP/1.1 429" => busy += 1,
            status => panic!("{}", String::from_utf8_lossy(status)),
        }
    }
    assert_eq!((open.len(), busy), (32, 8));
}

#[test]
fn apache_serves_a_mirror() {
    let mirror = Mirror::new();
    has_good_manners(&mirror, &mirror.serve(Server::Apache));
}

#[test]
fn caddy_serves_a_mirror() {
    let mirror = Mirror::new();
    has_good_manners(&mirror, &mirror.serve(Server::Caddy));
}

/// Names that rsync lists at a URL.
#[track_caller]
fn listed(url: &str) -> Vec<String> {
    let output = run(peer("rsync").unwrap().args(["-r", url])).unwrap();
    let names = output
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    names.map(str::to_owned).collect()
}

#[test]
fn rsyncd_offers_a_tree_and_computes_nothing_for_strangers() {
    let mirror = Mirror::new();
    let printed = site_config("rsyncd", &mirror.tree(), &["--max-connections", "2"]);
    let path = |name: &str| mirror.directory.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    let address = free_address().unwrap();
    let settings = format!("lock file = {}\n{printed}", path("lock").display());
    let daemon =
        RsyncDaemon::start_with(&settings, address, "other", &path("empty"), &mirror.state())
            .unwrap();
    let url = |module: &str| format!("rsync://{address}/{module}");

    let modules = run(peer("rsync").unwrap().arg(url(""))).unwrap().stdout;
    assert!(
        modules.contains("containers") && modules.contains("Container images"),
        "{modules}"
    );
    assert!(!modules.contains("above"), "{modules}");
    for module in ["containers/", "above/containers/"] {
        let names = listed(&url(module));
        assert!(names.contains(&"state.json".to_owned()), "{names:?}");
        assert!(
            !names.iter().any(|name| name.contains(".~tmp~")),
            "{names:?}"
        );
    }
    // Of the directory above there is nothing but the tree.
    let names = listed(&url("above/"));
    assert!(
        names
            .iter()
            .all(|name| name == "." || name.starts_with("containers")),
        "{names:?}"
    );

    // The plain way to follow it, hardlinks included.
    let copy = path("copy");
    rsyncd::sync(url("containers"), &copy, &["--delay-updates"]).unwrap();
    fs::remove_dir_all(copy.join("blobs/sha256/00")).unwrap();
    run(&mut verify(&copy)).unwrap_or_else(|error| panic!("{error:#}"));
    let log = daemon.log().unwrap();
    assert!(log.contains("send") && log.contains("state.json"), "{log}");

    let (code, failure) = fails(
        peer("rsync")
            .unwrap()
            .args(["-rc", &url("containers/")])
            .arg(path("sums")),
    );
    assert!(
        code != 0 && failure.stderr.contains("refuse --checksum"),
        "{failure}"
    );
    let (code, failure) = fails(
        peer("rsync")
            .unwrap()
            .arg(copy.join("state.json"))
            .arg(url("containers/new")),
    );
    assert!(
        code != 0 && failure.stderr.contains("read only"),
        "{failure}"
    );

    // Both modules count together.
    let held: Vec<TcpStream> = ["containers", "above"]
        .map(|module| hold(address, module))
        .into();
    let (code, failure) = fails(peer("rsync").unwrap().arg(url("containers/state.json")));
    assert!(
        code != 0 && failure.to_string().contains("max connections (2) reached"),
        "{failure}"
    );
    drop(held);
}

/// A client of a module that says nothing more.
fn hold(address: SocketAddr, module: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(connection, "@RSYNCD: 31.0\n{module}\n").unwrap();
    let mut said = String::new();
    while !said.contains("@RSYNCD: OK") {
        let mut bytes = [0; 64];
        let count = connection.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    connection
}

#[test]
fn systemd_takes_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("my mirrors/containers");
    let more = [
        "--from",
        "rsync://containers.example.org/containers",
        "--from",
        "https://containers.example.org/tree?a=%20",
        "--static-v2",
    ];
    let printed = site_config("systemd", &tree, &more);
    // The program is not installed where systemd looks for it.
    let tool = program("mirror-tool");
    let tool = tool.get_program().to_str().unwrap();
    let printed = replaced(
        &printed,
        "ExecStart=mirror-tool ",
        &format!("ExecStart={tool} "),
    );
    let (mut files, mut current) = (Vec::new(), None);
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("# /etc/systemd/system/") {
            let path = directory.path().join(name);
            current = Some(fs::File::create(&path).unwrap());
            files.push(path);
        }
        writeln!(current.as_mut().unwrap(), "{line}").unwrap();
    }
    assert_eq!(files.len(), 2, "{printed}");
    let verified = run(peer("systemd-analyze")
        .unwrap()
        .args(["verify", "--man=no"])
        .args(&files))
    .unwrap();
    // It says what it does not know, and ends well.
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(!verified.stderr.contains(name), "{}", verified.stderr);
    }
    let mut security = peer("systemd-analyze").unwrap();
    security.args(["security", "--offline=true", "--threshold=30"]);
    run(security.arg(&files[0])).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn what_cannot_be_written_into_a_configuration_is_refused() {
    for (arguments, said) in [
        (["nginx", "--tree", "/srv/a;b", "--host", "h"], "/srv/a;b"),
        (
            ["apache", "--tree", "/srv/a\nb", "--host", "h"],
            "cannot be named",
        ),
        (["caddy", "--tree", "/srv/a", "--host", "a b"], "a b"),
        (["systemd", "--tree", "/srv/a", "--host", "h"], "--from"),
    ] {
        let (code, failure) = fails(program("mirror-tool").arg("site-config").args(arguments));
        assert_eq!((code, failure.stdout.as_str()), (2, ""), "{failure}");
        assert!(failure.stderr.contains(said), "{failure}");
    }
}

/// The commands the manual gives those who start a mirror.
fn five_commands() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme
        .split_once("From nothing to a listed mirror")
        .unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("    "));
    let commands: Vec<&str> = lines
        .take_while(|line| line.starts_with("    "))
        .map(str::trim)
        .collect();
    assert_eq!(commands.len(), 5, "{commands:#?}");
    commands
}

#[test]
fn five_commands_make_a_listed_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let here = directory.path().display().to_string();
    for name in [
        "etc/systemd/system",
        "etc/nginx/conf.d",
        "srv",
        "origin",
        "empty",
    ] {
        fs::create_dir_all(path(name)).unwrap();
    }
    let origin = path("origin/containers");
    rsyncd::sync(tree(), &origin, &[]).unwrap();
    let address = free_address().unwrap();
    let offered = site_config("rsyncd", &origin, &[]);
    let settings = format!("lock file = {here}/lock\n{offered}");
    let (empty, state) = (path("empty"), path("rsyncd"));
    let _origin = RsyncDaemon::start_with(&settings, address, "other", &empty, &state).unwrap();

    // What needs a machine of its own is left out: the account, systemd, a restart of nginx.
    let tool = program("mirror-tool");
    let programs = Path::new(tool.get_program())
        .parent()
        .unwrap()
        .display()
        .to_string();
    let shell = |command: &str| {
        let mut shell = peer("sh").unwrap();
        shell.env("PATH", format!("{programs}:/usr/sbin:/usr/bin:/sbin:/bin"));
        let output = run(shell.args(["-ec", command]));
        output.unwrap_or_else(|error| panic!("{error:#}")).stdout
    };
    let commands = five_commands();
    assert!(commands[0].ends_with("useradd --system mirror"));
    let units = replaced(commands[1], "/srv/", &format!("{here}/srv/"));
    let units = replaced(&units, "//HOST/", &format!("//{address}/"));
    shell(&replaced(
        &units,
        "file = $2",
        &format!("file = \"{here}\" $2"),
    ));
    let read = |name: &str| fs::read_to_string(path("etc/systemd/system").join(name)).unwrap();
    let (service, timer) = (read("mirror-sync.service"), read("mirror-sync.timer"));
    assert!(
        commands[2].contains("mirror-sync.timer") && commands[2].ends_with("start mirror-sync")
    );
    assert!(timer.contains("[Install]") && service.contains("User=mirror\n"));
    let start = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    shell(start.unwrap());
    run(&mut verify(&path("srv/containers"))).unwrap_or_else(|error| panic!("{error:#}"));

    let site = replaced(commands[3], "/srv/", &format!("{here}/srv/"));
    let site = replaced(&site, "/etc/nginx", &format!("{here}/etc/nginx"));
    shell(&replaced(&site, " && nginx -s reload", ""));
    let site = fs::read_to_string(path("etc/nginx/conf.d/containers.conf")).unwrap();
    let server = Server::Nginx.start(&site, &path("nginx"));

    let add = replaced(commands[4], "http://mirror.example.org", &server.url());
    let database = format!(" --database {here}/mirrors.db --allow-private-addresses");
    shell(&format!("{add}{database}"));
    let tools = Tools::new(&origin, directory.path());
    let report = tools.run(&["crawl", "--once", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let host = &report["hosts"][0];
    assert_eq!(host["failure"], serde_json::Value::Null, "{report}");
    assert_eq!(
        (host["missing"].as_u64(), host["behind"].as_u64()),
        (Some(0), Some(0)),
        "{report}"
    );
}
