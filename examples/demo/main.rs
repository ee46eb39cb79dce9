//! The whole of oci-mirror on one machine, without configuration and without a network.
//!
//! A source registry, an export, three mirrors "in" three countries, a crawl, a front end, and pulls
//! through it, told step by step. Everything is the real code; only the clients' countries are
//! pretended, by the `X-Forwarded-For` field that a front end believes of a trusted proxy.
//!
//!     cargo run --release --example demo                  stays up until Ctrl-C
//!     cargo run --release --example demo -- --once        exits when the story is told
//!     cargo run --release --example demo -- --image docker://HOST/NAME:TAG

mod client;
mod sample;
mod stage;
mod tell;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use clap::Parser;
use oci_mirror::reference::{ImageRef, Reference, RepoName};
use tokio_util::sync::CancellationToken;

use client::Client;
use stage::Stage;
use tell::{fact, note, step};

/// Shows how container images travel through a mirror network.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Exit when everything has been shown
    #[arg(long)]
    once: bool,
    /// Mirror this image instead of the built-in samples: `docker://HOST[:PORT]/NAME:TAG`
    #[arg(long, value_name = "IMAGE")]
    image: Option<Image>,
    /// Where the demo keeps its files [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match show(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show(arguments: Arguments) -> Result<()> {
    let temporary;
    let directory = match arguments.directory {
        Some(directory) => directory,
        None => {
            temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
            temporary.path().to_owned()
        }
    };
    let shutdown = CancellationToken::new();
    let mut stage = Stage::new(directory, shutdown.clone());
    let told = tokio::select! {
        told = story(&mut stage, arguments.image.as_ref(), arguments.once) => told,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    shutdown.cancel();
    stage.strike().await;
    told
}

/// An image to mirror: one tag or digest of one repository.
#[derive(Debug, Clone)]
struct Image {
    source: String,
    name: RepoName,
    reference: Reference,
}

impl FromStr for Image {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let image: ImageRef = text.strip_prefix("docker://").unwrap_or(text).parse()?;
        let reference = image.reference.context("it names no tag or digest")?;
        Ok(Self {
            source: text.to_owned(),
            name: image.name,
            reference,
        })
    }
}

async fn story(stage: &mut Stage, image: Option<&Image>, once: bool) -> Result<()> {
    step("1. A registry to copy from")?;
    let sources = match image {
        Some(image) => {
            fact("source", &image.source)?;
            vec![image.source.clone()]
        }
        None => {
            let registry = stage.source_registry().await?;
            fact(
                "registry",
                &format!("http://{registry} (embedded, with sample images)"),
            )?;
            ["demo/hello", "demo/tools"]
                .map(|name| format!("docker://{registry}/{name}"))
                .to_vec()
        }
    };

    step("2. Export into a tree: plain files, every blob once")?;
    let report = stage.export(&sources).await?;
    for line in &report {
        note(line)?;
    }
    fact("tree", &stage.tree().display().to_string())?;

    step("3. Three mirrors: copies of the tree behind plain web servers")?;
    for mirror in stage.mirrors().await? {
        fact(
            &mirror.name,
            &format!("{} ({})", mirror.url, mirror.country),
        )?;
    }

    step("4. Crawl: every blob of every mirror is read and checked against its digest")?;
    for line in stage.crawl().await? {
        note(&line)?;
    }

    step("5. The front end")?;
    let front_end = stage.front_end().await?;
    fact("listens on", &format!("http://{front_end}"))?;
    let (name, reference) = match image {
        None => ("demo/hello".parse()?, "1.0".parse()?),
        Some(image) => (image.name.clone(), image.reference.clone()),
    };
    let separator = if matches!(reference, Reference::Tag(_)) {
        ':'
    } else {
        '@'
    };
    let pulled = format!("{front_end}/{name}{separator}{reference}");
    let client = Client::new(front_end, name, reference)?;
    let manifest = client.resolve().await?;
    let layer = manifest.largest_layer()?;

    step("6. The same request from three countries: each client is sent to its own mirror")?;
    note(&format!("GET {}", layer.path()))?;
    for (country, address) in [
        ("Germany", "130.149.7.1"),
        ("Australia", "1.128.0.1"),
        ("United States", "12.0.0.1"),
    ] {
        fact(country, &client.redirect(&layer, address).await?)?;
    }

    step("7. The same blob as a metalink, for clients that load from several mirrors at once")?;
    for line in client
        .metalink(&layer, "130.149.7.1")
        .await?
        .lines()
        .take(30)
    {
        note(line)?;
    }

    step("8. A pull: manifests from the front end, layers from mirrors, every digest checked")?;
    for line in client.pull(&manifest).await? {
        note(&line)?;
    }

    if once {
        return Ok(());
    }
    step("Try it")?;
    note(&format!("podman pull --tls-verify=false {pulled}"))?;
    note(&format!("docker pull {pulled}"))?;
    note(&format!("curl -sI http://{front_end}{}", layer.path()))?;
    note("Ctrl-C ends the demo.")?;
    std::future::pending().await
}
