//! A client as podman is one, in few lines: it follows redirects and trusts nothing but digests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{Child, Content, Manifest};
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::{Reference, RepoName};
use oci_mirror::size::ByteSize;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION};

/// Pulls one image through a front end.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    front_end: SocketAddr,
    name: RepoName,
    reference: Reference,
}

/// An image of one platform.
#[derive(Debug)]
pub(crate) struct Image {
    name: RepoName,
    manifest: Manifest,
}

/// A layer of an image.
#[derive(Debug)]
pub(crate) struct Layer {
    name: RepoName,
    descriptor: Descriptor,
}

impl Layer {
    /// The path the registry API gives it.
    pub(crate) fn path(&self) -> String {
        format!("/v2/{}/blobs/{}", self.name, self.descriptor.digest)
    }
}

impl Image {
    /// The layer a pull spends most of its time on.
    pub(crate) fn largest_layer(&self) -> Result<Layer> {
        let Content::Image { layers, .. } = self.manifest.content() else {
            bail!("not an image")
        };
        let descriptor = layers
            .iter()
            .max_by_key(|layer| layer.size)
            .context("the image has no layers")?;
        Ok(Layer {
            name: self.name.clone(),
            descriptor: descriptor.clone(),
        })
    }
}

impl Client {
    /// A client for one image at a front end.
    pub(crate) fn new(front_end: SocketAddr, name: RepoName, reference: Reference) -> Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            front_end,
            name,
            reference,
        })
    }

    /// Asks for the image and, of an index, for its first platform.
    pub(crate) async fn resolve(&self) -> Result<Image> {
        let mut manifest = self.manifest(&self.reference).await?;
        if let Content::Index { manifests } = manifest.content() {
            let first = manifests.first().context("the index is empty")?.digest;
            manifest = self.manifest(&Reference::Digest(first)).await?;
        }
        Ok(Image {
            name: self.name.clone(),
            manifest,
        })
    }

    /// Where a client at `address` is sent for a layer, in one line.
    pub(crate) async fn redirect(&self, layer: &Layer, address: &str) -> Result<String> {
        let request = self
            .http
            .get(self.url(&layer.path()))
            .header("x-forwarded-for", address);
        let answer = request.send().await?;
        let links = answer.headers().get_all(LINK).iter();
        let mirrors = links
            .filter(|link| {
                link.to_str()
                    .is_ok_and(|link| link.contains("rel=duplicate"))
            })
            .count();
        let target = answer
            .headers()
            .get(LOCATION)
            .and_then(|target| target.to_str().ok());
        let target = target.map(|target| target.split("/blobs/").next().unwrap_or(target));
        Ok(format!(
            "{} → {}  ({mirrors} mirrors in Link)",
            answer.status().as_u16(),
            target.unwrap_or("the front end itself")
        ))
    }

    /// The metalink of a layer for a client at `address`.
    pub(crate) async fn metalink(&self, layer: &Layer, address: &str) -> Result<String> {
        let request = self
            .http
            .get(self.url(&layer.path()))
            .header("x-forwarded-for", address);
        let answer = request
            .header(ACCEPT, "application/metalink4+xml")
            .send()
            .await?
            .error_for_status()?;
        Ok(answer.text().await?)
    }

    /// Fetches everything the image consists of; says from where each came.
    pub(crate) async fn pull(&self, image: &Image) -> Result<Vec<String>> {
        let mut story = vec![format!(
            "{:<20} {:>10}  from the front end",
            "manifest",
            ByteSize(image.manifest.size()).to_string()
        )];
        let mut from: BTreeMap<String, u64> = BTreeMap::new();
        for child in image.manifest.children() {
            let Child::Blob(descriptor) = child else {
                continue;
            };
            let path = format!("/v2/{}/blobs/{}", self.name, descriptor.digest);
            let mut answer = self.http.get(self.url(&path)).send().await?;
            let mut place = "the front end".to_owned();
            if let Some(target) = answer.headers().get(LOCATION) {
                let target = target.to_str()?.to_owned();
                answer = self.http.get(&target).send().await?;
                place = target
                    .split("/blobs/")
                    .next()
                    .unwrap_or_default()
                    .to_owned();
            }
            let bytes = answer.error_for_status()?.bytes().await?;
            check(&bytes, &descriptor.digest)?;
            let short = descriptor
                .digest
                .to_string()
                .chars()
                .take(19)
                .collect::<String>();
            story.push(format!(
                "{short}… {:>10}  from {place}, verified",
                ByteSize(descriptor.size).to_string()
            ));
            *from.entry(place).or_default() += descriptor.size;
        }
        let total: u64 = from.values().sum();
        let mirrored: u64 = from
            .iter()
            .filter(|(place, _)| place.starts_with("http"))
            .map(|(_, size)| size)
            .sum();
        story.push(format!(
            "{} in all, {} of it from mirrors",
            ByteSize(total),
            ByteSize(mirrored)
        ));
        Ok(story)
    }

    async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        let url = self.url(&format!("/v2/{}/manifests/{reference}", self.name));
        let accepted = MediaType::MANIFESTS
            .map(|media_type| media_type.to_string())
            .join(", ");
        let answer = self
            .http
            .get(url)
            .header(ACCEPT, accepted)
            .send()
            .await?
            .error_for_status()?;
        let media_type = answer
            .headers()
            .get(CONTENT_TYPE)
            .context("no media type")?
            .to_str()?
            .parse()?;
        let bytes = answer.bytes().await?;
        Ok(match reference {
            Reference::Digest(digest) => Manifest::with_digest(bytes, *digest, Some(&media_type))?,
            Reference::Tag(_) => Manifest::parse(bytes, Some(&media_type))?,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.front_end)
    }
}

fn check(bytes: &[u8], expected: &Digest) -> Result<()> {
    let found = expected.algorithm().digest(bytes);
    if found != *expected {
        bail!("{expected} has wrong content: {found}");
    }
    Ok(())
}
