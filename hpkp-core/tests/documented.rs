//! `docs/reference/findings.md` has an entry for every code, in their order and with their class, and for
//! nothing else.

use hpkp_core::finding::Code;

/// What stands in the page under one heading of the third level.
struct Entry<'a> {
    code: &'a str,
    class: Option<&'a str>,
    /// The codes in its examples.
    examples: Vec<&'a str>,
}

fn entries(page: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut in_example = false;
    // What comes before the first entry and after a heading of a higher level is no entry.
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
        } else if let Some(class) = line.strip_prefix("Class: ")
            && let Some(entry) = entries.last_mut()
        {
            assert!(entry.class.replace(class).is_none(), "{} has two classes", entry.code);
        }
    }
    entries
}

#[test]
fn every_code_has_its_entry() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/findings.md");
    let page = std::fs::read_to_string(path).unwrap();
    let entries = entries(&page);

    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let headings: Vec<&str> = entries.iter().map(|entry| entry.code).collect();
    assert_eq!(headings, codes, "the headings of docs/findings.md (left) and the codes (right)");

    for (code, entry) in Code::ALL.iter().zip(&entries) {
        let class = format!("{:?}", code.class()).to_lowercase();
        assert_eq!(entry.class, Some(class.as_str()), "the class of {code} in docs/findings.md");
        for example in &entry.examples {
            assert_eq!(*example, entry.code, "an example under {code} in docs/findings.md");
        }
    }
}
