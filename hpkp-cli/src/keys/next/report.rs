//! Prints the state of the next keys of a host.

use hpkp_core::date;
use hpkp_core::text::ShellWord;
use serde::Serialize;

use super::super::next_keys::NextKey;
use super::publish::tlsa;
use super::today::Today;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, JSON_VERSION};
use crate::plan::{Usable, When, publication};

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<String>,
    keys: Vec<View>,
}

#[derive(Debug, Serialize)]
struct View {
    pin: String,
    kind: String,
    file: String,
    made: String,
    /// `not-published`, `waiting`, `usable`, `blocked` or `unknown`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_since: Option<String>,
    /// When the key may be used. If the pin is not published yet: when it could be used if it were
    /// published now.
    #[serde(skip_serializing_if = "Option::is_none")]
    usable_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handed_over: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The directives that publish the pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    nginx: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    httpd: Option<String>,
    tlsa: Vec<String>,
}

impl View {
    fn new(today: &Today, key: &NextKey) -> Self {
        let Usable { published_since, when, because_of, .. } = today.usable(key);
        let now = today.store.now;
        let usable_from = match &when {
            When::From(at) => Some(*at),
            When::NotPublished(at) => *at,
            When::Blocked(_) | When::NothingOnRecord => None,
        };
        let publication = publication(&today.store.state, &today.host, key.pin);
        let (nginx, httpd) = publication.map(|one| (one.nginx, one.httpd)).unzip();
        Self {
            pin: format!("sha256/{}", key.pin),
            kind: key.kind.clone(),
            file: output::path(&key.file),
            made: date::format(key.made),
            state: match &when {
                When::From(at) if *at <= now => "usable",
                When::From(_) => "waiting",
                When::NotPublished(_) => "not-published",
                When::Blocked(_) => "blocked",
                When::NothingOnRecord => "unknown",
            },
            published_since: published_since.map(date::format),
            usable_from: usable_from.map(date::format),
            handed_over: key.handed_over.map(date::format),
            reason: match when {
                When::Blocked(why) => Some(why),
                _ => because_of.map(|other| format!("its certificate is for {other} too")),
            },
            nginx: nginx.map(|lines| lines.join("\n")),
            httpd: httpd.map(|lines| lines.join("\n")),
            tlsa: tlsa(today, key),
        }
    }
}

/// Prints the state of each key. The exit code reports a key whose file is missing.
pub(super) fn print(today: &Today, keys: &[NextKey], json: bool) -> Result<Exit, Failure> {
    let missing: Vec<&NextKey> = keys.iter().filter(|key| !key.file.exists()).collect();
    for key in &missing {
        output::complain(&format!(
            "{}: the file of the next key is missing, and its pin is published; restore it from a backup",
            output::path(&key.file)
        ));
    }
    let exit = if missing.is_empty() { Exit::Fine } else { Exit::Undetermined };
    if json {
        return Ok(output::ended(exit, print_json(today, keys, None)));
    }
    let lines: Vec<String> = keys.iter().flat_map(|key| lines(today, key)).collect();
    Ok(output::ended(exit, lines.iter().try_for_each(|line| output::line(line))))
}

fn print_json(today: &Today, keys: &[NextKey], done: Option<String>) -> std::io::Result<()> {
    let keys = keys.iter().map(|key| View::new(today, key)).collect();
    output::json(&Report { v: JSON_VERSION, host: today.host.to_string(), done, keys })
}

fn lines(today: &Today, key: &NextKey) -> Vec<String> {
    let view = View::new(today, key);
    let host = &today.host;
    let mut lines = vec![
        format!("{}  private key {} ({})", view.pin, view.file, key.kind),
        state_line(host.as_str(), &view),
    ];
    if let Some(at) = &view.handed_over {
        lines.push(format!("handed over: {at}"));
    }
    match view.state {
        "usable" => {
            let directory = ShellWord::new(&today.directory);
            lines.push(format!(
                "to hand it over: hpkp key next {host} -d {directory} --client, --to FILE or --csr FILE"
            ));
        }
        "waiting" if view.published_since.is_some() => {}
        _ => lines.extend(to_publish(&view)),
    }
    lines
}

/// When the key may be used, in one line.
fn state_line(host: &str, view: &View) -> String {
    let since = match &view.published_since {
        Some(since) => format!("published since {since}"),
        None => "not published yet".to_owned(),
    };
    let from = view.usable_from.as_deref().unwrap_or_default();
    let when = match view.state {
        "usable" => "may be used now".to_owned(),
        "waiting" => format!("may be used from {from}"),
        "not-published" if view.reason.is_some() => {
            format!(
                "publish its pin for all names ({})",
                view.reason.as_deref().unwrap_or_default()
            )
        }
        "not-published" if from.is_empty() => "publish its pin".to_owned(),
        "not-published" => format!("publish its pin now, and it may be used from {from}"),
        "blocked" => view.reason.clone().unwrap_or_default(),
        _ => "no pins of this host are on record, so nobody can tell from when on it may be used"
            .to_owned(),
    };
    format!("next key of {host}: {since}; {when}")
}

fn to_publish(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let indented = |text: &str| text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>();
    match (&view.nginx, &view.httpd) {
        (Some(nginx), Some(httpd)) => {
            lines.push("nginx:".to_owned());
            lines.extend(indented(nginx));
            lines.push("Apache httpd:".to_owned());
            lines.extend(indented(httpd));
        }
        _ => {
            lines.push("nginx, in hpkp_policy:".to_owned());
            lines.push(format!("    pin {};", view.pin));
            lines.push("Apache httpd, in <HPKPPolicy>:".to_owned());
            lines.push(format!("    HPKPPin {}", view.pin));
        }
    }
    lines.push("TLSA record, where DANE is used:".to_owned());
    lines.extend(view.tlsa.iter().map(|record| format!("    {record}")));
    lines
}

/// Prints the result of a hand-over.
pub(super) fn handed_over(
    today: &Today,
    key: &NextKey,
    done: &str,
    json: bool,
) -> Result<Exit, Failure> {
    let written = match json {
        true => print_json(today, std::slice::from_ref(key), Some(done.to_owned())),
        false => output::line(done),
    };
    Ok(output::ended(Exit::Fine, written))
}

/// Prints what is left to do for a key that will not be used.
pub(super) fn forgotten(today: &Today, key: &NextKey) -> Result<Exit, Failure> {
    let mut lines =
        vec![format!("sha256/{} is not the next key of {} any more", key.pin, today.host)];
    if today.usable(key).published_since.is_some() {
        lines.push("take its pin out of the policies".to_owned());
    }
    lines.push(format!("its file is still there: {}", output::path(&key.file)));
    Ok(output::ended(Exit::Fine, lines.iter().try_for_each(|line| output::line(line))))
}
