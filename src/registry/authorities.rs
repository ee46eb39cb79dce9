//! Certificate authorities to trust beside the system's, such as a company's own.

/// The certificates of a PEM file, at least one.
#[derive(Debug, Clone)]
pub struct Authorities(Vec<reqwest::Certificate>);

impl Authorities {
    /// Reads the certificates of a file; what else is in it, such as keys, is passed over.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, InvalidAuthorities> {
        let certificates = reqwest::Certificate::from_pem_bundle(bytes)?;
        if certificates.is_empty() {
            return Err(InvalidAuthorities::Empty);
        }
        Ok(Self(certificates))
    }

    /// The certificates, for a client to be built with.
    pub fn certificates(&self) -> impl Iterator<Item = reqwest::Certificate> {
        self.0.iter().cloned()
    }
}

/// Why a file holds no authorities.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAuthorities {
    /// It is torn.
    #[error(transparent)]
    Pem(#[from] reqwest::Error),
    /// It would be of no use, and whoever named it thinks otherwise.
    #[error("it holds no certificate in PEM")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_refused() {
        for text in [
            "",
            "{}",
            "-----BEGIN CERTIFICATE-----\nMA",
            "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(Authorities::from_pem(text.as_bytes()).is_err(), "{text}");
        }
    }
}
