//! Sends alarms by a `POST` of JSON.

use std::time::Duration;

use ureq::{Agent, Proxy};

use super::message::Message;
use crate::configuration::Webhook;
use crate::http;

/// How long the server may take.
const TIME: Duration = Duration::from_secs(20);

pub(super) struct Way {
    agent: Agent,
    url: String,
}

impl Way {
    pub(super) fn new(settings: &Webhook) -> Self {
        Self { agent: http::agent(TIME, Proxy::try_from_env()), url: settings.url.0.clone() }
    }

    pub(super) fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let request = self.agent.post(&self.url).header("content-type", "application/json");
        let answer = request.send(&body[..]).map_err(|error| http::reason(&error))?;
        // Redirections are not followed, and a server that redirects has not accepted the alarm.
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("http status: {}", answer.status().as_u16())),
        }
    }
}
