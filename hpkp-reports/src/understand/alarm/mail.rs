//! Sends alarms by mail.

use std::time::Duration;

use lettre::message::Mailboxes;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Message as Letter, SmtpTransport, Transport as _};

use super::message::Message;
use crate::configuration::Mail;
use crate::output::printable;

/// How long the mail server may take.
const TIME: Duration = Duration::from_secs(20);

pub(super) struct Way {
    transport: SmtpTransport,
    settings: Mail,
}

impl Way {
    pub(super) fn new(settings: &Mail) -> Result<Self, String> {
        let (scheme, rest) = settings
            .server
            .split_once("://")
            .ok_or_else(|| "alarms.mail.server: expected smtp://HOST[:PORT]".to_owned())?;
        let host = rest.trim_end_matches('/');
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !host.ends_with(']') => {
                let port = port.parse::<u16>();
                (name, Some(port.map_err(|_| "alarms.mail.server: invalid port".to_owned())?))
            }
            _ => (host, None),
        };
        let name = name.trim_matches(['[', ']']);
        let of = |error: lettre::transport::smtp::Error| format!("alarms.mail.server: {error}");
        let (builder, usual) = match scheme {
            "smtp" => (SmtpTransport::builder_dangerous(name), 25),
            "smtp+starttls" => (SmtpTransport::starttls_relay(name).map_err(of)?, 587),
            "smtps" => (SmtpTransport::relay(name).map_err(of)?, 465),
            _ => return Err(format!("alarms.mail.server: unknown scheme \"{scheme}\"")),
        };
        let mut builder = builder.port(port.unwrap_or(usual)).timeout(Some(TIME));
        if let Some(user) = &settings.user {
            let password = match &settings.password_file {
                Some(file) => crate::see::first_line(file)
                    .map_err(|error| format!("alarms.mail.password_file: {error}"))?,
                None => String::new(),
            };
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        if settings.to.is_empty() {
            return Err("alarms.mail.to: the list is empty; name at least one address".to_owned());
        }
        Ok(Self { transport: builder.build(), settings: settings.clone() })
    }

    pub(super) fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let mailboxes: Mailboxes = self.settings.to.iter().map(|to| to.0.clone()).collect();
        let subject = format!("[{}] {}: {}", message.finding, message.host, message.title);
        let letter = Letter::builder()
            .from(self.settings.from.0.clone())
            .mailbox(lettre::message::header::To::from(mailboxes))
            .subject(printable(&subject))
            .message_id(None)
            .header(ContentType::TEXT_PLAIN)
            .body(text(message))
            .map_err(|error| error.to_string())?;
        self.transport.send(&letter).map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The text of the mail.
fn text(message: &Message<'_>) -> String {
    let mut lines = vec![
        format!("{}: {}", message.host, message.title),
        String::new(),
        message.answer.to_owned(),
        format!("To do: {}", message.advice.replace("HOST", message.host)),
        String::new(),
        format!("Finding:  {} ({})", message.finding, message.class),
    ];
    let facts = [("Detail", message.detail), ("Client", message.client), ("Policy", message.mode)];
    for (name, fact) in facts.into_iter().filter(|(_, fact)| !fact.is_empty()) {
        lines.push(format!("{:<9} {}", format!("{name}:"), printable(fact)));
    }
    lines.push(format!("Received: {}", message.at));
    lines.push(format!("Group:    {}", message.page.as_deref().unwrap_or(message.group)));
    if message.left_out > 0 {
        lines.push(format!("{} alarms before this one were left out.", message.left_out));
    }
    lines.push(message.note.to_owned());
    lines.join("\n")
}
