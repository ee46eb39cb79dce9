//! The parts of the network, started one by one and stopped together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mirror_tool::export;
use mirror_tool::export::report::Status;
use oci_mirror::http::server::ListenAddress;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::{Catalog, Tree, TreeWriter};
use registry_proxy::config::{Config, Crawler};
use registry_proxy::crawler::{self, Depth, Options, guard};
use registry_proxy::db::Database;
use registry_proxy::network::NewHost;
use registry_proxy::server::FrontEnd;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::sample;

/// The three mirrors: name and country.
const MIRRORS: [(&str, &str); 3] = [("heidelberg", "DE"), ("sydney", "AU"), ("chicago", "US")];

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    directory: PathBuf,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

/// A mirror on the stage.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) name: String,
    pub(crate) country: String,
    pub(crate) url: String,
}

impl Stage {
    /// An empty stage that keeps its files in `directory`.
    pub(crate) fn new(directory: PathBuf, shutdown: CancellationToken) -> Self {
        Self {
            directory,
            shutdown,
            running: JoinSet::new(),
        }
    }

    /// Where the exported tree is.
    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Starts a registry that holds the sample images: a front end without mirrors is one.
    pub(crate) async fn source_registry(&mut self) -> Result<SocketAddr> {
        let root = self.directory.join("source");
        let tree = root.clone();
        let fill = move || {
            let writer = TreeWriter::open(&tree)?;
            sample::write(&writer, Timestamp::now())
        };
        tokio::task::spawn_blocking(fill)
            .await?
            .context("cannot make the sample images")?;
        let config = Config {
            tree: root,
            ..self.config("127.0.0.1:0".parse()?, "none.db")
        };
        self.serve(&config).await
    }

    /// Exports the sources; one line per image.
    pub(crate) async fn export(&self, sources: &[String]) -> Result<Vec<String>> {
        let sources = sources
            .iter()
            .map(|source| source.parse())
            .collect::<Result<Vec<_>, _>>()?;
        // A registry on this machine is reached without TLS, as docker and podman do.
        let plain_http = sources.iter().any(is_local);
        let options = export::Options {
            tree: self.tree(),
            orders: sources.into_iter().map(export::Order::from).collect(),
            connection: client::Options {
                plain_http,
                ..client::Options::default()
            },
            credentials: Credentials::load(None)?,
            shutdown: self.shutdown.clone(),
            ..export::Options::default()
        };
        let report = export::run(options).await?;
        let mut lines = Vec::new();
        for image in &report.images {
            let name = format!(
                "{}:{}",
                image.repository.as_deref().unwrap_or("?"),
                image.tag.as_deref().unwrap_or("-")
            );
            anyhow::ensure!(
                image.status != Status::Failed,
                "{name}: {}",
                image.error.as_deref().unwrap_or("failed")
            );
            let (fetched, shared) = (ByteSize(image.bytes_fetched), ByteSize(image.bytes_shared));
            lines.push(format!(
                "{name:<24} fetched {fetched}, shared with other images {shared}"
            ));
        }
        Ok(lines)
    }

    /// Copies the tree three times, serves each copy, and enters it into the database.
    pub(crate) async fn mirrors(&mut self) -> Result<Vec<Mirror>> {
        let mut mirrors = Vec::new();
        for (name, country) in MIRRORS {
            let (tree, copy) = (self.tree(), self.directory.join("mirrors").join(name));
            let target = copy.clone();
            tokio::task::spawn_blocking(move || copy_tree(&tree, &target))
                .await?
                .context("cannot copy the tree")?;
            let mirror =
                mirror_tool::serve::bind(&copy, &"127.0.0.1:0".parse::<ListenAddress>()?).await?;
            let address = mirror
                .local_addresses()
                .first()
                .copied()
                .context("the mirror has no address")?;
            self.running.spawn(mirror.run(self.shutdown.clone()));
            let url = format!("http://{address}");
            let mut host = NewHost::new(name.parse()?, vec![url.parse()?]);
            host.country = Some(country.parse()?);
            let database = self.directory.join("mirrors.db");
            tokio::task::spawn_blocking(move || Database::open(&database)?.add_host(&host))
                .await??;
            mirrors.push(Mirror {
                name: name.to_owned(),
                country: country.to_owned(),
                url,
            });
        }
        Ok(mirrors)
    }

    /// Verifies what the mirrors hold; the crawler's own report.
    pub(crate) async fn crawl(&self) -> Result<Vec<String>> {
        let root = self.tree();
        let load = move || {
            let tree = Tree::open(&root)?;
            Catalog::load(&tree, None).map(|catalog| (tree, Arc::new(catalog)))
        };
        let (tree, catalog) = tokio::task::spawn_blocking(load).await??;
        let options = Options {
            policy: guard::Policy::Any,
            depth: Depth::Full,
            ..Options::default()
        };
        let database = self.directory.join("mirrors.db");
        let report = crawler::crawl(&database, &tree, catalog, &[], &options).await?;
        Ok(crawler::cli::text(&report)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Starts the front end on port 5000, or a free one if that is taken.
    pub(crate) async fn front_end(&mut self) -> Result<SocketAddr> {
        let mut config = self.config("127.0.0.1:5000".parse()?, "mirrors.db");
        match self.serve(&config).await {
            Ok(address) => Ok(address),
            Err(_) => {
                config.listen = vec!["127.0.0.1:0".parse()?];
                self.serve(&config).await
            }
        }
    }

    /// Stops everything and waits for it.
    pub(crate) async fn strike(mut self) {
        self.shutdown.cancel();
        while self.running.join_next().await.is_some() {}
    }

    fn config(&self, listen: ListenAddress, database: &str) -> Config {
        Config {
            listen: vec![listen],
            tree: self.tree(),
            database: self.directory.join(database),
            // So that the demo's clients can pretend to be elsewhere.
            trusted_proxies: "127.0.0.0/8".parse().into_iter().collect(),
            crawler: Crawler {
                enabled: false,
                ..Crawler::default()
            },
            ..Config::default()
        }
    }

    async fn serve(&mut self, config: &Config) -> Result<SocketAddr> {
        let front_end = FrontEnd::bind(config).await?;
        let address = front_end
            .local_addresses()
            .first()
            .copied()
            .context("the front end has no address")?;
        self.running.spawn(front_end.run(self.shutdown.clone()));
        Ok(address)
    }
}

fn is_local(source: &export::source::Source) -> bool {
    match source {
        export::source::Source::Registry(image) => {
            let host = image.registry.as_str();
            ["localhost", "127.", "[::1]"]
                .iter()
                .any(|local| host.starts_with(local))
        }
        export::source::Source::Layout { .. } => false,
    }
}

/// What `rsync -a` does, for a demo that installs nothing.
fn copy_tree(source: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(target)?;
    for entry in std::fs::read_dir(source)? {
        let entry = entry?;
        let target = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
