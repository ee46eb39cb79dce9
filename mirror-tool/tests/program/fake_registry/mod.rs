//! A registry on loopback, in memory, that fails on demand.
//!
//! Every request is logged as `METHOD path`; faults are queued per path and used up one by one, or
//! stay for ever.

mod answer;
mod content;
mod login;
mod referrers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use answer::answer;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, std::io::Error>;

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with these fields.
    Status(u16, Vec<(&'static str, String)>),
    /// The right length is announced, so many bytes are sent, the connection is closed.
    Truncate(usize),
    /// The last byte is another one.
    WrongByte,
    /// The body is whole but for its last bytes, and its length agrees with that.
    Short(usize),
    /// Half of the body, then nothing any more.
    Stall,
    /// A body without end.
    Endless,
    /// A `Content-Length` of a gigabyte.
    HugeLength,
    /// This field is set to this value.
    Header(&'static str, &'static str),
    /// This field is left out.
    NoHeader(&'static str),
    /// `Range` is ignored.
    IgnoreRange,
    /// `Range` is ignored, and after so many bytes the connection is closed.
    TruncateFromStart(usize),
    /// A byte every so often.
    Trickle(Duration),
    /// The answer takes this long.
    Slow(Duration),
    /// This status, type and body.
    Answer(u16, &'static str, String),
}

#[derive(Debug, Clone, Default)]
pub(crate) enum Auth {
    #[default]
    None,
    /// A token is needed; the token service wants this user and password if any.
    Bearer(Option<(&'static str, &'static str)>),
    Basic(&'static str, &'static str),
    /// A token is needed, and is given for this refresh token.
    Identity(&'static str),
}

/// An answer made by the test, from path and query; `None` for the usual one.
type Hook = dyn Fn(&str, &str) -> Option<Response<Bytes>> + Send + Sync;

/// What was sent to the token service.
#[derive(Debug, Clone)]
pub(crate) struct TokenRequest {
    pub(crate) method: Method,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

#[derive(Default)]
struct State {
    auth: Auth,
    /// Only what has this in its path needs a login.
    guarded: &'static str,
    /// In place of the usual challenge.
    challenge: Option<Vec<String>>,
    /// What the token service says about the life of its tokens, in seconds.
    token_life: Option<u64>,
    token_requests: Vec<TokenRequest>,
    referrers: bool,
    hook: Option<Arc<Hook>>,
    page: Option<usize>,
    tags: BTreeMap<String, BTreeMap<String, Digest>>,
    manifests: HashMap<Digest, (MediaType, Bytes)>,
    blobs: HashMap<Digest, Bytes>,
    faults: HashMap<String, VecDeque<Fault>>,
    lasting: HashMap<String, Fault>,
    log: Vec<String>,
    tokens: HashSet<String>,
    /// How many requests carried a login or token.
    authorized: usize,
    /// How many blobs are being asked for, and how many were at most.
    blobs_now: usize,
    blobs_most: usize,
    /// How many requests were being answered at the same moment, at most.
    now: usize,
    most: usize,
}

pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let state = Arc::clone(&state);
                        async move {
                            let (parts, body) = request.into_parts();
                            // Only a client that breaks off has no whole body.
                            let body = body.collect().await.unwrap_or_default().to_bytes();
                            let request = Request::from_parts(parts, body);
                            Ok::<_, Infallible>(counted(&request, &state, address).await)
                        }
                    });
                    // A connection that a fault breaks is not our failure.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(socket), service)
                            .await,
                    );
                });
            }
        });
        Self {
            address,
            state,
            _server: server,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_auth(&self, auth: Auth) {
        self.state().auth = auth;
    }

    /// Only what has `part` in its path needs a login.
    pub(crate) fn guard_only(&self, part: &'static str) {
        self.state().guarded = part;
    }

    /// Sends these challenges in place of the usual one, each in a field of its own; `ADDRESS` in them
    /// stands for ours.
    pub(crate) fn set_challenge(&self, fields: &[&str]) {
        let address = self.address.to_string();
        let fields = fields.iter().map(|text| text.replace("ADDRESS", &address));
        self.state().challenge = Some(fields.collect());
    }

    /// Says that tokens live so many seconds.
    pub(crate) fn set_token_life(&self, seconds: u64) {
        self.state().token_life = Some(seconds);
    }

    /// What was sent to the token service so far.
    pub(crate) fn token_requests(&self) -> Vec<TokenRequest> {
        self.state().token_requests.clone()
    }

    /// Whether there is a referrers API; there is none at first.
    pub(crate) fn set_referrers(&self, served: bool) {
        self.state().referrers = served;
    }

    /// Asks `hook` for an answer before anything else.
    pub(crate) fn answer_with(
        &self,
        hook: impl Fn(&str, &str) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// How many requests were being answered at the same moment, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state().most
    }

    /// An artifact that refers to `subject`.
    pub(crate) fn artifact(
        &self,
        name: &str,
        tag: Option<&str>,
        subject: &Digest,
        artifact_type: &str,
    ) -> Digest {
        let (media_type, content) = self.state().manifests[subject].clone();
        let subject = descriptor(media_type.as_str(), subject, content.len());
        let config = descriptor(
            "application/vnd.oci.empty.v1+json",
            &self.blob("{}"),
            "{}".len(),
        );
        let layer = format!("{artifact_type} of {subject}");
        let layer = descriptor(artifact_type, &self.blob(layer.clone()), layer.len());
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{artifact_type}","config":{config},"layers":[{layer}],"subject":{subject}}}"#,
            MediaType::OCI_MANIFEST,
        );
        self.manifest(name, tag, &MediaType::OCI_MANIFEST, content)
    }

    /// All tokens given out so far expire.
    pub(crate) fn expire_tokens(&self) {
        self.state().tokens.clear();
    }

    pub(crate) fn set_page(&self, tags: usize) {
        self.state().page = Some(tags);
    }

    /// The next request for `path` goes wrong; called again, the one after it too.
    pub(crate) fn fail_once(&self, path: &str, fault: Fault) {
        let mut state = self.state();
        state
            .faults
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every request for `path` goes wrong.
    pub(crate) fn fail(&self, path: &str, fault: Fault) {
        self.state().lasting.insert(path.to_owned(), fault);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.lasting.clear();
    }

    /// Takes the log, and starts a new one.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// How often a request of this method for a path with this end was made.
    pub(crate) fn count(&self, method: &str, end: &str) -> usize {
        let state = self.state();
        let matches = |line: &&String| line.starts_with(method) && line.ends_with(end);
        state.log.iter().filter(matches).count()
    }

    /// How many requests carried a login or token.
    pub(crate) fn authorized(&self) -> usize {
        self.state().authorized
    }

    /// How many blobs were asked for at the same moment, at most.
    pub(crate) fn busiest(&self) -> usize {
        self.state().blobs_most
    }

    pub(crate) fn blob(&self, content: impl Into<Bytes>) -> Digest {
        self.blob_as(Algorithm::Sha256, content)
    }

    pub(crate) fn blob_as(&self, algorithm: Algorithm, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = algorithm.digest(&content);
        self.state().blobs.insert(digest, content);
        digest
    }

    /// A manifest under a tag, if any.
    pub(crate) fn manifest(
        &self,
        name: &str,
        tag: Option<&str>,
        media_type: &MediaType,
        content: String,
    ) -> Digest {
        self.manifest_as(Algorithm::Sha256, name, tag, media_type, content)
    }

    pub(crate) fn manifest_as(
        &self,
        algorithm: Algorithm,
        name: &str,
        tag: Option<&str>,
        media_type: &MediaType,
        content: String,
    ) -> Digest {
        let digest = algorithm.digest(content.as_bytes());
        let mut state = self.state();
        state
            .manifests
            .insert(digest, (media_type.clone(), content.into()));
        let tags = state.tags.entry(name.to_owned()).or_default();
        if let Some(tag) = tag {
            tags.insert(tag.to_owned(), digest);
        }
        digest
    }

    /// Points a tag at a manifest that is there.
    pub(crate) fn tag(&self, name: &str, tag: &str, target: &Digest) {
        let mut state = self.state();
        let tags = state.tags.entry(name.to_owned()).or_default();
        tags.insert(tag.to_owned(), *target);
    }

    /// Takes a tag away.
    pub(crate) fn untag(&self, name: &str, tag: &str) {
        self.state().tags.get_mut(name).unwrap().remove(tag);
    }

    /// The bytes of a manifest.
    pub(crate) fn content(&self, digest: &Digest) -> Bytes {
        self.state().manifests[digest].1.clone()
    }

    /// Takes a manifest away.
    pub(crate) fn delete(&self, digest: &Digest) {
        self.state().manifests.remove(digest);
    }

    /// An image of these layers, with a config of its own.
    pub(crate) fn image(&self, name: &str, tag: Option<&str>, layers: &[&[u8]]) -> Digest {
        let config = format!(r#"{{"name":"{name}","tag":{tag:?}}}"#)
            .replace("Some(", "")
            .replace(')', "");
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| {
                let digest = self.blob(layer.to_vec());
                descriptor(
                    "application/vnd.oci.image.layer.v1.tar",
                    &digest,
                    layer.len(),
                )
            })
            .collect();
        let config_descriptor = descriptor(
            "application/vnd.oci.image.config.v1+json",
            &self.blob(config.clone()),
            config.len(),
        );
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config_descriptor},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            descriptors.join(",")
        );
        self.manifest(name, tag, &MediaType::OCI_MANIFEST, content)
    }

    /// An index of images that are there already, each with its platform.
    pub(crate) fn index(
        &self,
        name: &str,
        tag: Option<&str>,
        children: &[(Digest, &str)],
    ) -> Digest {
        let children: Vec<_> = children
            .iter()
            .map(|(digest, platform)| {
                let (media_type, content) = self.state().manifests[digest].clone();
                let plain = descriptor(media_type.as_str(), digest, content.len());
                match platform.split_once('/') {
                    None => plain,
                    Some((os, architecture)) => plain.replacen(
                        '{',
                        &format!(
                            r#"{{"platform":{{"os":"{os}","architecture":"{architecture}"}},"#
                        ),
                        1,
                    ),
                }
            })
            .collect();
        let content = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            MediaType::OCI_INDEX,
            children.join(",")
        );
        self.manifest(name, tag, &MediaType::OCI_INDEX, content)
    }
}

/// A descriptor as JSON.
pub(crate) fn descriptor(media_type: &str, digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

async fn counted(
    request: &Request<Bytes>,
    state: &Arc<Mutex<State>>,
    address: SocketAddr,
) -> Response<Body> {
    {
        let mut state = state.lock().unwrap();
        state.now += 1;
        state.most = state.most.max(state.now);
    }
    let response = answer(request, state, address).await;
    state.lock().unwrap().now -= 1;
    response
}
