//! `hpkp ca`: prints the table of CA keys.

mod table;

use std::io;

use hpkp_core::date;
use serde::Serialize;

use crate::arguments::{
    CaArguments, CaCommand, CaListArguments, CaShowArguments, CaUpdatesArguments,
};
use crate::exit::Exit;
use crate::output::{self, JSON_VERSION};
pub(crate) use table::{CaKey, CaTable};
use table::{CaRole, CaStatus};

/// A key in the JSON output.
#[derive(Debug, Serialize)]
struct KeyView<'a> {
    #[serde(flatten)]
    key: &'a CaKey,
    /// The other keys of the same rotation with which the CA issues certificates or may begin to at any
    /// time.
    siblings: Vec<String>,
}

impl<'a> KeyView<'a> {
    fn new(table: &'a CaTable, key: &'a CaKey) -> Self {
        let siblings = table.siblings(key).map(|other| other.pin.clone());
        Self { key, siblings: siblings.collect() }
    }
}

#[derive(Debug, Serialize)]
struct ListView<'a> {
    v: u32,
    date: &'a str,
    keys: Vec<KeyView<'a>>,
}

#[derive(Debug, Serialize)]
struct ShowView<'a> {
    v: u32,
    date: &'a str,
    known: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyView<'a>>,
}

#[derive(Debug, Serialize)]
struct UpdatesView<'a> {
    v: u32,
    date: &'a str,
    changes: Vec<ChangeView<'a>>,
}

/// A change of one key.
#[derive(Debug, Serialize)]
struct ChangeView<'a> {
    date: &'a str,
    what: CaStatus,
    pin: &'a str,
    name: &'a str,
    ca: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<&'a str>,
    source: &'a str,
}

/// Runs the command.
pub(crate) fn run(arguments: &CaArguments) -> Exit {
    let options = match &arguments.command {
        CaCommand::List(list) => &list.table,
        CaCommand::Show(show) => &show.table,
        CaCommand::Updates(updates) => &updates.table,
    };
    let table = match CaTable::read(options.table.as_deref()) {
        Ok(table) => table,
        Err(error) => {
            output::complain(&error.to_string());
            return error.exit();
        }
    };
    let (exit, written) = match &arguments.command {
        CaCommand::List(arguments) => (Exit::Fine, list(&table, arguments)),
        CaCommand::Show(arguments) => show(&table, arguments),
        CaCommand::Updates(arguments) => (Exit::Fine, updates(&table, arguments)),
    };
    output::ended(exit, written)
}

fn list(table: &CaTable, arguments: &CaListArguments) -> io::Result<()> {
    let wanted = arguments.ca.as_deref().unwrap_or_default().to_lowercase();
    let mut keys: Vec<&CaKey> = table
        .keys()
        .filter(|key| arguments.roots || key.role == CaRole::Intermediate)
        .filter(|key| key.ca.to_lowercase().contains(&wanted))
        .collect();
    keys.sort_by(|a, b| {
        (&a.ca, a.role, a.status, &a.name).cmp(&(&b.ca, b.role, b.status, &b.name))
    });
    if arguments.table.json {
        let keys = keys.into_iter().map(|key| KeyView::new(table, key)).collect();
        return output::json(&ListView { v: JSON_VERSION, date: table.date(), keys });
    }
    keys.into_iter().try_for_each(|key| output::line(&line(key)))
}

/// One line that begins with the pin.
fn line(key: &CaKey) -> String {
    let CaKey { pin, name, ca, status, .. } = key;
    let role = key.role.as_str();
    let name = output::printable(name);
    let ca = output::printable(ca);
    let expires = key.valid_to.as_deref().unwrap_or("-");
    format!("{pin}  {:<8} {role:<12} {name} ({ca}), expires {expires}", status.as_str())
}

fn show(table: &CaTable, arguments: &CaShowArguments) -> (Exit, io::Result<()>) {
    let key = table.find(arguments.pin);
    let exit = if key.is_some() { Exit::Fine } else { Exit::No };
    if arguments.table.json {
        let view = ShowView {
            v: JSON_VERSION,
            date: table.date(),
            known: key.is_some(),
            key: key.map(|key| KeyView::new(table, key)),
        };
        return (exit, output::json(&view));
    }
    let Some(key) = key else {
        output::complain(&format!(
            "sha256/{} is not in the table of CA keys (of {})",
            arguments.pin,
            table.date()
        ));
        return (exit, Ok(()));
    };
    let lines = described(table, key);
    (exit, lines.iter().try_for_each(|line| output::line(&output::printable(line))))
}

fn described(table: &CaTable, key: &CaKey) -> Vec<String> {
    let mut lines = vec![
        key.pin.clone(),
        format!("name: {}", key.name),
        format!("CA: {}", key.ca),
        format!("role: {}, {}", key.role.as_str(), key.status.as_str()),
    ];
    lines.extend(key.valid_from.iter().map(|date| format!("valid from: {date}")));
    lines.extend(key.valid_to.iter().map(|date| format!("expires: {date}")));
    if let Some(rotation) = table.rotation(key) {
        lines.push(format!("rotation: {}: {}", rotation.id, rotation.text));
        lines.extend(table.siblings(key).map(|other| {
            format!("sibling: {}  {:<8} {}", other.pin, other.status.as_str(), other.name)
        }));
    }
    lines.push(format!("source: {}", key.source));
    lines.extend(
        key.changes
            .iter()
            .map(|change| format!("{}: {} ({})", change.date, change.what.as_str(), change.source)),
    );
    lines
}

fn updates(table: &CaTable, arguments: &CaUpdatesArguments) -> io::Result<()> {
    let since = arguments.since.unwrap_or(i64::MIN);
    let is_new = |day: &str| date::parse(&format!("{day}T00:00:00Z")).is_some_and(|at| at >= since);
    let changes = table.keys().flat_map(|key| key.changes.iter().map(move |change| (key, change)));
    let mut changes: Vec<ChangeView<'_>> = changes
        .filter(|(_, change)| is_new(&change.date))
        .map(|(key, change)| ChangeView {
            date: &change.date,
            what: change.what,
            pin: &key.pin,
            name: &key.name,
            ca: &key.ca,
            rotation: key.rotation.as_deref(),
            source: &change.source,
        })
        .collect();
    changes.sort_by_key(|change| (change.date, change.ca, change.name));
    if arguments.table.json {
        return output::json(&UpdatesView { v: JSON_VERSION, date: table.date(), changes });
    }
    changes.iter().try_for_each(|change| {
        let ChangeView { date, what, pin, name, ca, source, .. } = change;
        let text = format!("{date}  {:<9} {pin}  {name} ({ca})  {source}", what.as_str());
        output::line(&output::printable(&text))
    })
}
