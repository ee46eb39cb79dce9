//! A certificate authority that nobody but a test trusts, as registries inside companies have.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{create_directory, write};
use crate::process::{program, run};

/// The files of an authority, and of a certificate for 127.0.0.1 that it has signed.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes both in a directory; they are good for a day or two.
    pub fn new(directory: &Path) -> Result<Self> {
        create_directory(directory)?;
        let authority = Self {
            directory: directory.to_path_buf(),
        };
        write(&directory.join("extensions"), EXTENSIONS)?;
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 \
             -subj /CN=authority -keyout authority.key -out authority.pem",
        )?;
        authority.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=server \
             -keyout server.key -out server.request",
        )?;
        authority.sign(1)?;
        Ok(authority)
    }

    /// Signs the server's certificate again, for so many days; none, and it has expired a second later.
    pub fn sign(&self, days: u32) -> Result<()> {
        self.openssl(&format!(
            "x509 -req -in server.request -days {days} -CA authority.pem -CAkey authority.key \
             -CAcreateserial -extfile extensions -out server.pem"
        ))
    }

    /// Has the server sign its own certificate.
    pub fn leave_unsigned(&self) -> Result<()> {
        self.openssl(
            "x509 -req -in server.request -days 1 -signkey server.key -extfile extensions -out server.pem",
        )
    }

    /// The authority's own certificate, which those who trust it know.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// The certificate it has signed, and the key of that.
    pub fn server_pair(&self) -> (PathBuf, PathBuf) {
        let path = |name| self.directory.join(name);
        (path("server.pem"), path("server.key"))
    }

    /// Two lines for a server of nginx that give it the certificate and its key.
    pub fn nginx_settings(&self) -> String {
        let directory = self.directory.display();
        format!(
            "ssl_certificate \"{directory}/server.pem\";\n\
             ssl_certificate_key \"{directory}/server.key\";\n"
        )
    }

    fn openssl(&self, arguments: &str) -> Result<()> {
        let mut command = program("openssl")?;
        command.current_dir(&self.directory);
        run(command.args(arguments.split_whitespace()))?;
        Ok(())
    }
}

const EXTENSIONS: &str = "\
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1
";
