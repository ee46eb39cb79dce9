//! A small set of real images, made in memory: valid for every engine, the same bytes each time.
//!
//! `demo/hello` is an index for amd64 and arm64 whose program prints one line when it is run; its base
//! layer of some megabytes is shared with `demo/tools`, as a distribution's images share theirs.

use anyhow::Result;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use serde_json::json;

const GREETING: &[u8] = b"Hello! My layers came from a mirror, and every byte was verified.\n";

/// Writes the sample images into a tree.
pub(crate) fn write(writer: &TreeWriter, now: jiff::Timestamp) -> Result<()> {
    let base = base_layer()?;
    let mut builder = Builder {
        writer,
        reach: Vec::new(),
    };

    let mut children = Vec::new();
    for (architecture, program) in [("amd64", amd64_program()), ("arm64", arm64_program())] {
        let layers = [
            base.clone(),
            layer(&[("bin/hello", &program, 0o755)])?,
            manual(architecture)?,
        ];
        children.push((architecture, builder.image(architecture, &layers)?));
    }
    let manifests: Vec<_> = children
        .iter()
        .map(|(architecture, descriptor)| {
            json!({
                "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let index =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    let index = builder.stage(MediaType::OCI_INDEX, &serde_json::to_vec(&index)?)?;
    builder.publish("demo/hello", &["1.0", "latest"], &index)?;

    let layers = [
        base,
        layer(&[(
            "usr/share/tools/notes.txt",
            &prose("tools", 200 << 10),
            0o644,
        )])?,
    ];
    let tools = builder.image("amd64", &layers)?;
    builder.publish("demo/tools", &["1.0"], &tools)?;
    writer.finish(now)?;
    Ok(())
}

struct Builder<'a> {
    writer: &'a TreeWriter,
    reach: Vec<Digest>,
}

impl Builder<'_> {
    fn image(&mut self, architecture: &str, layers: &[Vec<u8>]) -> Result<Descriptor> {
        let tar = "application/vnd.oci.image.layer.v1.tar".parse::<MediaType>()?;
        let mut descriptors = Vec::new();
        for layer in layers {
            descriptors.push(self.stage(tar.clone(), layer)?);
        }
        let diff_ids: Vec<_> = descriptors
            .iter()
            .map(|descriptor| descriptor.digest)
            .collect();
        let config = json!({
            "created": "2026-01-01T00:00:00Z", "os": "linux", "architecture": architecture,
            "config": {"Cmd": ["/bin/hello"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.stage(
            "application/vnd.oci.image.config.v1+json".parse()?,
            &serde_json::to_vec(&config)?,
        )?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": descriptors,
        });
        self.stage(MediaType::OCI_MANIFEST, &serde_json::to_vec(&manifest)?)
    }

    fn stage(&mut self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Algorithm::Sha256.digest(bytes);
        if self.writer.holds(&digest)?.is_none() {
            self.writer.stage_bytes(digest, bytes)?;
        }
        if !self.reach.contains(&digest) {
            self.reach.push(digest);
        }
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    fn publish(&mut self, name: &str, tags: &[&str], root: &Descriptor) -> Result<()> {
        let repo = oci_mirror::tree::RepoDir::try_from(name.parse::<RepoName>()?)?;
        let reach = std::mem::take(&mut self.reach);
        for tag in tags {
            let image = Image {
                repo: repo.clone(),
                tag: Some(tag.parse()?),
                root: root.clone(),
                reach: reach.clone(),
                tag_referrers: None,
            };
            self.writer.publish(&[image])?;
        }
        Ok(())
    }
}

fn base_layer() -> Result<Vec<u8>> {
    layer(&[
        ("etc/os-release", b"NAME=\"Demo Linux\"\nID=demo\n", 0o644),
        ("usr/share/doc/base.txt", &prose("base", 3 << 20), 0o644),
    ])
}

fn manual(architecture: &str) -> Result<Vec<u8>> {
    layer(&[(
        "usr/share/doc/manual.txt",
        &prose(architecture, 400 << 10),
        0o644,
    )])
}

fn layer(files: &[(&str, &[u8], u32)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        archive.append_data(&mut header, path, *content)?;
    }
    Ok(archive.into_inner()?)
}

/// Text that does not repeat, so that it is like real content to whatever handles it.
fn prose(seed: &str, length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 80);
    let mut digest = Algorithm::Sha256.digest(seed.as_bytes());
    while text.len() < length {
        text.extend_from_slice(format!("{digest}\n").as_bytes());
        digest = Algorithm::Sha256.digest(digest.as_bytes());
    }
    text.truncate(length);
    text
}

/// `write(1, GREETING); exit(0)` for x86-64.
fn amd64_program() -> Vec<u8> {
    let length = u32::try_from(GREETING.len())
        .unwrap_or_default()
        .to_le_bytes();
    let mut code = vec![0xb8, 1, 0, 0, 0]; // mov eax, 1 (write)
    code.extend([0xbf, 1, 0, 0, 0]); // mov edi, 1
    code.extend([0x48, 0x8d, 0x35, 16, 0, 0, 0]); // lea rsi, [rip + 16]
    code.push(0xba); // mov edx, length
    code.extend(length);
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // exit(0)
    elf(62, &code)
}

/// The same for ARM.
fn arm64_program() -> Vec<u8> {
    let length = u32::try_from(GREETING.len()).unwrap_or_default();
    let code = [
        0xd280_0808,               // mov x8, 64 (write)
        0xd280_0020,               // mov x0, 1
        0x1000_00c1,               // adr x1, greeting
        0xd280_0002 | length << 5, // mov x2, length
        0xd400_0001,               // svc 0
        0xd280_0ba8,               // mov x8, 93 (exit)
        0xd280_0000,               // mov x0, 0
        0xd400_0001_u32,           // svc 0
    ];
    elf(183, &code.map(u32::to_le_bytes).concat())
}

/// A static ELF executable of one segment: the code, then the greeting.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + (code.len() + GREETING.len()) as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2_u16.to_le_bytes()); // executable
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes()); // entry, program headers, no section headers
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes()); // load
    file.extend(5_u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(GREETING);
    file
}
