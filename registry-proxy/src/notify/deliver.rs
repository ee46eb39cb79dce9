//! The delivery of notices, one after the other.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Notice;
use super::webhook::Webhook;
use crate::{config, hook};

/// Who gets notices besides the log.
#[derive(Debug)]
pub(super) struct Outlets {
    /// Empty for none.
    command: Vec<String>,
    webhook: Option<Webhook>,
}

impl Outlets {
    /// Those of the configuration.
    pub(super) fn of(config: &config::Notify) -> Self {
        let webhook = config.webhook.as_ref();
        let webhook = webhook.map(|url| Webhook::new(url, &config.authorities));
        let webhook = webhook.transpose();
        let webhook = webhook.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            error!(error, "cannot post notices");
            None
        });
        Self {
            command: config.command.clone(),
            webhook,
        }
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.command.is_empty() && self.webhook.is_none()
    }

    /// Tells all of them, each in its own time.
    async fn deliver(&self, notice: &Notice) {
        let mut line = match serde_json::to_vec(notice) {
            Ok(line) => line,
            Err(error) => {
                error!(%error, "cannot write a notice");
                return;
            }
        };
        line.push(b'\n');
        let mirror = &notice.mirror;
        let command = async {
            if let Err(error) = hook::tell(&self.command, &line).await {
                let error = &error as &dyn std::error::Error;
                warn!(error, %mirror, "the command for notices did not take one");
            }
        };
        let post = async {
            if let Some(webhook) = &self.webhook
                && let Err(error) = webhook.post(&line).await
            {
                let error = &error as &dyn std::error::Error;
                warn!(error, %mirror, "the webhook did not take a notice");
            }
        };
        tokio::join!(command, post);
    }
}

/// The delivery under way; what is not delivered when it is dropped is not delivered at all.
#[derive(Debug)]
pub struct Delivery {
    tasks: JoinSet<()>,
    closing: CancellationToken,
}

impl Delivery {
    /// One with nothing to do.
    pub(super) fn none() -> Self {
        Self {
            tasks: JoinSet::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Delivers what comes until it is told to finish.
    pub(super) fn start(outlets: Outlets, notices: mpsc::Receiver<Notice>) -> Self {
        let mut delivery = Self::none();
        let closing = delivery.closing.clone();
        delivery.tasks.spawn(run(outlets, notices, closing));
        delivery
    }

    /// Delivers what is waiting, in this time; what is told from now on is only logged.
    pub async fn finish(mut self, limit: Duration) {
        self.closing.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, drained).await.is_err() {
            self.tasks.shutdown().await;
            warn!("not all notices were delivered in time");
        }
    }
}

async fn run(outlets: Outlets, mut notices: mpsc::Receiver<Notice>, closing: CancellationToken) {
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            () = closing.cancelled(), if !notices.is_closed() => {
                notices.close();
                continue;
            }
        };
        match notice {
            Some(notice) => outlets.deliver(&notice).await,
            None => return,
        }
    }
}
