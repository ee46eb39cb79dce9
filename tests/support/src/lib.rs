//! What end-to-end tests stand on: real peers, and real images to move between them.
//!
//! [`peer`] runs the programs that oci-mirror meets in the world: the registry it copies from, the
//! web servers and rsync of volunteer mirrors, the container engines that pull, a metalink client.
//! [`samples`] builds images and pushes them to a registry, [`layers`] makes small content by the
//! thousand. [`process`] starts programs and sees to it that none outlives its test.
//!
//! Everything blocks and listens on loopback only. Peers keep what they write in a directory the
//! test gives them, run with the configuration Debian ships where that matters to us, and stop when
//! dropped. `tests/peers/install` installs them; one that is absent is an error, never a skipped test.
//!
//! ```no_run
//! use support::peer::{docker_registry::DockerRegistry, podman::Podman};
//!
//! # fn main() -> anyhow::Result<()> {
//! let directory = tempfile::tempdir()?;
//! let registry = DockerRegistry::start(&directory.path().join("registry"))?;
//! support::samples::fill(&registry)?;
//!
//! let podman = Podman::new(&directory.path().join("podman"))?;
//! let app = registry.reference("app:1.0");
//! podman.pull(&app)?;
//! assert_eq!(podman.run(&app, &["echo", "hello"])?, "hello\n");
//! # Ok(())
//! # }
//! ```

mod family;
pub mod layers;
mod mount;
pub mod peer;
pub mod process;
pub mod samples;
