//! Inputs like those in public code: each pin is recorded as its clients hold it, or reported.
//!
//! The files in `shapes/` contain inputs, each after its expected result:
//! ```text
//! ===== NAME
//! right: recorded              exit 0, these sets and no others; or "error": exit 1
//!   set HOST SCOPE[:PORT] [below] [until=TIME] N...
//!   note LINE[|LINE]           the output names one of these lines
//!   line LINE[|LINE]           the same for an error
//!   says WORD                  the output contains this word, in upper or lower case
//!   not WORD                   the output does not contain this word
//! or: ...                      another result that is right
//! -----
//! the input
//! ```
//! `@1@` stands for a pin in base64, `@1x@` for its hexadecimal digits, `@1c@` for those with colons, `@1j@` for the pin
//! with JSON's escapes, `@1s@` for a pin of SHA-1. `right: header MAX-AGE [below] N...` is for `add --header`;
//! such inputs are given to `import` too, which must refuse them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use hpkp_core::pin::Pin;
use serde_json::Value;

/// An expected result.
#[derive(Clone, Debug, Default)]
struct Right {
    recorded: bool,
    header: Option<String>,
    sets: Vec<String>,
    lines: Vec<Vec<usize>>,
    says: Vec<String>,
    not: Vec<String>,
}

#[derive(Debug)]
struct Shape {
    kind: String,
    name: String,
    rights: Vec<Right>,
    import: Option<Right>,
    text: String,
}

fn pin(number: u8) -> Pin {
    Pin::from_bytes(openssl::sha::sha256(&[number]))
}

/// The input with its pins, and the pins.
fn filled(text: &str) -> (String, Vec<Pin>) {
    let mut pins = Vec::new();
    let mut whole = text.to_owned();
    for number in 1..10_u8 {
        let of = pin(number);
        let hex: Vec<String> = of.bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        let plain = of.to_string();
        for (mark, written) in [
            ("", plain.clone()),
            ("j", plain.replace('/', "\\/")),
            ("x", hex.concat().to_lowercase()),
            ("c", hex.join(":")),
        ] {
            let mark = format!("@{number}{mark}@");
            if whole.contains(&mark) {
                pins.push(of);
                whole = whole.replace(&mark, &written);
            }
        }
        let sha1 = openssl::base64::encode_block(&openssl::sha::sha1(&[number]));
        whole = whole.replace(&format!("@{number}s@"), &sha1);
    }
    (whole, pins)
}

fn lines(text: &str) -> Vec<usize> {
    text.split('|').map(|line| line.parse().unwrap()).collect()
}

fn shapes() -> Vec<Shape> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut shapes = Vec::new();
    for file in files {
        let kind = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        for shape in text.split("===== ").skip(1) {
            let (head, text) = shape.split_once("\n-----\n").unwrap();
            let mut lines = head.lines();
            let name = lines.next().unwrap().to_owned();
            let (rights, import) = rights(lines);
            shapes.push(Shape { kind: kind.clone(), name, rights, import, text: text.to_owned() });
        }
    }
    shapes
}

fn rights<'a>(head: impl Iterator<Item = &'a str>) -> (Vec<Right>, Option<Right>) {
    let mut all: Vec<(bool, Right)> = Vec::new();
    for line in head {
        let (word, rest) = line.trim().split_once(' ').unwrap();
        if let "right:" | "or:" | "import:" = word {
            let header = rest.strip_prefix("header ").map(str::to_owned);
            let right = Right {
                recorded: rest == "recorded" || header.is_some(),
                header,
                ..Right::default()
            };
            all.push((word == "import:", right));
            continue;
        }
        let (_, right) = all.last_mut().unwrap();
        match word {
            "set" => right.sets.push(rest.to_owned()),
            "note" | "line" => right.lines.push(lines(rest)),
            "says" => right.says.push(rest.to_lowercase()),
            "not" => right.not.push(rest.to_owned()),
            other => panic!("{other}"),
        }
    }
    let (import, rights): (Vec<_>, Vec<_>) = all.into_iter().partition(|(import, _)| *import);
    (rights.into_iter().map(|(_, r)| r).collect(), import.into_iter().map(|(_, r)| r).next())
}

/// A set in the notation of the files, with its pins sorted.
fn written(set: &Value) -> String {
    let number = |text: &str| {
        let of = (1..10_u8).find(|number| format!("sha256/{}", pin(*number)) == text);
        of.map_or_else(|| "?".to_owned(), |number| number.to_string())
    };
    let mut numbers: Vec<String> =
        set["pins"].as_array().unwrap().iter().map(|pin| number(pin.as_str().unwrap())).collect();
    numbers.sort();
    let port = set["port"].as_u64().map_or_else(String::new, |port| format!(":{port}"));
    let below = if set["include_subdomains"] == true { " below" } else { "" };
    let until =
        set["expires_at"].as_str().map_or_else(String::new, |time| format!(" until={time}"));
    format!(
        "{} {}{port}{below}{until} {}",
        set["host"].as_str().unwrap(),
        set["scope"].as_str().unwrap(),
        numbers.join(" ")
    )
}

struct Answer {
    code: i32,
    sets: Vec<String>,
    pins: Vec<String>,
    outcome: String,
    out: String,
}

