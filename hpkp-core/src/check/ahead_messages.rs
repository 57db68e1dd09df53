//! The texts of the warnings about the next renewal, the next key and the CA.

use super::Names;
use super::messages::with_backup_key;
use crate::ca_table::{self, CaKey};
use crate::certificate::Certificate;
use crate::date;
use crate::finding::Text;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::DRAINING;

/// The certificate whose key alone is pinned, and when it may get another key.
pub(super) struct NextKey<'a> {
    pub(super) leaf: &'a Certificate,
    /// The earliest time at which a key may be used whose pin is published now, in seconds since 1970.
    pub(super) allowed: i64,
    pub(super) names: &'a Names,
}

impl NextKey<'_> {
    fn fix(&self, text: Text) -> Text {
        let text = text.fix(
            "renew with the same key (certbot renew --reuse-key), or with the key of a backup pin that clients \
             hold",
        );
        match self.names.same_key {
            Some(directive) => text.fix(format!("if renewals keep the key, say so: {directive}")),
            None => text,
        }
    }

    fn details(&self) -> [String; 2] {
        [
            certificate(self.leaf),
            format!(
                "a key whose pin is published now may be used from {} on",
                date::format(self.allowed)
            ),
        ]
    }
}

fn certificate(leaf: &Certificate) -> String {
    let pin = leaf.pin().map_or_else(|| "no pin".to_owned(), |pin| format!("sha256/{pin}"));
    format!("certificate: {}, {pin}, expires {}", leaf.subject(), leaf.not_after_text())
}

/// A duration in days if it is at least a day, else in its largest unit.
fn about(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    date::duration(if seconds >= DAY { seconds / DAY * DAY } else { seconds })
}

/// `recorded` is how many new keys the records have whose pins were not published before; none if the operator
/// declared that renewals make new keys.
pub(super) fn max_age_exceeds_renewal(
    policy: &Policy,
    interval: i64,
    recorded: Option<usize>,
    next: &NextKey<'_>,
) -> Text {
    let age = policy.max_age().map_or(0, |age| i64::from(age.seconds()));
    let how = match recorded {
        Some(count) => format!(
            "the records show {count} new keys of this server whose pins were not published before, the \
             last two {} apart",
            about(interval)
        ),
        None => format!(
            "renewals make a new key, about every {} for a certificate of this lifetime",
            about(interval)
        ),
    };
    let text = Text::new(format!(
        "{how}; clients remember policy \"{}\" for {} and a day, so they would refuse the next new key",
        policy.label(),
        date::duration(age)
    ));
    let text = next.fix(text);
    let text = match interval - DRAINING {
        shorter if shorter >= 3_600 => text.fix(format!(
            "or set {} to {} or less, and publish the pin of each new key for that long before it is used",
            next.names.max_age,
            about(shorter)
        )),
        _ => text,
    };
    text.details(next.details())
}

pub(super) fn expires_before_new_key(policy: &Policy, next: &NextKey<'_>) -> Text {
    let text = Text::new(format!(
        "the certificate expires at {}, but a key whose pin is not published yet may be used only from {} \
         on; clients that remember policy \"{}\" would refuse an earlier renewal with such a key",
        next.leaf.not_after_text(),
        date::format(next.allowed),
        policy.label()
    ));
    next.fix(text).details(next.details())
}

/// Some keys of a rotation are pinned and others are not.
pub(super) fn in_rotation(
    policy: &Policy,
    pinned: &[&CaKey],
    missing: &[(Pin, &CaKey)],
    leaf: Option<&Certificate>,
) -> Text {
    let names = |keys: &mut dyn Iterator<Item = &str>| keys.collect::<Vec<&str>>().join(", ");
    let ours = names(&mut pinned.iter().map(|key| key.name));
    let others = names(&mut missing.iter().map(|(_, key)| key.name));
    let not_pinned = missing
        .iter()
        .map(|(pin, key)| format!("not pinned: sha256/{pin}, {} ({})", key.name, key.operator));
    let expiry = leaf.map(certificate);
    Text::new(format!(
        "policy \"{}\" pins the intermediate {ours}, which is in rotation: the CA may issue the next certificate \
         from {others}, which are not pinned; clients that remember the pins would then refuse the certificate \
         (CA table of {})",
        policy.label(),
        ca_table::date()
    ))
    .fix(
        "pin the key of the certificate itself and a backup key, and renew with the same key; wait for max-age \
         and a day before the next renewal",
    )
    .details(not_pinned.chain(expiry))
}

/// Pinned roots, each with the stores that lack it.
pub(super) fn not_in_all_stores(policy: &Policy, roots: &[(Pin, &CaKey, Vec<&str>)]) -> Text {
    let names: Vec<&str> = roots.iter().map(|(_, key, _)| key.name).collect();
    let lines = roots.iter().map(|(pin, key, missing)| {
        let missing = missing.join(" and ");
        format!(
            "pinned: sha256/{pin}, {} ({}), not in the store of {missing}",
            key.name, key.operator
        )
    });
    Text::new(format!(
        "policy \"{}\" pins a root that some clients no longer trust, or do not trust yet: {}; these \
         clients build no certificate path through it, so the pin does not let them in (CA table of {})",
        policy.label(),
        names.join(", "),
        ca_table::date()
    ))
    .fix("pin the key of the certificate itself and a backup key of your own in place of the root")
    .fix("look the root up: hpkp ca show PIN")
    .details(lines)
}

pub(super) fn pins_of_one_ca(policy: &Policy, operator: &str, leaf: Option<&Certificate>) -> Text {
    with_backup_key(Text::new(format!(
        "all pins of policy \"{}\" belong to keys of one CA, {operator}; if browsers distrust it, or it issues \
         no certificate, clients that remember the pins accept no other (CA table of {})",
        policy.label(),
        ca_table::date()
    )))
    .details(leaf.map(certificate))
}
