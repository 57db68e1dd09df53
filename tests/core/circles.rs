//! Forbids dependency cycles between the files of a crate: each file can be read without the files that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const CRATES: [&str; 7] = [
    "hpkp-core",
    "hpkp-server",
    "ngx-hpkp",
    "apache-hpkp",
    "hpkp-cli",
    "hpkp-sync",
    "hpkp-reports",
];

/// The path of a module, as `["check", "records"]`; empty for the crate's root.
type ModulePath = Vec<String>;

/// The references of a file to other files.
#[derive(Default)]
struct File {
    name: String,
    tokens: Vec<String>,
    /// The imported names, and the path of each.
    imports: BTreeMap<String, Vec<String>>,
    /// The names that are only re-exported.
    reexported: BTreeSet<String>,
}

/// The words and signs of a source text, without comments, literals and the tests at its end.
fn tokens(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let end = |needle: &str, from: usize| {
            rest[from..].find(needle).map_or(rest.len(), |found| from + found + needle.len())
        };
        at += if rest.starts_with("//") {
            end("\n", 0)
        } else if rest.starts_with("/*") {
            end("*/", 2)
        } else if rest.starts_with("r#\"") {
            end("\"#", 3)
        } else if let Some(literal) = rest.strip_prefix('"') {
            let mut escaped = false;
            let close = literal.bytes().position(|byte| {
                let is_close = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                is_close
            });
            close.map_or(rest.len(), |close| close + 2)
        } else if rest.starts_with('\'') {
            // A character literal or a lifetime.
            match rest.chars().nth(1) {
                Some('\\') => end("'", 3),
                Some(one) if rest[1 + one.len_utf8()..].starts_with('\'') => 2 + one.len_utf8(),
                _ => 1,
            }
        } else if is_word(bytes[at]) {
            let word = rest.bytes().take_while(|byte| is_word(*byte)).count();
            tokens.push(rest[..word].to_owned());
            word
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            let sign = rest.chars().next().unwrap_or(' ');
            if !sign.is_whitespace() {
                tokens.push(sign.to_string());
            }
            sign.len_utf8()
        };
    }
    tokens
}

/// The names that a `use` brings into scope, and their paths: `a::{b, c::d as e}` has b and e.
fn names(tree: &[String], prefix: &[String], names: &mut BTreeMap<String, Vec<String>>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tree.len() {
        match tree[at].as_str() {
            "::" => {}
            "{" => {
                let inner = &tree[at + 1..tree.len() - 1];
                let (mut depth, mut from) = (0, 0);
                for (index, token) in inner.iter().enumerate() {
                    match token.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 0 => {
                            self::names(&inner[from..index], &path, names);
                            from = index + 1;
                        }
                        _ => {}
                    }
                }
                self::names(&inner[from..], &path, names);
                return;
            }
            "as" => {
                names.insert(tree[at + 1].clone(), path);
                return;
            }
            "self" if at == 0 && !prefix.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().filter(|_| !tree.is_empty()) {
        names.insert(name.clone(), path.clone());
    }
}

impl File {
    fn read(path: &Path, name: String) -> Self {
        let all = tokens(&std::fs::read_to_string(path).expect("a source file"));
        let mut file = Self { name, ..Self::default() };
        let mut at = 0;
        // The depth of the braces, and the depth at which an inner module begins.
        let (mut depth, mut inner) = (0, None);
        while at < all.len() {
            match all[at].as_str() {
                "{" if at > 1 && all[at - 2] == "mod" => {
                    depth += 1;
                    inner = inner.or(Some(depth));
                }
                "{" => depth += 1,
                "}" => {
                    inner = inner.filter(|begin| *begin < depth);
                    depth -= 1;
                }
                _ => {}
            }
            if all[at] != "use" {
                file.tokens.push(all[at].clone());
                at += 1;
                continue;
            }
            let end = at + all[at..].iter().position(|token| token == ";").expect("a \";\"");
            let mut found = BTreeMap::new();
            names(&all[at + 1..end], &[], &mut found);
            if inner.is_some() {
                // The parent of an inner module is the file itself.
                found = found
                    .into_iter()
                    .filter(|(name, _)| name != "*")
                    .map(|(name, path)| (name, path[usize::from(path[0] == "super")..].to_vec()))
                    .collect();
            }
            if file.tokens.last().is_some_and(|token| token == "pub" || token == ")") {
                file.reexported.extend(found.keys().cloned());
            }
            file.imports.extend(found);
            at = end + 1;
        }
        file
    }
}

type Files = BTreeMap<ModulePath, File>;

fn read_all(directory: &Path, prefix: &[String], files: &mut Files) {
    for entry in std::fs::read_dir(directory).expect("a directory of sources").flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let below = [prefix, std::slice::from_ref(&stem)].concat();
        if path.is_dir() {
            read_all(&path, &below, files);
        } else if stem != "tests" && path.extension().is_some_and(|extension| extension == "rs") {
            let is_of_directory = ["lib", "main", "mod"].contains(&stem.as_str());
            let module = if is_of_directory { prefix.to_vec() } else { below };
            let name = path.strip_prefix(ROOT).unwrap_or(&path).display().to_string();
            files.insert(module, File::read(&path, name));
        }
    }
}

