//! The network under test: source registry, tree, mirrors, front end. All of it real.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use serde_json::Value;
use support::peer::apache;
use support::peer::docker_registry::DockerRegistry;
use support::peer::nginx;
use support::peer::web_server::WebServer;
use support::peer::{free_address, rsyncd};
use support::process::{Failure, Output, Process, run, run_within};
use support::samples;
use tempfile::TempDir;

use crate::http;

/// The images of the sample set, as `name:tag`.
pub(crate) const IMAGES: [&str; 5] = [
    "debian:12",
    "debian:zstd",
    "debian:docker",
    "debian:docker-list",
    "app:1.0",
];

/// Addresses in the built-in country database, from blocks their holders have had for decades.
pub(crate) const GERMAN: &str = "130.149.7.1";
pub(crate) const AUSTRALIAN: &str = "1.128.0.1";

/// One of our programs, built by `cargo build --workspace --bins`.
pub(crate) fn program(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins`",
        path.display()
    );
    let mut command = Command::new(path);
    for variable in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "RUST_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs a program that must fail; its exit code and stderr.
#[track_caller]
pub(crate) fn fails(command: &mut Command) -> (i32, Failure) {
    let error = run(command).expect_err("the command should have failed");
    let failure = error
        .downcast_ref::<Failure>()
        .unwrap_or_else(|| panic!("{error:?}"))
        .clone();
    (failure.status.code().unwrap_or(-1), failure)
}

/// Exports from a registry into a tree; what the program reports.
#[track_caller]
pub(crate) fn export(tree: &Path, sources: &[String]) -> Value {
    let mut command = program("mirror-tool");
    command
        .args(["export", "--plain-http", "--json", "--tree"])
        .arg(tree)
        .args(sources);
    let output = run_within(Duration::from_secs(300), &mut command)
        .unwrap_or_else(|error| panic!("{error:#}"));
    serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
}

/// The check of a whole tree, ready to be run.
pub(crate) fn verify(tree: &Path) -> Command {
    let mut command = program("mirror-tool");
    command.args(["verify", "--tree"]).arg(tree);
    command
}

/// Waits until what is under way has come to pass.
#[track_caller]
pub(crate) fn wait(condition: impl Fn() -> bool) {
    for _ in 0..100 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come to pass within 10 s");
}

/// The tree with all sample images, exported once by the real program from a real registry.
///
/// Tests must not write to it: they copy it.
pub(crate) fn tree() -> &'static Path {
    static TREE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, tree) = TREE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        samples::fill(&registry).unwrap();
        let tree = directory.path().join("tree");
        let sources =
            ["debian", "app"].map(|name| format!("docker://{}", registry.reference(name)));
        let report = export(&tree, &sources);
        assert_eq!(
            report["images"].as_array().map(Vec::len),
            Some(IMAGES.len()),
            "{report}"
        );
        (directory, tree)
    });
    tree
}

/// A front end, its database and the mirrors behind it.
pub(crate) struct Network {
    pub(crate) directory: TempDir,
    pub(crate) front_end: FrontEnd,
    /// Plain nginx, entered as a mirror in Germany.
    pub(crate) nginx: WebServer,
    /// Plain Apache, entered as a mirror in Australia.
    pub(crate) apache: WebServer,
}

impl Network {
    /// Two mirrors of the shared tree, filled by rsync, verified by a crawl.
    pub(crate) fn start() -> Self {
        Self::of(tree())
    }

    /// The network of all tests that only ask it: they change nothing, and count nothing that others ask for.
    /// It ends with the process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Network> = LazyLock::new(Network::start);
        &SHARED
    }

    /// Two mirrors of a tree, filled by rsync, verified by a crawl.
    pub(crate) fn of(tree: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for mirror in ["nginx", "apache"] {
            rsyncd::sync(tree, path(mirror), &[]).unwrap();
        }
        let nginx = nginx::start(&path("nginx"), &path("nginx.state")).unwrap();
        // An address of its own: aria2 takes two mirrors at one address for one host.
        let mut address = free_address().unwrap();
        address.set_ip(Ipv4Addr::new(127, 0, 0, 2).into());
        let apache = apache::start_at(address, &path("apache"), &path("apache.state")).unwrap();
        let tools = Tools::new(tree, directory.path());
        tools.add_mirror("heidelberg", &nginx.url(), "DE");
        tools.add_mirror("sydney", &apache.url(), "AU");
        tools.crawl();
        let front_end = FrontEnd::start(tools);
        Self {
            directory,
            front_end,
            nginx,
            apache,
        }
    }

    /// How many successful requests for blobs the mirrors have answered.
    pub(crate) fn blobs_from_mirrors(&self) -> usize {
        let lines = [
            self.nginx.requests().unwrap(),
            self.apache.requests().unwrap(),
        ]
        .concat();
        let blob = |line: &&String| {
            // The crawler asks for every blob too, as itself or as a browser.
            line.contains("/blobs/sha256/")
                && (line.contains(" 200 ") || line.contains(" 206 "))
                && !line.contains("registry-proxy/")
                && !line.contains("Firefox/")
        };
        lines.iter().filter(blob).count()
    }
}

/// `registry-proxy` as a command, with its tree and database.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    tree: PathBuf,
    directory: PathBuf,
}

impl Tools {
    pub(crate) fn new(tree: &Path, directory: &Path) -> Self {
        Self {
            tree: tree.to_owned(),
            directory: directory.to_owned(),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("registry-proxy");
        command.args(arguments).arg("--tree").arg(&self.tree);
        command
            .arg("--database")
            .arg(self.directory.join("mirrors.db"))
            .arg("--allow-private-addresses");
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[track_caller]
    pub(crate) fn add_mirror(&self, name: &str, url: &str, country: &str) {
        self.run(&["mirror", "add", name, "--url", url, "--country", country]);
    }

    #[track_caller]
    pub(crate) fn crawl(&self) -> Output {
        self.run(&["crawl", "--once"])
    }
}

/// A running `registry-proxy serve` that believes loopback about client addresses.
pub(crate) struct FrontEnd {
    pub(crate) tools: Tools,
    pub(crate) address: String,
    process: Process,
}

impl FrontEnd {
    pub(crate) fn start(tools: Tools) -> Self {
        Self::with("", tools)
    }

    /// One with more settings: top-level keys first, then sections.
    pub(crate) fn with(extra_config: &str, tools: Tools) -> Self {
        let trusted = "trusted-proxies = [\"127.0.0.0/8\"]";
        Self::configured(&format!("{trusted}\n{extra_config}"), tools)
    }

    /// One that believes only proxies of a network.
    pub(crate) fn start_trusting(network: &str, tools: Tools) -> Self {
        Self::configured(&format!("trusted-proxies = [\"{network}\"]"), tools)
    }

    /// One that does not crawl by itself and takes no request for a retry, unless the settings have a section
    /// for that: all clients of a test are behind one address, and ask for the same things.
    fn configured(settings: &str, tools: Tools) -> Self {
        let address = free_address().unwrap().to_string();
        let config = tools.directory.join("config.toml");
        let crawler = if settings.contains("[crawler]") {
            ""
        } else {
            "[crawler]\nenabled = false\n"
        };
        let redirect = if settings.contains("[redirect]") {
            ""
        } else {
            "[redirect]\nretry-window = \"0s\"\n"
        };
        std::fs::write(&config, format!("{settings}\n{crawler}{redirect}")).unwrap();
        let mut command = tools.command(&["serve", "--listen", &address]);
        command.arg("--config").arg(&config);
        let mut process =
            Process::start(&mut command, &tools.directory.join("front-end.log")).unwrap();
        process
            .wait_until(|| std::net::TcpStream::connect(&address).is_ok())
            .unwrap();
        Self {
            tools,
            address,
            process,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The most memory it has had in use, in bytes.
    #[track_caller]
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// What clients pull: `127.0.0.1:PORT/name:tag`.
    pub(crate) fn reference(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str, fields: &[(&'static str, &str)]) -> http::Answer {
        http::get(&self.url(path), fields)
    }

    /// What `?mirrorlist` says in JSON to a client of this address.
    pub(crate) fn mirrorlist(&self, path: &str, client: &str) -> Value {
        let fields = [("accept", "application/json"), ("x-forwarded-for", client)];
        self.get(&format!("{path}?mirrorlist"), &fields).json()
    }

    /// The path and size of the largest layer of an image of one platform.
    #[track_caller]
    pub(crate) fn largest_layer(&self, name: &str, tag: &str) -> (String, u64) {
        let mut manifest = self.get(&format!("/v2/{name}/manifests/{tag}"), &[]).json();
        if let Some(child) = manifest["manifests"][0]["digest"].as_str() {
            manifest = self
                .get(&format!("/v2/{name}/manifests/{child}"), &[])
                .json();
        }
        let layers = manifest["layers"].as_array().unwrap();
        let layer = layers
            .iter()
            .max_by_key(|layer| layer["size"].as_u64())
            .unwrap();
        (
            format!("/v2/{name}/blobs/{}", layer["digest"].as_str().unwrap()),
            layer["size"].as_u64().unwrap(),
        )
    }
}

/// The names in one list of a `?mirrorlist` in JSON: `mirrors` or `left-out`.
#[track_caller]
pub(crate) fn names(list: &Value, what: &str) -> Vec<String> {
    let mirrors = list[what].as_array().unwrap().iter();
    mirrors
        .map(|mirror| mirror["name"].as_str().unwrap().to_owned())
        .collect()
}