fn run(directory: &Path, arguments: &[&str], key: &str) -> Answer {
    let output = Command::new(env!("CARGO_BIN_EXE_hpkp"))
        .arg("published")
        .arg("-d")
        .arg(directory)
        .arg("--json")
        .args(arguments)
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let json: Value = serde_json::from_str(&out).unwrap_or(Value::Null);
    let sets: Vec<Value> = json[key].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> = sets.iter().map(written).collect();
    all.sort();
    // Two configurations may have the same set.
    all.dedup();
    let pins = sets.iter().flat_map(|set| set["pins"].as_array().unwrap().clone());
    let pins = pins.map(|pin| pin.as_str().unwrap().to_owned()).collect();
    let outcome = String::from_utf8(output.stderr).unwrap();
    Answer { code: output.status.code().unwrap(), sets: all, pins, outcome, out }
}

/// The numbers of the lines that the output names.
fn named(outcome: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for part in outcome.split("line ").skip(1) {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        lines.extend(digits.parse::<usize>());
    }
    lines
}

fn is_right(answer: &Answer, right: &Right) -> bool {
    let mut wanted = right.sets.clone();
    wanted.sort();
    let named = named(&answer.outcome);
    let outcome = answer.outcome.to_lowercase();
    answer.code == i32::from(!right.recorded)
        && answer.sets == wanted
        && right.lines.iter().all(|lines| lines.iter().any(|line| named.contains(line)))
        && right.says.iter().all(|word| outcome.contains(word.as_str()))
        && right.not.iter().all(|word| !answer.outcome.contains(word.as_str()))
}

/// Whether each pin is recorded, or a line near it is named, or the input is refused.
fn is_accounted(answer: &Answer, text: &str, pins: &[Pin]) -> bool {
    let named = named(&answer.outcome);
    answer.code == 1
        || pins.iter().all(|pin| {
            let at = text.find(&pin.to_string()).unwrap_or(0);
            let line = 1 + text[..at].matches('\n').count();
            answer.pins.contains(&format!("sha256/{pin}"))
                || named.iter().any(|near| near.abs_diff(line) <= 3)
        })
}

#[test]
fn pins_in_inputs_like_public_code_are_recorded_or_reported() {
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records");
    assert!(run(&records, &["init"], "").code == 0);
    let mut wrong = Vec::new();
    // For each kind, how many inputs were tried, recorded, refused and wrong.
    let mut counts: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let all = shapes();
    for Shape { kind, name, rights, import, text } in &all {
        let (text, pins) = filled(text);
        let file = directory.path().join("input");
        std::fs::write(&file, &text).unwrap();
        let of_header = kind == "header";
        let of_import = ["import", "--dry-run", "--origin", "shape", file.to_str().unwrap()];
        let answer = match of_header {
            true => run(
                &records,
                &["add", "www.site.example", "--since", "2026-01-01", "--header", &text],
                "recorded",
            ),
            false => run(&records, &of_import, "would_record"),
        };
        let mut right = if of_header {
            rights.iter().any(|right| is_right_header(&answer, right))
        } else {
            rights.iter().any(|right| is_right(&answer, right))
        };
        right &= of_header || is_accounted(&answer, &text, &pins);
        let mut outcome = answer.outcome.clone();
        if of_header {
            let answer = run(&records, &of_import, "would_record");
            right &= answer.code == 1;
            right &= import.as_ref().is_none_or(|import| is_right(&answer, import));
            outcome += &format!("import {}: {}", answer.code, answer.outcome);
            // If the next input has the same header, `add` must not know it yet.
            std::fs::remove_dir_all(&records).unwrap();
            assert!(run(&records, &["init"], "").code == 0);
        }
        let count = counts.entry(kind.clone()).or_default();
        count[0] += 1;
        count[match (right, answer.code) {
            (false, _) => 3,
            (true, 0) => 1,
            (true, _) => 2,
        }] += 1;
        if std::env::var_os("SHAPES").is_some() || !right {
            let is = if right { "ok" } else { "WRONG" };
            println!("{is} {kind}: {name}: {} {:?}\n  {outcome}", answer.code, answer.sets);
        }
        if !right {
            wrong.push(format!("{kind}: {name}"));
        }
    }
    println!("kind       tried recorded refused wrong");
    for (kind, [tried, recorded, refused, wrong]) in &counts {
        println!("{kind:10} {tried:5} {recorded:8} {refused:7} {wrong:5}");
    }
    assert!(all.len() >= 150, "{}", all.len());
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
}

fn is_right_header(answer: &Answer, right: &Right) -> bool {
    let Some(header) = &right.header else { return is_right(answer, right) };
    let mut words: Vec<&str> = header.split(' ').collect();
    let max_age: u64 = words.remove(0).parse().unwrap();
    let json: Value = serde_json::from_str(&answer.out).unwrap_or(Value::Null);
    let recorded = &json["recorded"][0];
    let below = if words.first() == Some(&"below") { " below" } else { "" };
    let pins = words.iter().filter(|word| **word != "below").copied().collect::<Vec<_>>();
    answer.code == 0
        && recorded["max_age"].as_u64() == Some(max_age)
        && answer.sets == [format!("www.site.example chain{below} {}", pins.join(" "))]
}
