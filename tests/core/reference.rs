//! Documentation checks: the reference has an entry for every directive and variable, and named scripts exist.

use std::collections::BTreeSet;
use std::fs;

fn read(file: &str) -> String {
    let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The texts between `before` and the next quotation mark, at every place in `source`.
fn quoted<'a>(source: &'a str, before: &str) -> BTreeSet<&'a str> {
    let after = source.split(before).skip(1);
    after.filter_map(|rest| rest.split('"').next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_directive_and_variable_of_the_nginx_module() {
    let reference = read("docs/reference/directives.md");
    let source = read("ngx-hpkp/src/directive.rs");
    let mut names = quoted(&source, "c_string(c\"");
    assert!(names.contains("hpkp_policy") && names.contains("hpkp_trusted_certificate"));
    names.extend(["pin", "max_age", "include_subdomains", "report_uri", "include"]);
    for name in &names {
        let entry = format!("\n## {name}\n");
        let (_, entry) =
            reference.split_once(&entry).unwrap_or_else(|| panic!("no entry for {name}"));
        let entry = entry.split("\n## ").next().unwrap_or_default();
        for part in ["| Syntax | ", "| Default | ", "| Context | "] {
            assert!(entry.contains(part), "the entry of {name} has no {part}");
        }
    }
    let variables = read("ngx-hpkp/src/variable.rs");
    for name in quoted(&variables, "c_string(c\"") {
        assert!(reference.contains(&format!("`${name}`")), "no entry for ${name}");
    }
}

/// Scripts named in the contributors' documents, the recipes and the workflow must exist. No job of the workflow may be
/// duplicate, which would make the whole workflow invalid.
#[test]
fn scripts_named_in_documents_exist() {
    for file in ["CONTRIBUTING.md", "RELEASING.md", "justfile", ".github/workflows/ci.yml"] {
        let text = read(file);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        for (at, _) in text.match_indices("ci/") {
            let name = text[at..].split(|c| c != '/' && !is_of_name(c)).next().unwrap_or_default();
            let name = name.trim_end_matches('.');
            let is_apart = !text[..at].ends_with(is_of_name) && !text[..at].ends_with('/');
            let path = format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"));
            assert!(!is_apart || fs::exists(&path).unwrap(), "{file} names {name}");
        }
    }
    let workflow = read(".github/workflows/ci.yml");
    let (_, jobs) = workflow.split_once("\njobs:\n").expect("jobs");
    let job = |line: &&str| line.starts_with("  ") && !line[2..].starts_with([' ', '#']);
    let names: Vec<&str> = jobs.lines().filter(|line| line.len() > 2).filter(job).collect();
    assert!(names.len() > 5, "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}
