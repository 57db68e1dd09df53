//! Explains why a key can never be used, however long one waits.

use hpkp_core::published::Published;
use hpkp_core::published::state::{Record, Retention};
use hpkp_core::text::Excerpt;

/// The records that prevent the use, and what to do about each.
pub(super) fn why_blocked(blocking: &[(&Record<Published>, Retention)], options: &str) -> String {
    let texts = blocking.iter().take(3).map(|(record, retention)| {
        let (id, host) = (record.id, &record.body.host);
        let origin = Excerpt::new(record.body.origin.as_str()).to_string();
        match retention {
            Retention::WhilePublished(_) => format!(
                "{} still sends pins of {host} that this key does not match (record {id}, {origin}); first \
                 change the policy there",
                record.writer
            ),
            _ => format!(
                "pins of {host} do not expire (record {id}, {origin}); release the new pin, and when the \
                 old release is gone run: hpkp published {options} end {id} --why REASON"
            ),
        }
    });
    let mut texts: Vec<String> = texts.collect();
    if blocking.len() > texts.len() {
        texts.push(format!("and {} more records", blocking.len() - texts.len()));
    }
    texts.join("; ")
}
