//! A tree of many small blobs that four repositories share.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{RepoDir, TreePath, TreeWriter};
use support::layers::{content, descriptor};

/// How many repositories have the same images.
const SHARING: usize = 4;

/// How many images they have.
const IMAGES: usize = 4;

/// How many blobs an image has: a manifest, a config and layers.
const EACH: usize = 100;

/// Writes so many groups of repositories below `root`; how many names their blobs have.
pub(crate) fn make(root: &Path, groups: usize) -> Result<usize> {
    let writer = TreeWriter::open(root)?;
    for group in 0..groups {
        let mut images = Vec::new();
        for image in 0..IMAGES {
            images.extend(stage(&writer, group, image)?);
        }
        writer.publish(&images)?;
    }
    writer.finish(Timestamp::now())?;
    Ok(groups * IMAGES * EACH * (1 + SHARING))
}

/// Adds one image to the first group; the paths of all that is new by that.
pub(crate) fn add(root: &Path, groups: usize) -> Result<Vec<String>> {
    let writer = TreeWriter::open(root)?;
    // Its content follows from the number of a group that is not there.
    let images: Vec<Image> = stage(&writer, 0, IMAGES + groups * IMAGES)?;
    writer.publish(&images)?;
    writer.finish(Timestamp::now())?;
    let mut paths = vec![TreePath::State, TreePath::DirectorySizes];
    paths.extend(
        writer
            .tree()
            .state()?
            .list
            .map(|list| TreePath::List(list.module)),
    );
    paths.extend(images[0].reach.iter().map(|digest| TreePath::Blob(*digest)));
    for image in &images {
        paths.push(TreePath::Index(image.repo.clone()));
        let links = image.reach.iter();
        paths.extend(links.map(|digest| TreePath::Link(image.repo.clone(), *digest)));
    }
    Ok(paths.iter().map(ToString::to_string).collect())
}

/// An image, as each of the repositories of a group has it.
fn stage(writer: &TreeWriter, group: usize, image: usize) -> Result<Vec<Image>> {
    let mut reach = Vec::new();
    let mut put = |bytes: Vec<u8>| -> Result<Digest> {
        let digest = Algorithm::Sha256.digest(&bytes);
        let bytes = Bytes::from(bytes);
        if !writer.hold(digest, &bytes)? {
            writer.stage_bytes(digest, &bytes)?;
        }
        reach.push(digest);
        Ok(digest)
    };
    let first = (group * IMAGES + image) * EACH;
    let config = format!(r#"{{"of":{first}}}"#);
    let size = config.len();
    let config = descriptor("config.v1+json", put(config.into_bytes())?, size);
    let layers = (first..first + EACH - 2).map(|number| {
        let bytes = content(number);
        let size = bytes.len();
        Ok(descriptor("layer.v1.tar", put(bytes)?, size))
    });
    let layers = layers.collect::<Result<Vec<String>>>()?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST.as_str(),
        layers.join(",")
    );
    let size = manifest.len() as u64;
    let root = Descriptor::new(MediaType::OCI_MANIFEST, put(manifest.into_bytes())?, size);
    let repositories = (0..SHARING).map(|number| {
        Ok(Image {
            repo: format!("team{group}/app{number}").parse::<RepoDir>()?,
            tag: Some(format!("1.{image}").parse()?),
            root: root.clone(),
            reach: reach.clone(),
            tag_referrers: None,
        })
    });
    repositories.collect()
}
