//! Manifests: what a tag points at, and the document itself.

use http::{Method, StatusCode, header};

use super::client::Registry;
use super::error::{Error, Subject};
use super::fields::{accept_manifests, announced_digest, content_type, text};
use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::media_type::MediaType;
use crate::reference::{Reference, RepoName};

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its type, if it was given.
    pub media_type: Option<MediaType>,
    /// Its length in bytes, if it was given.
    pub size: Option<u64>,
}

impl Registry {
    /// What `reference` points at now; `None` if the registry does not say without sending it.
    ///
    /// That is so when the digest is missing from the answer, and when `HEAD` is not served at all.
    pub async fn head(
        &self,
        name: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Head>, Error> {
        let subject = Subject::Manifest(name.clone(), reference.clone());
        self.ask(|| self.head_once(&subject, reference)).await
    }

    /// The manifest behind `reference`, checked against the digest it was asked for by and the one
    /// the registry announces.
    pub async fn manifest(
        &self,
        name: &RepoName,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let subject = Subject::Manifest(name.clone(), reference.clone());
        self.ask(|| self.manifest_once(&subject, reference)).await
    }

    /// As [`manifest`](Self::manifest), but that there is none is an answer: `None`.
    pub async fn try_manifest(
        &self,
        name: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Manifest>, Error> {
        match self.manifest(name, reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn head_once(
        &self,
        subject: &Subject,
        reference: &Reference,
    ) -> Result<Option<Head>, Error> {
        let url = self.url(subject.name(), &format!("manifests/{reference}"));
        let answer = self
            .send(Method::HEAD, &url, &accept_manifests(), subject)
            .await?;
        // Some registries serve manifests to GET only; the GET that follows gives the real reason.
        if matches!(
            answer.status(),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) {
            return Ok(None);
        }
        let answer = self.expect_success(answer, subject).await?;
        let headers = answer.headers();
        Ok(announced_digest(headers).map(|digest| Head {
            digest,
            media_type: content_type(headers),
            size: text(headers, header::CONTENT_LENGTH.as_str())
                .and_then(|length| length.parse().ok()),
        }))
    }

    async fn manifest_once(
        &self,
        subject: &Subject,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let url = self.url(subject.name(), &format!("manifests/{reference}"));
        let answer = self
            .send(Method::GET, &url, &accept_manifests(), subject)
            .await?;
        let answer = self.expect_success(answer, subject).await?;
        let announced = announced_digest(answer.headers());
        let declared = content_type(answer.headers());
        let bytes = self.read(answer, manifest::MAX_BYTES, subject).await?;
        let manifest = match reference {
            Reference::Digest(digest) => Manifest::with_digest(bytes, *digest, declared.as_ref()),
            Reference::Tag(_) => match announced {
                // A registry may name its tags' targets by another algorithm than ours.
                Some(announced) => {
                    let found = announced.algorithm().digest(&bytes);
                    if found != announced {
                        return Err(Error::Announced {
                            registry: self.host.clone(),
                            subject: subject.clone(),
                            announced,
                            found,
                        });
                    }
                    Manifest::with_digest(bytes, announced, declared.as_ref())
                }
                None => Manifest::parse(bytes, declared.as_ref()),
            },
        };
        manifest.map_err(|source| Error::Manifest {
            registry: self.host.clone(),
            subject: subject.clone(),
            source,
        })
    }
}