/// The module that defines the item to which a path leads from `module`. A path to a module itself gives `None`,
/// because the items used from it are named elsewhere.
fn owner(files: &Files, module: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
    let file = files.get(module)?;
    let (first, rest) = path.split_first()?;
    let child = [module, std::slice::from_ref(first)].concat();
    let at = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ if files.contains_key(&child) => child,
        _ => {
            let reexported = file.imports.get(first).filter(|_| depth < 8);
            return match reexported {
                Some(path) if path.first() != Some(first) || path.len() > 1 => {
                    owner(files, module, &[path, rest].concat(), depth + 1)
                }
                _ => Some(module.to_vec()),
            };
        }
    };
    inside(files, &at, rest, depth)
}

fn inside(files: &Files, module: &[String], path: &[String], depth: usize) -> Option<ModulePath> {
    if path.is_empty() { None } else { owner(files, module, path, depth) }
}

/// For each file, the files that it uses, and the names that it takes from each.
type Arrows = BTreeMap<ModulePath, BTreeMap<ModulePath, BTreeSet<String>>>;

fn arrows(files: &Files) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, file) in files {
        let mut paths: Vec<Vec<String>> = Vec::new();
        for (name, path) in &file.imports {
            let is_used = || file.tokens.contains(name);
            if !file.reexported.contains(name) || is_used() {
                paths.push(path.clone());
            }
        }
        // Paths outside of `use`.
        for (index, token) in file.tokens.iter().enumerate() {
            let begins = file.tokens.get(index + 1).is_some_and(|next| next == "::")
                && index.checked_sub(1).is_none_or(|before| file.tokens[before] != "::");
            if begins && token != "self" {
                let words = file.tokens[index..].chunks(2).take_while(|pair| pair[0] != "{");
                let mut path = Vec::new();
                for pair in words {
                    path.push(pair[0].clone());
                    if pair.get(1).is_none_or(|next| next != "::") {
                        break;
                    }
                }
                paths.push(path);
            }
        }
        for path in paths {
            let first = path[0].as_str();
            let child = [&module[..], &path[..1]].concat();
            let is_here = ["crate", "super"].contains(&first)
                || files.contains_key(&child)
                || file.imports.contains_key(first);
            let Some(target) = is_here.then(|| owner(files, module, &path, 0)).flatten() else {
                continue;
            };
            if target != *module {
                let names = arrows.entry(module.clone()).or_default().entry(target).or_default();
                names.insert(path.last().cloned().unwrap_or_default());
            }
        }
    }
    arrows
}

/// The files that `from` uses directly or indirectly.
fn reached(arrows: &Arrows, from: &ModulePath) -> BTreeSet<ModulePath> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![from];
    while let Some(next) = waiting.pop() {
        for target in arrows.get(next).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(target.clone()) {
                waiting.push(target);
            }
        }
    }
    reached
}

#[test]
fn no_circle_between_files() {
    let mut circles = String::new();
    for name in CRATES {
        let mut files = Files::new();
        read_all(&Path::new(ROOT).join(name).join("src"), &[], &mut files);
        let mut arrows = arrows(&files);
        // The root of a server module has the tables of functions that the server calls, so it may use all files.
        if name == "ngx-hpkp" || name == "apache-hpkp" {
            arrows.remove(&Vec::new());
        }
        assert!(arrows.len() > 3, "{name}: {arrows:?}");
        let reached: BTreeMap<_, _> =
            files.keys().map(|file| (file, reached(&arrows, file))).collect();
        for (from, targets) in &arrows {
            for (target, names) in targets {
                if reached[target].contains(from) {
                    let (from, target) = (&files[from].name, &files[target].name);
                    circles += &format!("{from} -> {target}: {names:?}\n");
                }
            }
        }
    }
    assert!(circles.is_empty(), "these lines are part of circles:\n{circles}");
}
