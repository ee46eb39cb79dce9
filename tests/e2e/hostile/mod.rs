//! Requests, trees and mirrors made to deceive, against the running program.

mod framing;
mod identity;
mod injection;
mod paths;

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use serde_json::json;

use crate::network::{FrontEnd, Tools};

/// What must never be read through a front end.
const SECRET: &str = "the content of a file beside the tree";

/// An answer as it came over the socket.
#[derive(Debug)]
struct Raw {
    status: u16,
    /// Field names in lower case, with their values.
    fields: Vec<(String, String)>,
    body: String,
}

impl Raw {
    /// Reads the first of the answers in `bytes`, and gives the rest.
    fn split(bytes: &str) -> Option<(Self, &str)> {
        let (head, rest) = bytes.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = fields.iter().find(|(name, _)| name == "content-length");
        let length = length
            .map_or(0, |(_, value)| value.parse().unwrap())
            .min(rest.len());
        let (body, rest) = rest.split_at(length);
        Some((
            Self {
                status,
                fields,
                body: body.to_owned(),
            },
            rest,
        ))
    }

    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| found == name)
    }

    /// Everything a client sees.
    fn text(&self) -> String {
        format!("{:?} {}", self.fields, self.body)
    }
}

/// Sends bytes on a connection from `source` and gives all that comes back until it is closed.
fn exchange(front_end: &FrontEnd, source: &str, bytes: &[u8]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = front_end.address.parse().unwrap();
    let source: IpAddr = source.parse().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    let mut stream = stream;
    stream.set_nonblocking(false).unwrap();
    // Only to end a hang.
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // A server that has seen enough may close before all is written.
    let _ = stream.write_all(bytes);
    let (mut answer, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(bytes)),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The answer to one request, given as request line and further fields, each with its line end.
#[track_caller]
fn send(front_end: &FrontEnd, line: &str, fields: &str) -> Raw {
    let request = format!("{line}\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
    let answer = exchange(front_end, "127.0.0.1", request.as_bytes());
    Raw::split(&answer)
        .unwrap_or_else(|| panic!("no answer to {request}: {answer}"))
        .0
}

/// A tree with one image, `a:1`: its layer and its manifest.
fn small_tree(root: &Path) -> (Digest, Digest) {
    let writer = TreeWriter::open(root).unwrap();
    let stage = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        writer.stage_bytes(digest, bytes).unwrap();
        Descriptor::new(
            "application/vnd.oci.empty.v1+json".parse().unwrap(),
            digest,
            bytes.len() as u64,
        )
    };
    let (config, layer) = (stage(b"{}"), stage(&vec![7; 100_000]));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer],
    });
    let manifest = Descriptor {
        media_type: MediaType::OCI_MANIFEST,
        ..stage(manifest.to_string().as_bytes())
    };
    let image = Image {
        repo: "a".parse().unwrap(),
        tag: Some("1".parse().unwrap()),
        root: manifest.clone(),
        reach: vec![config.digest, layer.digest, manifest.digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
    (layer.digest, manifest.digest)
}

/// A directory with a tree and, beside it, a secret.
fn place() -> (tempfile::TempDir, Digest) {
    let directory = tempfile::tempdir().unwrap();
    let (layer, _) = small_tree(&directory.path().join("tree"));
    std::fs::write(directory.path().join("secret"), SECRET).unwrap();
    (directory, layer)
}

fn serve(directory: &Path) -> FrontEnd {
    FrontEnd::start(Tools::new(&directory.join("tree"), directory))
}
