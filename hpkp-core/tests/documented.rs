//! `docs/reference/findings.md` must have exactly one entry for every code, in order and with its class, and the same
//! table of codes as the source.

use hpkp_core::finding::{CODES, Entry as CodeEntry};

/// The part of the page under one heading of the third level.
struct Entry<'a> {
    code: &'a str,
    class: Option<&'a str>,
    /// The codes in its examples.
    examples: Vec<&'a str>,
}

fn entries(page: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut in_example = false;
    // Text before the first entry, or after a heading of a higher level, belongs to no entry.
    let mut in_entry = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_example = !in_example;
        } else if in_example {
            let code = line.strip_prefix("hpkp: [").and_then(|rest| rest.split_once(']'));
            if let (true, Some((code, _)), Some(entry)) = (in_entry, code, entries.last_mut()) {
                entry.examples.push(code);
            }
        } else if let Some(code) = line.strip_prefix("### ") {
            entries.push(Entry { code, class: None, examples: Vec::new() });
            in_entry = true;
        } else if line.starts_with("## ") {
            in_entry = false;
        } else if let Some((class, entry)) = line.strip_prefix("Class: ").zip(entries.last_mut()) {
            assert!(entry.class.replace(class).is_none(), "{} has two classes", entry.code);
        }
    }
    entries
}

#[test]
fn every_code_has_an_entry_in_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/findings.md");
    let page = std::fs::read_to_string(path).unwrap();
    // The codes of hpkp-reports follow; a test of that crate checks them.
    let (page, _) = page.split_once("\n## Violation reports\n").unwrap();
    let entries = entries(page);

    let codes: Vec<&str> = CODES.iter().map(|one| one.text).collect();
    let headings: Vec<&str> = entries.iter().map(|entry| entry.code).collect();
    assert_eq!(
        headings, codes,
        "the headings of docs/reference/findings.md (left) and the codes (right)"
    );

    for (CodeEntry { text: code, class, .. }, entry) in CODES.iter().zip(&entries) {
        assert_eq!(
            entry.class,
            Some(class.as_str()),
            "the class of {code} in docs/reference/findings.md"
        );
        for example in &entry.examples {
            assert_eq!(
                *example, entry.code,
                "an example under {code} in docs/reference/findings.md"
            );
        }
    }
}

#[test]
fn the_table_of_codes_is_that_of_the_source() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/findings.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut table = String::from("| Code | Class | Meaning | Source |\n|---|---|---|---|\n");
    for CodeEntry { text, class, title, reference, .. } in CODES {
        let source = match reference.strip_prefix("docs/") {
            Some("reference/findings.md") => "this page".to_owned(),
            Some(page) => {
                let name = page.rsplit('/').next().unwrap_or(page);
                format!(
                    "[{name}]({})",
                    page.strip_prefix("reference/")
                        .map_or_else(|| format!("../{page}"), str::to_owned)
                )
            }
            None => (*reference).to_owned(),
        };
        table.push_str(&format!(
            "| [{text}](#{text}) | {} | {title} | {source} |\n",
            class.as_str()
        ));
    }
    assert!(
        page.contains(&table),
        "docs/reference/findings.md has to contain this table:\n\n{table}"
    );
}

/// Titles are phrases, and sources are sections of standards or pages that exist.
#[test]
fn titles_are_phrases_and_sources_exist() {
    for CodeEntry { text, title, reference, .. } in CODES {
        assert!(!title.is_empty() && !title.ends_with('.'), "{text}");
        match reference.strip_prefix("docs/") {
            Some(page) => {
                let path = format!("{}/../docs/{page}", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&path).is_file(), "{text}: {path}");
            }
            None => assert!(reference.starts_with("RFC "), "{text}: {reference}"),
        }
    }
}
