//! A front end by itself, over a tree with one image that is made on the spot.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use oci_mirror::digest::Algorithm;
use rustix::process::{Pid, Signal, kill_process};
use support::peer::free_address;
use support::process::{Process, program as peer, run};
use tempfile::TempDir;

use crate::network::program;

/// The image of the tree.
pub(crate) const MANIFEST: &str = "/v2/test/manifests/1";

/// Length of its layer: more than sockets and kernels hold between them.
pub(crate) const LAYER: usize = 48 << 20;

/// A tree with one image, and the path of its layer in the registry API. Tests must not write to it.
pub(crate) fn tree() -> (&'static Path, &'static str) {
    static TREE: OnceLock<(TempDir, PathBuf, String)> = OnceLock::new();
    let (_, tree, layer) = TREE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let (layout, tree) = (
            directory.path().join("layout"),
            directory.path().join("tree"),
        );
        let layer = make_layout(&layout);
        let mut export = program("mirror-tool");
        export
            .args(["export", "--dest-name", "test", "--tree"])
            .arg(&tree);
        run(export.arg(format!("oci:{}:1", layout.display()))).unwrap();
        (directory, tree, layer)
    });
    (tree, layer)
}

/// Writes an image layout; the path of the layer.
fn make_layout(layout: &Path) -> String {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        fs::write(blobs.join(digest.hex().to_string()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let bytes: Vec<u8> = (0..LAYER / 8).flat_map(usize::to_le_bytes).collect();
    let (layer, size) = put(&bytes);
    let (config, config_size) =
        put(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{size}}}]}}"#
    );
    let (manifest, size) = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{size},"annotations":{{"org.opencontainers.image.ref.name":"1"}}}}]}}"#
    );
    fs::write(layout.join("index.json"), index).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    format!("/v2/test/blobs/{layer}")
}

/// A running front end.
pub(crate) struct Served {
    pub(crate) directory: TempDir,
    pub(crate) address: String,
    pub(crate) process: Process,
}

impl Served {
    /// Serves on a free address as the configuration says.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// Likewise, in a directory the configuration names files of.
    pub(crate) fn start_in(directory: TempDir, config: &str) -> Self {
        let address = free_address().unwrap().to_string();
        let mut command = command(directory.path(), config);
        command.args(["--listen", &address]);
        let log = directory.path().join("log");
        let mut process = Process::start(&mut command, &log).unwrap();
        process
            .wait_until(|| TcpStream::connect(&address).is_ok())
            .unwrap();
        Self {
            directory,
            address,
            process,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Writes another configuration in the place of the one there is, as editors do.
    pub(crate) fn configure(&self, config: &str) {
        replace(&self.path("config.toml"), config.as_bytes());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits until the log has a line with this.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        let log = self.directory.path().join("log");
        self.process
            .wait_until(|| fs::read_to_string(&log).unwrap().contains(text))
            .unwrap_or_else(|error| panic!("waiting for {text}: {error:#}"));
    }

    /// Waits for the end; what is said of it.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> String {
        self.process.wait_until(|| false).unwrap_err().to_string()
    }

    /// Begins to load the layer: what has come of it, and the connection for the rest.
    #[track_caller]
    pub(crate) fn begin_layer(&self) -> (Vec<u8>, TcpStream) {
        let (_, layer) = tree();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "GET {layer} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut begin = vec![0; 4096];
        stream.read_exact(&mut begin).unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200"), "{begin:?}");
        (begin, stream)
    }
}

/// `registry-proxy serve` over the tree, with a configuration in a directory.
pub(crate) fn command(directory: &Path, config: &str) -> Command {
    let path = directory.join("config.toml");
    fs::write(&path, config).unwrap();
    let mut command = program("registry-proxy");
    command.arg("serve").arg("--config").arg(path);
    command.arg("--tree").arg(tree().0);
    command.arg("--database").arg(directory.join("mirrors.db"));
    command
}

/// Puts other content in the place of a file.
pub(crate) fn replace(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

/// curl, silent but for what it is asked to write, and with an error for every status that is one.
pub(crate) fn curl(arguments: &[&str]) -> Command {
    let mut command = peer("curl").unwrap();
    command.args(["--silent", "--show-error", "--fail", "--max-time", "120"]);
    command.args(arguments);
    command
}

/// What curl writes of an answer.
#[track_caller]
pub(crate) fn asked(arguments: &[&str], template: &str) -> String {
    let mut command = curl(arguments);
    command.args(["--output", "/dev/null", "--write-out", template]);
    run(&mut command)
        .unwrap_or_else(|error| panic!("{error:#}"))
        .stdout
}
